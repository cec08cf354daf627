// Calls of the public API. The page knows the service by nothing else.
import { signal } from "@preact/signals";

/** The service's root: the page is in `ui/` below it, whatever a proxy puts before that. */
const ROOT = new URL("../", document.baseURI);
const KEY = "freqcap.key";
const TIMEOUT_MS = 30_000;

/** The secret of the key, for as long as this tab is open and no longer. */
export const secret = signal(sessionStorage.getItem(KEY) ?? "");

/** Since when the service has not answered, in ms; null while it does. */
export const lostSince = signal(null);

/** Counts the answers 401 to a key that was good before. */
export const refusals = signal(0);

export function keepSecret(text) {
  secret.value = text;
  if (text) sessionStorage.setItem(KEY, text);
  else sessionStorage.removeItem(KEY);
}

/** An answer that is no 2xx, or none at all (`code` is `no_answer`). */
export class Problem extends Error {
  constructor({ status = 0, code = "unknown", title = "", detail = "", scope = null, retryAfter = null }) {
    super(detail || title || code);
    Object.assign(this, { status, code, title, detail, scope, retryAfter });
  }
}

/** `/users/` and an id that may hold anything: path`/users/${id}`. */
export function path(parts, ...ids) {
  return parts.reduce((all, part, at) => all + encodeURIComponent(ids[at - 1].toWellFormed()) + part);
}

/** A path with those parameters that have a value. */
export function withQuery(at, params) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(params)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") query.append(name, one);
  }
  return query.size ? `${at}?${query}` : at;
}

/** Makes a call. Gives {status, body, etag}; throws a Problem. `body` is JSON, or text where the answer is none. */
export async function call(method, at, { body, headers = {}, signal: cancel, timeout = TIMEOUT_MS } = {}) {
  const request = { method, headers: { accept: "application/json", ...headers }, cache: "no-store", credentials: "omit" };
  if (secret.value) request.headers.authorization = `Bearer ${secret.value}`;
  if (body !== undefined) {
    request.headers["content-type"] = "application/json";
    request.body = JSON.stringify(body);
  }
  const late = AbortSignal.timeout(timeout);
  request.signal = cancel ? AbortSignal.any([cancel, late]) : late;
  let answer, text;
  try {
    answer = await fetch(new URL(at.slice(1), ROOT), request);
    text = await answer.text();
  } catch (error) {
    if (cancel?.aborted) throw error;
    lostSince.value ??= Date.now();
    const detail = late.aborted ? `The service did not answer within ${timeout / 1000} s.` : "The service cannot be reached.";
    throw new Problem({ code: "no_answer", title: "No answer", detail });
  }
  lostSince.value = null;
  const isJson = /json/.test(answer.headers.get("content-type") ?? "");
  let told = text;
  if (isJson) {
    try {
      told = JSON.parse(text);
    } catch {
      throw new Problem({ status: answer.status, code: "no_json", detail: "The answer is not the JSON that it says it is." });
    }
  }
  if (answer.ok) return { status: answer.status, body: told, etag: answer.headers.get("etag") };
  if (answer.status === 401) refusals.value += 1;
  const retryAfter = Number(answer.headers.get("retry-after")) || null;
  throw new Problem(isJson ? { ...told, status: answer.status, retryAfter } : { status: answer.status, detail: text.slice(0, 300), retryAfter });
}

/** Asks; once more, and then again, where the service is busy for a moment. */
export async function get(at, options = {}) {
  for (let tries = 1; ; tries += 1) {
    try {
      return (await call("GET", at, options)).body;
    } catch (error) {
      if (!(error instanceof Problem) || error.code !== "overloaded" || tries === 3) throw error;
      await pause(500 * tries, options.signal);
    }
  }
}

let last = Promise.resolve();

/** Runs one after the other: a service makes few reports at once. */
export function inTurn(run, cancel) {
  const turn = last.then(() => {
    cancel?.throwIfAborted();
    return run();
  });
  last = turn.catch(() => {});
  return turn;
}

/** Makes a call whose answer may take long: 202 says how far it is, and it is asked again until it is done. */
export async function callUntilDone(method, at, { onProgress, signal: cancel, ...options } = {}) {
  for (;;) {
    const answer = await call(method, at, { ...options, signal: cancel });
    if (answer.status !== 202) return answer.body;
    onProgress?.(answer.body);
    await pause(1000, cancel);
  }
}

export function pause(ms, cancel) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    cancel?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(cancel.reason);
    });
  });
}
