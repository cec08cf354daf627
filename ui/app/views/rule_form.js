// A rule: made, tried on the history that is held, saved, removed.
import { html, useEffect, useMemo, useRef, useState } from "../dom.js";
import { call, callUntilDone, path } from "../api.js";
import * as format from "../format.js";
import { may, mayCall, offers } from "../session.js";
import { Field, Loading, ProblemBox, Progress } from "../parts/basics.js";
import { Dialog } from "../parts/dialog.js";
import { Tried } from "./tried.js";

const TRY = "POST /rules/try";
const ZONE = Intl.DateTimeFormat().resolvedOptions().timeZone;

/** The texts of the form. */
function textsOf(rule) {
  const { window = "24h" } = rule;
  const shape = typeof window === "object" ? window.calendar : window === "lifetime" ? "lifetime" : "rolling";
  return {
    id: rule.id ?? "", key: rule.key ?? "", kind: rule.kind ?? "impression", mode: rule.mode ?? "enforce",
    isExempt: rule.limit === null, limit: String(rule.limit ?? 3), shape,
    rolling: shape === "rolling" ? window : "24h", zone: window?.tz ?? ZONE ?? "UTC", per: rule.per,
  };
}

/** The body that these texts mean. What is wrong with it the service says. */
function bodyOf({ key, kind, mode, isExempt, limit, shape, rolling, zone, per }) {
  const window = { rolling, lifetime: "lifetime" }[shape] ?? { calendar: shape, tz: zone };
  return { key: key.trim(), kind: kind.trim(), mode: isExempt ? "enforce" : mode, limit: isExempt ? null : Number(limit), window, ...(per && { per }) };
}

/** The rule as it is now, with its version. */
function useCurrent(rule) {
  const [state, setState] = useState({ isLoading: Boolean(rule.id), rule });
  const load = () => {
    setState((before) => ({ ...before, isLoading: true, problem: null }));
    return call("GET", path`/rules/${rule.id}`).then(
      ({ body, etag }) => setState({ rule: body, etag, isLoading: false, loads: Date.now() }),
      (problem) => setState((before) => ({ ...before, problem, isLoading: false })),
    );
  };
  useEffect(() => {
    if (rule.id) load();
  }, []);
  return { ...state, load };
}

export function RuleForm({ rule, onClose, onDone }) {
  const current = useCurrent(rule);
  const isNew = !rule.id;
  const note = isNew ? "It is in force for every read as soon as it is saved" : null;
  return html`<${Dialog} title=${isNew ? "Add a rule" : html`Rule <code>${rule.id}</code>`} note=${note} onClose=${onClose} isWide>
    ${current.problem && html`<${ProblemBox} problem=${current.problem} onRetry=${current.load} title="The rule could not be loaded" />`}
    ${current.isLoading ? html`<${Loading} />` : !current.problem && html`<${Form} key=${current.loads} current=${current} isNew=${isNew} onClose=${onClose} onDone=${onDone} />`}
  <//>`;
}

function Form({ current, isNew, onClose, onDone }) {
  const [texts, setTexts] = useState(() => textsOf(current.rule));
  const [tried, setTried] = useState({});
  const [problem, setProblem] = useState(null);
  const [busy, setBusy] = useState(null);
  const [isRemoving, setRemoving] = useState(false);
  const form = useRef(null);
  const cancel = useRef(new AbortController());
  useEffect(() => () => cancel.current.abort(), []);
  const set = (change) => {
    setTexts({ ...texts, ...change });
    setProblem(null);
  };
  const body = useMemo(() => bodyOf(texts), [texts]);
  const written = JSON.stringify(body);
  const isKept = !isNew && current.rule.source && current.rule.source !== "api";
  const mayWrite = may("rules:write") && !isKept;
  const mayTry = offers(TRY) && mayCall(TRY, "rules:read");
  const isTried = tried.of === written && tried.result;

  const attempt = async (what, run) => {
    if (!form.current.reportValidity()) return;
    setBusy(what);
    setProblem(null);
    try {
      await run();
    } catch (error) {
      if (!cancel.current.signal.aborted) setProblem(error);
    }
    if (!cancel.current.signal.aborted) setBusy(null);
  };
  const tryOut = () => attempt("try", async () => {
    setTried({});
    const onProgress = (progress) => setTried({ progress });
    const rule = { ...(texts.id && { id: texts.id }), ...body };
    const result = await callUntilDone("POST", "/rules/try", { body: rule, onProgress, signal: cancel.current.signal, timeout: 60_000 });
    setTried({ of: written, result });
  });
  const save = () => attempt("save", async () => {
    const headers = isNew ? { "if-none-match": "*" } : current.etag ? { "if-match": current.etag } : {};
    await call("PUT", path`/rules/${texts.id}`, { body, headers });
    onDone(html`<strong>Saved.</strong> <code>${texts.id}</code> is in force: ${format.ruleText(body)} on <code>${body.key}</code>${body.mode === "shadow" ? ", as a shadow" : ""}.`);
  });
  const remove = () => attempt("remove", async () => {
    await call("DELETE", path`/rules/${texts.id}`, { headers: current.etag ? { "if-match": current.etag } : {} });
    onDone(html`<strong>Removed.</strong> <code>${texts.id}</code> is out of force.`);
  });

  return html`<form ref=${form} class="stack" onSubmit=${(event) => { event.preventDefault(); if (mayTry && !isTried) tryOut(); else if (mayWrite) save(); }}>
    ${isKept && html`<p class="note-box">This rule is kept ${current.rule.source === "flags" ? "by the flags (--limit and --window)" : "by the settings file"}, and is changed there alone. You can still try a change of it.</p>`}
    <${Fields} texts=${texts} set=${set} isNew=${isNew} isFixed=${!mayWrite && !mayTry} />
    <${Outcome} tried=${tried} isCurrent=${isTried} body=${body} isTrying=${busy === "try"} mayTry=${mayTry} mayWrite=${mayWrite} />
    ${problem && html`<${ProblemBox} problem=${problem} title=${problem.status === 412 ? (isNew ? "There is such a rule already" : "Somebody has changed this rule meanwhile") : "Nothing was changed"} />`}
    ${problem?.status === 412 && !isNew && html`<div class="row end"><button type="button" class="button small" onClick=${current.load}>Load it as it is now</button></div>`}
    <footer>
      ${isRemoving
        ? html`<span class="row"><span>Remove <code>${texts.id}</code>? What it caps is then open.</span>
            <button type="button" class="button" onClick=${() => setRemoving(false)}>Keep</button>
            <button type="button" class="button danger primary" disabled=${busy} onClick=${remove}>Remove</button></span>`
        : html`${!isNew && mayWrite && html`<button type="button" class="button danger push-left" onClick=${() => setRemoving(true)}>Remove…</button>`}
            <button type="button" class="button" onClick=${onClose}>Close</button>
            ${mayWrite && mayTry && !isTried && html`<button type="button" class="button" disabled=${busy} onClick=${save}>Save untried</button>`}
            ${mayTry && html`<button type="button" class=${`button ${isTried ? "" : "primary"}`} disabled=${busy} onClick=${tryOut}>${busy === "try" ? "Trying…" : isTried ? "Try again" : "Try"}</button>`}
            ${mayWrite && (isTried || !mayTry) && html`<button type="button" class="button primary" disabled=${busy} onClick=${save}>${busy === "save" ? "Saving…" : "Save"}</button>`}`}
    </footer>
  </form>`;
}

function Fields({ texts, set, isNew, isFixed }) {
  const on = (name) => (event) => set({ [name]: event.target.value });
  return html`<div class="form">
    <${Field} label="Name" hint=${isNew ? "Letters, digits, . _ -" : undefined}>${(id, hint) => html`<input id=${id} value=${texts.id} onInput=${on("id")} required pattern="[A-Za-z0-9._\\-]{1,64}" disabled=${!isNew} aria-describedby=${hint} autocomplete="off" spellcheck=${false} />`}<//>
    <${Field} label="Key" className="wide" hint="campaign:42, or campaign:* for every campaign without a rule of its own">${(id, hint) => html`<input id=${id} value=${texts.key} onInput=${on("key")} required placeholder="campaign:42" disabled=${isFixed} aria-describedby=${hint} autocomplete="off" spellcheck=${false} />`}<//>
    <${Field} label="Kind">${(id) => html`<input id=${id} value=${texts.kind} onInput=${on("kind")} required list="kinds" disabled=${isFixed} autocomplete="off" spellcheck=${false} />`}<//>
    <datalist id="kinds"><option value="impression" /><option value="click" /><option value="conversion" /></datalist>
  </div>
  <div class="form">
    <${Field} label="At most">${(id) => html`<input id=${id} type="number" min="1" step="1" value=${texts.isExempt ? "" : texts.limit} onInput=${on("limit")} required=${!texts.isExempt} disabled=${texts.isExempt || isFixed} />`}<//>
    <${Field} label="Within">${(id) => html`<select id=${id} value=${texts.shape} onChange=${on("shape")} disabled=${isFixed}>
      ${[["rolling", "a rolling window"], ["day", "a calendar day"], ["week", "a calendar week"], ["month", "a calendar month"], ["lifetime", "the user\u2019s lifetime"]].map(([value, text]) => html`<option value=${value} selected=${value === texts.shape}>${text}</option>`)}
    </select>`}<//>
    ${texts.shape === "rolling" && html`<${Field} label="Of" hint="Such as 90s, 24h, 5d">${(id, hint) => html`<input id=${id} value=${texts.rolling} onInput=${on("rolling")} required pattern="[1-9][0-9]*(ms|s|m|h|d)" disabled=${isFixed} aria-describedby=${hint} autocomplete="off" />`}<//>`}
    ${["day", "week", "month"].includes(texts.shape) && html`<${Field} label="In the time zone">${(id) => html`<input id=${id} value=${texts.zone} onInput=${on("zone")} required disabled=${isFixed} autocomplete="off" spellcheck=${false} />`}<//>`}
    <${Field} label="Mode">${(id) => html`<select id=${id} onChange=${on("mode")} disabled=${texts.isExempt || isFixed}>
      <option value="enforce" selected=${texts.mode === "enforce"}>enforce</option><option value="shadow" selected=${texts.mode === "shadow"}>shadow: judged, never caps</option>
    </select>`}<//>
  </div>
  <label class="choice"><input type="checkbox" checked=${texts.isExempt} onChange=${(event) => set({ isExempt: event.target.checked })} disabled=${isFixed} />No limit: exempts the key from every other rule of this kind</label>`;
}

function Outcome({ tried, isCurrent, body, isTrying, mayTry, mayWrite }) {
  if (!mayTry) {
    if (!mayWrite) return null;
    return html`<p class="note-box">${offers(TRY) ? html`This key may not try rules.` : "This service cannot try rules. A shadow rule shows what a limit would do, without capping."}</p>`;
  }
  if (isTrying) return html`<div class="tried" aria-live="polite"><${Progress} progress=${tried.progress?.shards ?? tried.progress} what="Trying it on the history that is held" /></div>`;
  if (!tried.result) return html`<p class="note-box">Try it first: it is judged on the history that is held, and nothing is stored.</p>`;
  return html`<div aria-live="polite"><${Tried} result=${tried.result} limit=${body.limit} isCurrent=${Boolean(isCurrent)} /></div>`;
}
