package dev.freqcap;

import java.time.Duration;
import java.util.List;

/** A call without an answer of the service. */
public final class UnavailableException extends FreqcapException {
    private static final long serialVersionUID = 1;

    private final Reason reason;
    /** What the service asked to wait; null where it did not. */
    final transient Duration retryAfter;
    /** What a 503 counted of a batch; null where it counted nothing. */
    final transient Types.BatchAnswer partial;
    private transient Types.BatchAnswer answer;
    private transient List<Types.EventBody> rest = List.of();

    UnavailableException(Reason reason, String detail, Throwable cause) {
        this(reason, detail, cause, null, null);
    }

    UnavailableException(Reason reason, String detail, Throwable cause, Duration retryAfter, Types.BatchAnswer partial) {
        super(reason.name().toLowerCase(java.util.Locale.ROOT) + ": " + detail, cause);
        this.reason = reason;
        this.retryAfter = retryAfter;
        this.partial = partial;
    }

    public Reason reason() {
        return reason;
    }

    /** Of countAll: what was counted so far; null for other calls. */
    public Types.BatchAnswer answer() {
        return answer;
    }

    /** Of countAll: the events to send later, with their ids. */
    public List<Types.EventBody> rest() {
        return rest;
    }

    UnavailableException of(Types.BatchAnswer answer, List<Types.EventBody> rest) {
        this.answer = answer;
        this.rest = List.copyOf(rest);
        return this;
    }
}
