"""Signing of pixel addresses where the ad is served: no call is needed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Dict, Optional, Sequence


def sign_pixel(
    kid: str,
    secret: str,
    *,
    user: str,
    da: str,
    id: str,
    keys: Sequence[str] = (),
    kind: Optional[str] = None,
    issued_at: Optional[int] = None,
    expires_at: Optional[int] = None,
) -> str:
    """The path of the pixel that counts this event once: `/i.gif?e=..&s=..`.

    Instants are ms since 1970; it is valid from now for an hour unless told otherwise, and for 7 days at most. Whoever changes
    a character of it has it refused. Macros of players go behind it, as `&t=[TIMESTAMP]`.
    """
    now = time.time_ns() // 1_000_000 if issued_at is None else issued_at
    claims: Dict[str, object] = {"u": user, "d": da, "i": id}
    if keys:
        claims["k"] = list(keys)
    if kind is not None:
        claims["n"] = kind
    claims.update(iat=now, exp=now + 3_600_000 if expires_at is None else expires_at, kid=kid)
    event = _base64url(json.dumps(claims, ensure_ascii=False, separators=(",", ":")).encode())
    mac = hmac.new(secret.encode(), event.encode(), hashlib.sha256).digest()[:16]
    return f"/i.gif?e={event}&s={_base64url(mac)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
