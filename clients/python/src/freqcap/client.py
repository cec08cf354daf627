"""The calls."""

from __future__ import annotations

import json
import random
import ssl
import threading
import time
import uuid
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Literal, Mapping, Optional, Sequence, Tuple, cast
from urllib.parse import quote, urlencode

from . import batch as batching
from .connection import Transport
from .errors import ProblemError, Unavailable
from .stream import StreamEvent, follow
from .types import BatchAnswer, CandidateBody, CapAnswer, CheckAnswer, EventAnswer, ReleaseAnswer, ReserveAnswer, UserCaps

Fallback = Literal["timeout", "away", "unavailable"]
RETRY_FIRST_S, RETRY_MAX_S, RETRY_AFTER_MAX_S = 0.05, 2.0, 60.0
TRY_MAX_S = 10.0


class Client:
    """Calls one freqcap. Safe to share between threads; keeps its connections.

    Deadlines are seconds. A decision (`cap`, `check`, `reserve`) that has no answer after `decision_deadline`, finds nobody or
    is answered 5xx, is made here: `on_timeout` says "allow" (show the ad) or "deny". Such an answer has the member `fallback`
    with the reason, and `fallbacks` counts them by reason. All other calls raise `Unavailable` then.
    """

    def __init__(
        self,
        url: str = "http://127.0.0.1:8080",
        *,
        key: Optional[str] = None,
        key_file: Optional[str] = None,
        decision_deadline: float = 0.020,
        deadline: float = 2.0,
        on_timeout: Literal["allow", "deny"] = "allow",
        tls: Optional[ssl.SSLContext] = None,
    ) -> None:
        if on_timeout not in ("allow", "deny"):
            raise ValueError(f"on_timeout is allow or deny, not {on_timeout!r}")
        if key is not None and key_file is not None:
            raise ValueError("give the key or its file, not both")
        self._transport = Transport(url, tls)
        self._key_file = key_file
        self._key = key if key_file is None else _read_key(key_file)
        self._decision_deadline, self._deadline = decision_deadline, deadline
        self._deny = on_timeout == "deny"
        self._lock = threading.Lock()
        self.fallbacks: Dict[Fallback, int] = {"timeout": 0, "away": 0, "unavailable": 0}

    def count(self, event: Mapping[str, Any], *, deadline: Optional[float] = None) -> EventAnswer:
        """Counts one event: {"user", "da", "ts"?, "id"?, "kind"?, "keys"?}, and gives the verdict after it.

        Without an id one is made, so that it counts once however often it is sent. 503 is tried again until the deadline.
        """
        body = json.dumps(batching.with_id(event)).encode()
        until = time.monotonic() + (self._deadline if deadline is None else deadline)
        return cast(EventAnswer, self._until_taken("/events", body, "application/json", until, lambda _: None))

    def count_all(self, events: Iterable[Mapping[str, Any]], *, deadline: float = 60.0) -> BatchAnswer:
        """Counts any number of events in batches. What is answered 503 is sent again, with the same ids, after `Retry-After`.

        `index` of an error is the event's place among all. After `deadline` it raises `Unavailable`, whose `answer` is what was
        counted so far and whose `rest` are the events to send later, with their ids.
        """
        until = time.monotonic() + deadline
        total, before = batching.nothing(), 0
        pieces = batching.batches(events)
        for piece, lines in pieces:
            tries = batching.Tries(len(piece))
            try:
                last = self._until_taken("/events", lines, "application/x-ndjson", until, tries.add)
            except Unavailable as error:
                error.answer = total
                error.rest = piece + [event for others, _ in pieces for event in others]
                raise
            tries.add(last)
            tries.into(total, last, before)
            before += len(piece)
        return cast(BatchAnswer, total)

    def cap(
        self,
        user: str,
        da: str,
        *,
        keys: Sequence[str] = (),
        kind: Optional[str] = None,
        at: Optional[int] = None,
        deadline: Optional[float] = None,
        **more: Any,
    ) -> CapAnswer:
        """The verdict on one ad. `more` are further parameters of the call."""
        asked = [("key", key) for key in keys]
        asked += [(name, _text(value)) for name, value in {"kind": kind, "at": at, **more}.items() if value is not None]
        path = f"/cap/{_segment(user)}/{_segment(da)}" + ("?" + urlencode(asked, quote_via=quote) if asked else "")

        def instead() -> Dict[str, Any]:
            return {"user": user, "da": da, "kind": kind or "impression", "rules": [], **self._verdict()}

        return cast(CapAnswer, self._decide("GET", path, None, deadline, instead))

    def check(
        self, user: str, candidates: Sequence[CandidateBody], *, deadline: Optional[float] = None, **more: Any
    ) -> CheckAnswer:
        """The verdicts on up to 1,000 ads, in their order. `more`: at, kind, explain."""

        def instead() -> Dict[str, Any]:
            return {"user": user, "results": [{"da": _da(one), **self._verdict()} for one in candidates]}

        body = {"user": user, "candidates": list(candidates), **more}
        return cast(CheckAnswer, self._decide("POST", "/check", body, deadline, instead))

    def reserve(
        self,
        user: str,
        candidates: Sequence[CandidateBody],
        *,
        id: Optional[str] = None,
        deadline: Optional[float] = None,
        **more: Any,
    ) -> ReserveAnswer:
        """Takes the first ads that are not capped and counts them at once. `more`: want, ttl (None counts for good), kind.

        Without an id one is made. `count` with the same user, da, kind and id confirms. Where the decision is made here,
        "allow" reserves the first `want` by name only (nothing is counted), "deny" none.
        """
        id = uuid.uuid4().hex if id is None else id

        def instead() -> Dict[str, Any]:
            taken = [] if self._deny else list(candidates)[: more.get("want") or 1]
            return {"id": id, "reserved": [{"da": _da(one), "expires_at": None} for one in taken], "refused": []}

        body = {"user": user, "candidates": list(candidates), "id": id, **more}
        return cast(ReserveAnswer, self._decide("POST", "/reserve", body, deadline, instead))

    def release(self, user: str, id: str, *, da: Optional[str] = None, deadline: Optional[float] = None) -> ReleaseAnswer:
        """Gives back what was reserved under this id, or one ad of it."""
        body = {"user": user, "id": id, **({} if da is None else {"da": da})}
        until = time.monotonic() + (self._deadline if deadline is None else deadline)
        return cast(ReleaseAnswer, self._ask("POST", "/release", body, until))

    def user_caps(self, user: str, *, deadline: Optional[float] = None) -> UserCaps:
        """Every key capped now for this user."""
        until = time.monotonic() + (self._deadline if deadline is None else deadline)
        return cast(UserCaps, self._ask("GET", f"/users/{_segment(user)}/caps", None, until))

    def stream(
        self,
        *,
        shards: Optional[str] = None,
        keys: Optional[str] = None,
        start: Literal["snapshot", "now"] = "snapshot",
        after: Optional[str] = None,
        silence: float = 45.0,
    ) -> Iterator[StreamEvent]:
        """The changes of caps, for ever: it connects again after the last checkpoint whenever the connection ends.

        `after` is the id of an earlier event to go on from. A connection that is silent for `silence` seconds is given up.
        """
        asked = {"shards": shards, "keys": keys}
        return follow(self._transport, self._headers, asked, start, after, silence)

    def close(self) -> None:
        """Closes the connections that wait."""
        self._transport.close()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _decide(self, method: str, path: str, body: Any, deadline: Optional[float], instead: Any) -> Dict[str, Any]:
        until = time.monotonic() + (self._decision_deadline if deadline is None else deadline)
        try:
            return self._ask(method, path, body, until)
        except Unavailable as error:
            reason = cast(Fallback, error.reason)
            with self._lock:
                self.fallbacks[reason] += 1
            return {**instead(), "fallback": reason}

    def _verdict(self) -> Dict[str, Any]:
        nobody = dict.fromkeys(("capped_until", "rule", "key", "limit", "remaining", "window"))
        return {"capped": self._deny, "count": 0, **nobody}

    def _ask(self, method: str, path: str, body: Any, until: float) -> Dict[str, Any]:
        data = None if body is None else json.dumps(body).encode()
        return self._once(method, path, data, "application/json", until)[1]

    def _once(
        self, method: str, path: str, data: Optional[bytes], form: str, until: float
    ) -> Tuple[int, Dict[str, Any]]:
        """One call: the status and the answer of a 2xx, or of a 503 to a batch. Raises for everything else."""
        for may_read_key_again in (True, False):
            headers = {"content-type": form} if data is not None else {}
            headers.update(self._headers())
            status, found, answer = self._transport.call(method, path, data, headers, until)
            if status == 401 and may_read_key_again and self._key_changed():
                continue
            break
        answer = answer if isinstance(answer, dict) else None
        if 200 <= status < 300 and answer is not None:
            return status, answer
        if status >= 500 or answer is None and status < 300:
            detail = (answer or {}).get("detail", f"status {status}")
            error = Unavailable("unavailable", detail, _seconds(found.get("retry-after")))
            error.answer = answer if answer and "unavailable" in answer else None
            raise error
        problem = answer or {}
        raise ProblemError(status, problem.get("code", "unknown"), problem.get("detail", f"status {status}"))

    def _until_taken(self, path: str, data: bytes, form: str, until: float, partly: Any) -> Dict[str, Any]:
        """Sends events until they are taken. `partly` hears what a 503 counted nevertheless."""
        pause = RETRY_FIRST_S
        while True:
            try:
                return self._once("POST", path, data, form, min(until, time.monotonic() + TRY_MAX_S))[1]
            except Unavailable as error:
                if error.answer is not None:
                    partly(error.answer)
                    error.answer = None
                asked = error.retry_after
                wait = min(asked, RETRY_AFTER_MAX_S) if asked is not None else pause * random.uniform(0.5, 1.0)
                pause = min(pause * 2, RETRY_MAX_S)
                if time.monotonic() + wait >= until:
                    raise
                time.sleep(wait)

    def _headers(self) -> Dict[str, str]:
        return {} if self._key is None else {"authorization": f"Bearer {self._key}"}

    def _key_changed(self) -> bool:
        """Reads the key's file again: it may have been rotated."""
        if self._key_file is None:
            return False
        before, self._key = self._key, _read_key(self._key_file)
        return self._key != before


def _read_key(file: str) -> str:
    key = Path(file).read_text("utf-8").strip()
    if not key:
        raise ValueError(f"{file} is empty; it has to have the key's secret")
    return key


def _segment(id: str) -> str:
    """An id as a part of a path. A `.` or `..` alone would be taken for a folder."""
    return quote(id, safe="") if id not in (".", "..") else id.replace(".", "%2E")


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _da(candidate: CandidateBody) -> str:
    return str(candidate["da"]) if isinstance(candidate, Mapping) else str(candidate)


def _seconds(value: Optional[str]) -> Optional[float]:
    return float(value) if value is not None and value.isascii() and value.isdigit() else None
