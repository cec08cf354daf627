"""The stream of cap changes: server-sent events, resumed after the last id."""

from __future__ import annotations

import http.client
import json
import random
import time
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, Mapping, Optional
from urllib.parse import urlencode

from .connection import Transport
from .errors import ProblemError, Unavailable

RETRY_FIRST_S, RETRY_MAX_S = 0.1, 10.0
LINE_BYTES_MAX = 1 << 20


@dataclass(frozen=True)
class StreamEvent:
    """One event: `cap`, `checkpoint`, `snapshot_begin`, `snapshot_end`, `reset` or `lagged`. `id` goes on after it."""

    event: str
    data: Any
    id: Optional[str]


def follow(
    transport: Transport,
    headers: Callable[[], Dict[str, str]],
    asked: Mapping[str, Optional[str]],
    start: str,
    after: Optional[str],
    silence: float,
) -> Iterator[StreamEvent]:
    """Yields events for ever. A refusal of the service (4xx) is raised; whatever else ends a connection leads to the next."""
    pause = RETRY_FIRST_S
    while True:
        try:
            for event in _one_connection(transport, headers(), asked, start, after, silence):
                pause = RETRY_FIRST_S
                after = event.id or after
                yield event
        except Unavailable as error:
            pause = max(pause, min(error.retry_after or 0, RETRY_MAX_S))
        # What came before the first checkpoint cannot be gone on from; only a snapshot has all of it.
        start = "snapshot"
        time.sleep(pause * random.uniform(0.5, 1.0))
        pause = min(pause * 2, RETRY_MAX_S)


def _one_connection(transport, headers, asked, start, after, silence):
    query = {name: value for name, value in asked.items() if value is not None}
    more = {"accept": "text/event-stream", **headers}
    if after is None:
        query["from"] = start
    else:
        more["last-event-id"] = after
    path = "/caps/stream" + ("?" + urlencode(query) if query else "")
    sock, answer = transport.open(path, more, time.monotonic() + silence)
    try:
        if answer.status != 200:
            _refuse(answer)
        yield from _events(sock, answer, silence)
    except (http.client.HTTPException, OSError) as error:
        raise Unavailable("away", str(error)) from error
    finally:
        answer.close()
        sock.close()


def _refuse(answer: http.client.HTTPResponse) -> None:
    try:
        problem = json.loads(answer.read(LINE_BYTES_MAX))
    except ValueError:
        problem = {}
    if answer.status >= 500:
        after = answer.headers.get("retry-after", "")
        raise Unavailable("unavailable", problem.get("detail", ""), float(after) if after.isdigit() else None)
    raise ProblemError(answer.status, problem.get("code", "unknown"), problem.get("detail", ""))


def _events(sock, answer, silence):
    kind, data, id = "message", [], None
    while True:
        sock.until = time.monotonic() + silence
        line = answer.readline(LINE_BYTES_MAX)
        if not line.endswith(b"\n"):
            return
        text = line.rstrip(b"\r\n").decode("utf-8")
        if not text:
            if data:
                yield StreamEvent(kind, json.loads("\n".join(data)), id)
            kind, data, id = "message", [], None
            continue
        field, _, value = text.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "event":
            kind = value
        elif field == "data":
            data.append(value)
        elif field == "id":
            id = value
