// Over-delivery: what was shown although a rule capped it, and why.
import { html, useEffect, useMemo, useState } from "../dom.js";
import { get, inTurn, withQuery } from "../api.js";
import * as format from "../format.js";
import { useLoad } from "../load.js";
import { go, link, route } from "../route.js";
import { may, mayCall, offers } from "../session.js";
import { Badge, Card, Choice, Empty, Loading, Meter, NoRight, NotOffered, ProblemBox, Table, Tile, Tiles, Time } from "../parts/basics.js";
import { Chart } from "../parts/chart.js";
import { Head } from "../parts/head.js";

const SUMMARY = "GET /over/summary";
const EVENTS = "GET /over";
const HOUR = 3_600_000;
const SINCE = [["1h", "Hour", HOUR], ["24h", "Day", 24 * HOUR], ["7d", "Week", 168 * HOUR], ["35d", "35 days", 840 * HOUR]];
const BY = [["cause", "Cause"], ["rule", "Rule"], ["key", "Key"]];

/** name, what it means, what to do. */
const CAUSES = {
  in_flight: ["In flight", "It was shown before the service could know of the one that filled the cap.", "Use /reserve where no user may see one too many."],
  mirror: ["Mirror", "The service knew, Redis had not been told yet.", "Look at the Redis lag under Now."],
  ignored: ["Ignored", "The cap could be read, and the ad was shown anyhow.", "The ad server does not ask, asks too early, or does not heed the answer."],
  lapsed: ["Lapsed", "Its reservation had expired or was given back.", "Confirm sooner, or reserve for longer (ttl)."],
  rule_change: ["Rule change", "Only a rule that came later caps it.", "Nothing to do: it passes with the window."],
  backfill: ["Backfill", "It came through Kafka long after it happened.", "Look at the Kafka lag."],
  unknown: ["Unknown", "None of the others.", "This should be 0. Please report it."],
};

export function Over({ headingRef }) {
  const { query } = route.value;
  const asked = { since: query.get("since") ?? "24h", by: query.get("by") ?? "cause", rule: query.get("rule") ?? "", key: query.get("key") ?? "", cause: query.get("cause") ?? "" };
  const to = (change) => go(address({ ...asked, ...change }));
  const head = (actions) => html`<${Head} title="Over-delivery" headingRef=${headingRef} actions=${actions}>What was shown to users although a rule capped it at that moment, and why.<//>`;
  if (!mayCall(SUMMARY, "reports")) return html`${head()}<div class="card"><${NoRight} scope="reports" what="reports" /></div>`;
  if (!offers(SUMMARY)) return html`${head()}<div class="card"><${NotOffered} what="Over-delivery is" operation=${SUMMARY} /></div>`;
  return html`${head(html`<${Choice} label="Since" choices=${SINCE} value=${asked.since} onChange=${(since) => to({ since })} />`)}
    <div class="stack"><${Summary} key=${asked.since} asked=${asked} to=${to} /><${Events} key=${JSON.stringify(asked)} asked=${asked} to=${to} /></div>`;
}

const address = ({ since, by, rule, key, cause }) => withQuery("#/over", { since, by: by === "cause" ? "" : by, rule, key, cause });

/** The instant from which on is asked: of when the view was opened, so that pages fit together. */
function useSince(asked) {
  return useMemo(() => Date.now() - SINCE.find(([name]) => name === asked.since)?.[2] || 24 * HOUR, [asked.since]);
}

const causeName = (cause) => CAUSES[cause]?.[0] ?? cause;

function Summary({ asked, to }) {
  const since = useSince(asked);
  const load = (by) => (signal) => inTurn(() => get(withQuery("/over/summary", { since, by }), { signal }), signal);
  const main = useLoad(load(asked.by), [since, asked.by]);
  const hours = useLoad(load("hour"), [since], { isOn: asked.since !== "1h" });
  if (main.problem) return html`<${ProblemBox} problem=${main.problem} onRetry=${main.reload} title="There is no summary" />`;
  const data = main.data;
  if (!data) return html`<div class="card"><${Loading} /></div>`;
  const unknown = asked.by === "cause" ? data.by.find(({ cause }) => cause === "unknown")?.over ?? 0 : null;
  return html`<${Tiles}>
      <${Tile} name="Shown" value=${format.short(data.impressions)} title=${format.count(data.impressions)} note="impressions counted" />
      <${Tile} name="Too many" value=${format.short(data.over)} title=${format.count(data.over)} tone=${data.share > 0.001 ? "bad" : ""} note="over a cap" />
      <${Tile} name="Share" value=${format.percent(data.share)} tone=${data.share > 0.001 ? "bad" : ""} note="of what was shown" />
      ${unknown > 0 && html`<${Tile} name="Unknown" value=${format.count(unknown)} tone="bad" note="should be 0" />`}
    <//>
    ${data.complete_from && html`<p class="note-box fair">There were more than are kept: what is here is whole from <${Time} ms=${data.complete_from} /> on.</p>`}
    ${hours.data?.by?.length > 1 && html`<${Hours} by=${hours.data.by} />`}
    <${Card} title="Where it comes from" actions=${html`<${Choice} label="By" choices=${BY} value=${asked.by} onChange=${(by) => to({ by })} />`}>
      ${data.by.length ? html`<${By} rows=${data.by} all=${data.over} by=${asked.by} to=${to} />${data.other > 0 && html`<p class="rest small soft">${format.count(data.other)} more are of others.</p>`}` : html`<${Empty} icon="check" title="Nothing was shown too often">No event since then was over a cap.<//>`}
    <//>`;
}

const nameOf = (row, by) => row[by] ?? row.name ?? row.value ?? "–";

function By({ rows, all, by, to }) {
  const sorted = [...rows].sort((one, other) => other.over - one.over).slice(0, 100);
  const cell = (name) => (by === "cause"
    ? html`<strong>${causeName(name)}</strong>${CAUSES[name] && html`<div class="small soft">${CAUSES[name][1]} ${CAUSES[name][2]}</div>`}`
    : html`<code>${name}</code>`);
  return html`<${Table} label=${`Over-delivery by ${by}`} className="bars" head=${[by[0].toUpperCase() + by.slice(1), "", ["Too many"], ["Share"], ""]}>
    ${sorted.map((row) => {
      const name = nameOf(row, by);
      return html`<tr key=${name}>
        <th scope="row">${cell(name)}</th><td class="bar-cell"><${Meter} share=${all ? row.over / all : 0} isOver /></td>
        <td class="num" title=${format.count(row.over)}>${format.short(row.over)}</td><td class="num">${format.percent(all ? row.over / all : 0)}</td>
        <td class="num">${row.over > 0 && html`<button type="button" class="button plain small" aria-label=${`Events of ${name}`} onClick=${() => to({ rule: "", key: "", cause: "", [by]: name })}>Events</button>`}</td>
      </tr>`;
    })}
  <//>`;
}

function Hours({ by }) {
  const rows = [...by].map((row) => ({ ...row, at: Number(nameOf(row, "hour")) })).filter(({ at }) => Number.isFinite(at)).sort((one, other) => one.at - other.at);
  const series = [{ label: "Too many", color: "--bar-over", bars: true }];
  const data = useMemo(() => [rows.map(({ at }) => at), rows.map(({ over }) => over)], [by]);
  if (rows.length < 2) return null;
  const most = rows.reduce((best, row) => (row.over > best.over ? row : best), rows[0]);
  return html`<${Card} title="Hour by hour"><div class="body">
    <${Chart} series=${series} data=${data} height=${180} step=${HOUR} isWhole says=${`Over-delivery by hour. Most in the hour from ${format.time(most.at)}: ${format.count(most.over)}.`} />
  </div><//>`;
}

function Events({ asked, to }) {
  const since = useSince(asked);
  const { rule, key, cause } = asked;
  const [cursors, setCursors] = useState([null]);
  const cursor = cursors.at(-1);
  const page = useLoad((signal) => inTurn(() => get(withQuery("/over", { since, rule, key, cause, cursor, limit: 50 }), { signal }), signal), [since, rule, key, cause, cursor], { isOn: offers(EVENTS), isPaged: true });
  useEffect(() => setCursors([null]), [since, rule, key, cause]);
  if (!offers(EVENTS)) return null;
  const filters = [["rule", rule], ["key", key], ["cause", cause]].filter(([, value]) => value);
  const chips = filters.length > 0 && html`<div class="row">${filters.map(([name, value]) => html`<${Badge} tone="info">${name}: ${name === "cause" ? causeName(value) : value}<//>`)}<button type="button" class="button small" onClick=${() => to({ rule: "", key: "", cause: "" })}>Show all</button></div>`;
  const events = page.data?.events ?? page.data?.over ?? [];
  const pager = (cursors.length > 1 || page.data?.cursor) && html`<div class="pager"><span>Page ${cursors.length}</span><span class="row">
    <button type="button" class="button small" disabled=${cursors.length === 1} onClick=${() => setCursors(cursors.slice(0, -1))}>Previous</button>
    <button type="button" class="button small" disabled=${!page.data?.cursor} onClick=${() => setCursors([...cursors, page.data.cursor])}>Next</button>
  </span></div>`;
  return html`<${Card} title="Events" note="The newest first" actions=${chips} footer=${pager}>
    ${page.problem && html`<div class="body"><${ProblemBox} problem=${page.problem} onRetry=${page.reload} /></div>`}
    ${!page.data && !page.problem && html`<${Loading} />`}
    ${page.data && (events.length
      ? html`<${Table} label="Events over a cap" head=${["When", "User", "Key", "Rule", "Cause", ["Before it"], ["Counted after"]]}>
          ${events.map((one) => html`<tr>
            <td><${Time} ms=${one.ts ?? one.at} /></td>
            <td>${may("users:read") && one.user ? html`<a href=${link("user", one.user)}><code>${one.user}</code></a>` : html`<code>${one.user ?? "–"}</code>`}</td>
            <td><code>${one.key}</code></td><td class="nowrap">${one.rule}</td><td class="nowrap">${one.events > 1 && html`${format.count(one.events)} × `}<${Badge} title=${CAUSES[one.cause]?.[1]}>${causeName(one.cause)}<//></td>
            <td class="num">${format.count(one.count)} of ${format.count(one.limit)}</td><td class="num">${typeof one.delay_ms === "number" ? format.joined(format.seconds(one.delay_ms / 1000)) : "–"}</td>
          </tr>`)}
        <//>`
      : html`<${Empty} icon="check" title="No events">None ${page.data.cursor ? "is on this page: there may be more on the next" : `was over a cap${filters.length ? " by these" : ""}`}.<//>`)}
  <//>`;
}
