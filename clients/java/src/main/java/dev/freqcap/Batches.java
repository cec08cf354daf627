package dev.freqcap;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayOutputStream;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;

/** How events are cut into batches, and what the answers of several tries say together. */
final class Batches {
    private static final int EVENTS_MAX = 1_000;
    private static final int BYTES_MAX = 1 << 20;
    private static final int ERRORS_MAX = 100;

    private Batches() {
    }

    /** The event with an id: its own, or one made now. A retry with the same id counts once. */
    static Types.EventBody withId(Types.EventBody event, ObjectMapper json) {
        if (event.id != null) {
            return event;
        }
        Types.EventBody named = json.convertValue(event, Types.EventBody.class);
        named.id = UUID.randomUUID().toString();
        return named;
    }

    /** Lines to send, and the events, with ids, that are in them. */
    record Batch(List<Types.EventBody> events, byte[] lines) {
    }

    /** The first batch of the events from `start` on. */
    static Batch next(List<Types.EventBody> events, int start, ObjectMapper json) throws JsonProcessingException {
        List<Types.EventBody> taken = new ArrayList<>();
        ByteArrayOutputStream lines = new ByteArrayOutputStream();
        for (int place = start; place < events.size() && taken.size() < EVENTS_MAX; place++) {
            Types.EventBody event = withId(events.get(place), json);
            byte[] line = json.writeValueAsBytes(event);
            if (!taken.isEmpty() && lines.size() + line.length + 1 > BYTES_MAX) {
                break;
            }
            taken.add(event);
            lines.writeBytes(line);
            lines.write('\n');
        }
        return new Batch(taken, lines.toByteArray());
    }

    /**
     * The answers to a batch, which is sent until everything in it is taken. What an earlier try counted is a duplicate to the last one;
     * it was counted by this call, all the same.
     */
    static final class Tries {
        private long counted;
        private final Map<List<String>, Types.Capped> capped = new LinkedHashMap<>();

        void add(Types.BatchAnswer answer) {
            counted += answer.counted();
            answer.capped().forEach(one -> capped.put(List.of(one.user(), one.key()), one));
        }
    }

    /** The whole answer, as it grows: in JSON, so that it has what a later version of the service adds to its parts. */
    static final class Total {
        private static final List<String> SETTLED = List.of("late", "erased", "ignored", "rejected");
        private final ObjectMapper json;
        private final ObjectNode sum;
        private long before;

        Total(ObjectMapper json) {
            this.json = json;
            sum = json.createObjectNode().put("counted", 0L).put("duplicate", 0L);
            SETTLED.forEach(name -> sum.put(name, 0L));
            sum.putArray("errors");
            sum.putArray("capped");
        }

        void add(Tries tries, Types.BatchAnswer answer, int events) {
            ObjectNode last = json.valueToTree(answer);
            long settled = 0;
            for (String name : SETTLED) {
                plus(name, last.path(name).asLong());
                settled += last.path(name).asLong();
            }
            plus("counted", tries.counted);
            plus("duplicate", Math.max(events - tries.counted - settled, 0));
            tries.capped.values().forEach(one -> sum.withArray("capped").addPOJO(one));
            for (JsonNode error : last.path("errors")) {
                if (sum.withArray("errors").size() < ERRORS_MAX) {
                    sum.withArray("errors").add(((ObjectNode) error).put("index", error.path("index").asLong() + before));
                }
            }
            before += events;
        }

        private void plus(String name, long more) {
            sum.put(name, sum.path(name).asLong() + more);
        }

        Types.BatchAnswer answer() {
            return json.convertValue(sum, Types.BatchAnswer.class);
        }
    }
}
