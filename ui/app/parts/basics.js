// Small parts: times, badges, tiles, tables, empty states, problems, progress.
import { html, signal, useEffect, useId, useRef, useState } from "../dom.js";
import * as format from "../format.js";
import { Icon } from "./icons.js";

/** The time of day, moved on each second, for what says how long ago something was. */
export const now = signal(Date.now());
setInterval(() => {
  now.value = Date.now();
}, 1000);

/** An instant in local time; the tooltip has it in UTC. */
export function Time({ ms, relative = false }) {
  if (typeof ms !== "number") return html`<span>–</span>`;
  const text = relative ? format.fromNow(ms, now.value) : format.time(ms, relative ? now.value : Date.now());
  const iso = Math.abs(ms) <= 8.64e15 ? new Date(ms).toISOString() : undefined;
  const title = relative ? `${format.time(ms)} · ${format.utc(ms)}` : format.utc(ms);
  return html`<time class="nowrap" datetime=${iso} title=${title}>${text}</time>`;
}

export const Badge = ({ tone = "", dot = false, title, children }) =>
  html`<span class=${`badge ${tone}`} title=${title}>${dot && html`<i class="dot" aria-hidden="true" />`}${children}</span>`;

/** A figure with its name; `value` is a text or [value, unit]. */
export function Tile({ name, value, note, tone = "", title, children }) {
  const [figure, unit] = [value].flat();
  return html`<div class=${`tile ${tone && `is-${tone}`}`}>
    <dt>${name}</dt>
    <dd title=${title}>${figure}${unit && html`<small>${unit}</small>`}${note && html`<div class="note">${note}</div>`}${children}</dd>
  </div>`;
}

/** How many in a row, so that none stands alone in the last. */
const columns = (n) => (n <= 3 ? 3 : n <= 6 ? n : n % 4 === 0 || n === 7 ? 4 : 5);

export const Tiles = ({ children }) => html`<dl class=${`tiles of-${columns([children].flat().filter(Boolean).length)}`}>${children}</dl>`;

export function Card({ title, note, actions, children, footer, className = "", level = 2 }) {
  const id = useId();
  const Heading = `h${level}`;
  return html`<section class=${`card ${className}`} aria-labelledby=${title ? id : undefined}>
    ${title && html`<header><div><${Heading} id=${id}>${title}<//>${note && html`<p>${note}</p>`}</div>${actions}</header>`}
    ${children}
    ${footer && html`<footer>${footer}</footer>`}
  </section>`;
}

/** A table that may be wider than the screen; it can then be scrolled with the keyboard. */
export function Table({ label, head, children, className = "" }) {
  const box = useRef(null);
  const [isWide, setWide] = useState(false);
  useEffect(() => {
    const watch = new ResizeObserver(() => setWide(box.current && box.current.scrollWidth > box.current.clientWidth + 1));
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  return html`<div ref=${box} class=${`table ${className}`} tabindex=${isWide ? 0 : undefined} role=${isWide ? "region" : undefined} aria-label=${isWide ? label : undefined}>
    <table>
      <caption class="visually-hidden">${label}</caption>
      <thead><tr>${head.map((cell) => (typeof cell === "string" ? html`<th scope="col">${cell}</th>` : html`<th scope="col" class="num">${cell[0]}</th>`))}</tr></thead>
      <tbody>${children}</tbody>
    </table>
  </div>`;
}

/** How much of a whole, as a bar. The figure stands beside it. */
export function Meter({ share, isOver = false }) {
  const part = Math.max(0, Math.min(1, Number.isFinite(share) ? share : 0));
  return html`<svg class=${`meter ${isOver ? "over" : ""}`} viewBox="0 0 100 6" preserveAspectRatio="none" aria-hidden="true">
    <rect class="track" width="100" height="6" /><rect class="fill" width=${part > 0 ? Math.max(1, 100 * part) : 0} height="6" />
  </svg>`;
}

export const Empty = ({ icon = "empty", title, children, actions }) => html`<div class="empty">
  <${Icon} name=${icon} size=${32} />
  <h3>${title}</h3>
  ${children && html`<p>${children}</p>`}
  ${actions && html`<div class="row">${actions}</div>`}
</div>`;

export const Loading = ({ what = "Loading" }) =>
  html`<div class="loading" role="status"><span class="visually-hidden">${what}</span><i /><i /><i /></div>`;

/** How far a call is that takes longer: the 202 of the service. */
export function Progress({ progress, what }) {
  if (!progress?.total) return html`<${Loading} what=${what} />`;
  const { done = 0, total } = progress;
  return html`<div class="progress body" role="status">
    <div class="row apart"><span>${what}</span><span class="soft">${format.percent(done / total)}</span></div>
    <${Meter} share=${done / total} />
  </div>`;
}

/** What to do about a problem, by its code; else by its status. */
const ADVICE = {
  no_answer: "The page tries again by itself. If it stays away, look whether the process runs, and at its log.",
  unauthenticated: "Enter a key that is in the keys file.",
  forbidden: (problem) => `Ask for a key with the scope ${problem.scope ? `\u201c${problem.scope}\u201d` : "that is missing"}; freqcap key new makes one.`,
  overloaded: "Too many calls are under way. Try again shortly; if it stays so, the service needs more memory or fewer callers.",
  host_not_allowed: "Without keys the service answers to the names of --hosts alone. Open the page by one of them, such as localhost.",
  origin_not_allowed: "Open the page by the address of the service itself.",
  rule_is_from_flags: "Change the flags or the settings file, and start the service again.",
  starting: "The service is still starting. Try again shortly.",
  disk_full: "Make room on the data directory's disk: writes go on by themselves then.",
};
const ADVICE_BY_STATUS = {
  404: "This service does not have it: it may be an older version, or the call is answered at the address of --admin-listen alone.",
  412: "Somebody else has changed it since it was loaded. Load it again.",
  422: "Correct what the message names.",
  500: "The service's log says what failed.",
  503: "The service is busy, or does not take this now. Try again shortly.",
};

export function ProblemBox({ problem, onRetry, title = "This did not work", level = 3 }) {
  const Heading = `h${level}`;
  const advice = ADVICE[problem.code] ?? ADVICE_BY_STATUS[problem.status];
  return html`<div class="problem" role="alert">
    <${Heading}>${title}<//>
    <p>${problem.detail || problem.message}</p>
    ${advice && html`<p>${typeof advice === "function" ? advice(problem) : advice}</p>`}
    <p class="small soft"><code>${problem.code ?? "error"}</code>${problem.status ? ` · status ${problem.status}` : ""}</p>
    ${onRetry && html`<div class="row"><button type="button" class="button small" onClick=${onRetry}>Try again</button></div>`}
  </div>`;
}

/** In place of what the key does not allow. */
export const NoRight = ({ scope, what }) => html`<${Empty} icon="lock" title=${`This key may not see ${what}`}>
  It has not the scope <code>${scope}</code>. A key with it is made by <code>freqcap key new --id NAME --scopes ${scope}</code>.
<//>`;

/** In place of what this service does not have. */
export const NotOffered = ({ what, operation }) => html`<${Empty} icon="off" title=${`${what} not available`}>
  This service does not answer <code>${operation}</code>. A newer version of freqcap does.
<//>`;

export const Field = ({ label, hint, children, className = "" }) => {
  const id = useId();
  return html`<div class=${`field ${className}`}>
    <label for=${id}>${label}</label>
    ${children(id, hint ? `${id}-hint` : undefined)}
    ${hint && html`<span class="hint" id=${`${id}-hint`}>${hint}</span>`}
  </div>`;
};

/** One of a few. `choices`: [[value, text], ..]. */
export const Choice = ({ label, choices, value, onChange }) => html`<div class="tabs" role="group" aria-label=${label}>
  ${choices.map(([one, text]) => html`<button type="button" aria-pressed=${one === value} onClick=${() => onChange(one)}>${text}</button>`)}
</div>`;
