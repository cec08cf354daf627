/* A machine that a test can make go wrong: its time of day is off by so many ms, or its disk does not answer a sync.
   Loaded by LD_PRELOAD. Both are read from the file that FREQCAP_TEST_SHIM names: two 64-bit integers. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *control;

__attribute__((constructor)) static void open_control(void) {
  const char *path = getenv("FREQCAP_TEST_SHIM");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *map = mmap(NULL, 2 * sizeof *control, PROT_READ, MAP_SHARED, file, 0);
  if (map != MAP_FAILED) control = map;
  close(file);
}

static int64_t offset_ms(void) { return control ? control[0] : 0; }

int clock_gettime(clockid_t clock, struct timespec *at) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int done = real(clock, at);
  if (done == 0 && clock == CLOCK_REALTIME) {
    int64_t ns = at->tv_nsec + (offset_ms() % 1000) * 1000000;
    at->tv_sec += offset_ms() / 1000;
    if (ns < 0) { ns += 1000000000; at->tv_sec--; }
    if (ns >= 1000000000) { ns -= 1000000000; at->tv_sec++; }
    at->tv_nsec = ns;
  }
  return done;
}

int gettimeofday(struct timeval *at, void *zone) {
  struct timespec now;
  (void)zone;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}

/* Who waits until a time of day reads it from here, and the kernel goes by the true one. A time that is nearer to the true
   one was read elsewhere, and one of a monotonic clock is far from both. */
static struct timespec true_time(const struct timespec *until) {
  struct timespec at = *until, now;
  int64_t offset = offset_ms() / 1000;
  clock_gettime(CLOCK_REALTIME, &now);
  int64_t shown = llabs((int64_t)at.tv_sec - now.tv_sec), real = llabs((int64_t)at.tv_sec - (now.tv_sec - offset));
  if (at.tv_sec > 1000000000 && shown < real) at.tv_sec -= offset;
  return at;
}

int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until) {
  static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
  /* By name alone it may be one of an older form of conditions. */
  if (!real) real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
  if (!real) real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  struct timespec at = true_time(until);
  return real(cond, mutex, &at);
}

int cnd_timedwait(cnd_t *cond, mtx_t *mutex, const struct timespec *until) {
  static int (*real)(cnd_t *, mtx_t *, const struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "cnd_timedwait");
  struct timespec at = true_time(until);
  return real(cond, mutex, &at);
}

static void hang(void) {
  while (control && control[1]) usleep(10000);
}

int fdatasync(int file) {
  static int (*real)(int);
  if (!real) real = dlsym(RTLD_NEXT, "fdatasync");
  hang();
  return real(file);
}

int fsync(int file) {
  static int (*real)(int);
  if (!real) real = dlsym(RTLD_NEXT, "fsync");
  hang();
  return real(file);
}
