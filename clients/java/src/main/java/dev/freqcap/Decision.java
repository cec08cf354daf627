package dev.freqcap;

/**
 * A decision. {@code fallback} is null where the service made it; otherwise the client did, for this reason.
 *
 * @param <T> the answer
 */
public record Decision<T>(T answer, Reason fallback) {
}
