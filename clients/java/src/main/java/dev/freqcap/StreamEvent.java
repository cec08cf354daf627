package dev.freqcap;

import com.fasterxml.jackson.databind.JsonNode;

/** {@code cap}, {@code checkpoint}, {@code snapshot_begin}, {@code snapshot_end}, {@code reset} or {@code lagged}. The id goes on after it; null where there is none. */
public record StreamEvent(String event, JsonNode data, String id) {
}
