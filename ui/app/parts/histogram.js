// Users by how often they saw it, with the limit marked and what is over it.
import { html, useEffect, useId, useRef, useState } from "../dom.js";
import * as format from "../format.js";

const HEIGHT = 240;
const FOOT = 40;
const HEAD = 30;
const LEFT = 4;

/** `10+` begins at 10. */
export const firstOf = (frequency) => (typeof frequency === "number" ? frequency : Number.parseInt(frequency, 10));

/** `bins`: [{frequency, users, impressions}], `of`: which of the two is shown. */
export function Histogram({ bins, limit = null, of = "users" }) {
  const box = useRef(null);
  const [width, setWidth] = useState(560);
  const id = useId();
  useEffect(() => {
    const watch = new ResizeObserver(([entry]) => setWidth(Math.max(240, Math.floor(entry.contentRect.width))));
    watch.observe(box.current);
    return () => watch.disconnect();
  }, []);
  const values = bins.map((bin) => bin[of] ?? 0);
  const most = Math.max(1, ...values);
  const all = values.reduce((sum, value) => sum + value, 0);
  const step = (width - 2 * LEFT) / Math.max(1, bins.length);
  const bar = Math.min(64, step * 0.72);
  const tall = HEIGHT - FOOT - HEAD;
  // The bin with the limit: what comes after it is over. `10+` may have both.
  const lastWithin = limit === null ? -1 : bins.findLastIndex(({ frequency }) => firstOf(frequency) <= limit);
  const hasLimit = limit !== null && lastWithin >= 0 && lastWithin < bins.length - 1;
  const limitX = LEFT + step * (lastWithin + 1);
  const isOver = (at) => hasLimit && at > lastWithin;
  const over = values.reduce((sum, value, at) => (isOver(at) ? sum + value : sum), 0);
  const says = `${of} by frequency: ${bins.map(({ frequency }, at) => `${frequency}: ${format.count(values[at])}`).join(", ")}${limit !== null ? `. The limit is ${limit}${hasLimit ? `; over it: ${format.count(over)}` : ""}.` : ""}`;
  return html`<figure ref=${box} aria-labelledby=${id}>
    <figcaption id=${id} class="visually-hidden">${says}</figcaption>
    <svg class="histo" width=${width} height=${HEIGHT} viewBox=${`0 0 ${width} ${HEIGHT}`} aria-hidden="true">
      ${bins.map(({ frequency }, at) => {
        const high = values[at] > 0 ? Math.max(2, (tall * values[at]) / most) : 0;
        const x = LEFT + step * at + (step - bar) / 2;
        return html`<g>
          <rect class=${`bar ${isOver(at) ? "over" : ""}`} x=${x} y=${HEIGHT - FOOT - high} width=${bar} height=${high} rx="3" />
          <text class="value" x=${x + bar / 2} y=${HEIGHT - FOOT - high - 6} text-anchor="middle">${step < 40 ? format.tiny(values[at]) : format.short(values[at])}</text>
          <text x=${x + bar / 2} y=${HEIGHT - FOOT + 18} text-anchor="middle">${frequency}</text>
          <title>${`${frequency}: ${format.count(values[at])} ${of}, ${format.percent(values[at] / Math.max(1, all))}`}</title>
        </g>`;
      })}
      <line class="base" x1="0" x2=${width} y1=${HEIGHT - FOOT + 0.5} y2=${HEIGHT - FOOT + 0.5} />
      ${hasLimit && html`<line class="limit-line" x1=${limitX} x2=${limitX} y1="6" y2=${HEIGHT - FOOT} />
        <text class="limit" x=${limitX + (limitX > width - 90 ? -6 : 6)} y="16" text-anchor=${limitX > width - 90 ? "end" : "start"}>limit ${limit}</text>`}
      <text x=${width / 2} y=${HEIGHT - 4} text-anchor="middle">times seen by a user</text>
    </svg>
  </figure>`;
}
