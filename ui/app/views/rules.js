// Rules: what caps, with the shadow rules beside those that they are compared with.
import { html, useEffect, useMemo, useState } from "../dom.js";
import { get } from "../api.js";
import * as format from "../format.js";
import { useLoad } from "../load.js";
import { may } from "../session.js";
import { samples, sum } from "../figures.js";
import { Badge, Card, Empty, Field, Loading, NoRight, ProblemBox } from "../parts/basics.js";
import { Head } from "../parts/head.js";
import { Icon } from "../parts/icons.js";
import { RuleForm } from "./rule_form.js";

const SHOWN = 100;

export function Rules({ headingRef }) {
  const [open, setOpen] = useState(null);
  const [told, setTold] = useState(null);
  const rules = useLoad((signal) => get("/rules", { signal }).then((answer) => answer.rules), [], { isOn: may("rules:read") });
  const done = (text) => {
    setOpen(null);
    setTold(text);
    rules.reload();
  };
  const isSpreading = rules.data?.some(({ mirror }) => mirror && mirror.done < mirror.total);
  useEffect(() => {
    if (!isSpreading) return undefined;
    const timer = setTimeout(rules.reload, 1000);
    return () => clearTimeout(timer);
  }, [rules.data]);
  const add = may("rules:write") && html`<button type="button" class="button primary" onClick=${() => setOpen({})}><${Icon} name="plus" />Add a rule</button>`;
  return html`<${Head} title="Rules" headingRef=${headingRef} actions=${may("rules:read") && add}>What caps. A change is in force for every read at once; a shadow rule is judged and never caps.<//>
    ${!may("rules:read") ? html`<div class="card"><${NoRight} scope="rules:read" what="rules" /></div>` : html`<div class="stack">
      ${told && html`<div class="note-box good" role="status">${told}</div>`}
      ${rules.problem && html`<${ProblemBox} problem=${rules.problem} onRetry=${rules.reload} title="The rules could not be loaded" />`}
      ${!rules.data && rules.isLoading && html`<div class="card"><${Loading} /></div>`}
      ${rules.data && html`<${List} rules=${rules.data} onOpen=${setOpen} add=${add} />`}
    </div>`}
    ${open && html`<${RuleForm} rule=${open} onClose=${() => setOpen(null)} onDone=${done} />`}`;
}

/** Rules on the same key and kind, together. */
function grouped(rules) {
  const groups = new Map();
  for (const rule of rules) {
    const id = `${rule.key} ${rule.kind} ${rule.per ?? ""}`;
    if (!groups.has(id)) groups.set(id, { id, key: rule.key, kind: rule.kind, per: rule.per, enforce: [], shadow: [] });
    groups.get(id)[rule.mode].push(rule);
  }
  return [...groups.values()].sort((one, other) => one.id.localeCompare(other.id, "en", { numeric: true }));
}

function List({ rules, onOpen, add }) {
  const [text, setText] = useState("");
  const [shown, setShown] = useState(SHOWN);
  const groups = useMemo(() => {
    const wanted = text.trim().toLowerCase();
    return grouped(rules.filter(({ id, key }) => !wanted || id.toLowerCase().includes(wanted) || key.toLowerCase().includes(wanted)));
  }, [rules, text]);
  if (!rules.length) return html`<div class="card"><${Empty} icon="rules" title="No rules yet" actions=${add}>Without rules nothing is capped; events are counted all the same.<//></div>`;
  const more = groups.length > shown && html`<div class="pager"><span>${format.count(shown)} of ${format.count(groups.length)} keys</span><button type="button" class="button small" onClick=${() => setShown(shown + SHOWN)}>Show more</button></div>`;
  return html`${rules.length > 8 && html`<div class="form"><${Field} label="Find" className="wide">
      ${(id) => html`<input id=${id} data-search type="search" value=${text} placeholder="Rule or key" onInput=${(event) => setText(event.target.value)} autocomplete="off" spellcheck=${false} />`}
    <//></div>`}
    <${Card} footer=${more}>
      <div class="rule-group rule-heads" aria-hidden="true"><span class="rule-head">Key</span><span class="rule-head">Enforced</span><span class="rule-head">Shadow</span></div>
      ${groups.length === 0 && html`<${Empty} icon="search" title="No rule or key has this in its name" />`}
      ${groups.slice(0, shown).map((group) => html`<section class="rule-group" key=${group.id} aria-label=${`Rules on ${group.key}`}>
        <div class="rule-key"><code>${group.key}</code>${group.kind !== "impression" && html`<div class="small soft">${group.kind}</div>`}${group.per && group.per !== "user" && html`<div class="small soft">per ${group.per}</div>`}${group.key.endsWith(":*") && html`<div class="small soft">every key of the level without a rule of its own</div>`}</div>
        <${Column} rules=${group.enforce} none="not capped by a rule of its own" onOpen=${onOpen} />
        <${Column} rules=${group.shadow} none="no shadow rule" onOpen=${onOpen} />
      </section>`)}
    <//>`;
}

const Column = ({ rules, none, onOpen }) => html`<div class="rule-col">
  ${rules.length ? rules.map((rule) => html`<${Rule} key=${rule.id} rule=${rule} onOpen=${onOpen} />`) : html`<p class="none">${none}</p>`}
</div>`;

const SOURCES = { flags: "by the flags", file: "by the settings file" };

function Rule({ rule, onOpen }) {
  const { mirror, mode } = rule;
  const newest = samples.value.at(-1);
  const would = mode === "shadow" && newest ? sum(newest.metrics, "freqcap_would_cap_total", { rule: rule.id }) : null;
  const isSpreading = mirror && mirror.done < mirror.total;
  return html`<button type="button" class=${`rule ${mode}`} onClick=${() => onOpen(rule)}>
    <span class="row apart"><span class="says">${format.ruleText(rule)}</span>${mode === "shadow" && html`<${Badge}>shadow<//>`}${isSpreading && html`<${Badge} tone="fair">${mirror.done} of ${mirror.total} shards<//>`}</span>
    <small>${rule.id}${SOURCES[rule.source] ? ` · ${SOURCES[rule.source]}` : ""}${would !== null ? ` · would have capped ${format.short(would)} verdicts` : ""}${rule.complete_from ? ` · whole from ${format.time(rule.complete_from)}` : ""}</small>
  </button>`;
}
