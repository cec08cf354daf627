package dev.freqcap;

import java.util.ArrayList;
import java.util.List;

/** A question about one ad. */
public final class CapQuery {
    final String user;
    final String da;
    String kind = "impression";
    /** Names and values, in turn. */
    final List<String> asked = new ArrayList<>();

    private CapQuery(String user, String da) {
        this.user = user;
        this.da = da;
    }

    public static CapQuery of(String user, String da) {
        return new CapQuery(user, da);
    }

    /** Keys that are judged besides the ad's own. */
    public CapQuery keys(List<String> keys) {
        keys.forEach(key -> with("key", key));
        return this;
    }

    /** Judges rules of this kind only. */
    public CapQuery kind(String kind) {
        this.kind = kind;
        return with("kind", kind);
    }

    /** An instant in ms, instead of now. */
    public CapQuery at(long at) {
        return with("at", Long.toString(at));
    }

    /** Any other parameter of the call. */
    public CapQuery with(String name, String value) {
        asked.add(name);
        asked.add(value);
        return this;
    }
}
