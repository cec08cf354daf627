// Numbers, durations and times as people read them.

const whole = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const decimals = [0, 1, 2, 3].map((digits) => new Intl.NumberFormat(undefined, { maximumFractionDigits: digits }));

const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

export const count = (value) => (isNumber(value) ? whole.format(value) : "–");

/** 1,234 as it is, 12,345 as 12.3K. */
export const short = (value) => (isNumber(value) ? (Math.abs(value) < 10_000 ? whole : compact).format(value) : "–");

/** 1,234 as 1.2K: where there is little room. */
export const tiny = (value) => (isNumber(value) ? compact.format(value) : "–");

export const decimal = (value, digits = 2) => (isNumber(value) ? decimals[digits].format(value) : "–");

export function rate(value) {
  if (!isNumber(value)) return "–";
  return value >= 100 || value === 0 ? short(value) : decimal(value, value < 10 ? 1 : 0);
}

/** A share of 1. Little is never shown as nothing. */
export function percent(share) {
  if (!isNumber(share)) return "–";
  const of100 = share * 100;
  if (of100 > 0 && of100 < 0.01) return "< 0.01 %";
  return `${decimal(of100, of100 < 1 ? 2 : 1)} %`;
}

/** [value, unit] of bytes. */
export function bytes(value) {
  if (!isNumber(value)) return ["–", ""];
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let at = 0;
  let rest = value;
  while (Math.abs(rest) >= 1024 && at < units.length - 1) {
    rest /= 1024;
    at += 1;
  }
  return [decimal(rest, at === 0 || rest >= 100 ? 0 : 1), units[at]];
}

/** [value, unit] of a time in seconds, from µs to days. */
export function seconds(value) {
  if (!isNumber(value)) return ["–", ""];
  const size = Math.abs(value);
  if (size === 0) return ["0", "s"];
  if (size < 0.001) return [decimal(value * 1e6, 0), "µs"];
  if (size < 1) return [decimal(value * 1e3, size < 0.01 ? 2 : size < 0.1 ? 1 : 0), "ms"];
  if (size < 120) return [decimal(value, size < 10 ? 1 : 0), "s"];
  if (size < 7200) return [decimal(value / 60, 0), "min"];
  if (size < 172_800) return [decimal(value / 3600, 1), "h"];
  return [decimal(value / 86_400, 1), "d"];
}

export const joined = ([value, unit]) => (unit ? `${value} ${unit}` : value);

/** A span as people say it: `3 d 4 h`, `12 min`, `8 s`. */
export function span(ms) {
  if (!isNumber(ms)) return "–";
  const left = Math.abs(ms) / 1000;
  const parts = [[86_400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = parts.findIndex(([size]) => left >= size);
  if (first < 0) return "under 1 s";
  const [size, unit] = parts[first];
  const many = Math.floor(left / size);
  const next = parts[first + 1];
  if (!next || many >= 10 || unit === "min") return `${many} ${unit}`;
  const more = Math.floor((left - many * size) / next[0]);
  return more > 0 ? `${many} ${unit} ${more} ${next[1]}` : `${many} ${unit}`;
}

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const clockShort = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const dayAndClock = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit" });
const dayShort = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

const isSameDay = (one, other) => new Date(one).toDateString() === new Date(other).toDateString();
const isDate = (ms) => isNumber(ms) && Math.abs(ms) <= 8.64e15;

/** A time of day, with its day where that is not today's, with its year where that is not this one. */
export function time(ms, now = Date.now()) {
  if (!isDate(ms)) return "–";
  if (isSameDay(ms, now)) return clock.format(ms);
  return new Date(ms).getFullYear() === new Date(now).getFullYear() ? dayAndClock.format(ms) : full.format(ms);
}

export const clockTime = (ms) => (isDate(ms) ? clockShort.format(ms) : "–");
export const day = (ms) => (isDate(ms) ? dayShort.format(ms) : "–");

/** With milliseconds, in UTC: what a tooltip adds. */
export const utc = (ms) => (isDate(ms) ? `${new Date(ms).toISOString().replace("T", " ").replace("Z", "")} UTC` : "");

/** `in 3 h`, `5 min ago`. */
export function fromNow(ms, now = Date.now()) {
  if (!isNumber(ms)) return "–";
  const left = ms - now;
  if (Math.abs(left) < 1000) return "now";
  return left > 0 ? `in ${span(left)}` : `${span(left)} ago`;
}

/** A window as the API writes it: a duration, `lifetime`, or a calendar period. */
export function window_(window) {
  if (window === null || window === undefined) return "–";
  if (typeof window === "string") return window;
  return `calendar ${window.calendar}, ${window.tz}`;
}

export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

/** `3 impressions in 24h`, `exempt`. */
export function ruleText({ limit, kind, window }) {
  if (limit === null) return `no limit on ${kind}s`;
  if (window === "lifetime") return `${plural(limit, kind)} ever`;
  return `${plural(limit, kind)} in ${typeof window === "string" ? window : `a ${window?.calendar} (${window?.tz})`}`;
}

/** A duration of the API in ms; null where it is none. */
export function durationMs(text) {
  const found = /^(\d+)(ms|s|m|h|d)$/.exec(text ?? "");
  return found ? Number(found[1]) * { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 }[found[2]] : null;
}
