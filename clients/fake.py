#!/usr/bin/env python3
"""A service that misbehaves, for the tests of the clients. It prints its port. The first part of the path says how:

  /silent          reads the request and never answers
  /trickle         an answer whose body comes a byte at a time and never ends
  /busy            503 with a Retry-After that is longer than anybody waits
  /cut             closes the connection instead of answering
  /html            200 with a page of a proxy
  /stale           answers, and closes the connection a little later without a word: a kept connection that is gone
  /reuse           answers the count of requests on its connection
  /key/RUN         401 to any key but the last word of RUN
  /half/RUN        takes the first half of a batch and answers 503; takes the rest if the ids are the same
  /stream/RUN      the stream of cap changes, cut off at times, resumed by Last-Event-ID
"""

import json
import socket
import sys
import threading
import time
from urllib.parse import unquote

seen = {}
lock = threading.Lock()


def answer(status, body, headers=(), kind="application/json"):
    data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    head = [f"HTTP/1.1 {status} X", f"content-type: {kind}", f"content-length: {len(data)}", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + data


def problem(status, code, headers=(), **more):
    said = {"type": "about:blank", "title": code, "status": status, "code": code, "detail": f"the fake says {code}", **more}
    return answer(status, said, headers, "application/problem+json")


VERDICT = {"user": "u", "da": "d", "capped": False, "kind": "impression", "count": 0, "rules": []}
EVENTS = {"counted": 0, "duplicate": 0, "late": 0, "erased": 0, "ignored": 0, "rejected": 0, "errors": [], "capped": []}


def half(run, body):
    events = [json.loads(line) for line in body.splitlines()]
    ids = [event.get("id") for event in events]
    if not all(ids) or len(set(ids)) != len(ids):
        return problem(422, "no_ids")
    with lock:
        before = seen.setdefault(("half", run), ids)
        first = before is ids
    if first:
        taken = len(events) // 2
        capped = [{"user": events[0]["user"], "key": "da:" + events[0]["da"], "capped_until": 99}]
        rest = {**EVENTS, "counted": taken, "capped": capped, "unavailable": len(events) - taken}
        return problem(503, "busy", ["retry-after: 1"], **rest)
    if before != ids:
        return problem(422, "ids_changed")
    taken = len(events) // 2
    return answer(200, {**EVENTS, "duplicate": taken, "counted": len(events) - taken})


def sse(event, data, id=None):
    return f"event: {event}\n" + (f"id: {id}\n" if id else "") + f"data: {json.dumps(data)}\n\n"


def cap(seq, until):
    return sse("cap", {"user": "u", "key": "da:1", "change": "set", "capped_until": until, "at": 1, "seq": seq})


def stream(run, query, headers):
    """What a connection gets: some events, and its end."""
    after = headers.get("last-event-id")
    with lock:
        turn = seen["stream", run] = seen.get(("stream", run), 0) + 1
    end = b"0\r\n\r\n"
    if turn == 1:
        if "keys=campaign:*" not in unquote(query):
            return problem(400, "no_keys")
        if "from=now" not in query:
            return problem(400, "no_from")
        events = ": hello\n\n" + cap("0-1", 11) + sse("checkpoint", {}, "A") + cap("0-2", 12)
    elif turn == 2:
        return problem(503, "busy", ["retry-after: 0"])
    elif after == "A":
        events = cap("0-2", 12) + sse("checkpoint", {}, "B").replace("\n", "\r\n")
    elif after == "B":
        # Data in two lines, and an event that is cut off in the middle, which is none, and so is the whole answer.
        end = b""
        events = 'event: reset\ndata: {"why":\ndata: "gone"}\n\n' + "event: cap\ndata: {"
    else:
        return problem(400, "wrong_id")
    if "from=" in query and turn > 1:
        return problem(400, "from_and_id")
    return b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + chunks(events) + end


def chunks(text):
    """In small pieces, so that lines and events span them."""
    data, out = text.encode(), b""
    for start in range(0, len(data), 7):
        piece = data[start : start + 7]
        out += f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
    return out


def serve(conn):
    count, rest = 0, b""
    conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while True:
        while b"\r\n\r\n" not in rest:
            more = conn.recv(65536)
            if not more:
                return
            rest += more
        head, _, rest = rest.partition(b"\r\n\r\n")
        lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])}
        length = int(headers.get("content-length", 0))
        while "chunked" in headers.get("transfer-encoding", "") and not rest.endswith(b"0\r\n\r\n"):
            rest += conn.recv(65536)
        while len(rest) < length:
            rest += conn.recv(65536)
        body, rest = rest[:length], rest[length:]
        count += 1
        path, _, query = lines[0].split(" ")[1].partition("?")
        how, run = (path.split("/") + [""])[1:3]
        if how == "silent":
            conn.recv(1)
            return
        if how == "trickle":
            conn.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n")
            while True:
                conn.sendall(b" ")
                time.sleep(0.002)
        if how == "cut":
            return
        if how == "stream":
            conn.sendall(stream(run, query, headers))
            # Some clients forget what they have not read once a connection is cut.
            time.sleep(0.1)
            return
        if how == "busy":
            data = problem(503, "busy", ["retry-after: 60"])
        elif how == "html":
            data = answer(200, "<html>sign in</html>", (), "text/html")
        elif how == "half":
            data = half(run, body)
        elif how == "key":
            wanted = "Bearer " + run.split("-")[-1]
            data = answer(200, {"user": "u", "caps": []}) if headers.get("authorization") == wanted else problem(401, "unauthenticated")
        elif how in ("reuse", "stale"):
            data = answer(200, {**VERDICT, "count": count, "results": []})
        else:
            data = problem(404, "not_found")
        conn.sendall(data)
        if how == "stale":
            time.sleep(0.05)
            return


def one(conn):
    with conn:
        try:
            serve(conn)
        except OSError:
            pass


def main():
    server = socket.create_server(("127.0.0.1", 0), backlog=128)
    print(server.getsockname()[1], flush=True)
    while True:
        conn, _ = server.accept()
        threading.Thread(target=one, args=(conn,), daemon=True).start()


main()
