// Made by clients/generate.py from openapi/openapi.json. Do not edit.

/**
 * What became of a batch.
 */
export interface BatchAnswer {
  /** The keys that went from not capped to capped by this call. */
  capped: Capped[];
  /** Events that count. */
  counted: number;
  /** Events whose id was counted before. */
  duplicate: number;
  /** Events from before their user's erasure. */
  erased: number;
  /** The first 100 rejected. */
  errors: EventError[];
  /** Of users that mean nobody (`null`, the all-zero advertising id, macros that nobody replaced): kept nowhere. */
  ignored: number;
  /** Keys of the catalogue that were left out, since an event has at most 16. Only where there are any. */
  keys_cut?: number;
  /** Events too old to count. */
  late: number;
  /** Of users who opted out: kept nowhere. Only where there are any. */
  opted_out?: number;
  /** Keys that a rule had capped when counted events happened, the first 100 by index. Only where there are any. */
  over?: EventOver[];
  /** How many more there are. */
  over_omitted?: number;
  /** Events that are invalid; `errors` says why. */
  rejected: number;
  /** Only in a 503: events that were not taken. Sending the whole call again is safe for events with ids. */
  unavailable?: number | null;
}

/**
 * An ad that may be shown.
 */
export type CandidateBody = IdText | { catalogue?: boolean | null; da: IdText; keys: string[] };

/**
 * What is said of one candidate of many.
 */
export interface CandidateVerdict {
  capped: boolean;
  capped_until?: number | null;
  count: number;
  da: string;
  key?: string | null;
  limit?: number | null;
  /** The instant asked for lies before what a full log keeps: `count` is a lower bound. Only where it is so. */
  partial?: boolean;
  /** Path and query of a signed pixel that counts the ad once. Only where `pixel` asks for it and the ad is not capped; not where its URL would be too long. */
  pixel?: string | null;
  remaining?: number | null;
  rule?: string | null;
  /** How many more would have capped. Only where there are any. */
  shadow_omitted?: number;
  why?: Why | null;
  /** The shadow rules that would have capped, the first 16 of them. Only where there are any. */
  would_cap?: string[];
}

/**
 * A verdict with whom and what it is about.
 */
export interface CapAnswer {
  capped: boolean;
  capped_until?: number | null;
  count: number;
  key?: string | null;
  kind: string;
  limit?: number | null;
  partial?: boolean;
  remaining?: number | null;
  rule?: string | null;
  /** By keys in the order asked, then by rule id: every enforced rule, and the first 16 shadow rules. */
  rules: RuleVerdict[];
  /** How many more shadow rules were judged and are not listed. Only where there are any. */
  shadow_omitted?: number;
  window?: string | { calendar: "day" | "week" | "month"; tz: string } | null;
  /** The ad. */
  da: string;
  /** Keys of the catalogue that were left out, since an ad is judged by at most 16. Only where there are any. */
  keys_cut?: number;
  /** The user. */
  user: string;
  why?: Why | null;
}

/**
 * A key that became capped by the call.
 */
export interface Capped {
  /** When the cap ends, in ms since 1970. */
  capped_until: number;
  /** The key. */
  key: string;
  /** The user. */
  user: string;
}

/**
 * The verdicts, in the order asked.
 */
export interface CheckAnswer {
  /** Keys of the catalogue that were left out, since an ad is judged by at most 16. Only where there are any. */
  keys_cut?: number;
  /** A verdict for each candidate, in the order asked. */
  results: CandidateVerdict[];
  /** The user that was asked about. */
  user: string;
}

/**
 * The body of `/check`: which of these ads may this user see?
 */
export interface CheckBody {
  at?: InstantText | null;
  /** At most 1,000. */
  candidates: CandidateBody[];
  /** `false`: only the keys named here are judged, not those that the catalogue has of the ads */
  catalogue?: boolean | null;
  /** Whether each verdict is explained (`why`); then at most 50 candidates */
  explain?: boolean | null;
  /** Only rules of this kind */
  kind?: string | null;
  /** Whether each candidate that is not capped gets a signed URL of its pixel */
  pixel?: boolean | null;
  /** The user. */
  user: IdText;
}

/**
 * An enforced rule that does not speak for a key.
 */
export interface Displaced {
  /** The rule that took its place. */
  by: string;
  key: string;
  kind: string;
  reason: DisplacedBy;
  rule: string;
}

/**
 * Why a rule takes another's place.
 */
export type DisplacedBy = "exact_over_wildcard" | "exempt";

/**
 * What became of one event.
 */
export interface EventAnswer {
  /** As `GET /cap` with the event's keys, after the event. */
  cap: CapAnswer;
  /** Keys of the catalogue that were left out, since an event has at most 16. Only where there are any. */
  keys_cut?: number;
  /** Keys that a rule had capped when the event happened, and why it was served nevertheless. Of several the first capped for longest: the event is counted under that. Only where there are any. */
  over?: EventOver[];
  /** `counted`, `duplicate`, `late`, `erased`, `opted_out` or `ignored`. */
  result: string;
}

/**
 * An event.
 */
export interface EventBody {
  /** Also `da_id`, `ad_id`. */
  da: IdText;
  id?: IdText | null;
  /** Keys counted besides the ad's own, `<level>:<id>`; at most 16. */
  keys?: string[] | null;
  /** `impression` without it. */
  kind?: string | null;
  ts?: InstantText | null;
  /** Also `user_no`, `user_id`. */
  user: IdText;
}

/**
 * An event that was rejected.
 */
export interface EventError {
  /** Stable; programs go by it. */
  code: string;
  /** For people; names the field. */
  detail: string;
  /** Which element, or line (blank ones are counted), from 0. */
  index: number;
}

/**
 * A key that a rule had capped when a counted event happened.
 */
export interface EventOver {
  /** `in_flight`: before the cap could be known. `mirror`: Redis was not told yet. `ignored`: the cap could be read. `lapsed`: its reservation had expired or was released. `rule_change`: a rule that came later caps it. `backfill`: it came from Kafka more than `max_skew` late. */
  cause: string;
  /** What the rule counted before the event. */
  count: number;
  /** From when the event happened to when it was counted, in ms. */
  delay_ms: number;
  /** Of a batch: which element, or line, from 0. */
  index?: number | null;
  /** The key. */
  key: string;
  /** The limit of the rule. */
  limit: number;
  /** The rule that had capped it. */
  rule: string;
}

/**
 * What became of one event, or of a batch.
 */
export type EventsAnswer = EventAnswer | BatchAnswer;

/**
 * An id: text of 1 to 256 bytes without control characters, or an integer, which is taken as its digits.
 */
export type IdText = string | number;

/**
 * An instant: ms since 1970 as an integer or as text, or RFC 3339 text.
 */
export type InstantText = number | string;

/**
 * What a rule that caps does.
 */
export type Mode = "enforce" | "shadow";

/**
 * What a rule will count if no event comes.
 */
export interface NextCount {
  /** From this instant on. */
  at: number;
  count: number;
}

/**
 * An error answer.
 */
export interface Problem {
  /** Stable: what programs go by. */
  code: string;
  /** For people; may change. */
  detail: string;
  /** Of `forbidden` alone: the scope that the key has not. */
  scope?: string | null;
  status: number;
  title: string;
  /** Always `about:blank`: `code` says which problem it is. */
  type: string;
}

/**
 * An ad that is capped, and by what for longest.
 */
export interface Refused {
  capped_until: number;
  da: string;
  key: string;
  rule: string;
}

/**
 * How much was given back.
 */
export interface ReleaseAnswer {
  /** Candidates given back; what is confirmed, lapsed or unknown is none. */
  released: number;
}

/**
 * The body of `/release`: give back what is reserved under an id.
 */
export interface ReleaseBody {
  da?: IdText | null;
  /** The id of the call of `/reserve`. */
  id: IdText;
  /** The user. */
  user: IdText;
}

/**
 * What became of the candidates that were looked at, in their order.
 */
export interface ReserveAnswer {
  /** That of the events which confirm what was reserved; made up where the call had none. */
  id: string;
  /** Keys of the catalogue that were left out, since an ad is judged by at most 16. Only where there are any. */
  keys_cut?: number;
  refused: Refused[];
  reserved: Reserved[];
}

/**
 * The body of `/reserve`: reserve the first of these ads that this user may see.
 */
export interface ReserveBody {
  /** In the order of preference, at most 1,000. One named twice is judged twice. */
  candidates: CandidateBody[];
  /** `false`: only the keys named here are judged and counted, not those that the catalogue has of the ads */
  catalogue?: boolean | null;
  id?: IdText | null;
  /** What the confirming events are; `impression` without it */
  kind?: string | null;
  /** Whether each candidate that is reserved gets a signed URL of its pixel, which confirms it */
  pixel?: boolean | null;
  /** How long it holds unless it is confirmed: a duration of at most 1h, 60s without it; null counts for good */
  ttl?: string | null;
  /** The user. */
  user: IdText;
  /** How many to reserve; 1 without it */
  want?: number | null;
}

/**
 * An ad that was reserved.
 */
export interface Reserved {
  da: string;
  /** When it stops counting unless it is confirmed; null where it counts for good: where `ttl` is null, or the event with this id was counted before. */
  expires_at?: number | null;
  /** Path and query of a signed pixel that confirms it. Only where `pixel` asks for it; not where its URL would be too long. */
  pixel?: string | null;
}

/**
 * What one rule says of one key.
 */
export interface RuleVerdict {
  /** For a shadow rule: what it would have done. */
  capped: boolean;
  capped_until?: number | null;
  /** Events in the window, at most `history_limit` (not for a lifetime). */
  count: number;
  key: string;
  kind: string;
  limit?: number | null;
  mode: Mode;
  /** Whether `count` is but a lower bound: an `at` before what a full log keeps. */
  partial?: boolean;
  /** `limit - count`, never negative; null where the limit is. */
  remaining?: number | null;
  rule: string;
  window: string | { calendar: "day" | "week" | "month"; tz: string } | null;
}

/**
 * A key of a user that is capped now.
 */
export interface UserCap {
  capped_until: number;
  key: string;
  kind: string;
  rule: string;
}

/**
 * The caps of a user.
 */
export interface UserCaps {
  /** By key. */
  caps: UserCap[];
  /** The user. */
  user: string;
}

/**
 * Whether a user may see an ad, judged over the ad's own key and those asked for besides. The fields from `rule`
 * to `remaining` speak for the rule that binds, and are null where no enforced rule does.
 */
export interface Verdict {
  capped: boolean;
  capped_until?: number | null;
  count: number;
  key?: string | null;
  kind: string;
  limit?: number | null;
  partial?: boolean;
  remaining?: number | null;
  rule?: string | null;
  /** By keys in the order asked, then by rule id: every enforced rule, and the first 16 shadow rules. */
  rules: RuleVerdict[];
  /** How many more shadow rules were judged and are not listed. Only where there are any. */
  shadow_omitted?: number;
  window?: string | { calendar: "day" | "week" | "month"; tz: string } | null;
}

/**
 * Why a verdict is what it is, from the same logs and rules as the verdict.
 */
export interface Why {
  /** The instant that was judged. */
  as_of: number;
  code: WhyCode;
  /** Enforced rules on the keys or their levels that do not speak for them, and which do instead. */
  displaced: Displaced[];
  /** What the binding rule counts: the newest 256, oldest first, and then reservations. */
  events: WhyEvent[];
  /** How many more it counts. Only where there are any. */
  events_omitted?: number | null;
  /** Events until the binding rule caps; null where it does already, or none binds. */
  needed?: number | null;
  next?: NextCount | null;
  /** The revision of the rules: it rises with every change. */
  revision: number;
  /** The same in a sentence, for people. */
  text: string;
}

/**
 * The reason of a verdict, in one word.
 */
export type WhyCode = "capped" | "under_limit" | "exempt" | "no_rule" | "shadow_only";

/**
 * An event, or a reservation, that the binding rule counts.
 */
export interface WhyEvent {
  /** The ad; null in the log of another key, which does not keep it. */
  da?: string | null;
  /** Of a reservation: when it lapses. */
  expires_at?: number | null;
  /** 64 bits, in hex, of the ad and the event's id. Null where it had none. */
  hash?: string | null;
  /** The first instant at which the rule no longer counts it. */
  leaves_at: number;
  /** Whether it is a reservation that no event has confirmed. Only where it is. */
  reserved?: boolean;
  ts: number;
}
