"""What goes wrong."""

from __future__ import annotations

from typing import Any, Dict, List, Optional


class FreqcapError(Exception):
    """Every error of this package."""


class ProblemError(FreqcapError):
    """The service refused the call. `code` is stable; docs/reference/errors.md has them all."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(f"{status} {code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail


class Unavailable(FreqcapError):
    """No answer in time (`timeout`), nobody there (`away`), or a 5xx answer (`unavailable`): `reason` says which."""

    def __init__(self, reason: str, detail: str, retry_after: Optional[float] = None) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.retry_after = retry_after
        # Of a batch: what was answered so far, and the events, with their ids, that are to be sent again.
        self.answer: Optional[Dict[str, Any]] = None
        self.rest: List[Dict[str, Any]] = []
