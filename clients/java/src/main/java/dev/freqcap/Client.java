package dev.freqcap;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.EnumMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.LongAdder;
import java.util.function.Consumer;
import java.util.function.Predicate;
import java.util.function.Supplier;

/**
 * Calls one freqcap. Safe to share between threads; keeps its connections.
 *
 * <p>A decision ({@code cap}, {@code check}, {@code reserve}) that has no answer before its deadline, finds nobody or is answered 5xx, is
 * made here: allowed, or refused with {@code denyOnTimeout}. Its {@code fallback} says why, and {@link #fallbacks} counts. All other calls
 * throw an {@link UnavailableException} then.
 */
public final class Client {
    private static final Duration RETRY_FIRST = Duration.ofMillis(50);
    private static final Duration RETRY_MAX = Duration.ofSeconds(2);
    private static final Duration RETRY_AFTER_MAX = Duration.ofSeconds(60);
    private static final Duration TRY_MAX = Duration.ofSeconds(10);

    private final ObjectMapper json = new ObjectMapper();
    private final Transport transport;
    private final Duration decisionDeadline;
    private final Duration deadline;
    private final boolean deny;
    private final Map<Reason, LongAdder> fallbacks = new EnumMap<>(Reason.class);

    private Client(Builder settings) {
        HttpClient http = settings.http;
        if (http == null) {
            http = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(Duration.ofSeconds(5)).build();
        }
        transport = new Transport(json, settings.url, settings.key, settings.keyFile, http);
        decisionDeadline = settings.decisionDeadline;
        deadline = settings.deadline;
        deny = settings.deny;
        for (Reason reason : Reason.values()) {
            fallbacks.put(reason, new LongAdder());
        }
    }

    /** A client of this address, such as {@code http://127.0.0.1:8080}. */
    public static Builder of(String url) {
        return new Builder(url);
    }

    /** Settings of a client. */
    public static final class Builder {
        private final String url;
        private String key;
        private Path keyFile;
        private Duration decisionDeadline = Duration.ofMillis(20);
        private Duration deadline = Duration.ofSeconds(2);
        private boolean deny;
        private HttpClient http;

        private Builder(String url) {
            this.url = url;
        }

        /** The secret of a key. */
        public Builder key(String key) {
            this.key = key;
            return this;
        }

        /** A file with the secret, which is read again once the key is refused. */
        public Builder keyFile(Path keyFile) {
            this.keyFile = keyFile;
            return this;
        }

        /** Of cap, check and reserve; 20 ms. */
        public Builder decisionDeadline(Duration decisionDeadline) {
            this.decisionDeadline = decisionDeadline;
            return this;
        }

        /** Of the other calls; 2 s. */
        public Builder deadline(Duration deadline) {
            this.deadline = deadline;
            return this;
        }

        /** A decision without an answer refuses the ad, where else it shows it. */
        public Builder denyOnTimeout() {
            this.deny = true;
            return this;
        }

        /** A client of your own, for TLS settings or proxies. */
        public Builder http(HttpClient http) {
            this.http = http;
            return this;
        }

        public Client build() {
            return new Client(this);
        }
    }

    /** How many decisions the client made itself so far, for this reason. */
    public long fallbacks(Reason reason) {
        return fallbacks.get(reason).sum();
    }

    /**
     * Counts one event and gives the verdict after it. Without an id one is made, so that it counts once however often it is sent. 503 is
     * tried again until the deadline.
     */
    public Types.EventAnswer count(Types.EventBody event) {
        byte[] body = encode(Batches.withId(event, json));
        return untilTaken(body, "application/json", ends(deadline), Types.EventAnswer.class, part -> { });
    }

    /** {@link #countAll(List, Duration)} within a minute. */
    public Types.BatchAnswer countAll(List<Types.EventBody> events) {
        return countAll(events, Duration.ofMinutes(1));
    }

    /**
     * Counts any number of events in batches. What is answered 503 is sent again, with the same ids, after {@code Retry-After}. The index
     * of an error is the event's place among all. After the deadline it throws an {@link UnavailableException}, which has what was counted
     * so far and the events to send later, with their ids.
     */
    public Types.BatchAnswer countAll(List<Types.EventBody> events, Duration deadline) {
        long until = ends(deadline);
        Batches.Total total = new Batches.Total(json);
        for (int before = 0; before < events.size();) {
            Batches.Batch batch = nextBatch(events, before);
            Batches.Tries tries = new Batches.Tries();
            before += batch.events().size();
            try {
                Types.BatchAnswer last = untilTaken(batch.lines(), "application/x-ndjson", until, Types.BatchAnswer.class, tries::add);
                tries.add(last);
                total.add(tries, last, batch.events().size());
            } catch (UnavailableException error) {
                List<Types.EventBody> rest = new ArrayList<>(batch.events());
                events.subList(before, events.size()).forEach(event -> rest.add(Batches.withId(event, json)));
                throw error.of(total.answer(), rest);
            }
        }
        return total.answer();
    }

    /** The verdict on one ad. */
    public Decision<Types.CapAnswer> cap(CapQuery query) {
        StringBuilder path = new StringBuilder("/cap/").append(segment(query.user)).append('/').append(segment(query.da));
        for (int place = 0; place < query.asked.size(); place += 2) {
            path.append(place == 0 ? '?' : '&').append(encode(query.asked.get(place))).append('=').append(encode(query.asked.get(place + 1)));
        }
        return decide("GET", path.toString(), null, Types.CapAnswer.class, () -> {
            ObjectNode instead = json.createObjectNode().put("user", query.user).put("da", query.da).put("kind", query.kind);
            instead.put("capped", deny).put("count", 0).putArray("rules");
            return instead;
        });
    }

    /** The verdicts on up to 1,000 ads, in their order. */
    public Decision<Types.CheckAnswer> check(Types.CheckBody body) {
        return decide("POST", "/check", encode(body), Types.CheckAnswer.class, () -> {
            ObjectNode instead = json.createObjectNode().put("user", body.user);
            instead.putArray("results");
            body.candidates.forEach(one -> instead.withArray("results").addObject().put("da", one.da).put("capped", deny).put("count", 0));
            return instead;
        });
    }

    /**
     * Takes the first ads that are not capped and counts them at once. Without an id one is made. {@code count} with the same user, da,
     * kind and id confirms. Where the decision is made here, the first {@code want} are named, or none with {@code denyOnTimeout}; nothing
     * is counted then.
     */
    public Decision<Types.ReserveAnswer> reserve(Types.ReserveBody body) {
        return reserve(body, false);
    }

    /** {@link #reserve(Types.ReserveBody)} without confirmation: what it takes counts at once and for good. */
    public Decision<Types.ReserveAnswer> reserveForGood(Types.ReserveBody body) {
        return reserve(body, true);
    }

    private Decision<Types.ReserveAnswer> reserve(Types.ReserveBody body, boolean forGood) {
        ObjectNode sent = json.valueToTree(body);
        if (body.id == null) {
            sent.put("id", UUID.randomUUID().toString());
        }
        if (forGood) {
            sent.putNull("ttl");
        }
        return decide("POST", "/reserve", encode(sent), Types.ReserveAnswer.class, () -> {
            ObjectNode instead = json.createObjectNode().put("id", sent.path("id").asText());
            instead.putArray("refused");
            instead.putArray("reserved");
            body.candidates.stream().limit(deny ? 0 : body.want == null ? 1 : body.want)
                .forEach(one -> instead.withArray("reserved").addObject().put("da", one.da));
            return instead;
        });
    }

    /** Gives back what was reserved under an id, or one ad of it. */
    public Types.ReleaseAnswer release(Types.ReleaseBody body) {
        return transport.once("POST", "/release", encode(body), "application/json", ends(deadline), Types.ReleaseAnswer.class);
    }

    /** Every key capped now for a user. */
    public Types.UserCaps userCaps(String user) {
        return transport.once("GET", "/users/" + segment(user) + "/caps", null, null, ends(deadline), Types.UserCaps.class);
    }

    /**
     * Gives the changes of caps to {@code each} until it answers false or the thread is interrupted. It connects again after the last
     * checkpoint whenever the connection ends. A refusal of the service is thrown.
     */
    public void stream(StreamQuery query, Predicate<StreamEvent> each) {
        new Stream(transport, query, each).run();
    }

    private <T> Decision<T> decide(String method, String path, byte[] body, Class<T> type, Supplier<ObjectNode> instead) {
        try {
            return new Decision<>(transport.once(method, path, body, "application/json", ends(decisionDeadline), type), null);
        } catch (UnavailableException error) {
            fallbacks.get(error.reason()).increment();
            return new Decision<>(json.convertValue(instead.get(), type), error.reason());
        }
    }

    /** Sends events until they are taken. `partly` hears what a 503 counted nevertheless. */
    private <T> T untilTaken(byte[] body, String form, long until, Class<T> type, Consumer<Types.BatchAnswer> partly) {
        for (Duration pause = RETRY_FIRST;; pause = shorter(pause.multipliedBy(2), RETRY_MAX)) {
            try {
                long tryUntil = System.nanoTime() + Math.min(until - System.nanoTime(), TRY_MAX.toNanos());
                return transport.once("POST", "/events", body, form, tryUntil, type);
            } catch (UnavailableException error) {
                if (error.partial != null) {
                    partly.accept(error.partial);
                }
                long wait = error.retryAfter == null
                    ? (long) (pause.toNanos() * ThreadLocalRandom.current().nextDouble(0.5, 1.0))
                    : shorter(error.retryAfter, RETRY_AFTER_MAX).toNanos();
                if (System.nanoTime() + wait - until >= 0 || !Stream.slept(wait)) {
                    throw error;
                }
            }
        }
    }

    private Batches.Batch nextBatch(List<Types.EventBody> events, int start) {
        try {
            return Batches.next(events, start, json);
        } catch (JsonProcessingException error) {
            throw new IllegalStateException("texts and numbers are always JSON", error);
        }
    }

    private byte[] encode(Object body) {
        try {
            return json.writeValueAsBytes(body);
        } catch (JsonProcessingException error) {
            throw new IllegalStateException("texts and numbers are always JSON", error);
        }
    }

    private static long ends(Duration deadline) {
        return System.nanoTime() + deadline.toNanos();
    }

    static Duration shorter(Duration one, Duration other) {
        return one.compareTo(other) < 0 ? one : other;
    }

    static String encode(String text) {
        return URLEncoder.encode(text, StandardCharsets.UTF_8).replace("+", "%20");
    }

    /** An id as a part of a path. A dot or two alone would be taken for a folder. */
    private static String segment(String id) {
        return id.equals(".") || id.equals("..") ? id.replace(".", "%2E") : encode(id);
    }
}
