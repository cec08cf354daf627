"""HTTP/1.1 connections that are kept, and on which a deadline holds for a whole call, however slowly the bytes come."""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
import time
from collections import deque
from typing import Any, Deque, Dict, Optional, Tuple
from urllib.parse import urlsplit

from .errors import Unavailable

IDLE_CONNECTIONS_MAX = 64
ANSWER_BYTES_MAX = 64 << 20


class _Socket:
    """A socket whose every operation ends at `until` (time.monotonic). It stays open while an answer is read from it."""

    def __init__(self, raw: socket.socket, until: float) -> None:
        self.raw = raw
        self.until = until
        self._readers = 0
        self._closed = False

    def arm(self) -> None:
        left = self.until - time.monotonic()
        if left <= 0:
            raise socket.timeout("deadline")
        self.raw.settimeout(left)

    def sendall(self, data: Any) -> None:
        self.arm()
        self.raw.sendall(data)

    def makefile(self, mode: str, *_: Any, **__: Any) -> io.BufferedReader:
        self._readers += 1
        return io.BufferedReader(_Incoming(self))

    def close(self) -> None:
        self._closed = True
        self._close_unless_read()

    def reader_closed(self) -> None:
        self._readers -= 1
        self._close_unless_read()

    def _close_unless_read(self) -> None:
        if self._closed and self._readers == 0:
            self.raw.close()


class _Incoming(io.RawIOBase):
    def __init__(self, sock: _Socket) -> None:
        self.sock = sock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self.sock.arm()
        return self.sock.raw.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            super().close()
            self.sock.reader_closed()


class _Connection(http.client.HTTPConnection):
    def __init__(self, host: str, port: int, tls: Optional[ssl.SSLContext]) -> None:
        super().__init__(host, port)
        self.tls = tls
        self.until = 0.0

    def connect(self) -> None:
        left = self.until - time.monotonic()
        if left <= 0:
            raise socket.timeout("deadline")
        raw = socket.create_connection((self.host, self.port), left)
        raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls is not None:
            raw.settimeout(max(self.until - time.monotonic(), 0.001))
            raw = self.tls.wrap_socket(raw, server_hostname=self.host)
        self.sock = _Socket(raw, self.until)  # type: ignore[assignment]

    def arm(self, until: float) -> None:
        self.until = until
        if self.sock is not None:
            self.sock.until = until  # type: ignore[attr-defined, union-attr]


class Transport:
    """Sends calls to one service. Safe to share between threads."""

    def __init__(self, url: str, tls: Optional[ssl.SSLContext]) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not an http:// or https:// address")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port or (443 if self._secure else 80)
        self._prefix = parts.path.rstrip("/")
        self._tls = (tls or ssl.create_default_context()) if self._secure else None
        self._idle: Deque[_Connection] = deque(maxlen=IDLE_CONNECTIONS_MAX)

    def call(
        self, method: str, path: str, body: Optional[bytes], headers: Dict[str, str], until: float
    ) -> Tuple[int, Dict[str, str], Any]:
        """Sends a call and gives the status, the headers and the parsed body. Raises `Unavailable`.

        A kept connection that the service has meanwhile closed is no failure: the call goes out again on a new one. Every
        call of this client may be repeated.
        """
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                connection = _Connection(self._host, self._port, self._tls)
            kept = connection.sock is not None
            try:
                return self._exchange(connection, method, path, body, headers, until)
            except (http.client.HTTPException, OSError) as error:
                connection.close()
                if isinstance(error, TimeoutError) or time.monotonic() >= until:
                    raise Unavailable("timeout", f"no answer of {self._host}:{self._port} in time") from error
                if not kept:
                    raise Unavailable("away", f"{self._host}:{self._port}: {error}") from error
            except BaseException:
                connection.close()
                raise

    def _exchange(self, connection, method, path, body, headers, until):
        connection.arm(until)
        connection.request(method, self._prefix + path, body, headers)
        answer = connection.getresponse()
        data = answer.read(ANSWER_BYTES_MAX + 1)
        if len(data) > ANSWER_BYTES_MAX:
            connection.close()
            raise Unavailable("unavailable", f"an answer of over {ANSWER_BYTES_MAX} bytes")
        if connection.sock is not None:
            self._idle.append(connection)
        found = {name.lower(): value for name, value in answer.getheaders()}
        try:
            return answer.status, found, json.loads(data) if data else None
        except ValueError:
            return answer.status, found, None

    def open(self, path: str, headers: Dict[str, str], until: float):
        """Opens a long answer on a connection of its own: the socket, whose deadline the reader moves, and the answer."""
        connection = _Connection(self._host, self._port, self._tls)
        try:
            connection.arm(until)
            connection.request("GET", self._prefix + path, None, headers)
            sock = connection.sock
            return sock, connection.getresponse()
        except (http.client.HTTPException, OSError) as error:
            connection.close()
            reason = "timeout" if isinstance(error, TimeoutError) else "away"
            raise Unavailable(reason, f"{self._host}:{self._port}: {error}") from error

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()
