import java.io.FileDescriptor;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.Locale;
import java.util.concurrent.atomic.LongAccumulator;
import java.util.concurrent.atomic.LongAdder;
import org.apache.flink.api.common.eventtime.WatermarkStrategy;
import org.apache.flink.api.common.functions.OpenContext;
import org.apache.flink.api.common.state.CheckpointListener;
import org.apache.flink.api.common.state.MapState;
import org.apache.flink.api.common.state.MapStateDescriptor;
import org.apache.flink.api.common.state.StateTtlConfig;
import org.apache.flink.api.common.typeinfo.TypeInformation;
import org.apache.flink.api.common.typeinfo.Types;
import org.apache.flink.configuration.CheckpointingOptions;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.CoreOptions;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.configuration.StateBackendOptions;
import org.apache.flink.configuration.TaskManagerOptions;
import org.apache.flink.connector.datagen.source.DataGeneratorSource;
import org.apache.flink.runtime.util.EnvironmentInformation;
import org.apache.flink.state.rocksdb.RocksDBOptions;
import org.apache.flink.streaming.api.environment.StreamExecutionEnvironment;
import org.apache.flink.streaming.api.functions.KeyedProcessFunction;
import org.apache.flink.streaming.api.functions.sink.v2.DiscardingSink;
import org.apache.flink.util.Collector;

/**
 * The frequency cap as a Flink job, the way it is written there: a count for each (user, ad) in RocksDB state, and for
 * each event a timer at its log time + 5 days that takes the count down again. What reaches the limit would be written
 * to Redis; here it is discarded. Events are made in this JVM, so neither a network nor a parser is measured.
 *
 * <p>Arguments: how many events, and a directory for the state and the checkpoints.
 */
public final class FlinkPeer {
  private static final int PARALLELISM = 2;
  private static final long USERS = 1_000_000;
  private static final long ADS = 1_000;
  private static final long SEED = 1;
  private static final int LIMIT = 5;
  private static final Duration WINDOW = Duration.ofDays(5);
  private static final Duration RETENTION = Duration.ofDays(7);
  private static final Duration CHECKPOINT_EVERY = Duration.ofSeconds(10);

  // The job runs in this JVM, so what it tells of itself needs no channel.
  private static final LongAdder processed = new LongAdder();
  private static final LongAdder capped = new LongAdder();
  private static final LongAccumulator checkpoints = new LongAccumulator(Math::max, 0);
  private static final LongAccumulator firstNanos = new LongAccumulator(Math::min, Long.MAX_VALUE);
  private static final LongAccumulator lastNanos = new LongAccumulator(Math::max, Long.MIN_VALUE);

  /** Ids are numbers, which are smaller and quicker here than text would be. */
  public static final class Event {
    public long user;
    public int ad;
    public long logTime;
  }

  /** A user's ad that has reached the limit. */
  public static final class Capped {
    public long user;
    public int ad;
  }

  /** What is kept of one user. */
  public static final class Count extends KeyedProcessFunction<Long, Event, Capped>
      implements CheckpointListener {
    private transient MapState<Integer, Integer> counts;
    /** By when the timer fires: which ad it takes down. */
    private transient MapState<Long, Integer> timers;
    private transient Capped out;
    private transient long first;
    private transient long last;

    @Override
    public void open(OpenContext context) {
      StateTtlConfig ttl = StateTtlConfig.newBuilder(RETENTION).build();
      MapStateDescriptor<Integer, Integer> ofCounts = new MapStateDescriptor<>("counts", Types.INT, Types.INT);
      ofCounts.enableTimeToLive(ttl);
      counts = getRuntimeContext().getMapState(ofCounts);
      MapStateDescriptor<Long, Integer> ofTimers = new MapStateDescriptor<>("timers", Types.LONG, Types.INT);
      ofTimers.enableTimeToLive(ttl);
      timers = getRuntimeContext().getMapState(ofTimers);
      out = new Capped();
    }

    @Override
    public void processElement(Event event, Context context, Collector<Capped> collector) throws Exception {
      if (first == 0) {
        first = System.nanoTime();
      }
      Integer before = counts.get(event.ad);
      int count = before == null ? 1 : before + 1;
      counts.put(event.ad, count);
      long end = event.logTime + WINDOW.toMillis();
      timers.put(end, event.ad);
      context.timerService().registerProcessingTimeTimer(end);
      if (count == LIMIT) {
        out.user = event.user;
        out.ad = event.ad;
        collector.collect(out);
        capped.increment();
      }
      processed.increment();
      last = System.nanoTime();
    }

    @Override
    public void onTimer(long end, OnTimerContext context, Collector<Capped> collector) throws Exception {
      Integer ad = timers.get(end);
      if (ad == null) {
        return;
      }
      timers.remove(end);
      Integer count = counts.get(ad);
      if (count != null && count > 1) {
        counts.put(ad, count - 1);
      } else {
        counts.remove(ad);
      }
    }

    @Override
    public void notifyCheckpointComplete(long checkpoint) {
      checkpoints.accumulate(checkpoint);
    }

    @Override
    public void close() {
      if (first != 0) {
        firstNanos.accumulate(first);
        lastNanos.accumulate(last);
      }
    }
  }

  /** The event of this number. The number of an event decides its user and ad, whichever task makes it. */
  static Event event(long number) {
    Event event = new Event();
    event.user = Long.remainderUnsigned(mixed(SEED + 2 * number), USERS);
    event.ad = (int) Long.remainderUnsigned(mixed(SEED + 2 * number + 1), ADS);
    event.logTime = System.currentTimeMillis();
    return event;
  }

  /** SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014). */
  private static long mixed(long state) {
    long z = state * 0x9E37_79B9_7F4A_7C15L;
    z = (z ^ (z >>> 30)) * 0xBF58_476D_1CE4_E5B9L;
    z = (z ^ (z >>> 27)) * 0x94D0_49BB_1331_11EBL;
    return z ^ (z >>> 31);
  }

  private static Configuration configuration(Path directory) {
    Configuration configuration = new Configuration();
    configuration.set(StateBackendOptions.STATE_BACKEND, "rocksdb");
    configuration.set(RocksDBOptions.LOCAL_DIRECTORIES, directory.resolve("state").toString());
    configuration.set(CheckpointingOptions.INCREMENTAL_CHECKPOINTS, true);
    configuration.set(CheckpointingOptions.CHECKPOINTING_INTERVAL, CHECKPOINT_EVERY);
    configuration.set(CheckpointingOptions.CHECKPOINT_STORAGE, "filesystem");
    configuration.set(CheckpointingOptions.CHECKPOINTS_DIRECTORY, directory.resolve("checkpoints").toUri().toString());
    configuration.set(CoreOptions.TMP_DIRS, directory.resolve("tmp").toString());
    // RocksDB's share of a task manager with Flink's own defaults (1728 MiB, of which it is 512); alone in a JVM, Flink
    // would give it 128.
    configuration.set(TaskManagerOptions.MANAGED_MEMORY_SIZE, MemorySize.ofMebiBytes(512));
    return configuration;
  }

  private static void run(long events, Path directory) throws Exception {
    StreamExecutionEnvironment environment =
        StreamExecutionEnvironment.createLocalEnvironment(PARALLELISM, configuration(directory));
    environment.getConfig().enableObjectReuse();
    environment
        .fromSource(
            new DataGeneratorSource<>(FlinkPeer::event, events, TypeInformation.of(Event.class)),
            WatermarkStrategy.noWatermarks(),
            "events")
        .keyBy(event -> event.user)
        .process(new Count())
        .sinkTo(new DiscardingSink<>());
    environment.execute("frequency cap");
  }

  /** Tells every second how far the job is, until the process ends. */
  private static void tellProgress(long events) {
    Thread thread = new Thread(() -> {
      long before = 0;
      try {
        while (true) {
          Thread.sleep(1_000);
          long now = processed.sum();
          System.err.printf("flink: %,d of %,d events, %,d/s%n", now, events, now - before);
          before = now;
        }
      } catch (InterruptedException ended) {
        // Nothing is left to tell.
      }
    });
    thread.setDaemon(true);
    thread.start();
  }

  /** The peak of this process, heap and RocksDB together. */
  private static long rssPeakBytes() throws IOException {
    for (String line : Files.readAllLines(Path.of("/proc/self/status"))) {
      if (line.startsWith("VmHWM:")) {
        return Long.parseLong(line.replaceAll("[^0-9]", "")) * 1024;
      }
    }
    throw new IOException("/proc/self/status has no VmHWM");
  }

  public static void main(String[] arguments) throws Exception {
    long events = Long.parseLong(arguments[0]);
    // Stdout is for the result alone, whatever a library prints.
    PrintStream result = new PrintStream(new FileOutputStream(FileDescriptor.out), true);
    System.setOut(System.err);
    tellProgress(events);
    run(events, Path.of(arguments[1]));
    if (processed.sum() != events) {
      throw new IllegalStateException("processed " + processed.sum() + " of " + events + " events");
    }
    double seconds = (lastNanos.get() - firstNanos.get()) / 1e9;
    System.err.printf("flink: %,d pairs reached the limit, %,d checkpoints%n", capped.sum(), checkpoints.get());
    String form = "{\"peer\":\"flink\",\"version\":\"%s\",\"events\":%d,\"seconds\":%.3f,\"per_second\":%.0f,"
        + "\"rss_peak_bytes\":%d}%n";
    String version = EnvironmentInformation.getVersion();
    result.printf(Locale.ROOT, form, version, events, seconds, events / seconds, rssPeakBytes());
    System.exit(0);
  }
}
