// A freqcap and a browser for the journeys: the real binary on a free port, Debian's Chromium, and an eye on every error.
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

const { FREQCAP_BIN, FREQCAP_UI_TOOLS, FREQCAP_UI_OUT, CHROMIUM = "/usr/bin/chromium" } = process.env;
const tools = createRequire(join(FREQCAP_UI_TOOLS, "package.json"));
const { chromium } = tools("playwright-core");
const AXE = await readFile(tools.resolve("axe-core/axe.min.js"), "utf8");

/** How long a journey waits for what must come. CI machines are slow. */
export const DEADLINE = 60_000;

export function check(holds, what) {
  if (!holds) throw new Error(what);
}

/** A running freqcap. */
export class Service {
  static async start({ flags = [], keys = null, dir = null, port = 0 } = {}) {
    const service = new Service();
    service.dir = dir ?? (await mkdtemp(join(tmpdir(), "freqcap-ui-")));
    service.flags = flags;
    service.secrets = {};
    if (keys) await service.setKeys(keys);
    await service.run(port);
    return service;
  }

  /** `keys`: {id: [scopes]}. Each has a secret of its own, which stays when they are set anew. */
  async setKeys(keys) {
    const rows = Object.entries(keys).map(([id, scopes]) => {
      this.secrets[id] ??= `fc_${id}_${randomBytes(32).toString("base64url")}`;
      const sha256 = createHash("sha256").update(this.secrets[id]).digest("hex");
      return `[[key]]\nid = "${id}"\nsha256 = "${sha256}"\nscopes = ${JSON.stringify(scopes)}\n`;
    });
    await writeFile(join(this.dir, "keys.toml"), rows.join("\n"));
    this.hasKeys = true;
  }

  async run(port = 0) {
    const flags = ["serve", "--listen", `127.0.0.1:${port}`, "--data-dir", join(this.dir, "data"), ...this.flags];
    if (this.hasKeys) flags.push("--keys-file", join(this.dir, "keys.toml"));
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("FREQCAP_") && name !== "PORT"));
    this.child = spawn(FREQCAP_BIN, flags, { env, stdio: ["ignore", "ignore", "pipe"] });
    const said = [];
    const listens = new Promise((resolve, reject) => {
      createInterface({ input: this.child.stderr }).on("line", (line) => {
        said.push(line);
        const found = /listening on (\S+)/.exec(line);
        if (found) resolve(found[1]);
      });
      this.child.on("exit", (code) => reject(new Error(`freqcap ended with ${code}:\n${said.join("\n")}`)));
    });
    listens.catch(() => {});
    this.url = await within(listens, "freqcap listens");
    this.port = Number(new URL(this.url).port);
  }

  async call(method, path, body, { key, headers = {} } = {}) {
    const secret = this.secrets[key ?? "admin"];
    const isText = typeof body === "string";
    const answer = await fetch(`${this.url}${path}`, {
      method,
      headers: { ...(secret && { authorization: `Bearer ${secret}` }), ...(body !== undefined && { "content-type": isText ? "application/x-ndjson" : "application/json" }), ...headers },
      body: body === undefined ? undefined : isText ? body : JSON.stringify(body),
    });
    const text = await answer.text();
    check(answer.ok, `${method} ${path}: ${answer.status} ${text.slice(0, 300)}`);
    return text && answer.headers.get("content-type")?.includes("json") ? JSON.parse(text) : text;
  }

  async count(events) {
    for (let at = 0; at < events.length; at += 10_000) {
      await this.call("POST", "/events", events.slice(at, at + 10_000).map((event) => JSON.stringify(event)).join("\n"));
    }
  }

  async offers(operation) {
    this.document ??= await this.call("GET", "/openapi.json");
    const [method, path] = operation.split(" ");
    return Boolean(this.document.paths[path]?.[method.toLowerCase()]);
  }

  async stop(signal = "SIGTERM") {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const gone = once(this.child, "exit");
    this.child.kill(signal);
    await within(gone, "freqcap ends");
  }

  async remove() {
    await this.stop("SIGKILL");
    await rm(this.dir, { recursive: true, force: true });
  }
}

export function within(promise, what, ms = DEADLINE) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`waited ${ms / 1000} s until ${what}`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

/** Waits until `holds` gives something. */
export async function until(what, holds) {
  const start = Date.now();
  for (;;) {
    const found = await holds();
    if (found) return found;
    check(Date.now() - start < DEADLINE, `waited ${DEADLINE / 1000} s until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

/** Opens the browser. As root Chromium runs without its sandbox only. */
export async function openBrowser() {
  const args = ["--disable-dev-shm-usage", ...(process.getuid() === 0 ? ["--no-sandbox"] : [])];
  return chromium.launch({ executablePath: CHROMIUM, args });
}

/**
 * A page in a fresh session. What its console says of errors, what its policy refuses and what it asks of other servers is
 * in `faults`. `expected`: [pattern of a URL, status or "lost"] of answers that the journey provokes.
 */
export async function openPage(browser, service, { scheme = "light", width = 1280, height = 860, expected = [], key = null } = {}) {
  const context = await browser.newContext({ colorScheme: scheme, viewport: { width, height }, locale: "en-GB", timezoneId: "Asia/Seoul", reducedMotion: "reduce" });
  const page = await context.newPage();
  page.setDefaultTimeout(DEADLINE);
  page.faults = [];
  page.expected = expected;
  const isExpected = (text, url) => page.expected.some(([pattern, status]) => pattern.test(url) && (status === "lost" ? /net::ERR/ : new RegExp(`status of ${status}`)).test(text));
  page.on("console", (message) => {
    const { url } = message.location();
    const text = message.text();
    if (message.type() === "error" && !(text.startsWith("Failed to load resource") && isExpected(text, url))) page.faults.push(`console: ${text} (${url})`);
    if (message.type() === "warning") page.faults.push(`console warns: ${text}`);
  });
  page.on("pageerror", (error) => page.faults.push(`error: ${error.stack}`));
  page.on("request", (request) => {
    const { protocol, origin } = new URL(request.url());
    if (protocol !== "data:" && origin !== new URL(service.url).origin) page.faults.push(`asks another server: ${request.url()}`);
  });
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`));
    window.alert = () => console.error("a name ran as a script");
  });
  if (key) await page.addInitScript(([secret]) => sessionStorage.setItem("freqcap.key", secret), [service.secrets[key]]);
  return page;
}

export const open = (page, service, hash = "") => page.goto(`${service.url}/ui/${hash}`);

/** No serious fault by axe's rules, no fault of the page, nothing wider than the screen; and a picture. */
export async function examine(page, name) {
  await page.evaluate(AXE);
  const { violations } = await page.evaluate(() => window.axe.run(document, { resultTypes: ["violations"] }));
  const serious = violations.filter(({ impact }) => impact === "serious" || impact === "critical");
  const told = serious.map(({ id, help, nodes }) => `${id}: ${help}\n${nodes.slice(0, 4).map((node) => `      ${node.html.slice(0, 160)}\n      ${(node.any[0] ?? node.all[0] ?? node.none[0])?.message ?? ""}`).join("\n")}`);
  await picture(page, name);
  check(serious.length === 0, `${name}: axe finds\n    ${told.join("\n    ")}`);
  const { wide, view } = await page.evaluate(() => ({ wide: document.documentElement.scrollWidth, view: innerWidth }));
  check(wide <= view, `${name}: ${wide} px wide on a screen of ${view} px`);
  unfaulted(page, name);
}

export function unfaulted(page, name) {
  check(page.faults.length === 0, `${name}:\n    ${page.faults.join("\n    ")}`);
}

export async function picture(page, name) {
  await mkdir(FREQCAP_UI_OUT, { recursive: true });
  await page.screenshot({ path: join(FREQCAP_UI_OUT, `${name}.png`), fullPage: true });
}
