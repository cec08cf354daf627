// The events of a user, key by key: when each happened, and until when it counts.
import { html, useEffect, useRef, useState } from "../dom.js";
import * as format from "../format.js";
import { Badge, Table, Time, now } from "./basics.js";

const LANE = 6;
const LANES_MAX = 14;
const DAY = 86_400_000;
/** Of the events of a row so many are listed at first. */
const LISTED = 32;

/** The instant at which an event counts no longer, for any rule; null where none counts it. */
export const lastLeave = ({ leaves }) => (leaves?.length ? Math.max(...leaves.map(({ at }) => at)) : null);

/** From when to when the axis goes. A lifetime's end, a year ahead, must not press everything else together. */
function domain(rows, at) {
  const events = rows.flatMap(({ events }) => events);
  const first = Math.min(at - 3_600_000, ...events.map(({ ts }) => ts));
  const past = at - first;
  const ends = events.map(lastLeave).filter((end) => end !== null);
  const ahead = Math.max(0, ...ends.map((end) => end - at));
  const future = Math.max(past * 0.08, Math.min(ahead, Math.max(past, 7 * DAY)));
  return [first - past * 0.02, at + future * 1.03];
}

export function Timeline({ logs, capped, onAsk }) {
  const box = useRef(null);
  const [width, setWidth] = useState(600);
  const [open, setOpen] = useState(null);
  const all = logs.flatMap(({ key, kinds }) => kinds.map(({ kind, lifetime, events }) => ({ id: `${kind} ${key}`, key, kind, lifetime, events })));
  // Of a page, what is capped first: that is what people come for.
  const isCapped = ({ key, kind }) => capped.get(key)?.kind === kind;
  const rows = [...all.filter(isCapped), ...all.filter((row) => !isCapped(row))];
  useEffect(() => {
    const watch = new ResizeObserver(([entry]) => setWidth(Math.max(120, Math.floor(entry.contentRect.width))));
    if (box.current) watch.observe(box.current);
    return () => watch.disconnect();
  }, [rows.length > 0]);
  // Moved on with each page, not with each second.
  const at = now.peek();
  const [from, to] = domain(rows, at);
  const x = (ms) => ((Math.min(Math.max(ms, from), to) - from) / (to - from)) * width;
  const ticks = ticksOf(from, to, width);
  return html`<div class="timeline">
    <div class="tl-axis"><span>Key</span><div ref=${box} class="tl-ticks" aria-hidden="true">
      ${ticks.map(({ ms, text }) => Math.abs(x(ms) - x(at)) > 46 && html`<span style=${{ left: `${x(ms)}px` }}>${text}</span>`)}
      <span class="is-now" style=${{ left: `${x(at)}px` }}>now</span>
    </div><span>Verdict</span></div>
    ${rows.map((row) => html`<${Row} key=${row.id} row=${row} cap=${capped.get(row.key)} x=${x} at=${at} width=${width} ticks=${ticks}
      isOpen=${open === row.id} onOpen=${() => setOpen(open === row.id ? null : row.id)} onAsk=${onAsk} />`)}
  </div>`;
}

function Row({ row, cap, x, at, width, ticks, isOpen, onOpen, onAsk }) {
  const { key, kind, events, lifetime } = row;
  const isCapped = cap?.kind === kind;
  const lane = events.length <= LANES_MAX ? LANE : (LANE * LANES_MAX) / events.length;
  const height = Math.max(18, lane * events.length);
  const counting = events.filter((event) => (lastLeave(event) ?? 0) > at).length;
  const says = `${key}: ${format.plural(events.length, kind)} held, ${counting} still counting${isCapped ? `, capped until ${format.time(cap.capped_until)}` : ""}`;
  const askable = askAbout(key);
  return html`<div class="tl-row">
    <div class="tl-key"><code>${key}</code>
      <small>${kind === "impression" ? "" : `${kind} · `}<button type="button" class="button plain small inline" aria-expanded=${isOpen} onClick=${onOpen}>${format.plural(events.length, "event")}</button>${lifetime > events.length ? ` of ${format.short(lifetime)} ever` : ""}</small>
    </div>
    <div class="tl-svg-box"><svg class="tl-svg" role="img" aria-label=${says} width=${width} height=${height} viewBox=${`0 0 ${width} ${height}`}>
      ${ticks.map(({ ms }) => html`<line class="grid" x1=${x(ms)} x2=${x(ms)} y1="-8" y2=${height + 8} />`)}
      ${events.map((event, place) => html`<${Bar} event=${event} y=${lane * place + (events.length <= 3 ? (height - lane * events.length) / 2 : 0)} lane=${lane} x=${x} isCapped=${isCapped} />`)}
      <line class="now" x1=${x(at)} x2=${x(at)} y1="-8" y2=${height + 8} />
    </svg></div>
    <div class="tl-end">
      ${isCapped ? html`<${Badge} tone="poor" title=${`by the rule ${cap.rule}`}>capped<//>` : html`<${Badge} tone="good">open<//>`}
      ${onAsk && html`<button type="button" class="button plain small" aria-label=${`Why? ${key}`} onClick=${() => onAsk(askable)}>Why?</button>`}
      ${isCapped && html`<span class="small soft"><${Time} ms=${cap.capped_until} relative /></span>`}
    </div>
  </div>
  ${isOpen && html`<${Events} row=${row} at=${at} />`}`;
}

/** What to ask about a key: the ad itself, or a key beside an ad that nobody has seen. */
const askAbout = (key) => (key.startsWith("da:") ? { da: key.slice(3) } : { keys: [key] });

function Bar({ event, y, lane, x, isCapped }) {
  const end = lastLeave(event);
  const begin = x(event.ts);
  const tone = event.expires_at !== undefined ? "reserved" : isCapped ? "capping" : "";
  const isGone = end === null;
  const size = Math.max(1, Math.min(lane - 1, 5));
  return html`<g>
    ${!isGone && html`<rect class=${`bar ${tone}`} x=${begin} y=${y + (lane - size) / 2} width=${Math.max(1, x(end) - begin)} height=${size} rx=${size / 2} />`}
    <rect class=${`begin ${isGone ? "gone" : tone}`} x=${begin - 2} y=${y + (lane - size) / 2 - 0.5} width="4" height=${size + 1} rx="1.5" />
    <title>${format.time(event.ts)}${end === null ? ", counts for no rule" : `, counts until ${format.time(end)}`}</title>
  </g>`;
}

function Events({ row, at }) {
  const [all, setAll] = useState(false);
  const newest = [...row.events].reverse();
  const shown = all ? newest : newest.slice(0, LISTED);
  return html`<div class="tl-events"><${Table} label=${`Events of ${row.key}`} head=${["When", "Leaves", "By rule", "Hash of its id"]}>
    ${shown.map((event) => html`<tr>
      <td><${Time} ms=${event.ts} /></td>
      <td>${event.expires_at !== undefined ? html`<${Badge} tone="fair">reserved<//> ` : ""}${event.leaves.length ? event.leaves.map((leave) => html`<div><${Time} ms=${leave.at} /> <span class="soft small">${format.fromNow(leave.at, at)}</span></div>`) : html`<span class="soft">counts for no rule</span>`}</td>
      <td>${event.leaves.map((leave) => html`<div>${leave.rule}</div>`)}</td>
      <td>${event.hash ? html`<code class="small">${event.hash}</code>` : html`<span class="soft">no id</span>`}</td>
    </tr>`)}
  <//>${newest.length > shown.length && html`<div class="row end"><button type="button" class="button small" onClick=${() => setAll(true)}>Show all ${format.count(newest.length)}</button></div>`}</div>`;
}

const STEPS = [60_000, 300_000, 900_000, 3_600_000, 3 * 3_600_000, 6 * 3_600_000, 12 * 3_600_000, DAY, 2 * DAY, 7 * DAY, 14 * DAY, 28 * DAY, 91 * DAY, 182 * DAY];

/** Whole hours or days of local time, so many that they have room. */
export function ticksOf(from, to, width) {
  const step = STEPS.find((step) => (to - from) / step <= Math.max(2, width / 84)) ?? 364 * DAY;
  const first = new Date(from);
  first.setHours(0, 0, 0, 0);
  const ticks = [];
  for (let at = 0; ticks.length < 64; at += 1) {
    // By the calendar, so that a day of 23 hours moves no tick off midnight.
    const date = new Date(first);
    if (step >= DAY) date.setDate(date.getDate() + at * (step / DAY));
    else date.setTime(first.getTime() + at * step);
    const ms = date.getTime();
    if (ms > to) break;
    if (ms >= from) ticks.push({ ms, text: step >= DAY || (date.getHours() === 0 && date.getMinutes() === 0) ? format.day(ms) : format.clockTime(ms) });
  }
  return ticks;
}
