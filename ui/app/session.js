// Who sits before the page, what that key allows, and what the service offers.
import { computed, effect, signal } from "@preact/signals";
import { Problem, get, keepSecret, refusals, secret } from "./api.js";

/** `checking`, `locked` (a key is needed; `why` says so), `open`, or `failed` (with the `problem`). */
export const session = signal({ state: "checking" });

/** What the service's OpenAPI document has: operation, as `GET /rules` -> the scopes that it needs; null where it is not known. */
const operations = signal(null);

/** Whether the key allows what needs this scope. */
export const may = (scope) => {
  const { scopes } = session.value;
  return Boolean(scopes) && (scopes.includes(scope) || scopes.includes("admin"));
};

/** Whether the service has a call. Where it does not tell, the call is tried. */
export const offers = (operation) => operations.value === null || operations.value.has(operation);

/** Whether the key allows a call; `scope` is what it needs where the service does not tell. */
export const mayCall = (operation, scope) => (operations.value?.get(operation) ?? [scope]).every(may);

export const isKeyless = computed(() => session.value.state === "open" && session.value.key === null);

/** Asks the service whose key this is. */
export async function open() {
  session.value = { state: "checking" };
  try {
    const { key, scopes } = await get("/whoami");
    // What it offers is no secret of any scope.
    operations.value = await get("/openapi.json").then(operationsOf, () => null);
    session.value = { state: "open", key, scopes };
  } catch (problem) {
    if (!(problem instanceof Problem)) throw problem;
    if (problem.status !== 401) session.value = { state: "failed", problem };
    else session.value = { state: "locked", why: secret.value ? problem.detail : null };
  }
}

function operationsOf(document) {
  const all = new Map();
  for (const [path, methods] of Object.entries(document.paths ?? {})) {
    for (const [method, { security = [] }] of Object.entries(methods)) {
      all.set(`${method.toUpperCase()} ${path}`, Object.values(security[0] ?? {})[0] ?? []);
    }
  }
  return all;
}

export function logIn(text) {
  keepSecret(text.trim());
  return open();
}

export function logOut() {
  keepSecret("");
  session.value = { state: "locked", why: null };
}

// A key that expires or is taken away while the page is open.
effect(() => {
  if (refusals.value > 0 && session.peek().state === "open") {
    session.value = { state: "locked", why: "The key is no longer accepted: it has expired, or was removed." };
  }
});
