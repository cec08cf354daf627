"""Every step of clients/vectors.json against a running service (FREQCAP_URL, FREQCAP_KEY) and the fake one (FREQCAP_FAKE)."""

import json
import os
import socket
import time
import urllib.request
import uuid
from itertools import islice
from pathlib import Path

import pytest

from freqcap import Client, ProblemError, Unavailable, sign_pixel

RUN = f"py-{uuid.uuid4().hex[:12]}"
VECTORS = json.loads((Path(__file__).parents[2] / "vectors.json").read_text("utf-8").replace("{run}", RUN))
PATIENT = {"decision_deadline_ms": 30_000, "deadline_ms": 30_000}


def nobody_listens() -> str:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    return f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def shared():
    with Client(os.environ["FREQCAP_URL"], key=os.environ["FREQCAP_KEY"], decision_deadline=30, deadline=30) as client:
        yield client


def made(step, tmp_path) -> tuple[Client, float | None]:
    """The client of a step, and the deadline of its calls, if the step says one."""
    settings = dict(step["client"])
    base = step.get("base", "service")
    url = {"service": os.environ["FREQCAP_URL"], "refused": nobody_listens()}.get(base, os.environ["FREQCAP_FAKE"] + base)
    more = {"key": settings["key"]} if "key" in settings else {}
    if "key_file" in settings:
        more["key_file"] = str(tmp_path / "key")
        (tmp_path / "key").write_text(settings["key_file"][0] + "\n")
    if "decision_deadline_ms" in settings:
        more["decision_deadline"] = settings["decision_deadline_ms"] / 1000
    if "deadline_ms" in settings:
        more["deadline"] = settings["deadline_ms"] / 1000
    if "on_timeout" in settings:
        more["on_timeout"] = settings["on_timeout"]
    client = Client(url, **more)
    if "key_file" in settings:
        (tmp_path / "key").write_text(settings["key_file"][1] + "\n")
    return client, more.get("deadline")


def call(client, step, deadline):
    args = dict(step["args"])
    match step["call"]:
        case "count":
            return client.count(args["event"])
        case "count_all":
            events = args.get("events")
            if events is None:
                events = [{**args["event"], "da": f"{args['event']['da']}-{n}"} for n in range(args["repeat"])]
                if "bad" in args:
                    events[args["bad"]]["user"] = ""
            return client.count_all(iter(events), **({} if deadline is None else {"deadline": deadline}))
        case "cap":
            return client.cap(**args)
        case "pixel":
            path = sign_pixel(args["kid"], args["secret"], **args["claims"])
            with urllib.request.urlopen(os.environ["FREQCAP_URL"] + path, timeout=30) as answer:
                return {"result": answer.headers["freqcap-result"]}
        case "user_caps":
            return client.user_caps(**args)
        case "stream":
            events = client.stream(keys=args["keys"], start=args["from"])
            return [{"event": one.event, "data": one.data, "id": one.id} for one in islice(events, args["take"])]
        case name:
            return getattr(client, name)(**args["body"])


def check(wanted, got, where="answer"):
    if isinstance(wanted, dict):
        assert isinstance(got, dict), where
        for name, inner in wanted.items():
            check(inner, got.get(name), f"{where}.{name}")
    elif isinstance(wanted, list):
        assert isinstance(got, list) and len(wanted) == len(got), f"{where}: {got}"
        for place, (inner, one) in enumerate(zip(wanted, got)):
            check(inner, one, f"{where}[{place}]")
    elif wanted == "$int":
        assert isinstance(got, int), f"{where}: {got!r}"
    elif wanted == "$text":
        assert isinstance(got, str) and got, f"{where}: {got!r}"
    else:
        assert got == wanted, f"{where}: {got!r}, not {wanted!r}"


DOCUMENT = json.loads((Path(__file__).parents[3] / "openapi" / "openapi.json").read_text("utf-8"))
STEPS = [step for step in VECTORS["steps"] if step.get("needs", "/events") in DOCUMENT["paths"]]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step["name"])
def test_step(step, shared, tmp_path):
    client, deadline = made(step, tmp_path) if "client" in step else (shared, None)
    if "error" in step:
        wanted = step["error"]
        with pytest.raises((ProblemError, Unavailable)) as raised:
            call(client, step, deadline)
        error = raised.value
        if "unavailable" in wanted:
            assert isinstance(error, Unavailable) and error.reason == wanted["unavailable"]
            assert len(error.rest) == wanted.get("rest", 0)
            assert all(event["id"] for event in error.rest)
        else:
            assert isinstance(error, ProblemError) and (error.status, error.code) == (wanted["status"], wanted["code"])
        return
    for _ in range(step.get("times", 1)):
        answer = call(client, step, deadline)
    check(step["expect"], answer)
    if isinstance(answer, dict):
        assert answer.get("fallback") == step.get("fallback")
    for reason, count in step.get("counters", {}).items():
        assert client.fallbacks[reason] == count
    if client is not shared:
        client.close()


@pytest.mark.parametrize("vector", VECTORS["signing"], ids=lambda vector: vector["name"])
def test_signing(vector):
    claims = dict(vector["claims"])
    times = {"issued_at": claims.pop("iat"), "expires_at": claims.pop("exp")}
    assert sign_pixel(vector["kid"], vector["secret"], **claims, **times) == vector["url"]


def test_without_a_word_on_times_a_signature_holds_for_an_hour():
    import base64

    before = time.time_ns() // 1_000_000
    event = sign_pixel("k", "s", user="u", da="d", id="i").partition("e=")[2].partition("&")[0]
    claims = json.loads(base64.urlsafe_b64decode(event + "=" * (-len(event) % 4)))
    assert before <= claims["iat"] <= time.time_ns() // 1_000_000
    assert claims["exp"] - claims["iat"] == 3_600_000


def test_settings_that_make_no_sense_are_refused(tmp_path):
    (tmp_path / "empty").write_text("\n")
    for bad in ({"on_timeout": "perhaps"}, {"key": "a", "key_file": "b"}, {"key_file": str(tmp_path / "empty")}):
        with pytest.raises(ValueError):
            Client(**bad)
    with pytest.raises(ValueError):
        Client("127.0.0.1:8080")
