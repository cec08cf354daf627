package dev.freqcap;

/** Every error of this package. */
public class FreqcapException extends RuntimeException {
    private static final long serialVersionUID = 1;

    FreqcapException(String message, Throwable cause) {
        super(message, cause);
    }
}
