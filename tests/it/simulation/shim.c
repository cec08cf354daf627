/* A file system that fails when it is told to, and tells everything that is done to it.
 *
 * Preloaded into a process, it looks at every call that changes a file under one directory. Each is done, and written to a
 * log by which tests/it/simulation/disk.rs works out what a loss of power could leave. By number, a call can be made to fail,
 * to write less than it was asked, or to be the last thing before the process is killed.
 *
 * A process that makes a folder KILL there is killed between two calls: by itself it could not tell where other threads are.
 *
 * FREQCAP_SHIM_DIR       the directory, without a slash at its end
 * FREQCAP_SHIM_LOG       where the log goes
 * FREQCAP_SHIM_KILL_AT   the process is killed instead of this call; a write is half done before
 * FREQCAP_SHIM_FAIL_AT   from this call on: the first one of FREQCAP_SHIM_FAIL_CALLS fails
 * FREQCAP_SHIM_FAIL_CALLS  of these: 1 writes, 2 syncs, 4 names and sizes
 * FREQCAP_SHIM_ERRNO     with this error
 * FREQCAP_SHIM_STAYS     1: and every one after it fails, too
 * FREQCAP_SHIM_SHORT_AT  this call, if it is a write, writes half
 * FREQCAP_SHIM_LIES      1: a sync is not done, and said to be
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#undef open
#undef open64
#undef openat
#undef openat64
#undef pwrite
#undef pwrite64
#undef ftruncate
#undef ftruncate64

enum op { OPEN = 1, CLOSE, WRITE, TRUNCATE, SYNC, SYNC_FAILED, RENAME, UNLINK, LINK, MKDIR, RMDIR, FAULT };
enum calls { WRITES = 1, SYNCS = 2, NAMES = 4 };

/* Before two texts or the bytes written. */
struct record {
  uint8_t op, pad[3];
  int32_t fd;
  uint64_t offset;
  uint32_t first, second;
};

#define FDS 4096
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char dir[PATH_MAX];
static size_t dir_len;
static int log_fd = -1, fail_errno, stays, lies, failing;
static unsigned fail_calls;
static uint64_t calls, kill_at, fail_at, short_at;
static char watched[FDS];
/* Which file that was: one that is closed by fclose is closed unseen, and its number is given to another. */
static struct { dev_t dev; ino_t ino; } watched_file[FDS];

static int (*real_openat)(int, const char *, int, ...);
static int (*real_close)(int);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_ftruncate)(int, off_t);
static int (*real_fallocate)(int, int, off_t, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_renameat)(int, const char *, int, const char *);
static int (*real_unlinkat)(int, const char *, int);
static int (*real_linkat)(int, const char *, int, const char *, int);
static int (*real_mkdirat)(int, const char *, mode_t);

static uint64_t number(const char *name) {
  const char *text = getenv(name);
  return text ? strtoull(text, NULL, 10) : 0;
}

__attribute__((constructor)) static void start(void) {
  real_openat = REAL(openat);
  real_close = REAL(close);
  real_write = REAL(write);
  real_pwrite = REAL(pwrite);
  real_ftruncate = REAL(ftruncate);
  real_fallocate = REAL(fallocate);
  real_fsync = REAL(fsync);
  real_fdatasync = REAL(fdatasync);
  real_renameat = REAL(renameat);
  real_unlinkat = REAL(unlinkat);
  real_linkat = REAL(linkat);
  real_mkdirat = REAL(mkdirat);
  const char *name = getenv("FREQCAP_SHIM_DIR"), *log = getenv("FREQCAP_SHIM_LOG");
  if (!name || !log) return;
  kill_at = number("FREQCAP_SHIM_KILL_AT");
  fail_at = number("FREQCAP_SHIM_FAIL_AT");
  fail_calls = (unsigned)number("FREQCAP_SHIM_FAIL_CALLS");
  fail_errno = (int)number("FREQCAP_SHIM_ERRNO");
  stays = (int)number("FREQCAP_SHIM_STAYS");
  short_at = number("FREQCAP_SHIM_SHORT_AT");
  lies = (int)number("FREQCAP_SHIM_LIES");
  log_fd = real_openat(AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log_fd < 0) abort();
  strncpy(dir, name, sizeof dir - 1);
  dir_len = strlen(dir);
}

static void tell(enum op op, int fd, uint64_t offset, const void *first, size_t first_len, const char *second) {
  struct record record = {.op = op, .fd = fd, .offset = offset, .first = first_len};
  record.second = second ? strlen(second) : 0;
  struct iovec parts[] = {
      {&record, sizeof record}, {(void *)first, first_len}, {(void *)second, record.second}};
  size_t all = sizeof record + first_len + record.second;
  if (writev(log_fd, parts, 3) != (ssize_t)all) abort();
}

static void tell_path(enum op op, int fd, const char *first, const char *second) {
  tell(op, fd, 0, first, strlen(first), second);
}

static void die(void) {
  kill(getpid(), SIGKILL);
  for (;;) pause();
}

/* The path below the directory, or NULL if it is not there. */
static const char *below(int at, const char *path, char *full) {
  if (log_fd < 0) return NULL;
  if (path[0] == '/') {
    snprintf(full, PATH_MAX, "%s", path);
  } else if (at == AT_FDCWD) {
    return NULL;
  } else {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    ssize_t len = readlink(link, full, PATH_MAX - 1);
    if (len < 0) return NULL;
    snprintf(full + len, PATH_MAX - len, "/%s", path);
  }
  if (strncmp(full, dir, dir_len) != 0 || (full[dir_len] != '/' && full[dir_len] != 0)) return NULL;
  const char *name = full + dir_len;
  while (*name == '/') name++;
  char *end = full + strlen(full);
  while (end > name && end[-1] == '/') *--end = 0;
  return name;
}

static int is_watched(int fd) {
  if (log_fd < 0 || fd < 0 || fd >= FDS || !watched[fd]) return 0;
  struct stat stat;
  int error = errno;
  int is_it = fstat(fd, &stat) == 0 && stat.st_dev == watched_file[fd].dev && stat.st_ino == watched_file[fd].ino;
  errno = error;
  if (!is_it) watched[fd] = 0;
  return is_it;
}

enum verdict { DO, FAIL, HALF, HALF_AND_DIE };

/* What becomes of a call. With the lock held. */
static enum verdict next_call(enum calls sort) {
  calls++;
  if (calls == kill_at) {
    tell(FAULT, 0, calls, NULL, 0, NULL);
    if (sort == WRITES) return HALF_AND_DIE;
    die();
  }
  if (fail_at && calls >= fail_at && (fail_calls & sort) && (stays || !failing)) {
    failing = 1;
    tell(FAULT, 0, calls, NULL, 0, NULL);
    errno = fail_errno;
    return FAIL;
  }
  return calls == short_at && sort == WRITES ? HALF : DO;
}

static int open_file(int at, const char *path, int flags, mode_t mode) {
  char full[PATH_MAX];
  const char *name = below(at, path, full);
  if (!name) return real_openat(at, path, flags, mode);
  pthread_mutex_lock(&lock);
  struct stat stat;
  int is_new = (flags & O_CREAT) && fstatat(at, path, &stat, 0) != 0;
  int cuts = !is_new && (flags & O_TRUNC);
  int fd = -1;
  if (!(is_new || cuts) || next_call(NAMES) != FAIL) {
    fd = real_openat(at, path, flags, mode);
    if (fd >= FDS) abort();
    if (fd >= 0) {
      if (fstat(fd, &stat) != 0) abort();
      watched_file[fd].dev = stat.st_dev;
      watched_file[fd].ino = stat.st_ino;
      watched[fd] = 1;
      int append = (flags & O_APPEND) != 0;
      tell(OPEN, fd, (uint64_t)(is_new | cuts << 1 | append << 2), name, strlen(name), NULL);
    }
  }
  int error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return fd;
}

static mode_t mode_of(int flags, va_list args) {
  return flags & (O_CREAT | O_TMPFILE) ? va_arg(args, mode_t) : 0;
}

#define OPENS(name, suffix)                                   \
  int name##suffix(const char *path, int flags, ...) {        \
    va_list args;                                             \
    va_start(args, flags);                                    \
    mode_t mode = mode_of(flags, args);                       \
    va_end(args);                                             \
    return open_file(AT_FDCWD, path, flags, mode);            \
  }                                                           \
  int name##at##suffix(int at, const char *path, int flags, ...) { \
    va_list args;                                             \
    va_start(args, flags);                                    \
    mode_t mode = mode_of(flags, args);                       \
    va_end(args);                                             \
    return open_file(at, path, flags, mode);                  \
  }
OPENS(open, )
OPENS(open, 64)

int close(int fd) {
  if (!is_watched(fd)) return real_close(fd);
  pthread_mutex_lock(&lock);
  watched[fd] = 0;
  tell(CLOSE, fd, 0, NULL, 0, NULL);
  int done = real_close(fd);
  pthread_mutex_unlock(&lock);
  return done;
}

/* At an offset, or where the file stands if that is negative. */
static ssize_t write_file(int fd, const void *bytes, size_t len, off_t offset) {
  pthread_mutex_lock(&lock);
  enum verdict verdict = next_call(WRITES);
  ssize_t done = -1;
  if (verdict != FAIL) {
    size_t part = verdict == DO ? len : (len + 1) / 2;
    done = offset < 0 ? real_write(fd, bytes, part) : real_pwrite(fd, bytes, part, offset);
    if (done > 0) {
      off_t end = offset < 0 ? lseek(fd, 0, SEEK_CUR) : offset + done;
      tell(WRITE, fd, (uint64_t)(end - done), bytes, (size_t)done, NULL);
    }
    if (verdict == HALF_AND_DIE) die();
  }
  int error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return done;
}

ssize_t write(int fd, const void *bytes, size_t len) {
  if (!is_watched(fd)) return real_write ? real_write(fd, bytes, len) : REAL(write)(fd, bytes, len);
  return write_file(fd, bytes, len, -1);
}
ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset) {
  return is_watched(fd) ? write_file(fd, bytes, len, offset) : real_pwrite(fd, bytes, len, offset);
}
ssize_t pwrite64(int fd, const void *bytes, size_t len, off_t offset) { return pwrite(fd, bytes, len, offset); }

/* As many as the first part has: who calls goes on with the rest. */
ssize_t writev(int fd, const struct iovec *parts, int count) {
  if (!is_watched(fd)) return REAL(writev)(fd, parts, count);
  for (int i = 0; i < count; i++)
    if (parts[i].iov_len) return write_file(fd, parts[i].iov_base, parts[i].iov_len, -1);
  return 0;
}

int ftruncate(int fd, off_t size) {
  if (!is_watched(fd)) return real_ftruncate(fd, size);
  pthread_mutex_lock(&lock);
  int done = -1;
  if (next_call(NAMES) != FAIL && (done = real_ftruncate(fd, size)) == 0) tell(TRUNCATE, fd, (uint64_t)size, NULL, 0, NULL);
  int error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return done;
}
int ftruncate64(int fd, off_t size) { return ftruncate(fd, size); }

/* Space that no size tells of changes nothing; any other kind is not known here, and callers do without. */
int fallocate(int fd, int mode, off_t offset, off_t len) {
  if (!is_watched(fd) || mode == FALLOC_FL_KEEP_SIZE) return real_fallocate(fd, mode, offset, len);
  errno = EOPNOTSUPP;
  return -1;
}
int fallocate64(int fd, int mode, off_t offset, off_t len) { return fallocate(fd, mode, offset, len); }
ssize_t copy_file_range(int from, off_t *from_at, int to, off_t *to_at, size_t len, unsigned flags) {
  if (!is_watched(to)) return REAL(copy_file_range)(from, from_at, to, to_at, len, flags);
  errno = EOPNOTSUPP;
  return -1;
}

static int sync_file(int fd, int (*sync)(int)) {
  pthread_mutex_lock(&lock);
  int done = 0;
  if (next_call(SYNCS) == FAIL) {
    tell(SYNC_FAILED, fd, 0, NULL, 0, NULL);
    done = -1;
  } else if (!lies && (done = sync(fd)) == 0) {
    tell(SYNC, fd, 0, NULL, 0, NULL);
  }
  int error = errno;
  pthread_mutex_unlock(&lock);
  errno = error;
  return done;
}
int fsync(int fd) { return is_watched(fd) ? sync_file(fd, real_fsync) : real_fsync(fd); }
int fdatasync(int fd) { return is_watched(fd) ? sync_file(fd, real_fdatasync) : real_fdatasync(fd); }

/* A call on names: done and told, or failed. */
#define NAMED(op, first, second, call)                      \
  do {                                                      \
    pthread_mutex_lock(&lock);                              \
    int done = -1;                                          \
    if (next_call(NAMES) != FAIL && (done = (call)) == 0) tell_path(op, 0, first, second); \
    int error = errno;                                      \
    pthread_mutex_unlock(&lock);                            \
    errno = error;                                          \
    return done;                                            \
  } while (0)

int renameat(int from_at, const char *from, int to_at, const char *to) {
  char full_from[PATH_MAX], full_to[PATH_MAX];
  const char *a = below(from_at, from, full_from), *b = below(to_at, to, full_to);
  if (!a || !b) return real_renameat(from_at, from, to_at, to);
  NAMED(RENAME, a, b, real_renameat(from_at, from, to_at, to));
}
int rename(const char *from, const char *to) { return renameat(AT_FDCWD, from, AT_FDCWD, to); }

int unlinkat(int at, const char *path, int flags) {
  char full[PATH_MAX];
  const char *name = below(at, path, full);
  if (!name) return real_unlinkat(at, path, flags);
  NAMED(flags & AT_REMOVEDIR ? RMDIR : UNLINK, name, NULL, real_unlinkat(at, path, flags));
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
  char full_from[PATH_MAX], full_to[PATH_MAX];
  const char *a = below(from_at, from, full_from), *b = below(to_at, to, full_to);
  if (!a || !b) return real_linkat(from_at, from, to_at, to, flags);
  NAMED(LINK, a, b, real_linkat(from_at, from, to_at, to, flags));
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }

int mkdirat(int at, const char *path, mode_t mode) {
  char full[PATH_MAX];
  const char *name = below(at, path, full);
  if (!name) return real_mkdirat(at, path, mode);
  if (strcmp(name, "KILL") == 0) {
    pthread_mutex_lock(&lock);
    die();
  }
  NAMED(MKDIR, name, NULL, real_mkdirat(at, path, mode));
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }
