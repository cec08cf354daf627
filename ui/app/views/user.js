// User: what is held of one user, why the user is capped, erasure.
import { html, useEffect, useMemo, useRef, useState } from "../dom.js";
import { call, get, path, withQuery } from "../api.js";
import * as format from "../format.js";
import { useLoad } from "../load.js";
import { go, link, route } from "../route.js";
import { may } from "../session.js";
import { Card, Empty, Field, Loading, NoRight, ProblemBox, Table, Time } from "../parts/basics.js";
import { Dialog } from "../parts/dialog.js";
import { Head } from "../parts/head.js";
import { Icon } from "../parts/icons.js";
import { Timeline } from "../parts/timeline.js";
import { Why } from "./why.js";

/** Keys of a page. A user may have hundreds of thousands. */
const PAGE = 50;

export function User({ headingRef }) {
  const [user] = route.value.rest;
  const isAllowed = may("users:read") || may("decide");
  return html`<${Head} title="User" headingRef=${headingRef}>What is held of a user, until when each event counts, and why an ad is capped.<//>
    ${isAllowed
      ? html`<${LookUp} user=${user ?? ""} key=${user} />${user ? html`<${Found} user=${user} key=${`found-${user}`} />` : html`<${Nobody} />`}`
      : html`<div class="card"><${NoRight} scope="users:read" what="users" /></div>`}`;
}

function LookUp({ user }) {
  const [text, setText] = useState(user);
  const submit = (event) => {
    event.preventDefault();
    if (text) go(link("user", text));
  };
  return html`<form class="card lookup form" role="search" onSubmit=${submit}>
    <${Field} label="User id" className="wide" hint="Exactly as events have it. The service does not list users; press / to come here.">
      ${(id, hint) => html`<input id=${id} data-search value=${text} onInput=${(event) => setText(event.target.value)} autocomplete="off" autocapitalize="off" spellcheck=${false} maxlength="256" aria-describedby=${hint} required />`}
    <//>
    <div class="field go"><button type="submit" class="button primary"><${Icon} name="search" />Look up</button></div>
  </form>`;
}

const Nobody = () => html`<div class="card"><${Empty} icon="user" title="No user yet">Enter the id of a user to see the history that caps are made of.<//></div>`;

function Found({ user }) {
  const [asked, setAsked] = useState(null);
  const [isErasing, setErasing] = useState(false);
  const [receipt, setReceipt] = useState(null);
  const [turn, setTurn] = useState(0);
  const mayRead = may("users:read");
  const mayDecide = may("decide");
  const caps = useLoad((signal) => get(path`/users/${user}/caps`, { signal }), [user, turn], { isOn: mayDecide });
  const erased = (told) => {
    setErasing(false);
    setReceipt(told);
    setTurn((turn) => turn + 1);
  };
  return html`<div class="stack">
    ${receipt && html`<div class="note-box good" role="status"><strong>Erased.</strong> ${format.plural(receipt.logs, "log")} with ${format.plural(receipt.events, "event")}, ${format.plural(receipt.reservations, "reservation")} and ${format.plural(receipt.caps, "cap")} are gone; events up to <${Time} ms=${receipt.erased_until} /> are refused from now on.</div>`}
    <section class="card who-card" aria-label="The user">
      <div><h2>${user}</h2><p class="soft">${caps.data ? (caps.data.caps.length ? html`Capped now on ${format.plural(caps.data.caps.length, "key")}` : "Not capped on any key") : ""}</p></div>
      <div class="row">
        ${mayDecide && html`<button type="button" class="button" onClick=${() => setAsked({})}>Ask about an ad</button>`}
        ${may("users:erase") && html`<button type="button" class="button danger" onClick=${() => setErasing(true)}>Erase…</button>`}
      </div>
    </section>
    ${caps.problem && html`<${ProblemBox} problem=${caps.problem} onRetry=${caps.reload} title="The caps could not be loaded" />`}
    ${mayRead
      ? html`<${History} user=${user} caps=${caps.data?.caps ?? []} onAsk=${mayDecide ? setAsked : null} turn=${turn} />`
      : html`<${Caps} caps=${caps} />`}
    ${asked && html`<${Why} user=${user} about=${asked} onClose=${() => setAsked(null)} />`}
    ${isErasing && html`<${Erase} user=${user} onClose=${() => setErasing(false)} onErased=${erased} />`}
  </div>`;
}

/** Without the right to the history: only what is capped. */
function Caps({ caps: { data, isLoading } }) {
  if (isLoading && !data) return html`<div class="card"><${Loading} /></div>`;
  return html`<${Card} title="Capped now" note="The history is not shown: that needs the scope users:read">
    ${data?.caps.length
      ? html`<${Table} label="Keys capped now" head=${["Key", "Rule", "Until", ""]}>${data.caps.slice(0, 500).map((cap) => html`<tr key=${cap.key}>
          <th scope="row"><code>${cap.key}</code></th><td>${cap.rule}</td><td><${Time} ms=${cap.capped_until} /></td><td class="soft"><${Time} ms=${cap.capped_until} relative /></td>
        </tr>`)}<//>`
      : html`<${Empty} icon="check" title="Nothing is capped">Every ad may be shown to this user.<//>`}
  <//>`;
}

function History({ user, caps, onAsk, turn }) {
  // The cursors of the pages up to this one.
  const [cursors, setCursors] = useState([null]);
  const cursor = cursors.at(-1);
  const top = useRef(null);
  const place = cursors.length - 1;
  const page = useLoad((signal) => get(withQuery(path`/users/${user}`, { limit: PAGE, cursor }), { signal }).then((data) => ({ ...data, place })), [user, cursor, turn], { isPaged: true });
  const capped = useMemo(() => new Map(caps.map((cap) => [cap.key, cap])), [caps]);
  useEffect(() => setCursors([null]), [turn]);
  const move = (next) => {
    setCursors(next);
    top.current?.scrollIntoView({ block: "start" });
  };
  const { data } = page;
  if (page.problem) return html`<${ProblemBox} problem=${page.problem} onRetry=${page.reload} title="The history could not be loaded" />`;
  if (!data) return html`<div class="card"><${Loading} what="Loading the history" /></div>`;
  if (!data.logs.length && data.place === 0) {
    return html`<div class="card"><${Empty} icon="user" title="Nothing is held of this user">
      No event of this id was counted within the retention, or the user was erased. Ids are compared letter by letter.<//></div>`;
  }
  const from = data.place * PAGE;
  const isPaged = data.place > 0 || data.cursor;
  const pager = isPaged && html`<div class="pager">
    <span>Keys ${format.count(from + 1)} to ${format.count(from + data.logs.length)}${data.cursor ? ", and more" : ", the last"}</span>
    <span class="row">
      <button type="button" class="button small" disabled=${data.place === 0} onClick=${() => move([null])}>First</button>
      <button type="button" class="button small" disabled=${data.place === 0 || page.isLoading} onClick=${() => move(cursors.slice(0, -1))}>Previous</button>
      <button type="button" class="button small" disabled=${!data.cursor || page.isLoading} onClick=${() => move([...cursors, data.cursor])}>Next</button>
    </span>
  </div>`;
  return html`<div ref=${top} aria-busy=${page.isLoading}>
    <${Card} title="History" footer=${pager} note="A bar is an event: it begins when the event happened, and ends when it leaves the last window that counts it"
      actions=${html`<ul class="legend"><li><i class="c-bar" />counts</li><li><i class="c-over" />on a capped key</li><li><i class="c-3" />reserved</li><li><i class="c-gone" />counts for no rule</li></ul>`}>
      <${Timeline} logs=${data.logs} capped=${capped} onAsk=${onAsk} />
    <//>
    ${data.calls.length > 0 && html`<${Calls} calls=${data.calls} />`}
  </div>`;
}

const Calls = ({ calls }) => html`<${Card} title="Calls of /reserve" note="Whose answers are kept for repetitions" className="after">
  <${Table} label="Calls of /reserve" head=${["Id", "Kind", "Ads", "Kept until"]}>${calls.map((one) => html`<tr key=${one.id}>
    <th scope="row"><code>${one.id}</code></th><td>${one.kind}</td><td>${one.das.join(", ")}</td><td><${Time} ms=${one.kept_until} /></td>
  </tr>`)}<//>
<//>`;

function Erase({ user, onClose, onErased }) {
  const [typed, setTyped] = useState("");
  const [problem, setProblem] = useState(null);
  const [isBusy, setBusy] = useState(false);
  const submit = async (event) => {
    event.preventDefault();
    setBusy(true);
    setProblem(null);
    try {
      onErased((await call("DELETE", path`/users/${user}`, { timeout: 120_000 })).body);
    } catch (error) {
      setProblem(error);
      setBusy(false);
    }
  };
  return html`<${Dialog} title="Erase this user?" onClose=${onClose}>
    <p>Everything that is held of <code>${user}</code> is removed, from Redis too. Caps end at once, events from before are refused for at least 35 days, and nothing brings the history back.</p>
    <form class="stack" onSubmit=${submit}>
      <${Field} label="Type the user's id to confirm">
        ${(id) => html`<input id=${id} value=${typed} onInput=${(event) => setTyped(event.target.value)} autocomplete="off" autocapitalize="off" spellcheck=${false} autofocus />`}
      <//>
      ${problem && html`<${ProblemBox} problem=${problem} title="Nothing is known to be erased" />`}
      <footer>
        <button type="button" class="button" onClick=${onClose}>Keep</button>
        <button type="submit" class="button danger primary" disabled=${typed !== user || isBusy}>${isBusy ? "Erasing…" : "Erase"}</button>
      </footer>
    </form>
  <//>`;
}
