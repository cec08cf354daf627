#!/usr/bin/env python3
"""Auctions in a real Prebid Server with the module freqcap.cap, a bidder of this test's own, and a running freqcap.

  test.py PREBID_SERVER_BINARY PREBID_SERVER_DIRECTORY FREQCAP_BINARY

Between the module and freqcap stands a relay, which can be silent or away, and counts calls.
"""

import base64
import contextlib
import http.server
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse
import urllib.request
from pathlib import Path

PREBID, PREBID_DIR, FREQCAP = (str(Path(one).resolve()) for one in sys.argv[1:4])
SECRET = "0123456789abcdef0123456789abcdef"
WAIT_S = 60


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    address_family = socket.AF_INET

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def body(self):
        return self.rfile.read(int(self.headers.get("content-length") or 0))

    def answer(self, status, data, kind="application/json"):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Bidder(Handler):
    """Bids for every impression with what `bids` has; remembers the requests."""

    bids = []
    requests = []

    def do_POST(self):
        request = json.loads(self.body())
        Bidder.requests.append(request)
        bids = [{"price": 1.0, "adm": "<b>ad</b>", "w": 300, "h": 250, "impid": request["imp"][0]["id"], **bid} for bid in Bidder.bids]
        self.answer(200, json.dumps({"id": request["id"], "cur": "USD", "seatbid": [{"bid": bids}]}).encode())


class Relay(Handler):
    """Hands calls on to freqcap, or does not."""

    mode = "on"
    freqcap = ""
    calls = []

    def do_GET(self):
        self.relay("GET", None)

    def do_POST(self):
        self.relay("POST", self.body())

    def relay(self, method, data):
        Relay.calls.append((self.path, self.headers.get("authorization")))
        if Relay.mode == "silent":
            # Until the module has given up and closed the connection.
            self.rfile.read(1)
        if Relay.mode != "on":
            self.close_connection = True
            return
        kept = {name: value for name, value in self.headers.items() if name.lower() in ("authorization", "content-type")}
        request = urllib.request.Request(Relay.freqcap + self.path, data, kept, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            self.answer(answer.status, answer.read())


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def until(what, told):
    """Waits until `told` gives something."""
    end = time.monotonic() + WAIT_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            if found := told():
                return found
        time.sleep(0.05)
    raise AssertionError(f"not within {WAIT_S} s: {what}")


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def hook(stage, timeout):
    steps = [{"module_code": "freqcap.cap", "hook_impl_code": "freqcap-cap"}]
    return {stage: {"groups": [{"timeout": timeout, "hook_sequence": steps}]}}


def settings(relay, bidder, key, fail):
    stages = {}
    for stage in ("processed_auction_request", "bidder_request", "all_processed_bid_responses", "auction_response"):
        stages.update(hook(stage, 2_000))
    module = {
        "enabled": True,
        "endpoint": relay,
        "key": key,
        # Patient, since test machines are slow; what a timeout does is tested by a service that never answers.
        "timeout_ms": 1_000,
        "user": ["user.eids[source=id.example]", "user.id", "device.ifa"],
        "fail": fail,
        "pixel": {"endpoint": "https://count.example", "kid": "k1", "secret": SECRET},
    }
    return {
        "host": "127.0.0.1",
        "port": free_port(),
        "admin_port": free_port(),
        "external_url": "http://localhost",
        "gdpr": {"enabled": False, "default_value": "0"},
        "metrics": {},
        "stored_requests": {"filesystem": {"enabled": False}},
        "accounts": {"filesystem": {"enabled": True, "directorypath": "ACCOUNTS"}},
        "currency_converter": {"fetch_interval_seconds": 0},
        # The address of m152 is a pattern, which Prebid Server 4.8 refuses.
        "adapters": {"axonix": {"endpoint": bidder + "/bid"}, "m152": {"disabled": True}},
        "hooks": {
            "enabled": True,
            "modules": {"freqcap": {"cap": module}},
            "host_execution_plan": {"endpoints": {"/openrtb2/auction": {"stages": stages}}},
        },
    }


class Processes:
    """Everything that the test started, in one directory."""

    def __init__(self):
        self.dir = tempfile.TemporaryDirectory()
        self.path = Path(self.dir.name)
        self.started = []

    def start(self, name, command, cwd=None):
        with open(self.path / f"{name}.log", "wb") as log:
            self.started.append(subprocess.Popen(command, stdout=log, stderr=log, cwd=cwd or self.path))
        return lambda: (self.path / f"{name}.log").read_text("utf-8", "replace")

    def freqcap(self):
        keys = ["--keys-file", str(self.path / "keys.toml")]
        made = [FREQCAP, "key", "new", "--id", "prebid", "--scopes", "events,decide,rules:write", *keys]
        self.key = subprocess.run(made, check=True, capture_output=True, text=True).stdout.strip()
        log = self.start("freqcap", [FREQCAP, "serve", "--listen", "127.0.0.1:0", "--data-dir", "data", "--limit", "2", "--window", "1h", *keys])
        self.url = until("freqcap listens", lambda: (re.search(r"listening on (http://\S+)", log()) or [None, None])[1])

    def prebid(self, name, fail, relay, bidder):
        accounts = self.path / "accounts"
        accounts.mkdir(exist_ok=True)
        forbidden = {"id": "private", "privacy": {"allowactivities": {"transmitUfpd": {"default": True, "rules": [
            {"condition": {"componentType": ["general"], "componentName": ["freqcap-cap"]}, "allow": False}]}}}}
        (accounts / "private.json").write_text(json.dumps(forbidden))
        made = settings(relay, bidder, self.key, fail)
        made["accounts"]["filesystem"]["directorypath"] = str(self.path)
        self.start(name, [PREBID], cwd=self.prebid_dir(name, made))
        url, process = f"http://127.0.0.1:{made['port']}", self.started[-1]
        until(f"{name} is ready", lambda: process.poll() is not None or get(url + "/status") is not None)
        assert process.poll() is None, "Prebid Server ended"
        return url

    def prebid_dir(self, name, made):
        """Prebid Server reads pbs.yaml and its static files where it is started."""
        folder = self.path / f"{name}.d"
        folder.mkdir()
        (folder / "static").symlink_to(Path(PREBID_DIR) / "static")
        (folder / "pbs.yaml").write_text(json.dumps(made))
        return folder

    def end(self):
        for one in self.started:
            one.terminate()
        for one in self.started:
            one.wait(30)
        self.dir.cleanup()


class Auctions(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.all = Processes()
        cls.addClassCleanup(cls.all.end)
        try:
            cls.all.freqcap()
            Relay.freqcap = cls.all.url
            cls.relay, cls.bidder = Server(Relay), Server(Bidder)
            cls.open = cls.all.prebid("open", "open", cls.relay.url, cls.bidder.url)
            cls.closed = cls.all.prebid("closed", "closed", cls.relay.url, cls.bidder.url)
            cls.call("PUT", "/rules/advertisers", {"key": "adomain:*", "limit": 1, "window": "1h"})
        except BaseException:
            for log in cls.all.path.glob("*.log"):
                print(f"== {log.name}\n{log.read_text('utf-8', 'replace')[:3000]}", file=sys.stderr)
            raise

    @classmethod
    def call(cls, method, path, body):
        headers = {"content-type": "application/json", "authorization": f"Bearer {cls.all.key}"}
        request = urllib.request.Request(cls.all.url + path, json.dumps(body).encode(), headers, method=method)
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def setUp(self):
        Relay.mode, Relay.calls, Bidder.requests = "on", [], []
        Bidder.bids = [
            {"id": "b1", "crid": "cr1", "cid": "c1", "adomain": ["one.example"]},
            {"id": "b2", "crid": "cr2", "cid": "c2", "adomain": ["two.example"]},
        ]

    def count(self, user, da, *keys):
        self.call("POST", "/events", {"user": user, "da": da, "keys": list(keys)})

    def auction(self, name=None, server=None, account=None, **more):
        """The bids of the response by id, and the whole response."""
        request = {
            "id": "auction-1",
            "imp": [{"id": "i1", "banner": {"format": [{"w": 300, "h": 250}]}, "ext": {"prebid": {"bidder": {"axonix": {"supplyId": "s"}}}}}],
            "site": {"page": "https://page.example", "publisher": {"id": account or "any"}},
            "tmax": 5_000,
            "ext": {"prebid": {"debug": True, "trace": "verbose", "multibid": [{"bidder": "axonix", "maxbids": 5}], "targeting": {}}},
            **({"user": {"id": name}} if name else {}),
            **more,
        }
        sent = urllib.request.Request((server or self.open) + "/openrtb2/auction", json.dumps(request).encode(), {"content-type": "application/json"})
        with urllib.request.urlopen(sent, timeout=30) as answer:
            response = json.load(answer)
        bids = {bid["id"]: bid for seat in response.get("seatbid", []) for bid in seat["bid"]}
        return bids, response

    def asked(self):
        return [path.split("/")[1] for path, _ in Relay.calls]

    def tags(self, response):
        """What the module says for analytics: (status, bid ids, values) of each result."""
        found = []
        for stage in response["ext"]["prebid"]["modules"]["trace"]["stages"]:
            for outcome in stage["outcomes"]:
                for group in outcome["groups"]:
                    for one in group["invocation_results"]:
                        for activity in (one.get("analytics_tags") or {}).get("activities", []):
                            self.assertEqual("enforce-cap", activity["name"])
                            for result in activity.get("results", []) or [{"status": activity["status"]}]:
                                found.append((result["status"], result.get("appliedto", {}).get("bidids"), result.get("values")))
        return found

    def test_what_is_not_capped_passes_and_is_counted_by_a_signed_address(self):
        bids, response = self.auction("u-free")
        self.assertEqual({"b1", "b2"}, set(bids))
        self.assertEqual(["users", "check"], self.asked())
        self.assertEqual({f"Bearer {self.all.key}"}, {key for _, key in Relay.calls})
        pixel = bids["b1"]["ext"]["prebid"]["events"]["imp"]
        self.assertEqual(pixel + "&f=b", bids["b1"]["burl"])
        event = json.loads(base64.urlsafe_b64decode(urllib.parse.parse_qs(urllib.parse.urlsplit(pixel).query)["e"][0] + "==="))
        self.assertEqual(("u-free", "axonix:cr1", ["campaign:c1", "adomain:one.example"]), (event["u"], event["d"], event["k"]))
        self.assertNotEqual(pixel, bids["b2"]["ext"]["prebid"]["events"]["imp"])
        self.assertEqual(["success-allow"], [status for status, _, _ in self.tags(response)])

    def test_a_capped_creative_is_dropped_and_the_other_stays(self):
        for _ in range(2):
            self.count("u-creative", "axonix:cr1")
        bids, response = self.auction("u-creative")
        self.assertEqual({"b2"}, set(bids))
        status, which, values = next(one for one in self.tags(response) if one[0] == "success-block")
        self.assertEqual((["b1"], "da:axonix:cr1", "default"), (which, values["key"], values["rule"]))
        self.assertGreater(values["capped_until"], time.time() * 1000)

    def test_a_capped_advertiser_is_in_badv_and_its_bids_are_dropped(self):
        self.count("u-advertiser", "elsewhere", "adomain:one.example")
        bids, _ = self.auction("u-advertiser", badv=["never.example"])
        self.assertEqual(["never.example", "one.example"], Bidder.requests[-1]["badv"])
        self.assertEqual({"b2"}, set(bids))

    def test_an_advertiser_that_is_not_capped_is_not_in_badv(self):
        self.auction("u-free-too")
        self.assertNotIn("badv", Bidder.requests[-1])

    def test_the_user_is_taken_from_the_first_place_that_has_one(self):
        self.auction("by-id", user={"id": "by-id", "eids": [{"source": "id.example", "uids": [{"id": "by/eid"}]}]})
        self.assertEqual("/users/by%2Feid/caps", Relay.calls[0][0])

    def test_a_service_that_never_answers_lets_bids_pass(self):
        Relay.mode = "silent"
        bids, response = self.auction("u-silent")
        self.assertEqual({"b1", "b2"}, set(bids))
        self.assertEqual(["error"], [status for status, _, _ in self.tags(response)])

    def test_a_service_that_is_away_lets_bids_pass(self):
        Relay.mode = "away"
        bids, _ = self.auction("u-away")
        self.assertEqual({"b1", "b2"}, set(bids))

    def test_closed_drops_what_could_not_be_checked(self):
        Relay.mode = "away"
        bids, response = self.auction("u-away", server=self.closed)
        self.assertEqual({}, bids)
        self.assertEqual([("success-block", ["b1", "b2"])], [(status, sorted(which)) for status, which, _ in self.tags(response)])
        Relay.mode = "on"
        self.assertEqual({"b1", "b2"}, set(self.auction("u-back", server=self.closed)[0]))

    def test_a_request_without_a_user_is_not_asked_about(self):
        bids, _ = self.auction()
        self.assertEqual({"b1", "b2"}, set(bids))
        self.assertEqual([], self.asked())
        self.assertNotIn("burl", bids["b1"])

    def test_an_account_that_forbids_transmitUfpd_is_not_asked_about(self):
        bids, _ = self.auction("u-private", account="private")
        self.assertEqual({"b1", "b2"}, set(bids))
        self.assertEqual([], self.asked())

    def test_a_bidders_own_burl_stays(self):
        Bidder.bids[0]["burl"] = "https://bidder.example/win"
        bids, _ = self.auction("u-burl")
        self.assertEqual("https://bidder.example/win", bids["b1"]["burl"])
        self.assertIn("https://count.example/i.gif?", bids["b1"]["ext"]["prebid"]["events"]["imp"])


unittest.main(argv=["test.py", *sys.argv[4:]], verbosity=2)
