// Why an ad is capped for a user, or is not: `GET /cap` with `explain=true`.
import { html, useState } from "../dom.js";
import { get, withQuery } from "../api.js";
import * as format from "../format.js";
import { useLoad } from "../load.js";
import { Badge, Field, Loading, Meter, ProblemBox, Table, Time } from "../parts/basics.js";
import { Dialog } from "../parts/dialog.js";
import { Icon } from "../parts/icons.js";

/** An ad that nobody has seen, for questions about other keys alone. */
const NO_AD = "(no ad)";

export function Why({ user, about, onClose }) {
  const [asked, setAsked] = useState(about.da || about.keys ? { da: about.da ?? "", keys: about.keys ?? [], kind: "" } : null);
  return html`<${Dialog} title="May this ad be shown?" note=${html`To <code>${user}</code>, now`} onClose=${onClose} isWide>
    <${Question} asked=${asked} onAsk=${setAsked} />
    ${asked && html`<${Answer} user=${user} asked=${asked} />`}
  <//>`;
}

function Question({ asked, onAsk }) {
  const [da, setDa] = useState(asked?.da ?? "");
  const [keys, setKeys] = useState((asked?.keys ?? []).join(" "));
  const submit = (event) => {
    event.preventDefault();
    onAsk({ da: da.trim(), keys: keys.split(/\s+/).filter(Boolean) });
  };
  return html`<form class="form" onSubmit=${submit}>
    <${Field} label="Ad">${(id) => html`<input id=${id} value=${da} onInput=${(event) => setDa(event.target.value)} required=${!keys.trim()} autocomplete="off" spellcheck=${false} maxlength="256" />`}<//>
    <${Field} label="Keys besides (spaces between)" className="wide">${(id) => html`<input id=${id} value=${keys} onInput=${(event) => setKeys(event.target.value)} placeholder="campaign:42 advertiser:7" autocomplete="off" spellcheck=${false} />`}<//>
    <div class="field go"><button class="button primary" type="submit">Ask</button></div>
  </form>`;
}

function Answer({ user, asked }) {
  const at = withQuery("/cap", { user, da: asked.da || NO_AD, key: asked.keys, explain: "true" });
  const { data, problem, reload } = useLoad((signal) => get(at, { signal }), [at]);
  if (problem) return html`<${ProblemBox} problem=${problem} onRetry=${reload} title="There is no verdict" />`;
  if (!data) return html`<${Loading} what="Asking" />`;
  return html`<${Verdict} verdict=${data} />`;
}

function Verdict({ verdict }) {
  const { capped, why, rules } = verdict;
  return html`<div class="verdict" role="status">
    <div class=${`verdict-head ${capped ? "is-capped" : ""}`}>
      <span class="mark"><${Icon} name=${capped ? "stop" : "check"} size=${22} /></span>
      <div>
        <strong>${capped ? "Capped" : "May be shown"}</strong>
        ${capped && html`<span> until <${Time} ms=${verdict.capped_until} />, <${Time} ms=${verdict.capped_until} relative /></span>`}
        ${!capped && verdict.remaining !== null && html`<span>, ${format.count(verdict.remaining)} left</span>`}
        <p class="soft">${why?.text}</p>
      </div>
    </div>
    ${why && html`<${Next} why=${why} verdict=${verdict} />`}
    ${rules.length > 0 && html`<${Rules} rules=${rules} omitted=${verdict.shadow_omitted} />`}
    ${why?.events?.length > 0 && html`<${Counted} why=${why} verdict=${verdict} />`}
    ${why?.displaced?.length > 0 && html`<${Displaced} displaced=${why.displaced} />`}
    ${why && html`<p class="small soft">Judged as of <${Time} ms=${why.as_of} />, by revision ${format.count(why.revision)} of the rules.</p>`}
  </div>`;
}

function Next({ why, verdict }) {
  const says = [];
  if (why.next) says.push(html`If no event comes, the count falls to ${format.count(why.next.count)} <${Time} ms=${why.next.at} relative /> (<${Time} ms=${why.next.at} />).`);
  if (why.needed) says.push(html` ${format.plural(why.needed, `more ${verdict.kind}`)} would cap it.`);
  return says.length ? html`<p class="note-box">${says}</p>` : null;
}

const Rules = ({ rules, omitted }) => html`<div>
  <${Table} label="What each rule says" head=${["Rule", "Key", "Count of limit", "Window", "Verdict"]}>
    ${rules.map((rule) => html`<tr>
      <th scope="row">${rule.rule}${rule.mode === "shadow" && html` <${Badge}>shadow<//>`}</th>
      <td><code>${rule.key}</code>${rule.kind !== "impression" && html`<div class="small soft">${rule.kind}</div>`}</td>
      <td>${rule.limit === null ? "no limit" : html`${format.count(rule.count)} of ${format.count(rule.limit)}${rule.partial ? " at least" : ""}<${Meter} share=${rule.count / rule.limit} isOver=${rule.count >= rule.limit} />`}</td>
      <td class="nowrap">${format.window_(rule.window)}</td>
      <td>${rule.capped ? html`<${Badge} tone=${rule.mode === "shadow" ? "fair" : "poor"}>${rule.mode === "shadow" ? "would cap" : "caps"}<//> <div class="small soft"><${Time} ms=${rule.capped_until} relative /></div>` : html`<${Badge} tone="good">open<//>`}</td>
    </tr>`)}
  <//>
  ${omitted && html`<p class="small soft">${format.plural(omitted, "more shadow rule")} not listed.</p>`}
</div>`;

const Counted = ({ why, verdict }) => html`<details open=${why.events.length <= 12}>
  <summary>${format.plural(why.events.length + (why.events_omitted ?? 0), "event")} counted by ${verdict.rule}</summary>
  <${Table} label="Events that the binding rule counts" head=${["When", "Ad", "Leaves", ""]}>
    ${[...why.events].reverse().map((event) => html`<tr>
      <td><${Time} ms=${event.ts} /></td><td>${event.da ?? html`<span class="soft">not kept</span>`}${event.reserved && html` <${Badge} tone="fair">reserved<//>`}</td>
      <td><${Time} ms=${event.leaves_at} /></td><td class="soft"><${Time} ms=${event.leaves_at} relative /></td>
    </tr>`)}
  <//>
</details>`;

const REASONS = { exact_over_wildcard: "it is on the key itself", exempt: "it exempts the key" };

const Displaced = ({ displaced }) => html`<div class="note-box"><strong>Rules that do not speak</strong>
  <ul>${displaced.map((one) => html`<li>${one.rule} on <code>${one.key}</code>: ${one.by} does instead, for ${REASONS[one.reason] ?? one.reason}</li>`)}</ul>
</div>`;
