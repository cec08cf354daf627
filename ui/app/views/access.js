// Access: whose key this is, what keys are used for, who changed what.
import { html, useState } from "../dom.js";
import { get, withQuery } from "../api.js";
import { samples, status } from "../figures.js";
import * as format from "../format.js";
import { useLoad } from "../load.js";
import { isKeyless, may, session } from "../session.js";
import { Badge, Card, Empty, Loading, NoRight, ProblemBox, Table, Time } from "../parts/basics.js";
import { Head } from "../parts/head.js";

const ALLOWS = {
  events: "Send events", decide: "Ask for verdicts, reserve, release", "users:read": "Read what is held of users", "users:erase": "Erase users",
  "rules:read": "Read rules", "rules:write": "Change rules", "ads:read": "Read the catalogue of ads", "ads:write": "Change the catalogue of ads",
  reports: "Reach and over-delivery", stream: "Follow changes of caps", sign: "Sign pixel URLs", metrics: "Figures and status", admin: "Everything, the audit and snapshots too",
};

export function Access({ headingRef }) {
  return html`<${Head} title="Access" headingRef=${headingRef}>Whose key this is, which keys are used, and who changed what.<//>
    <div class="stack">
      <div class="grid">
        <div class="w-4"><${Me} /></div>
        <div class="w-8"><${Keys} /></div>
      </div>
      <${Audit} />
    </div>`;
}

function Me() {
  const { key, scopes } = session.value;
  if (isKeyless.value) {
    return html`<${Card} title="No keys"><div class="body stack">
      <p>The service asks for no key: whoever reaches its port may do everything. It is for this machine, or has something in front of it that decides.</p>
      <p class="soft">To hand out rights, start it with <code>--keys-file</code>.</p>
    </div><//>`;
  }
  return html`<${Card} title="This key" note=${html`<code>${key}</code>`}><div class="body">
    <ul class="scope-list">${Object.entries(ALLOWS).map(([scope, text]) => html`<li class=${may(scope) ? "" : "soft"}>
      <span><${Badge} tone=${may(scope) ? "good" : ""}>${may(scope) ? "may" : "may not"}<//></span><span><code>${scope}</code> <span class="small soft">${text}</span></span>
    </li>`)}</ul>
    ${scopes.includes("admin") && html`<p class="small soft">By the scope admin, which allows everything.</p>`}
  </div><//>`;
}

const RESULTS = [["ok", "Let in"], ["forbidden", "Another scope needed"], ["expired", "Expired"], ["absent", "No key"], ["unknown", "Not known"]];

function Keys() {
  if (!may("metrics")) return html`<${Card} title="Use of keys"><${NoRight} scope="metrics" what="how keys are used" /><//>`;
  const newest = samples.value.at(-1);
  if (!newest) return html`<${Card} title="Use of keys"><${Loading} /><//>`;
  const access = status.value?.access;
  const keys = new Map();
  for (const { labels, value } of newest.metrics.get("freqcap_auth_total") ?? []) {
    if (!keys.has(labels.key)) keys.set(labels.key, {});
    keys.get(labels.key)[labels.result] = value;
  }
  const rows = [...keys].filter(([, row]) => Object.values(row).some((value) => value > 0)).sort(([, one], [, other]) => total(other) - total(one));
  const inForce = newest.metrics.get("freqcap_keys")?.[0]?.value;
  return html`<${Card} title="Use of keys" note=${`Calls since the start${inForce ? `; ${format.plural(inForce, "key")} in force` : ""}`}
      actions=${access?.file_error && html`<${Badge} tone="poor" dot title=${String(access.file_error)}>the file cannot be used<//>`}>
    ${rows.length ? html`<${Table} label="Calls by key" head=${["Key", ...RESULTS.map(([, text]) => [text])]}>
      ${rows.slice(0, 100).map(([key, row]) => html`<tr key=${key}>
        <th scope="row">${key ? html`<code>${key}</code>` : html`<span class="soft">nobody known</span>`}</th>
        ${RESULTS.map(([result]) => html`<td class="num" title=${format.count(row[result] ?? 0)}>${row[result] ? html`<span class=${result === "ok" ? "" : "bad"}>${format.short(row[result])}</span>` : html`<span class="soft">0</span>`}</td>`)}
      </tr>`)}
    <//>` : html`<${Empty} icon="access" title="No key was used">${isKeyless.value ? "The service asks for none." : "Nobody has called since the start."}<//>`}
  <//>`;
}

const total = (row) => Object.values(row).reduce((sum, value) => sum + value, 0);

function Audit() {
  const [cursors, setCursors] = useState([null]);
  const cursor = cursors.at(-1);
  const isAllowed = may("admin");
  const page = useLoad((signal) => get(withQuery("/audit", { limit: 25, cursor }), { signal }), [cursor], { isOn: isAllowed, isPaged: true });
  if (!isAllowed) return html`<${Card} title="Audit"><${NoRight} scope="admin" what="who changed what" /><//>`;
  const { data } = page;
  const pager = (cursors.length > 1 || data?.cursor) && html`<div class="pager"><span>Page ${cursors.length}</span><span class="row">
    <button type="button" class="button small" disabled=${cursors.length === 1} onClick=${() => setCursors(cursors.slice(0, -1))}>Newer</button>
    <button type="button" class="button small" disabled=${!data?.cursor} onClick=${() => setCursors([...cursors, data.cursor])}>Older</button>
  </span></div>`;
  return html`<${Card} title="Audit" note="Changes of rules and keys, erasures, snapshots; the last 10,000 are kept" footer=${pager}
      actions=${html`<button type="button" class="button small" onClick=${page.reload}>Load again</button>`}>
    ${page.problem && html`<div class="body"><${ProblemBox} problem=${page.problem} onRetry=${page.reload} /></div>`}
    ${!data && !page.problem && html`<${Loading} />`}
    ${data && (data.entries.length
      ? html`<${Table} label="Audit" head=${["When", "Key", "Call", "What"]}>${data.entries.map((entry) => html`<${Entry} key=${entry.seq} entry=${entry} />`)}<//>`
      : html`<${Empty} icon="access" title="Nothing was changed yet" />`)}
  <//>`;
}

function Entry({ entry }) {
  const { at, key, call, before, after } = entry;
  return html`<tr>
    <td><${Time} ms=${at} /></td><td>${key ? html`<code>${key}</code>` : html`<span class="soft">–</span>`}</td><td>${call ? html`<code>${call}</code>` : "–"}</td>
    <td>${before === null && after === null ? "–" : html`<details><summary>${says(before, after, call)}</summary><div class="diff">
      <div><span class="label small">Before</span><pre>${written(before)}</pre></div><div><span class="label small">After</span><pre>${written(after)}</pre></div>
    </div></details>`}</td>
  </tr>`;
}

const written = (value) => (value === null ? "nothing" : JSON.stringify(value, null, 2));

/** Which members differ, in a few words. */
function says(before, after, call) {
  if (call?.startsWith("DELETE /users") && before) return `erased: ${format.plural(before.logs, "log")}, ${format.plural(before.events, "event")}, ${format.plural(before.caps, "cap")}`;
  if (before === null) return "made";
  if (after === null) return "removed";
  if (typeof before !== "object" || typeof after !== "object") return "changed";
  const names = [...new Set([...Object.keys(before), ...Object.keys(after)])];
  const differ = names.filter((name) => JSON.stringify(before[name]) !== JSON.stringify(after[name]));
  return differ.length ? differ.slice(0, 4).map((name) => `${name}: ${brief(before[name])} \u2192 ${brief(after[name])}`).join(", ") : "the same again";
}

const brief = (value) => {
  const text = value === undefined ? "–" : typeof value === "string" ? value : JSON.stringify(value);
  return text.length > 24 ? `${text.slice(0, 23)}\u2026` : text;
};
