// What a rule would do: the answer of POST /rules/try.
import { html } from "../dom.js";
import * as format from "../format.js";
import { Tile, Time } from "../parts/basics.js";
import { Histogram } from "../parts/histogram.js";

export function Tried({ result, limit, isCurrent }) {
  const { newly_capped: newly, no_longer_capped: freed, would_refuse: refuses, users, until, histogram } = result;
  return html`<section class="tried" aria-label="What it would do">
    <h3>${isCurrent ? "What it would do" : "What it would have done before your last change"}</h3>
    <p>${sentence(result)}</p>
    <dl class="tiles">
      <${Tile} name="Newly capped" value=${format.short(newly)} title=${format.count(newly)} note=${users ? `of ${format.plural(users, "user")}` : ""} />
      <${Tile} name="No longer capped" value=${format.short(freed)} title=${format.count(freed)} />
      <${Tile} name="Would refuse" value=${format.percent(refuses?.share)} note=${`${format.short(refuses?.impressions)} of the events held`} />
      ${until?.p50 !== null && until?.p50 !== undefined && html`<${Tile} name="Capped for, median" value=${lasts(until.p50, result.as_of)} note=${until.p95 ? `95 %: up to ${lasts(until.p95, result.as_of)}` : ""} />`}
    </dl>
    ${histogram?.length > 0 && html`<${Histogram} bins=${histogram} limit=${limit} />`}
    <p class="small soft">Judged as of <${Time} ms=${result.as_of} />. Nothing is stored.</p>
  </section>`;
}

/** A cap's end is told as an instant, or as a span from now on. */
const lasts = (value, asOf) => format.span(value > 1e11 ? value - asOf : value);

function sentence({ newly_capped: newly, no_longer_capped: freed, would_refuse: refuses }) {
  if (!newly && !freed) return "Nobody would be capped now who is not, and nobody freed.";
  const parts = [newly && `${format.plural(newly, "user")} would be capped who ${newly === 1 ? "is" : "are"} not now`, freed && `${format.plural(freed, "user")} would be free again`].filter(Boolean);
  const share = refuses ? `; of what was shown, ${format.percent(refuses.share)} would have been refused` : "";
  return `${parts.join(", ")}${share}.`;
}
