#!/usr/bin/env python3
"""A day of plausible traffic for a running freqcap, at speed, so that the operator's page has something to show.

Few users see much and many see little (Zipf); campaigns run at different times of the day; some ad servers ask before they show
an ad, some ask too early, one does not ask at all; bots see an ad every few seconds. Nothing is needed beside Python 3.9.

    examples/demo.py http://127.0.0.1:8080
    examples/demo.py http://127.0.0.1:8080 --users 200000 --impressions 1000000 --live 600
"""

import argparse
import bisect
import collections
import http.client
import itertools
import json
import math
import random
import sys
import time
import urllib.parse

HOUR = 3_600_000
DAY = 24 * HOUR
BATCH = 10_000

# advertiser, campaign, ads, weight, busiest hour of the day, limit a day: the rule, and what the ad server goes by.
CAMPAIGNS = [
    ("nord", "nord-spring", 6, 30, 20, 4),
    ("nord", "nord-brand", 3, 12, 12, 3),
    ("lumen", "lumen-launch", 4, 22, 21, 5),
    ("lumen", "lumen-retarget", 8, 16, 18, 8),
    ("orbit", "orbit-app", 5, 18, 22, 6),
    ("fjord", "fjord-travel", 7, 14, 19, 3),
    ("acme", "acme-always-on", 10, 40, 15, 10),
    ("acme", "acme-flash-sale", 2, 8, 13, 2),
    ("house", "house-ads", 4, 20, 3, None),
]

RULES = {
    **{f"cap-{name}": {"key": f"campaign:{name}", "limit": limit, "window": "24h"} for _, name, _, _, _, limit in CAMPAIGNS if limit},
    "house-is-free": {"key": "campaign:house-ads", "limit": None, "window": "24h"},
    "brand-day": {"key": "advertiser:*", "limit": 12, "window": {"calendar": "day", "tz": "Europe/Berlin"}},
    "one-click": {"key": "da:*", "kind": "click", "limit": 2, "window": "24h"},
    "nord-stricter": {"key": "campaign:nord-spring", "limit": 3, "window": "24h", "mode": "shadow"},
    "lumen-stricter": {"key": "campaign:lumen-launch", "limit": 2, "window": "24h", "mode": "shadow"},
    "ad-week-stricter": {"key": "da:*", "limit": 3, "window": "5d", "mode": "shadow"},
}

# How an ad server goes about caps, and its share of the traffic: it asks at once, it keeps an answer for ten minutes, it never asks.
SERVERS = [("careful", 0.86, 0), ("hasty", 0.12, 10 * 60_000), ("deaf", 0.02, None)]


class Service:
    def __init__(self, url, secret):
        parts = urllib.parse.urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self.connection = kind(parts.hostname, parts.port, timeout=60)
        self.base = parts.path.rstrip("/")
        self.headers = {"authorization": f"Bearer {secret}"} if secret else {}

    def call(self, method, path, body=None, content="application/json"):
        headers = {**self.headers, **({"content-type": content} if body is not None else {})}
        for attempt in range(1, 60):
            try:
                self.connection.request(method, self.base + path, body, headers)
                answer = self.connection.getresponse()
                text = answer.read()
            except (http.client.HTTPException, OSError):
                # A connection that was idle may have been closed. Every event has an id, so it may be sent again.
                self.connection.close()
                if attempt > 3:
                    raise
                continue
            if answer.status == 503 and attempt < 59:
                time.sleep(min(0.05 * attempt, 1))
                continue
            if answer.status >= 400:
                sys.exit(f"{method} {path}: {answer.status} {text.decode(errors='replace')}")
            return json.loads(text) if text else None
        return None

    def count(self, lines):
        return self.call("POST", "/events", "\n".join(lines).encode(), "application/x-ndjson")


class Users:
    """Few of them come often: the n-th comes 1/n**0.8 as often as the first."""

    def __init__(self, count, dice):
        self.sums = list(itertools.accumulate(1 / n**0.8 for n in range(1, count + 1)))
        self.dice = dice

    def pick(self):
        return "u%06d" % bisect.bisect_left(self.sums, self.dice.random() * self.sums[-1])


def choose_time(dice, begin, peak):
    """A moment of the day, more of them around the busiest hour."""
    while True:
        ms = begin + dice.random() * DAY
        hour = (ms / HOUR) % 24
        if dice.random() < 0.15 + 0.85 * (0.5 + 0.5 * math.cos((hour - peak) / 24 * 2 * math.pi)) ** 2:
            return int(ms)


def plan(arguments, dice, begin):
    """(time, user, campaign, ad, server) of every chance to show an ad, in the order of time."""
    users = Users(arguments.users, dice)
    weights = list(itertools.accumulate(campaign[3] for campaign in CAMPAIGNS))
    servers = list(itertools.accumulate(share for _, share, _ in SERVERS))
    chances = []
    for _ in range(arguments.impressions):
        campaign = CAMPAIGNS[bisect.bisect_left(weights, dice.random() * weights[-1])]
        server = SERVERS[min(bisect.bisect_left(servers, dice.random()), len(SERVERS) - 1)]
        ad = int(dice.random() ** 2 * campaign[2])
        chances.append((choose_time(dice, begin, campaign[4]), users.pick(), campaign, ad, server))
    # Bots load a page every few seconds for an hour or two.
    for bot in range(arguments.bots):
        at = begin + dice.random() * (DAY - 3 * HOUR)
        end = at + HOUR + dice.random() * HOUR
        while at < end:
            campaign = dice.choice(CAMPAIGNS)
            chances.append((int(at), f"bot-{bot}", campaign, 0, dice.choice(SERVERS)))
            at += 4000 + dice.random() * 16_000
    # Somebody to look up, whose id must stay a text wherever it is shown.
    for hour in range(22):
        chances.append((int(begin + hour * HOUR), "anna", CAMPAIGNS[hour % 7], hour % 3, SERVERS[hour % 3]))
        chances.append((int(begin + hour * HOUR), '<b onclick="alert(1)">', CAMPAIGNS[hour % 4], 0, SERVERS[0]))
    return sorted(chances, key=lambda chance: chance[0])


def shown(chances, dice):
    """The events of what is shown: each ad server goes by the caps as it knows them."""
    seen = collections.defaultdict(list)
    for number, (at, user, (advertiser, campaign, _, _, _, limit), ad, (name, _, delay)) in enumerate(chances):
        if limit is not None and delay is not None:
            past = seen[user, campaign]
            # The window of the rule, as this server knows it.
            count = bisect.bisect_right(past, at - delay) - bisect.bisect_right(past, at - DAY)
            if count >= limit:
                continue
        seen[user, campaign].append(at)
        event = {"user": user, "da": f"{campaign}-{ad}", "ts": at, "id": f"demo-{number}", "keys": [f"campaign:{campaign}", f"advertiser:{advertiser}"]}
        yield event
        if dice.random() < 0.012:
            yield {**event, "kind": "click", "ts": at + 2000, "id": f"demo-{number}-c"}
        if dice.random() < 0.004:
            # A retry: it counts once.
            yield event


def fill(service, arguments):
    dice = random.Random(arguments.seed)
    begin = int(time.time() * 1000) - DAY - 60_000
    started = time.monotonic()
    print(f"Planning {arguments.impressions:,} chances for {arguments.users:,} users ...", flush=True)
    chances = plan(arguments, dice, begin)
    sent, counted, lines = 0, 0, []
    events = itertools.chain(shown(chances, dice), [None])
    first = time.monotonic()
    for event in events:
        if event is not None:
            lines.append(json.dumps(event, separators=(",", ":")))
        if len(lines) >= BATCH or (event is None and lines):
            counted += service.count(lines)["counted"]
            sent += len(lines)
            lines = []
            print(f"\r{sent:,} events sent, {counted:,} counted", end="", flush=True)
    took = time.monotonic() - first
    print(f" in {took:.1f} s ({sent / took:,.0f}/s; {time.monotonic() - started:.1f} s with the planning)", flush=True)


def live(service, arguments):
    """Some traffic of now, for the curves: events, and the questions before them."""
    dice = random.Random()
    users = Users(arguments.users, dice)
    print(f"Live traffic for {arguments.live} s; ^C ends it", flush=True)
    until = time.monotonic() + arguments.live
    number = 0
    while time.monotonic() < until:
        begun = time.monotonic()
        wave = 1 + 0.5 * math.sin(begun / 40)
        lines = []
        for _ in range(int(arguments.rate * wave / 4)):
            advertiser, campaign, ads, *_ = dice.choice(CAMPAIGNS)
            user, ad = users.pick(), f"{campaign}-{dice.randrange(ads)}"
            keys = [f"campaign:{campaign}", f"advertiser:{advertiser}"]
            if number % 20 == 0:
                service.call("GET", f"/cap/{user}/{ad}?key={keys[0]}&key={keys[1]}")
            number += 1
            lines.append(json.dumps({"user": user, "da": ad, "id": f"live-{begun}-{number}", "keys": keys}))
        service.count(lines)
        candidates = [f"{campaign}-0" for _, campaign, *_ in CAMPAIGNS]
        for _ in range(4):
            service.call("POST", "/check", json.dumps({"user": users.pick(), "candidates": candidates}).encode())
        time.sleep(max(0, 0.25 - (time.monotonic() - begun)))


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("url", help="where freqcap listens, such as http://127.0.0.1:8080")
    parser.add_argument("--key-file", help="a file with the secret of a key with the scopes events, decide and rules:write")
    parser.add_argument("--users", type=int, default=60_000)
    parser.add_argument("--impressions", type=int, default=300_000, help="chances to show an ad")
    parser.add_argument("--bots", type=int, default=12)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--live", type=int, default=0, metavar="SECONDS", help="then go on with traffic of now")
    parser.add_argument("--rate", type=int, default=2_000, help="events a second of that")
    arguments = parser.parse_args()
    secret = open(arguments.key_file, encoding="utf-8").read().strip() if arguments.key_file else None
    service = Service(arguments.url, secret)
    for name, rule in RULES.items():
        service.call("PUT", f"/rules/{name}", json.dumps(rule).encode())
    fill(service, arguments)
    if arguments.live:
        try:
            live(service, arguments)
        except KeyboardInterrupt:
            print()


if __name__ == "__main__":
    main()
