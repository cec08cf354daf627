// The frame: who is there, which view, whether the service answers.
import { Fragment, html, render, useEffect, useRef, useState } from "./dom.js";
import { lostSince, get } from "./api.js";
import { watch } from "./figures.js";
import { route } from "./route.js";
import { isKeyless, logIn, logOut, may, open, session } from "./session.js";
import { choice, choose } from "./theme.js";
import * as format from "./format.js";
import { Field, Loading, ProblemBox, now } from "./parts/basics.js";
import { Icon } from "./parts/icons.js";
import { Access } from "./views/access.js";
import { Now } from "./views/now.js";
import { Over } from "./views/over.js";
import { Reach } from "./views/reach.js";
import { Rules } from "./views/rules.js";
import { User } from "./views/user.js";

/** name, title, scopes of which one is enough to see something, view. */
const VIEWS = [
  ["now", "Now", ["metrics"], Now],
  ["user", "User", ["users:read", "decide"], User],
  ["rules", "Rules", ["rules:read"], Rules],
  ["reach", "Reach", ["reports"], Reach],
  ["over", "Over-delivery", ["reports"], Over],
  ["access", "Access", [], Access],
];

function Brand() {
  return html`<div class="brand"><img src="./icon.svg" alt="" />freqcap</div>`;
}

function Theme() {
  const choices = [["system", "system", "As the system has it"], ["light", "sun", "Light"], ["dark", "moon", "Dark"]];
  return html`<div class="theme" role="group" aria-label="Colours">
    ${choices.map(([value, icon, text]) => html`<button type="button" aria-pressed=${choice.value === value} aria-label=${text} title=${text} onClick=${() => choose(value)}><${Icon} name=${icon} size=${15} /></button>`)}
  </div>`;
}

function Gate({ why }) {
  const [text, setText] = useState("");
  const submit = (event) => {
    event.preventDefault();
    if (text.trim()) logIn(text);
  };
  return html`<main class="gate"><div><div class="card">
    <${Brand} />
    <h1>A key, please</h1>
    <p class="soft">This service asks for a key. What you see follows from its scopes. It stays in this tab and is gone when you close it.</p>
    ${why && html`<div class="problem" role="alert"><p>${why}</p></div>`}
    <form onSubmit=${submit}>
      <${Field} label="Secret of the key" hint="It begins with fc_ and was shown once, by freqcap key new.">
        ${(id, hint) => html`<input id=${id} type="password" autocomplete="off" spellcheck=${false} required autofocus aria-describedby=${hint} value=${text} onInput=${(event) => setText(event.target.value)} />`}
      <//>
      <button class="button primary" type="submit">Open</button>
    </form>
  </div><${Theme} /></div></main>`;
}

function Failed({ problem }) {
  return html`<main class="gate"><div><div class="card"><${Brand} /><h1>The page cannot be shown</h1><div class="stack">
    <p />
    <${ProblemBox} problem=${problem} title="The service does not say who you are" level=${2} onRetry=${open} />
  </div></div><${Theme} /></div></main>`;
}

/** Says that the service does not answer, and asks until it does. */
function Lost() {
  const since = lostSince.value;
  useEffect(() => {
    if (since === null) return undefined;
    const timer = setInterval(() => get("/healthz", { timeout: 2500 }).catch(() => {}), 3000);
    return () => clearInterval(timer);
  }, [since]);
  if (since === null) return null;
  return html`<div class="banner" role="alert">
    <strong>Connection lost</strong>
    <span>The service has not answered since ${format.time(since)} (${format.span(now.value - since)}). What is shown is from before; the page goes on by itself.</span>
  </div>`;
}

function Side({ current }) {
  const { key, scopes } = session.value;
  const nav = useRef(null);
  // On a narrow screen the views stand in a row that may be wider.
  useEffect(() => nav.current.querySelector("[aria-current]").scrollIntoView({ block: "nearest", inline: "nearest" }), [current]);
  return html`<div class="side">
    <${Brand} />
    <nav ref=${nav} class="nav" aria-label="Views"><ul>
      ${VIEWS.map(([name, title, scopes]) => html`<li><a href=${`#/${name}`} aria-current=${name === current ? "page" : undefined}>
        <${Icon} name=${name} />${title}${scopes.length > 0 && !scopes.some(may) && html`<${Fragment}><${Icon} name="lock" size=${14} className="lock" /><span class="visually-hidden"> (needs the scope ${scopes[0]})</span><//>`}
      </a></li>`)}
    </ul></nav>
    <div class="side-end">
      ${isKeyless.value
        ? html`<p class="who"><strong>No keys</strong> <span class="who-more">Whoever reaches this port may do everything.</span></p>`
        : html`<p class="who"><strong>${key}</strong> <span class="who-more">${scopes.join(", ")}</span></p>
          <button type="button" class="button small" onClick=${logOut}>Forget key</button>`}
      <${Theme} />
    </div>
  </div>`;
}

function Shell() {
  const heading = useRef(null);
  const { view } = route.value;
  const found = VIEWS.find(([name]) => name === view) ?? VIEWS[0];
  const [name, title, , View] = found;
  const first = useRef(true);
  useEffect(() => {
    document.title = `${title} · freqcap`;
    if (!first.current) heading.current?.focus();
    first.current = false;
  }, [name]);
  return html`<div class="shell">
    <a class="skip" href="#content" onClick=${(event) => { event.preventDefault(); heading.current.focus(); }}>Skip to content</a>
    <${Side} current=${name} />
    <main class="main" id="content">
      <${Lost} />
      <${View} key=${name} headingRef=${heading} />
    </main>
  </div>`;
}

function Page() {
  const { state, why, problem } = session.value;
  if (state === "locked") return html`<${Gate} why=${why} />`;
  if (state === "failed") return html`<${Failed} problem=${problem} />`;
  if (state === "checking") return html`<main class="gate"><h1 class="visually-hidden">freqcap</h1><div class="card"><${Loading} what="Asking who you are" /></div></main>`;
  return html`<${Shell} />`;
}

addEventListener("keydown", (event) => {
  const isTyping = event.target.closest?.("input, select, textarea, dialog");
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  const field = document.querySelector("[data-search]");
  if (!field) return;
  event.preventDefault();
  field.focus();
  field.select();
});

render(html`<${Page} />`, document.getElementById("app"));
open();
watch();
