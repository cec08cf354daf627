package dev.freqcap;

/** Why there is no answer of the service. */
public enum Reason {
    /** None before the deadline. */
    TIMEOUT,
    /** Nobody listens, or the connection was cut. */
    AWAY,
    /** A 5xx answer, or one that is not freqcap's. */
    UNAVAILABLE
}
