package dev.freqcap;

import java.time.Duration;

/**
 * What a stream has.
 *
 * @param shards as {@code 0-63}; null is all
 * @param keys as {@code campaign:*}; null is all
 * @param fromNow leaves out what is capped already
 * @param after the id of an earlier event to go on from, or null
 * @param silence after which a connection is given up
 */
public record StreamQuery(String shards, String keys, boolean fromNow, String after, Duration silence) {
    /** Everything, what is capped already first. */
    public static StreamQuery all() {
        return new StreamQuery(null, null, false, null, Duration.ofSeconds(45));
    }

    StreamQuery goingOn(String id) {
        return new StreamQuery(shards, keys, fromNow, id, silence);
    }

    StreamQuery withSnapshot() {
        return new StreamQuery(shards, keys, false, after, silence);
    }
}
