// Now: how the service is.
import { html, useMemo } from "../dom.js";
import { get, lostSince } from "../api.js";
import { history, problem, quantile, rateOf, samples, status, sum, valuesOf } from "../figures.js";
import * as format from "../format.js";
import { useLoad } from "../load.js";
import { may, offers } from "../session.js";
import { Badge, Card, Empty, Loading, Meter, NoRight, ProblemBox, Table, Tile, Tiles, Time } from "../parts/basics.js";
import { Chart, Legend, Spark } from "../parts/chart.js";
import { Head } from "../parts/head.js";

const REQUEST = "freqcap_http_request_seconds";

export function Now({ headingRef }) {
  const head = html`<${Head} title="Now" headingRef=${headingRef}>What the service does at this moment, over the last 15 minutes that this page has been open.<//>`;
  if (!may("metrics")) return html`${head}<div class="card"><${NoRight} scope="metrics" what="how the service is" /></div>`;
  if (!status.value) {
    return html`${head}${problem.value ? html`<${ProblemBox} problem=${problem.value} />` : html`<div class="card"><${Loading} /></div>`}`;
  }
  return html`${head}
    ${problem.value && problem.value.code !== "no_answer" && html`<div class="stack"><${ProblemBox} problem=${problem.value} /><span /></div>`}
    <${Health} status=${status.value} />
    <div class="stack">
      <${Figures} />
      <div class="grid">
        <div class="w-6"><${Events} /></div>
        <div class="w-6"><${Latency} /></div>
        <div class="w-8"><${Routes} /></div>
        <div class="w-4"><${Clock} /></div>
        <div class="w-4"><${Mirror} /></div>
        <div class="w-4"><${Snapshots} /></div>
        <div class="w-4"><${Kafka} /></div>
        <div class="w-6"><${Memory} /></div>
        <div class="w-6"><${Disk} /></div>
        <div><${Nodes} /></div>
      </div>
    </div>`;
}

/** What is wrong, the worst first: [tone, title, what to do]. */
function worst(told) {
  if (lostSince.value !== null) return ["warn", "Not known", "The service does not answer. What follows is how it was."];
  if (told.status === "failed") return ["bad", "A write failed: only a restart helps", "Reads go on. The log says what failed; the service starts again from what is on disk."];
  if (told.refused) return ["bad", `Events are refused: ${told.refused}`, "Reads go on; events are answered 503, and may be sent again."];
  if (told.clock && told.clock.believed === false) return ["bad", "The clock is not believed", "It disagrees with what is known of the time. Caps stand still until it is right: see to the machine's time."];
  if (told.snapshots?.state === "superseded") return ["bad", "Another process has taken over", "This one takes no more events. End it."];
  if (told.snapshots?.state === "failing") return ["warn", "Snapshots fail", told.snapshots.error?.detail ?? ""];
  if (told.mirror && !["live", "full_pass"].includes(told.mirror.state)) return ["warn", `The Redis mirror is ${told.mirror.state}`, "Ad servers that read Redis see caps as they were. Events and reads go on."];
  if (told.access?.file_error) return ["warn", "The keys file cannot be used as it is", String(told.access.file_error)];
  if (told.unreadable_rows > 0) return ["warn", `${format.plural(told.unreadable_rows, "row")} could not be read`, "Their users are refused, all others are served: freqcap verify says which."];
  if (told.background_errors > 0) return ["warn", "RocksDB fails to flush or compact", "It tries again; the log says why."];
  if (told.draining) return ["warn", "Stopping", "What was accepted is finished."];
  return ["ok", "All is well", "Events are taken, and every part does its work."];
}

function Health({ status: told }) {
  const [tone, title, text] = worst(told);
  return html`<section class=${`card health is-${tone}`} aria-label="Health" role="status">
    <span class="lamp" aria-hidden="true" />
    <div><h2>${title}</h2><p class="soft">${text}</p></div>
    <p class="soft small">Version ${told.version} · up ${format.span(told.uptime_ms)} · since <${Time} ms=${told.started_at} /></p>
  </section>`;
}

function Figures() {
  const points = history.value;
  const last = points.at(-1) ?? {};
  const of = (name) => points.slice(-150).map((point) => point[name]);
  const { mirror, kafka, clock, snapshots } = status.value;
  const free = last.freeDisk;
  const tail = (value) => (value === null || value === undefined ? ["–"] : format.seconds(value));
  return html`<${Tiles}>
    <${Tile} name="Events a second" value=${format.rate(last.allEvents)}><${Spark} values=${of("allEvents")} /><//>
    <${Tile} name="Decisions a second" value=${format.rate(last.decisions)}><${Spark} values=${of("decisions")} tone="--series-2" /><//>
    <${Tile} name="GET /cap, p99" value=${tail(last.capP99)}><${Spark} values=${of("capP99")} tone="--series-2" /><//>
    <${Tile} name="POST /events, p99" value=${tail(last.eventsP99)}><${Spark} values=${of("eventsP99")} tone="--series-3" /><//>
    <${Tile} name="fsync, p99" value=${tail(last.fsyncP99)} tone=${last.fsyncP99 > 0.05 ? "warn" : ""}><${Spark} values=${of("fsyncP99")} tone="--series-3" /><//>
    ${mirror && html`<${Tile} name="Redis lag" value=${format.seconds((mirror.lag_ms ?? 0) / 1000)} tone=${mirror.lag_ms > 5000 ? "warn" : ""} note=${`${format.short(mirror.pending)} changes wait`} />`}
    ${kafka && html`<${Tile} name="Kafka lag" value=${format.short(kafka.lag)} note=${kafka.caught_up ? "caught up" : "catching up"} tone=${kafka.stopped_partitions?.length || kafka.stopped_partitions > 0 ? "bad" : ""} />`}
    <${Tile} name="Disk free" value=${format.bytes(free)} tone=${free !== null && free < 2 ** 30 ? "bad" : ""} />
    ${snapshots?.time && html`<${Tile} name="Newest snapshot" value=${format.seconds(Math.max(0, clock.now - snapshots.time) / 1000)} note="ago" />`}
  <//>`;
}

const RESULT_COLORS = { counted: 1, duplicate: 2, late: 3, erased: 4, ignored: 5, rejected: 5 };
const RESULT_ORDER = ["counted", "duplicate", "late", "erased", "ignored", "rejected"];

function Events() {
  const points = history.value;
  const last = points.at(-1);
  const known = Object.keys(last?.events ?? {});
  const names = [...RESULT_ORDER.filter((name) => known.includes(name)), ...known.filter((name) => !RESULT_ORDER.includes(name))];
  const shown = names.filter((name) => name === "counted" || points.some((point) => point.events[name] > 0)).slice(0, 5);
  const series = shown.map((label, at) => ({ label, color: RESULT_COLORS[label] ?? 5, fill: at === 0 }));
  const data = useMemo(() => [points.map(({ at }) => at), ...shown.map((name) => points.map((point) => point.events[name] ?? null))], [points, shown.join()]);
  const values = shown.map((name) => format.rate(last.events[name]));
  return html`<${Card} title="Events a second" note="By result"><div class="body">
    ${points.length < 2 || !shown.length
      ? html`<${Empty} icon="now" title="No events yet">The curve begins with the first event.<//>`
      : html`<${Legend} series=${series} last=${values} /><${Chart} series=${series} data=${data} unit=${format.rate} says=${`Events a second by result: ${shown.map((name, at) => `${name} ${values[at]}`).join(", ")}`} />`}
  </div><//>`;
}

const LATENCIES = [["capP99", "GET /cap", 2], ["checkP99", "POST /check", 4], ["eventsP99", "POST /events", 3]];

function Latency() {
  const points = history.value;
  const shown = LATENCIES.filter(([name]) => points.some((point) => point[name] !== null));
  const series = shown.map(([, label, color]) => ({ label, color }));
  const data = useMemo(() => [points.map(({ at }) => at), ...shown.map(([name]) => points.map((point) => point[name]))], [points, shown.length]);
  const values = shown.map(([name]) => format.joined(format.seconds(points.at(-1)[name])));
  return html`<${Card} title="Time to answer, p99" note="Over the last half minute"><div class="body">
    ${!shown.length
      ? html`<${Empty} icon="now" title="No calls yet">Nothing was counted or asked in the last half minute.<//>`
      : html`<${Legend} series=${series} last=${values} /><${Chart} series=${series} data=${data} unit=${(value) => format.joined(format.seconds(value))} says=${`Time to answer, p99: ${shown.map(([, label], at) => `${label} ${values[at]}`).join(", ")}`} />`}
  </div><//>`;
}

function Routes() {
  const list = samples.value;
  const { metrics } = list.at(-1);
  const rows = valuesOf(metrics, "freqcap_http_requests_total", "route").map((route) => {
    const failed = valuesOf(metrics, "freqcap_http_requests_total", "status").filter((code) => code >= "400");
    return {
      route,
      total: sum(metrics, "freqcap_http_requests_total", { route }),
      rate: rateOf(list, "freqcap_http_requests_total", { route }, { back: 15 }),
      failed: failed.reduce((all, code) => all + (sum(metrics, "freqcap_http_requests_total", { route, status: code }) ?? 0), 0),
      p50: quantile(list, REQUEST, { route }, 0.5),
      p99: quantile(list, REQUEST, { route }, 0.99),
    };
  });
  const shown = rows.filter(({ total, route }) => total > 0 && !route.startsWith("/ui")).sort((one, other) => other.total - one.total);
  const time = (value) => (value === null ? "–" : format.joined(format.seconds(value)));
  return html`<${Card} title="Calls" note="Rate and times over the last half minute; 4xx and 5xx since the start">
    <${Table} label="Calls by route" head=${["Route", ["a second"], ["p50"], ["p99"], ["Calls"], ["Refused or failed"]]}>
      ${shown.slice(0, 16).map((row) => html`<tr key=${row.route}>
        <th scope="row"><code>${row.route}</code></th><td class="num">${format.rate(row.rate)}</td><td class="num">${time(row.p50)}</td><td class="num">${time(row.p99)}</td>
        <td class="num" title=${format.count(row.total)}>${format.short(row.total)}</td>
        <td class="num">${row.failed ? format.short(row.failed) : html`<span class="soft">0</span>`}</td>
      </tr>`)}
    <//>
  <//>`;
}

const Facts = ({ facts }) => html`<dl class="facts">${facts.filter(Boolean).map(([name, value]) => html`<dt>${name}</dt><dd>${value}</dd>`)}</dl>`;

function Clock() {
  const { clock } = status.value;
  const off = clock.shows - clock.now;
  return html`<${Card} title="Clock" actions=${html`<${Badge} tone=${clock.believed ? "good" : "poor"} dot>${clock.believed ? "believed" : "not believed"}<//>`}><div class="body">
    <${Facts} facts=${[
      ["The service goes by", html`<${Time} ms=${clock.now} />`],
      ["The machine shows", html`<${Time} ms=${clock.shows} />`],
      ["Apart by", Math.abs(off) < 1000 ? "under 1 s" : format.span(off)],
      ["Steps since the start", format.count(clock.steps)],
    ]} />
  </div><//>`;
}

const MIRROR = {
  live: ["good", "live"], full_pass: ["fair", "sending everything"], connecting: ["fair", "connecting"], off: ["", "off"],
  foreign: ["poor", "another store has the prefix"], copied: ["poor", "another process mirrors"],
};

function Mirror() {
  const { mirror } = status.value;
  if (!mirror) return html`<${Card} title="Redis mirror"><${Empty} icon="off" title="Not set up">It starts with <code>--redis</code>.<//><//>`;
  const [tone, text] = MIRROR[mirror.state] ?? ["", mirror.state];
  return html`<${Card} title="Redis mirror" actions=${html`<${Badge} tone=${tone} dot>${text}<//>`}><div class="body">
    <${Facts} facts=${[
      ["Lag", format.joined(format.seconds((mirror.lag_ms ?? 0) / 1000))],
      ["Changes that wait", format.count(mirror.pending)],
      ["Set, removed", `${format.short(mirror.sets)}, ${format.short(mirror.removes)}`],
      ["Errors", format.count(mirror.errors)],
    ]} />
  </div><//>`;
}

function Snapshots() {
  const { snapshots } = status.value;
  if (!snapshots) return html`<${Card} title="Snapshots"><${Empty} icon="off" title="Not set up">They start with <code>--snapshots</code>.<//><//>`;
  const tone = { ok: "good", waiting: "fair", failing: "poor", superseded: "poor" }[snapshots.state] ?? "";
  return html`<${Card} title="Snapshots" actions=${html`<${Badge} tone=${tone} dot>${snapshots.taking ? "taking one" : snapshots.state}<//>`}><div class="body">
    <${Facts} facts=${[
      ["Newest", snapshots.time ? html`<${Time} ms=${snapshots.time} />` : "none yet"],
      snapshots.bytes !== undefined && ["Size", format.joined(format.bytes(snapshots.bytes))],
      snapshots.took_ms !== undefined && ["Took", format.joined(format.seconds((snapshots.took_ms ?? NaN) / 1000))],
      snapshots.taken !== undefined && ["Taken, failed", `${format.count(snapshots.taken)}, ${format.count(snapshots.failed)}`],
      snapshots.shipping && ["Shipped up to", `${format.joined(format.seconds(snapshots.shipping.lag_ms / 1000))} ago`],
      snapshots.why && ["Waits", snapshots.why],
    ]} />
    ${snapshots.error && html`<p class="small bad">${snapshots.error.detail} (<code>${snapshots.error.code}</code>)</p>`}
  </div><//>`;
}

function Kafka() {
  const { kafka } = status.value;
  if (!kafka) return html`<${Card} title="Kafka"><${Empty} icon="off" title="Not set up">It starts with <code>--kafka-brokers</code>.<//><//>`;
  const stopped = [kafka.stopped_partitions ?? []].flat();
  const isStopped = stopped.length > 0 && stopped[0] !== 0;
  return html`<${Card} title="Kafka" actions=${html`<${Badge} tone=${isStopped ? "poor" : kafka.caught_up ? "good" : "fair"} dot>${isStopped ? "partitions stopped" : kafka.caught_up ? "caught up" : "catching up"}<//>`}><div class="body">
    <${Facts} facts=${[["Records not yet counted", format.count(kafka.lag)], isStopped && ["Stopped partitions", stopped.join(", ")]]} />
  </div><//>`;
}

const words = (name) => name.replaceAll("_", " ");

function Memory() {
  const { memory } = status.value;
  if (!memory) return null;
  const shares = Object.entries(memory.shares ?? {}).filter(([, { bytes }]) => bytes > 0).sort(([, one], [, other]) => other.bytes - one.bytes);
  return html`<${Card} title="Memory" note="In use, of what each part may have"><div class="body"><ul class="shares">
    <${Share} name="The whole process" used=${memory.resident_bytes} all=${memory.budget_bytes} />
    ${shares.map(([name, { bytes, used_bytes: used }]) => html`<${Share} key=${name} name=${words(name)} used=${used} all=${bytes} />`)}
  </ul></div><//>`;
}

function Share({ name, used, all }) {
  const isKnown = typeof used === "number";
  return html`<li>
    <div class="row apart"><span>${name}</span><span>${isKnown ? `${format.joined(format.bytes(used))} of ${format.joined(format.bytes(all))}` : `up to ${format.joined(format.bytes(all))}`}</span></div>
    <${Meter} share=${isKnown ? used / all : 0} isOver=${used > all} />
  </li>`;
}

function Disk() {
  const { metrics } = samples.value.at(-1);
  const tables = (metrics.get("freqcap_rocksdb_files_bytes") ?? []).map(({ labels, value }) => [labels.table ?? "files", value]);
  const shown = tables.filter(([, value]) => value > 0).sort(([, one], [, other]) => other - one);
  const all = shown.reduce((sum, [, value]) => sum + value, 0);
  const free = sum(metrics, "freqcap_free_disk_bytes");
  const rows = sum(metrics, "freqcap_rocksdb_rows_estimate", { table: "logs" });
  return html`<${Card} title="Disk" note=${`${format.joined(format.bytes(all))} in RocksDB's files, ${format.joined(format.bytes(free))} free`}><div class="body">
    <ul class="shares">${shown.slice(0, 8).map(([name, value]) => html`<li key=${name}>
      <div class="row apart"><span>${words(name)}</span><span>${format.joined(format.bytes(value))}</span></div><${Meter} share=${all ? value / all : 0} />
    </li>`)}</ul>
    ${!shown.length && html`<p class="soft">No file yet: everything is in the write-ahead log and in memory.</p>`}
    ${rows > 0 && html`<p class="soft small">About ${format.short(rows)} logs in files.</p>`}
  </div><//>`;
}

/** One row where there is no cluster; else what `GET /cluster` says. */
function Nodes() {
  const isCluster = offers("GET /cluster") && Boolean(status.value.cluster);
  const { data, problem: failed, reload } = useLoad((signal) => get("/cluster", { signal }), [isCluster], { isOn: isCluster });
  const { status: state, version, store_id: store, uptime_ms: uptime } = status.value;
  if (failed) return html`<${Card} title="Nodes"><div class="body"><${ProblemBox} problem=${failed} onRetry=${reload} /></div><//>`;
  const nodes = data?.nodes;
  if (!nodes) {
    return html`<${Card} title="Nodes" note="One process, no cluster">
      <${Table} label="Nodes" head=${["Node", "State", "Version", "Store", ["Up"]]}><tr>
        <th scope="row">${location.host}</th>
        <td>${lostSince.value !== null ? html`<${Badge} tone="fair" dot>no answer<//>` : html`<${Badge} tone=${state === "ok" ? "good" : "poor"} dot>${state === "ok" ? "serving" : words(state)}<//>`}</td>
        <td>${version}</td><td><code>${store}</code></td><td class="num">${format.span(uptime)}</td>
      </tr><//>
    <//>`;
  }
  return html`<${Card} title="Nodes" note=${`${format.plural(nodes.length, "node")}, ${format.plural((data.partitions ?? []).length, "partition")}`}>
    <${Table} label="Nodes" head=${["Node", "State", "Version", ["Partitions"]]}>
      ${nodes.map((node) => html`<tr key=${node.id ?? node.url}>
        <th scope="row"><code>${node.url ?? node.id}</code></th><td>${node.state ?? "–"}</td><td>${node.version ?? "–"}</td>
        <td class="num">${format.count((data.partitions ?? []).filter(({ owner }) => owner === node.id || owner === node.url).length)}</td>
      </tr>`)}
    <//>
  <//>`;
}
