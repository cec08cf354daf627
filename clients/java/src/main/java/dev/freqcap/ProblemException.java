package dev.freqcap;

/** The service refused the call. The code is stable; docs/reference/errors.md has them all. */
public final class ProblemException extends FreqcapException {
    private static final long serialVersionUID = 1;

    private final int status;
    private final String code;

    ProblemException(int status, String code, String detail) {
        super(status + " " + code + ": " + detail, null);
        this.status = status;
        this.code = code;
    }

    public int status() {
        return status;
    }

    public String code() {
        return code;
    }
}
