// Reach: how many users a key reaches, and how often.
import { html, useMemo, useState } from "../dom.js";
import { callUntilDone, get, path, withQuery } from "../api.js";
import * as format from "../format.js";
import { useLoad } from "../load.js";
import { go, link, route } from "../route.js";
import { may, mayCall, offers } from "../session.js";
import { Badge, Card, Choice, Empty, Field, NoRight, NotOffered, ProblemBox, Progress, Table, Tile, Tiles, Time } from "../parts/basics.js";
import { Chart } from "../parts/chart.js";
import { Head } from "../parts/head.js";
import { Histogram } from "../parts/histogram.js";
import { Icon } from "../parts/icons.js";

const ONE = "GET /reach/{key}";
const TOP = "GET /reach";
const WINDOWS = [["24h", "24 hours"], ["3d", "3 days"], ["5d", "5 days"], ["7d", "7 days"], ["30d", "30 days"], ["lifetime", "lifetime"]];
const LEVELS = ["da", "campaign", "advertiser"];

export function Reach({ headingRef }) {
  const { rest: [key], query } = route.value;
  const asked = { kind: query.get("kind") ?? "impression", window: query.get("window") ?? "7d", level: query.get("level") ?? "campaign" };
  const head = html`<${Head} title="Reach" headingRef=${headingRef}>How many users an ad or a campaign reaches, and how often each of them: counted over everything that is held.<//>`;
  if (!mayCall(ONE, "reports")) return html`${head}<div class="card"><${NoRight} scope="reports" what="reports" /></div>`;
  if (!offers(ONE)) return html`${head}<div class="card"><${NotOffered} what="Reach is" operation=${ONE} /></div>`;
  return html`${head}
    <${Question} key=${route.value.query.toString() + key} wanted=${key ?? ""} asked=${asked} />
    ${key ? html`<${One} wanted=${key} asked=${asked} />` : html`<${Top} asked=${asked} />`}`;
}

const address = (key, { kind, window, level }) => withQuery(key ? link("reach", key) : "#/reach", { window, kind: kind === "impression" ? "" : kind, level: key ? "" : level });

function Question({ wanted, asked }) {
  const [key, setKey] = useState(wanted);
  const [kind, setKind] = useState(asked.kind);
  const rules = useLoad((signal) => get("/rules", { signal }).then((answer) => answer.rules), [], { isOn: may("rules:read") });
  const keys = useMemo(() => [...new Set((rules.data ?? []).map((rule) => rule.key))].filter((key) => !key.endsWith(":*")).slice(0, 500), [rules.data]);
  const submit = (event) => {
    event.preventDefault();
    go(address(key.trim(), { ...asked, kind }));
  };
  return html`<form class="card lookup form" role="search" onSubmit=${submit}>
    <${Field} label="Key" className="wide" hint="Empty: the keys of a level that reach most users">${(id, hint) => html`<input id=${id} data-search list="keys-of-rules" value=${key} onInput=${(event) => setKey(event.target.value)} placeholder="campaign:42" autocomplete="off" spellcheck=${false} aria-describedby=${hint} />`}<//>
    <datalist id="keys-of-rules">${keys.map((key) => html`<option value=${key} />`)}</datalist>
    <${Field} label="Window" hint="Up to now">${(id, hint) => html`<select id=${id} aria-describedby=${hint} onChange=${(event) => go(address(key.trim(), { ...asked, kind, window: event.target.value }))}>
      ${WINDOWS.map(([value, text]) => html`<option value=${value} selected=${value === asked.window}>${text}</option>`)}
    </select>`}<//>
    <${Field} label="Kind" hint="Such as click">${(id, hint) => html`<input id=${id} value=${kind} onInput=${(event) => setKind(event.target.value)} required autocomplete="off" spellcheck=${false} aria-describedby=${hint} />`}<//>
    <div class="field go"><button type="submit" class="button primary"><${Icon} name="search" />Count</button></div>
  </form>`;
}

/** A report that may take longer than a call: with its progress. */
function useReport(at) {
  return useLoad((signal, onProgress) => callUntilDone("GET", at, { signal, onProgress, timeout: 60_000 }), [at]);
}

const Waiting = ({ report, what }) => (report.problem
  ? html`<${ProblemBox} problem=${report.problem} onRetry=${report.reload} title="There is no report" />`
  : html`<div class="card"><${Progress} progress=${report.progress} what=${what} /></div>`);

function One({ wanted, asked }) {
  const { kind, window } = asked;
  const at = withQuery(path`/reach/${wanted}`, { kind, window, by: "hour", max_age: "60s" });
  const report = useReport(at);
  const [of, setOf] = useState("users");
  const { data } = report;
  if (!data) return html`<${Waiting} report=${report} what="Reading all logs" />`;
  if (!data.users) return html`<div class="card"><${Empty} icon="reach" title=${`${wanted} reached nobody`}>No ${kind} of this key is held in the window. Keys are compared letter by letter.<//></div>`;
  const { over = {}, limit } = data;
  const isOther = limit !== null && data.limit_window && JSON.stringify(data.limit_window) !== JSON.stringify(data.window);
  const many = kind === "impression" ? "Impressions" : `${kind[0].toUpperCase()}${kind.slice(1)}s`;
  return html`<div class="stack" aria-busy=${report.isLoading}>
    ${report.problem && html`<${ProblemBox} problem=${report.problem} onRetry=${report.reload} />`}
    <${Tiles}>
      <${Tile} name="Users" value=${format.short(data.users)} title=${format.count(data.users)} />
      <${Tile} name=${many} value=${format.short(data.impressions)} title=${format.count(data.impressions)} />
      <${Tile} name="Average frequency" value=${format.decimal(data.average)} />
      <${Tile} name="At the limit" value=${format.short(data.at_limit)} title=${format.count(data.at_limit)} note=${limit === null ? "no rule limits it" : `of ${format.plural(limit, kind)} in ${format.window_(data.limit_window ?? data.window)}`} />
      <${Tile} name="Over the limit" value=${format.short(over.users)} title=${format.count(over.users)} tone=${over.users > 0 ? "bad" : ""} note=${over.users > 0 ? `${format.plural(over.impressions, kind)} too many` : "nobody"} />
      <${Tile} name="Capped now" value=${format.short(data.capped_now)} title=${format.count(data.capped_now)} note=${format.percent(data.capped_now / data.users)} />
    <//>
    <${Card} title="Frequency" note=${isOther ? `The limit counts in ${format.window_(data.limit_window)}, the histogram in ${format.window_(data.window)}: what is beyond the line is over only where both agree` : html`<code>${wanted}</code>, ${format.window_(data.window)}`}
      actions=${html`<${Choice} label="What is counted" choices=${[["users", "Users"], ["impressions", many]]} value=${of} onChange=${setOf} />`}>
      <div class="body"><${Histogram} bins=${data.histogram} limit=${limit ?? null} of=${of} /></div>
    <//>
    ${data.hours && html`<${Hours} hours=${data.hours} kind=${kind} />`}
    <p class="small soft">Counted as of <${Time} ms=${data.as_of} /> in ${format.joined(format.seconds((data.took_ms ?? 0) / 1000))}; everything is held from <${Time} ms=${data.complete_from} /> on.
      ${data.saturated > 0 && ` ${format.plural(data.saturated, "user")} may have more than the history keeps: they are counted as far as it goes.`}
      ${data.unreadable_rows > 0 && ` ${format.plural(data.unreadable_rows, "row")} could not be read.`}
      <button type="button" class="button plain small inline" onClick=${report.reload}>Count again</button></p>
  </div>`;
}

function Hours({ hours, kind }) {
  const series = [{ label: "Users in the hour", color: "--bar", bars: true }, { label: "Users so far", color: 2, right: true }];
  const data = useMemo(() => [hours.map(({ from }) => from), hours.map(({ users }) => users), hours.map(({ cumulative }) => cumulative)], [hours]);
  const last = hours.at(-1);
  const most = hours.reduce((best, hour) => (hour.users > best.users ? hour : best), hours[0]);
  return html`<${Card} title="The day" note="The last 24 hours, an hour a bar">
    <div class="body">
      <ul class="legend"><li><i class="c-bar" aria-hidden="true" />Users in the hour</li><li><i class="c-2" aria-hidden="true" />Users so far, scale at the right <b>${format.short(last?.cumulative)}</b></li></ul>
      <${Chart} series=${series} data=${data} height=${220} step=${3_600_000} isWhole says=${`Users by hour. Most in the hour from ${format.time(most?.from)}: ${format.count(most?.users)}. In 24 hours: ${format.count(last?.cumulative)}.`} />
      <details><summary>As a table</summary><${Table} label="Users by hour" head=${["Hour from", ["Users"], [`${kind}s`], ["Users so far"]]}>
        ${hours.map((hour) => html`<tr key=${hour.from}><td><${Time} ms=${hour.from} /></td><td class="num">${format.count(hour.users)}</td><td class="num">${format.count(hour.impressions)}</td><td class="num">${format.count(hour.cumulative)}</td></tr>`)}
      <//></details>
    </div>
  <//>`;
}

function Top({ asked }) {
  const isOffered = offers(TOP);
  const levels = LEVELS.includes(asked.level) ? LEVELS : [...LEVELS, asked.level];
  if (!isOffered) return html`<div class="card"><${Empty} icon="reach" title="Which key?">Enter the key of an ad or a campaign.<//></div>`;
  return html`<div class="stack">
    <div class="row"><${Choice} label="Level" choices=${levels.map((level) => [level, level === "da" ? "Ads" : `${level[0].toUpperCase()}${level.slice(1)}s`])} value=${asked.level} onChange=${(level) => go(address("", { ...asked, level }))} /></div>
    <${Keys} key=${asked.level} asked=${asked} />
  </div>`;
}

function Keys({ asked }) {
  const { kind, window, level } = asked;
  const report = useReport(withQuery("/reach", { level, kind, window, top: 100, max_age: "60s" }));
  const { data } = report;
  if (!data) return html`<${Waiting} report=${report} what="Reading all logs" />`;
  if (!data.keys.length) return html`<div class="card"><${Empty} icon="reach" title="Nothing was counted">No ${kind} of this level is held in the window.<//></div>`;
  return html`<${Card} title="Most users" note=${`In ${format.window_(data.window)}${data.exact === false ? "; there are so many keys that others may be missing" : ""}`}>
    <${Table} label="Keys by users" head=${["Key", ["Users"], ["Impressions"], ["Average"], ["Limit"], ["At limit"], ["Over"], ["Capped now"]]}>
      ${data.keys.map((one) => html`<tr key=${one.key}>
        <th scope="row"><a href=${address(one.key, asked)}><code>${one.key}</code></a></th>
        <td class="num" title=${format.count(one.users)}>${format.short(one.users)}</td><td class="num" title=${format.count(one.impressions)}>${format.short(one.impressions)}</td>
        <td class="num">${format.decimal(one.average)}</td><td class="num">${one.limit ?? "–"}</td><td class="num">${format.short(one.at_limit)}</td>
        <td class="num">${one.over?.users > 0 ? html`<${Badge} tone="poor" title=${`${format.count(one.over.impressions)} too many`}>${format.short(one.over.users)}<//>` : "0"}</td>
        <td class="num">${format.short(one.capped_now)}</td>
      </tr>`)}
    <//>
  <//>`;
}
