package dev.freqcap;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStream;
import java.io.InputStreamReader;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.Executors;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;
import java.util.function.Predicate;

/** The stream of cap changes: server-sent events, resumed after the last id. */
final class Stream {
    private static final Duration RETRY_FIRST = Duration.ofMillis(100);
    private static final Duration RETRY_MAX = Duration.ofSeconds(10);

    private final Transport transport;
    private final Predicate<StreamEvent> each;
    private StreamQuery query;
    private Duration pause = RETRY_FIRST;

    Stream(Transport transport, StreamQuery query, Predicate<StreamEvent> each) {
        this.transport = transport;
        this.query = query;
        this.each = each;
    }

    void run() {
        ScheduledExecutorService watch = Executors.newSingleThreadScheduledExecutor(work -> {
            Thread thread = new Thread(work, "freqcap-stream-watch");
            thread.setDaemon(true);
            return thread;
        });
        try {
            boolean goOn = true;
            while (goOn && !Thread.currentThread().isInterrupted()) {
                goOn = connect(watch);
            }
        } finally {
            watch.shutdownNow();
        }
    }

    /** One connection, and the pause after it: whether to go on. */
    private boolean connect(ScheduledExecutorService watch) {
        try {
            if (!read(watch)) {
                return false;
            }
        } catch (UnavailableException error) {
            if (error.retryAfter != null && error.retryAfter.compareTo(pause) > 0) {
                pause = Client.shorter(error.retryAfter, RETRY_MAX);
            }
        }
        // What came before the first checkpoint cannot be gone on from; only a snapshot has all of it.
        query = query.withSnapshot();
        boolean slept = slept((long) (pause.toNanos() * ThreadLocalRandom.current().nextDouble(0.5, 1.0)));
        pause = Client.shorter(pause.multipliedBy(2), RETRY_MAX);
        return slept;
    }

    private boolean read(ScheduledExecutorService watch) {
        HttpResponse<InputStream> answer = transport.open(path(), query.after(), query.silence());
        try (InputStream body = answer.body()) {
            if (answer.statusCode() != 200) {
                String retryAfter = answer.headers().firstValue("retry-after").orElse("");
                throw transport.refusal(answer.statusCode(), retryAfter, body.readNBytes(1 << 20));
            }
            BufferedReader lines = new BufferedReader(new InputStreamReader(body, StandardCharsets.UTF_8));
            return dispatch(lines, body, watch);
        } catch (IOException error) {
            throw new UnavailableException(Reason.AWAY, "the stream was cut", error);
        }
    }

    private boolean dispatch(BufferedReader lines, InputStream body, ScheduledExecutorService watch) throws IOException {
        String event = "message";
        String id = null;
        List<String> data = new ArrayList<>();
        for (String line = next(lines, body, watch); line != null; line = next(lines, body, watch)) {
            if (line.isEmpty()) {
                if (!data.isEmpty()) {
                    JsonNode read = transport.json.readTree(String.join("\n", data));
                    pause = RETRY_FIRST;
                    query = id == null ? query : query.goingOn(id);
                    if (!each.test(new StreamEvent(event, read, id))) {
                        return false;
                    }
                }
                event = "message";
                id = null;
                data.clear();
                continue;
            }
            int colon = line.indexOf(':');
            String field = colon < 0 ? line : line.substring(0, colon);
            String value = colon < 0 ? "" : line.substring(line.startsWith(": ", colon) ? colon + 2 : colon + 1);
            switch (field) {
                case "event" -> event = value;
                case "data" -> data.add(value);
                case "id" -> id = value;
                default -> { }
            }
        }
        return true;
    }

    /** The next line; a connection that is silent for too long is closed, which ends the reading. */
    private String next(BufferedReader lines, InputStream body, ScheduledExecutorService watch) throws IOException {
        if (lines.ready()) {
            return lines.readLine();
        }
        ScheduledFuture<?> close = watch.schedule(() -> {
            body.close();
            return null;
        }, query.silence().toMillis(), TimeUnit.MILLISECONDS);
        try {
            return lines.readLine();
        } finally {
            close.cancel(false);
        }
    }

    private String path() {
        StringBuilder path = new StringBuilder("/caps/stream?");
        if (query.shards() != null) {
            path.append("shards=").append(Client.encode(query.shards())).append('&');
        }
        if (query.keys() != null) {
            path.append("keys=").append(Client.encode(query.keys())).append('&');
        }
        if (query.after() == null) {
            path.append("from=").append(query.fromNow() ? "now" : "snapshot");
        }
        return path.toString();
    }

    /** Sleeps; false where the thread was interrupted. */
    static boolean slept(long nanos) {
        try {
            TimeUnit.NANOSECONDS.sleep(nanos);
            return true;
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            return false;
        }
    }
}
