// Made by clients/generate.py from openapi/openapi.json. Do not edit.
package dev.freqcap;

import com.fasterxml.jackson.annotation.JsonIgnoreProperties;
import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.JsonNode;
import java.util.List;

/** What is sent and received. */
public final class Types {
    private Types() {
    }

    /**
     * What became of a batch.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record BatchAnswer(
        @JsonProperty("capped") List<Capped> capped,
        @JsonProperty("counted") long counted,
        @JsonProperty("duplicate") long duplicate,
        @JsonProperty("erased") long erased,
        @JsonProperty("errors") List<EventError> errors,
        @JsonProperty("ignored") long ignored,
        @JsonProperty("keys_cut") Long keysCut,
        @JsonProperty("late") long late,
        @JsonProperty("opted_out") Long optedOut,
        @JsonProperty("over") List<EventOver> over,
        @JsonProperty("over_omitted") Long overOmitted,
        @JsonProperty("rejected") long rejected,
        @JsonProperty("unavailable") Long unavailable) {
    }

    /**
     * An ad that may be shown.
     */
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public static final class CandidateBody {
        /**
         * `false`: only these, not those that the catalogue has of the ad
         */
        @JsonProperty("catalogue")
        public Boolean catalogue;
        /**
         * The ad.
         */
        @JsonProperty("da")
        public String da;
        /**
         * Keys besides the ad's own
         */
        @JsonProperty("keys")
        public List<String> keys;

        public static CandidateBody of(String da, List<String> keys) {
            CandidateBody made = new CandidateBody();
            made.da = da;
            made.keys = keys;
            return made;
        }

        public CandidateBody catalogue(Boolean catalogue) {
            this.catalogue = catalogue;
            return this;
        }
    }

    /**
     * What is said of one candidate of many.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record CandidateVerdict(
        @JsonProperty("capped") boolean capped,
        @JsonProperty("capped_until") Long cappedUntil,
        @JsonProperty("count") long count,
        @JsonProperty("da") String da,
        @JsonProperty("key") String key,
        @JsonProperty("limit") Long limit,
        @JsonProperty("partial") Boolean partial,
        @JsonProperty("pixel") String pixel,
        @JsonProperty("remaining") Long remaining,
        @JsonProperty("rule") String rule,
        @JsonProperty("shadow_omitted") Long shadowOmitted,
        @JsonProperty("why") Why why,
        @JsonProperty("would_cap") List<String> wouldCap) {
    }

    /**
     * A verdict with whom and what it is about.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record CapAnswer(
        @JsonProperty("capped") boolean capped,
        @JsonProperty("capped_until") Long cappedUntil,
        @JsonProperty("count") long count,
        @JsonProperty("key") String key,
        @JsonProperty("kind") String kind,
        @JsonProperty("limit") Long limit,
        @JsonProperty("partial") Boolean partial,
        @JsonProperty("remaining") Long remaining,
        @JsonProperty("rule") String rule,
        @JsonProperty("rules") List<RuleVerdict> rules,
        @JsonProperty("shadow_omitted") Long shadowOmitted,
        @JsonProperty("window") JsonNode window,
        @JsonProperty("da") String da,
        @JsonProperty("keys_cut") Long keysCut,
        @JsonProperty("user") String user,
        @JsonProperty("why") Why why) {
    }

    /**
     * A key that became capped by the call.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record Capped(
        @JsonProperty("capped_until") long cappedUntil,
        @JsonProperty("key") String key,
        @JsonProperty("user") String user) {
    }

    /**
     * The verdicts, in the order asked.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record CheckAnswer(
        @JsonProperty("keys_cut") Long keysCut,
        @JsonProperty("results") List<CandidateVerdict> results,
        @JsonProperty("user") String user) {
    }

    /**
     * The body of `/check`: which of these ads may this user see?
     */
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public static final class CheckBody {
        @JsonProperty("at")
        public Long at;
        /**
         * At most 1,000.
         */
        @JsonProperty("candidates")
        public List<CandidateBody> candidates;
        /**
         * `false`: only the keys named here are judged, not those that the catalogue has of the ads
         */
        @JsonProperty("catalogue")
        public Boolean catalogue;
        /**
         * Whether each verdict is explained (`why`); then at most 50 candidates
         */
        @JsonProperty("explain")
        public Boolean explain;
        /**
         * Only rules of this kind
         */
        @JsonProperty("kind")
        public String kind;
        /**
         * Whether each candidate that is not capped gets a signed URL of its pixel
         */
        @JsonProperty("pixel")
        public Boolean pixel;
        /**
         * The user.
         */
        @JsonProperty("user")
        public String user;

        public static CheckBody of(String user, List<CandidateBody> candidates) {
            CheckBody made = new CheckBody();
            made.user = user;
            made.candidates = candidates;
            return made;
        }

        public CheckBody at(Long at) {
            this.at = at;
            return this;
        }

        public CheckBody catalogue(Boolean catalogue) {
            this.catalogue = catalogue;
            return this;
        }

        public CheckBody explain(Boolean explain) {
            this.explain = explain;
            return this;
        }

        public CheckBody kind(String kind) {
            this.kind = kind;
            return this;
        }

        public CheckBody pixel(Boolean pixel) {
            this.pixel = pixel;
            return this;
        }
    }

    /**
     * An enforced rule that does not speak for a key.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record Displaced(
        @JsonProperty("by") String by,
        @JsonProperty("key") String key,
        @JsonProperty("kind") String kind,
        @JsonProperty("reason") String reason,
        @JsonProperty("rule") String rule) {
    }

    /**
     * What became of one event.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record EventAnswer(
        @JsonProperty("cap") CapAnswer cap,
        @JsonProperty("keys_cut") Long keysCut,
        @JsonProperty("over") List<EventOver> over,
        @JsonProperty("result") String result) {
    }

    /**
     * An event.
     */
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public static final class EventBody {
        /**
         * Also `da_id`, `ad_id`.
         */
        @JsonProperty("da")
        public String da;
        @JsonProperty("id")
        public String id;
        /**
         * Keys counted besides the ad's own, `&lt;level&gt;:&lt;id&gt;`; at most 16.
         */
        @JsonProperty("keys")
        public List<String> keys;
        /**
         * `impression` without it.
         */
        @JsonProperty("kind")
        public String kind;
        @JsonProperty("ts")
        public Long ts;
        /**
         * Also `user_no`, `user_id`.
         */
        @JsonProperty("user")
        public String user;

        public static EventBody of(String user, String da) {
            EventBody made = new EventBody();
            made.user = user;
            made.da = da;
            return made;
        }

        public EventBody id(String id) {
            this.id = id;
            return this;
        }

        public EventBody keys(List<String> keys) {
            this.keys = keys;
            return this;
        }

        public EventBody kind(String kind) {
            this.kind = kind;
            return this;
        }

        public EventBody ts(Long ts) {
            this.ts = ts;
            return this;
        }
    }

    /**
     * An event that was rejected.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record EventError(
        @JsonProperty("code") String code,
        @JsonProperty("detail") String detail,
        @JsonProperty("index") long index) {
    }

    /**
     * A key that a rule had capped when a counted event happened.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record EventOver(
        @JsonProperty("cause") String cause,
        @JsonProperty("count") long count,
        @JsonProperty("delay_ms") long delayMs,
        @JsonProperty("index") Long index,
        @JsonProperty("key") String key,
        @JsonProperty("limit") long limit,
        @JsonProperty("rule") String rule) {
    }

    /**
     * What a rule will count if no event comes.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record NextCount(
        @JsonProperty("at") long at,
        @JsonProperty("count") long count) {
    }

    /**
     * An error answer.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record Problem(
        @JsonProperty("code") String code,
        @JsonProperty("detail") String detail,
        @JsonProperty("scope") String scope,
        @JsonProperty("status") long status,
        @JsonProperty("title") String title,
        @JsonProperty("type") String type) {
    }

    /**
     * An ad that is capped, and by what for longest.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record Refused(
        @JsonProperty("capped_until") long cappedUntil,
        @JsonProperty("da") String da,
        @JsonProperty("key") String key,
        @JsonProperty("rule") String rule) {
    }

    /**
     * How much was given back.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record ReleaseAnswer(
        @JsonProperty("released") long released) {
    }

    /**
     * The body of `/release`: give back what is reserved under an id.
     */
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public static final class ReleaseBody {
        @JsonProperty("da")
        public String da;
        /**
         * The id of the call of `/reserve`.
         */
        @JsonProperty("id")
        public String id;
        /**
         * The user.
         */
        @JsonProperty("user")
        public String user;

        public static ReleaseBody of(String user, String id) {
            ReleaseBody made = new ReleaseBody();
            made.user = user;
            made.id = id;
            return made;
        }

        public ReleaseBody da(String da) {
            this.da = da;
            return this;
        }
    }

    /**
     * What became of the candidates that were looked at, in their order.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record ReserveAnswer(
        @JsonProperty("id") String id,
        @JsonProperty("keys_cut") Long keysCut,
        @JsonProperty("refused") List<Refused> refused,
        @JsonProperty("reserved") List<Reserved> reserved) {
    }

    /**
     * The body of `/reserve`: reserve the first of these ads that this user may see.
     */
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public static final class ReserveBody {
        /**
         * In the order of preference, at most 1,000. One named twice is judged twice.
         */
        @JsonProperty("candidates")
        public List<CandidateBody> candidates;
        /**
         * `false`: only the keys named here are judged and counted, not those that the catalogue has of the
         * ads
         */
        @JsonProperty("catalogue")
        public Boolean catalogue;
        @JsonProperty("id")
        public String id;
        /**
         * What the confirming events are; `impression` without it
         */
        @JsonProperty("kind")
        public String kind;
        /**
         * Whether each candidate that is reserved gets a signed URL of its pixel, which confirms it
         */
        @JsonProperty("pixel")
        public Boolean pixel;
        /**
         * How long it holds unless it is confirmed: a duration of at most 1h, 60s without it; null counts for
         * good
         */
        @JsonProperty("ttl")
        public String ttl;
        /**
         * The user.
         */
        @JsonProperty("user")
        public String user;
        /**
         * How many to reserve; 1 without it
         */
        @JsonProperty("want")
        public Long want;

        public static ReserveBody of(String user, List<CandidateBody> candidates) {
            ReserveBody made = new ReserveBody();
            made.user = user;
            made.candidates = candidates;
            return made;
        }

        public ReserveBody catalogue(Boolean catalogue) {
            this.catalogue = catalogue;
            return this;
        }

        public ReserveBody id(String id) {
            this.id = id;
            return this;
        }

        public ReserveBody kind(String kind) {
            this.kind = kind;
            return this;
        }

        public ReserveBody pixel(Boolean pixel) {
            this.pixel = pixel;
            return this;
        }

        public ReserveBody ttl(String ttl) {
            this.ttl = ttl;
            return this;
        }

        public ReserveBody want(Long want) {
            this.want = want;
            return this;
        }
    }

    /**
     * An ad that was reserved.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record Reserved(
        @JsonProperty("da") String da,
        @JsonProperty("expires_at") Long expiresAt,
        @JsonProperty("pixel") String pixel) {
    }

    /**
     * What one rule says of one key.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record RuleVerdict(
        @JsonProperty("capped") boolean capped,
        @JsonProperty("capped_until") Long cappedUntil,
        @JsonProperty("count") long count,
        @JsonProperty("key") String key,
        @JsonProperty("kind") String kind,
        @JsonProperty("limit") Long limit,
        @JsonProperty("mode") String mode,
        @JsonProperty("partial") Boolean partial,
        @JsonProperty("remaining") Long remaining,
        @JsonProperty("rule") String rule,
        @JsonProperty("window") JsonNode window) {
    }

    /**
     * A key of a user that is capped now.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record UserCap(
        @JsonProperty("capped_until") long cappedUntil,
        @JsonProperty("key") String key,
        @JsonProperty("kind") String kind,
        @JsonProperty("rule") String rule) {
    }

    /**
     * The caps of a user.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record UserCaps(
        @JsonProperty("caps") List<UserCap> caps,
        @JsonProperty("user") String user) {
    }

    /**
     * Whether a user may see an ad, judged over the ad's own key and those asked for besides. The fields
     * from `rule` to `remaining` speak for the rule that binds, and are null where no enforced rule does.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record Verdict(
        @JsonProperty("capped") boolean capped,
        @JsonProperty("capped_until") Long cappedUntil,
        @JsonProperty("count") long count,
        @JsonProperty("key") String key,
        @JsonProperty("kind") String kind,
        @JsonProperty("limit") Long limit,
        @JsonProperty("partial") Boolean partial,
        @JsonProperty("remaining") Long remaining,
        @JsonProperty("rule") String rule,
        @JsonProperty("rules") List<RuleVerdict> rules,
        @JsonProperty("shadow_omitted") Long shadowOmitted,
        @JsonProperty("window") JsonNode window) {
    }

    /**
     * Why a verdict is what it is, from the same logs and rules as the verdict.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record Why(
        @JsonProperty("as_of") long asOf,
        @JsonProperty("code") String code,
        @JsonProperty("displaced") List<Displaced> displaced,
        @JsonProperty("events") List<WhyEvent> events,
        @JsonProperty("events_omitted") Long eventsOmitted,
        @JsonProperty("needed") Long needed,
        @JsonProperty("next") NextCount next,
        @JsonProperty("revision") long revision,
        @JsonProperty("text") String text) {
    }

    /**
     * An event, or a reservation, that the binding rule counts.
     */
    @JsonIgnoreProperties(ignoreUnknown = true)
    @JsonInclude(JsonInclude.Include.NON_NULL)
    public record WhyEvent(
        @JsonProperty("da") String da,
        @JsonProperty("expires_at") Long expiresAt,
        @JsonProperty("hash") String hash,
        @JsonProperty("leaves_at") long leavesAt,
        @JsonProperty("reserved") Boolean reserved,
        @JsonProperty("ts") long ts) {
    }
}
