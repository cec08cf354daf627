// Figures over time: /metrics and /status, asked for every two seconds, kept for a quarter of an hour.
import { signal } from "@preact/signals";
import { Problem, get, pause } from "./api.js";
import { may, session } from "./session.js";

const EVERY_MS = 2000;
const KEPT = 450;
/** Rates and quantiles are over so many samples: half a minute. */
const WINDOW = 15;

/** {at, metrics: Map} of the samples of the last half minute, oldest first. A new list with every sample. */
export const samples = signal([]);
/** What the curves show: a point a sample, for a quarter of an hour. */
export const history = signal([]);
export const status = signal(null);
export const problem = signal(null);

/** Reads Prometheus' text form: name -> [{labels, value}]. */
export function parse(text) {
  const metrics = new Map();
  for (const line of text.split("\n")) {
    if (!line || line[0] === "#") continue;
    const brace = line.indexOf("{");
    const end = brace < 0 ? line.indexOf(" ") : line.lastIndexOf("}") + 1;
    const name = brace < 0 ? line.slice(0, end) : line.slice(0, brace);
    const value = Number(line.slice(end).trim().split(" ")[0].replace("+Inf", "Infinity"));
    const labels = brace < 0 ? {} : readLabels(line.slice(brace + 1, end - 1));
    if (!metrics.has(name)) metrics.set(name, []);
    metrics.get(name).push({ labels, value });
  }
  return metrics;
}

function readLabels(text) {
  const labels = {};
  for (const [, name, value] of text.matchAll(/([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)"/g)) {
    labels[name] = value.replace(/\\(.)/g, (_, escaped) => (escaped === "n" ? "\n" : escaped));
  }
  return labels;
}

const fits = (labels, wanted) => Object.entries(wanted).every(([name, value]) => labels[name] === value);

/** The sum of a metric's series that have these labels; null where there is none. */
export function sum(metrics, name, wanted = {}) {
  const found = (metrics.get(name) ?? []).filter(({ labels }) => fits(labels, wanted));
  return found.length ? found.reduce((all, { value }) => all + value, 0) : null;
}

/** The values of a label, in the order in which they come. */
export function valuesOf(metrics, name, label) {
  return [...new Set((metrics.get(name) ?? []).map(({ labels }) => labels[label]))].filter((value) => value !== undefined);
}

/** By how much a counter rose between two samples; a restart begins anew. */
function rise(from, to, name, wanted) {
  const after = sum(to.metrics, name, wanted);
  if (after === null) return null;
  const before = sum(from.metrics, name, wanted) ?? 0;
  return after >= before ? after - before : after;
}

const earlier = (list, at, back) => list[Math.max(0, at - back)];

/** Per second, at a sample (the newest, unless told). */
export function rateOf(list, name, wanted = {}, { at = list.length - 1, back = 3 } = {}) {
  const [from, to] = [earlier(list, at, back), list[at]];
  if (!from || from === to) return null;
  const rose = rise(from, to, name, wanted);
  return rose === null ? null : rose / ((to.at - from.at) / 1000);
}

/** A quantile of a histogram over the last half minute, in its unit; null where nothing was measured. */
export function quantile(list, name, wanted, share, { at = list.length - 1, back = WINDOW } = {}) {
  const [from, to] = [earlier(list, at, back), list[at]];
  if (!from || from === to) return null;
  const below = new Map();
  for (const { labels } of to.metrics.get(`${name}_bucket`) ?? []) {
    if (fits(labels, wanted)) below.set(labels.le, rise(from, to, `${name}_bucket`, { ...wanted, le: labels.le }));
  }
  const buckets = [...below].map(([le, n]) => [le === "+Inf" ? Infinity : Number(le), n]).sort(([one], [other]) => one - other);
  const all = buckets.at(-1)?.[1] ?? 0;
  if (!all) return null;
  let [low, seen] = [0, 0];
  for (const [high, n] of buckets) {
    if (n >= share * all) {
      if (high === Infinity) return low;
      return low + (high - low) * ((share * all - seen) / Math.max(n - seen, 1e-9));
    }
    [low, seen] = [high, n];
  }
  return low;
}

const DECISIONS = ["/cap/{user}/{da}", "/cap", "/check", "/reserve"];
const REQUEST = "freqcap_http_request_seconds";

const results = (metrics) => valuesOf(metrics, "freqcap_events_total", "result");

/** What the curves show of a moment. */
function point(list) {
  const { at, metrics } = list.at(-1);
  const rate = (name, wanted) => rateOf(list, name, wanted);
  const decided = DECISIONS.map((route) => rate("freqcap_http_requests_total", { route })).filter((value) => value !== null);
  return {
    at,
    events: Object.fromEntries(results(metrics).map((result) => [result, rate("freqcap_events_total", { result })])),
    allEvents: rate("freqcap_events_total"),
    decisions: decided.length ? decided.reduce((all, one) => all + one, 0) : null,
    capP99: quantile(list, REQUEST, { route: "/cap/{user}/{da}" }, 0.99),
    checkP99: quantile(list, REQUEST, { route: "/check" }, 0.99),
    eventsP99: quantile(list, REQUEST, { route: "/events" }, 0.99),
    eventsP50: quantile(list, REQUEST, { route: "/events" }, 0.5),
    fsyncP99: quantile(list, "freqcap_fsync_seconds", {}, 0.99),
    mirrorLag: sum(metrics, "freqcap_mirror_lag_seconds"),
    kafkaLag: sum(metrics, "freqcap_kafka_lag"),
    freeDisk: sum(metrics, "freqcap_free_disk_bytes"),
    resident: sum(metrics, "process_resident_memory_bytes"),
  };
}

async function sample() {
  const [text, told] = await Promise.all([get("/metrics", { headers: { accept: "text/plain" } }), get("/status")]);
  const list = [...samples.value.slice(-WINDOW), { at: Date.now(), metrics: parse(text) }];
  samples.value = list;
  history.value = [...history.value.slice(1 - KEPT), point(list)];
  status.value = told;
  problem.value = null;
}

/** Goes on for as long as the page is open, in whichever view. */
export async function watch() {
  let who;
  for (;;) {
    const { state, key } = session.value;
    if (state === "open" && who !== key) {
      // Another key may see less.
      [who, samples.value, history.value, status.value, problem.value] = [key, [], [], null, null];
    }
    if (state === "open" && may("metrics") && document.visibilityState === "visible") {
      try {
        await sample();
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        problem.value = error;
      }
    }
    await pause(EVERY_MS);
  }
}
