"""Batches of events: how they are cut, and what the answers of several tries say together."""

from __future__ import annotations

import json
import uuid
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Tuple

BATCH_EVENTS_MAX = 1_000
BATCH_BYTES_MAX = 1 << 20
ERRORS_MAX = 100
# What is the same whenever a batch is sent again.
SETTLED = ("late", "erased", "ignored", "rejected")


def with_id(event: Mapping[str, Any]) -> Dict[str, Any]:
    """The event with an id: its own, or one made now. A retry with the same id counts once."""
    named = dict(event)
    if named.get("id") is None and named.get("event_id") is None:
        named["id"] = uuid.uuid4().hex
    return named


def batches(events: Iterable[Mapping[str, Any]]) -> Iterator[Tuple[List[Dict[str, Any]], bytes]]:
    """The events, each with an id, and the lines to send, in pieces of bounded count and size."""
    piece: List[Dict[str, Any]] = []
    lines: List[bytes] = []
    size = 0
    for event in events:
        named = with_id(event)
        line = json.dumps(named, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
        if piece and (len(piece) >= BATCH_EVENTS_MAX or size + len(line) > BATCH_BYTES_MAX):
            yield piece, b"".join(lines)
            piece, lines, size = [], [], 0
        piece.append(named)
        lines.append(line)
        size += len(line)
    if piece:
        yield piece, b"".join(lines)


def nothing() -> Dict[str, Any]:
    """The answer to no events."""
    return {"counted": 0, "duplicate": 0, "late": 0, "erased": 0, "ignored": 0, "rejected": 0, "errors": [], "capped": []}


class Tries:
    """The answers to one batch, which is sent until everything in it is taken.

    What an earlier try counted is a duplicate to the last one; it was counted by this call, all the same.
    """

    def __init__(self, events: int) -> None:
        self.events = events
        self.counted = 0
        self.capped: Dict[Tuple[str, str], Dict[str, Any]] = {}

    def add(self, answer: Mapping[str, Any]) -> None:
        self.counted += answer.get("counted", 0)
        for one in answer.get("capped", []):
            self.capped[one["user"], one["key"]] = one

    def into(self, total: Dict[str, Any], last: Mapping[str, Any], before: int) -> None:
        """Adds the batch, of whose events `before` came earlier, to the whole answer."""
        for name in SETTLED:
            total[name] += last.get(name, 0)
        total["counted"] += self.counted
        settled = sum(last.get(name, 0) for name in SETTLED) + last.get("unavailable", 0)
        total["duplicate"] += max(self.events - self.counted - settled, 0)
        total["capped"] += self.capped.values()
        for error in last.get("errors", []):
            if len(total["errors"]) < ERRORS_MAX:
                total["errors"].append({**error, "index": error["index"] + before})
