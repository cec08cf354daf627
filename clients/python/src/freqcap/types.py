# Made by clients/generate.py from openapi/openapi.json. Do not edit.
from __future__ import annotations

import sys
from typing import Any, Dict, List, Literal, Optional, TypedDict, Union

if sys.version_info >= (3, 11):
    from typing import NotRequired
else:
    from typing_extensions import NotRequired


class BatchAnswer(TypedDict):
    """What became of a batch."""
    # The keys that went from not capped to capped by this call.
    capped: List["Capped"]
    # Events that count.
    counted: int
    # Events whose id was counted before.
    duplicate: int
    # Events from before their user's erasure.
    erased: int
    # The first 100 rejected.
    errors: List["EventError"]
    # Of users that mean nobody (`null`, the all-zero advertising id, macros that nobody replaced): kept nowhere.
    ignored: int
    # Keys of the catalogue that were left out, since an event has at most 16. Only where there are any.
    keys_cut: NotRequired[int]
    # Events too old to count.
    late: int
    # Of users who opted out: kept nowhere. Only where there are any.
    opted_out: NotRequired[int]
    # Keys that a rule had capped when counted events happened, the first 100 by index. Only where there are any.
    over: NotRequired[List["EventOver"]]
    # How many more there are.
    over_omitted: NotRequired[int]
    # Events that are invalid; `errors` says why.
    rejected: int
    # Only in a 503: events that were not taken. Sending the whole call again is safe for events with ids.
    unavailable: NotRequired[Optional[int]]


class CandidateBodyObject(TypedDict):
    """An ad that may be shown."""
    # `false`: only these, not those that the catalogue has of the ad
    catalogue: NotRequired[Optional[bool]]
    # The ad.
    da: "IdText"
    # Keys besides the ad's own
    keys: List[str]


CandidateBody = Union["IdText", "CandidateBodyObject"]


class CandidateVerdict(TypedDict):
    """What is said of one candidate of many."""
    capped: bool
    capped_until: NotRequired[Optional[int]]
    count: int
    da: str
    key: NotRequired[Optional[str]]
    limit: NotRequired[Optional[int]]
    # The instant asked for lies before what a full log keeps: `count` is a lower bound. Only where it is so.
    partial: NotRequired[bool]
    # Path and query of a signed pixel that counts the ad once. Only where `pixel` asks for it and the ad is not
    # capped; not where its URL would be too long.
    pixel: NotRequired[Optional[str]]
    remaining: NotRequired[Optional[int]]
    rule: NotRequired[Optional[str]]
    # How many more would have capped. Only where there are any.
    shadow_omitted: NotRequired[int]
    why: NotRequired[Optional["Why"]]
    # The shadow rules that would have capped, the first 16 of them. Only where there are any.
    would_cap: NotRequired[List[str]]


class CapAnswer(TypedDict):
    """A verdict with whom and what it is about."""
    capped: bool
    capped_until: NotRequired[Optional[int]]
    count: int
    key: NotRequired[Optional[str]]
    kind: str
    limit: NotRequired[Optional[int]]
    partial: NotRequired[bool]
    remaining: NotRequired[Optional[int]]
    rule: NotRequired[Optional[str]]
    # By keys in the order asked, then by rule id: every enforced rule, and the first 16 shadow rules.
    rules: List["RuleVerdict"]
    # How many more shadow rules were judged and are not listed. Only where there are any.
    shadow_omitted: NotRequired[int]
    window: NotRequired[Optional[Union[str, Dict[str, Any]]]]
    # The ad.
    da: str
    # Keys of the catalogue that were left out, since an ad is judged by at most 16. Only where there are any.
    keys_cut: NotRequired[int]
    # The user.
    user: str
    why: NotRequired[Optional["Why"]]


class Capped(TypedDict):
    """A key that became capped by the call."""
    # When the cap ends, in ms since 1970.
    capped_until: int
    # The key.
    key: str
    # The user.
    user: str


class CheckAnswer(TypedDict):
    """The verdicts, in the order asked."""
    # Keys of the catalogue that were left out, since an ad is judged by at most 16. Only where there are any.
    keys_cut: NotRequired[int]
    # A verdict for each candidate, in the order asked.
    results: List["CandidateVerdict"]
    # The user that was asked about.
    user: str


class CheckBody(TypedDict):
    """The body of `/check`: which of these ads may this user see?"""
    at: NotRequired[Optional["InstantText"]]
    # At most 1,000.
    candidates: List["CandidateBody"]
    # `false`: only the keys named here are judged, not those that the catalogue has of the ads
    catalogue: NotRequired[Optional[bool]]
    # Whether each verdict is explained (`why`); then at most 50 candidates
    explain: NotRequired[Optional[bool]]
    # Only rules of this kind
    kind: NotRequired[Optional[str]]
    # Whether each candidate that is not capped gets a signed URL of its pixel
    pixel: NotRequired[Optional[bool]]
    # The user.
    user: "IdText"


class Displaced(TypedDict):
    """An enforced rule that does not speak for a key."""
    # The rule that took its place.
    by: str
    key: str
    kind: str
    reason: "DisplacedBy"
    rule: str


# Why a rule takes another's place.
DisplacedBy = Literal["exact_over_wildcard", "exempt"]


class EventAnswer(TypedDict):
    """What became of one event."""
    # As `GET /cap` with the event's keys, after the event.
    cap: "CapAnswer"
    # Keys of the catalogue that were left out, since an event has at most 16. Only where there are any.
    keys_cut: NotRequired[int]
    # Keys that a rule had capped when the event happened, and why it was served nevertheless. Of several the first
    # capped for longest: the event is counted under that. Only where there are any.
    over: NotRequired[List["EventOver"]]
    # `counted`, `duplicate`, `late`, `erased`, `opted_out` or `ignored`.
    result: str


class EventBody(TypedDict):
    """An event."""
    # Also `da_id`, `ad_id`.
    da: "IdText"
    id: NotRequired[Optional["IdText"]]
    # Keys counted besides the ad's own, `<level>:<id>`; at most 16.
    keys: NotRequired[Optional[List[str]]]
    # `impression` without it.
    kind: NotRequired[Optional[str]]
    ts: NotRequired[Optional["InstantText"]]
    # Also `user_no`, `user_id`.
    user: "IdText"


class EventError(TypedDict):
    """An event that was rejected."""
    # Stable; programs go by it.
    code: str
    # For people; names the field.
    detail: str
    # Which element, or line (blank ones are counted), from 0.
    index: int


class EventOver(TypedDict):
    """A key that a rule had capped when a counted event happened."""
    # `in_flight`: before the cap could be known. `mirror`: Redis was not told yet. `ignored`: the cap could be
    # read. `lapsed`: its reservation had expired or was released. `rule_change`: a rule that came later caps it.
    # `backfill`: it came from Kafka more than `max_skew` late.
    cause: str
    # What the rule counted before the event.
    count: int
    # From when the event happened to when it was counted, in ms.
    delay_ms: int
    # Of a batch: which element, or line, from 0.
    index: NotRequired[Optional[int]]
    # The key.
    key: str
    # The limit of the rule.
    limit: int
    # The rule that had capped it.
    rule: str


# What became of one event, or of a batch.
EventsAnswer = Union["EventAnswer", "BatchAnswer"]


# An id: text of 1 to 256 bytes without control characters, or an integer, which is taken as its digits.
IdText = Union[str, int]


# An instant: ms since 1970 as an integer or as text, or RFC 3339 text.
InstantText = Union[int, str]


# What a rule that caps does.
Mode = Literal["enforce", "shadow"]


class NextCount(TypedDict):
    """What a rule will count if no event comes."""
    # From this instant on.
    at: int
    count: int


class Problem(TypedDict):
    """An error answer."""
    # Stable: what programs go by.
    code: str
    # For people; may change.
    detail: str
    # Of `forbidden` alone: the scope that the key has not.
    scope: NotRequired[Optional[str]]
    status: int
    title: str
    # Always `about:blank`: `code` says which problem it is.
    type: str


class Refused(TypedDict):
    """An ad that is capped, and by what for longest."""
    capped_until: int
    da: str
    key: str
    rule: str


class ReleaseAnswer(TypedDict):
    """How much was given back."""
    # Candidates given back; what is confirmed, lapsed or unknown is none.
    released: int


class ReleaseBody(TypedDict):
    """The body of `/release`: give back what is reserved under an id."""
    da: NotRequired[Optional["IdText"]]
    # The id of the call of `/reserve`.
    id: "IdText"
    # The user.
    user: "IdText"


class ReserveAnswer(TypedDict):
    """What became of the candidates that were looked at, in their order."""
    # That of the events which confirm what was reserved; made up where the call had none.
    id: str
    # Keys of the catalogue that were left out, since an ad is judged by at most 16. Only where there are any.
    keys_cut: NotRequired[int]
    refused: List["Refused"]
    reserved: List["Reserved"]


class ReserveBody(TypedDict):
    """The body of `/reserve`: reserve the first of these ads that this user may see."""
    # In the order of preference, at most 1,000. One named twice is judged twice.
    candidates: List["CandidateBody"]
    # `false`: only the keys named here are judged and counted, not those that the catalogue has of the ads
    catalogue: NotRequired[Optional[bool]]
    id: NotRequired[Optional["IdText"]]
    # What the confirming events are; `impression` without it
    kind: NotRequired[Optional[str]]
    # Whether each candidate that is reserved gets a signed URL of its pixel, which confirms it
    pixel: NotRequired[Optional[bool]]
    # How long it holds unless it is confirmed: a duration of at most 1h, 60s without it; null counts for good
    ttl: NotRequired[Optional[str]]
    # The user.
    user: "IdText"
    # How many to reserve; 1 without it
    want: NotRequired[Optional[int]]


class Reserved(TypedDict):
    """An ad that was reserved."""
    da: str
    # When it stops counting unless it is confirmed; null where it counts for good: where `ttl` is null, or the
    # event with this id was counted before.
    expires_at: NotRequired[Optional[int]]
    # Path and query of a signed pixel that confirms it. Only where `pixel` asks for it; not where its URL would be
    # too long.
    pixel: NotRequired[Optional[str]]


class RuleVerdict(TypedDict):
    """What one rule says of one key."""
    # For a shadow rule: what it would have done.
    capped: bool
    capped_until: NotRequired[Optional[int]]
    # Events in the window, at most `history_limit` (not for a lifetime).
    count: int
    key: str
    kind: str
    limit: NotRequired[Optional[int]]
    mode: "Mode"
    # Whether `count` is but a lower bound: an `at` before what a full log keeps.
    partial: NotRequired[bool]
    # `limit - count`, never negative; null where the limit is.
    remaining: NotRequired[Optional[int]]
    rule: str
    window: Optional[Union[str, Dict[str, Any]]]


class UserCap(TypedDict):
    """A key of a user that is capped now."""
    capped_until: int
    key: str
    kind: str
    rule: str


class UserCaps(TypedDict):
    """The caps of a user."""
    # By key.
    caps: List["UserCap"]
    # The user.
    user: str


class Verdict(TypedDict):
    """Whether a user may see an ad, judged over the ad's own key and those asked for besides. The fields from
    `rule` to `remaining` speak for the rule that binds, and are null where no enforced rule does."""
    capped: bool
    capped_until: NotRequired[Optional[int]]
    count: int
    key: NotRequired[Optional[str]]
    kind: str
    limit: NotRequired[Optional[int]]
    partial: NotRequired[bool]
    remaining: NotRequired[Optional[int]]
    rule: NotRequired[Optional[str]]
    # By keys in the order asked, then by rule id: every enforced rule, and the first 16 shadow rules.
    rules: List["RuleVerdict"]
    # How many more shadow rules were judged and are not listed. Only where there are any.
    shadow_omitted: NotRequired[int]
    window: NotRequired[Optional[Union[str, Dict[str, Any]]]]


class Why(TypedDict):
    """Why a verdict is what it is, from the same logs and rules as the verdict."""
    # The instant that was judged.
    as_of: int
    code: "WhyCode"
    # Enforced rules on the keys or their levels that do not speak for them, and which do instead.
    displaced: List["Displaced"]
    # What the binding rule counts: the newest 256, oldest first, and then reservations.
    events: List["WhyEvent"]
    # How many more it counts. Only where there are any.
    events_omitted: NotRequired[Optional[int]]
    # Events until the binding rule caps; null where it does already, or none binds.
    needed: NotRequired[Optional[int]]
    next: NotRequired[Optional["NextCount"]]
    # The revision of the rules: it rises with every change.
    revision: int
    # The same in a sentence, for people.
    text: str


# The reason of a verdict, in one word.
WhyCode = Literal["capped", "under_limit", "exempt", "no_rule", "shadow_only"]


class WhyEvent(TypedDict):
    """An event, or a reservation, that the binding rule counts."""
    # The ad; null in the log of another key, which does not keep it.
    da: NotRequired[Optional[str]]
    # Of a reservation: when it lapses.
    expires_at: NotRequired[Optional[int]]
    # 64 bits, in hex, of the ad and the event's id. Null where it had none.
    hash: NotRequired[Optional[str]]
    # The first instant at which the rule no longer counts it.
    leaves_at: int
    # Whether it is a reservation that no event has confirmed. Only where it is.
    reserved: NotRequired[bool]
    ts: int
