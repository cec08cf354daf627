#!/usr/bin/env python3
"""Runs every query of the Grafana dashboard, and every expression of the alerts, against a real Prometheus that scrapes freqcap.

  check_dashboard.py PROMETHEUS_URL DASHBOARD ALERTS METRICS_REFERENCE

Each must be taken, and no alert may fire. Each of the dashboard must give data, all but those about what does not run or happen here
(AWAY); every metric must be in the reference. What gives data only later is asked again for a minute.
"""

import json
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

# Kafka's metrics need a broker; the others appear once it happens: over-delivery, waiting for room, damage.
AWAY = re.compile(r"freqcap_kafka_|freqcap_over_delivered_total|freqcap_overlay_wait_seconds|freqcap_unreadable_rows_total")
# Promised by the design, and not in every freqcap yet.
PROMISED = {"freqcap_over_delivered_total"}
SUFFIX = re.compile(r"_(bucket|sum|count)$")


def queries(dashboard):
    for panel in dashboard["panels"]:
        for target in panel.get("targets", []):
            text = target["expr"].replace("$__rate_interval", "10s").replace("$job", ".+").replace("$instance", ".+")
            assert "$" not in text, f"{panel['title']}: an unknown variable: {text}"
            yield panel["title"], text


def ask(base, text):
    """The series that a query gives; raises where it is not taken."""
    try:
        with urllib.request.urlopen(f"{base}/api/v1/query?" + urllib.parse.urlencode({"query": text}), timeout=30) as answer:
            return json.load(answer)["data"]["result"]
    except urllib.error.HTTPError as error:
        sys.exit(f"Not taken: {text}\n{error.read().decode()}")


def main():
    base, dashboard_file, alerts_file, reference = sys.argv[1:]
    dashboard = json.loads(Path(dashboard_file).read_text("utf-8"))
    known = set(re.findall(r"^\| `(\w+)`", Path(reference).read_text("utf-8"), re.MULTILINE)) | PROMISED
    assert dashboard["uid"] == "freqcap-overview"
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids)), "two panels have one id"

    asked = list(queries(dashboard))
    alerts = json.loads(urllib.request.urlopen(f"{base}/api/v1/rules", timeout=30).read())["data"]["groups"][0]["rules"]
    assert len(alerts) == Path(alerts_file).read_text("utf-8").count("- alert:"), "Prometheus has not all alerts"
    for text in [text for _, text in asked] + [alert["query"] for alert in alerts]:
        for name in re.findall(r"\b(?:freqcap|process)_\w+", text):
            if name not in known and SUFFIX.sub("", name) not in known:
                sys.exit(f"docs/reference/metrics.md has no {name}: {text}")
    for alert in alerts:
        ask(base, alert["query"])
        if alert["state"] == "firing" or alert.get("lastError"):
            sys.exit(f"{alert['name']} is {alert['state']} for a healthy service: {alert.get('lastError', alert['query'])}")

    empty = [(title, text) for title, text in asked if not ask(base, text)]
    until = time.monotonic() + 60
    while any(not AWAY.search(text) for _, text in empty) and time.monotonic() < until:
        time.sleep(1)
        empty = [(title, text) for title, text in empty if not ask(base, text)]
    without = [f"{title}: {text}" for title, text in empty if not AWAY.search(text)]
    if without:
        sys.exit("Without data:\n" + "\n".join(without))
    print(f"{len(asked)} queries of the dashboard, {len(empty)} of them about what does not run or happen here; {len(alerts)} alerts")


main()
