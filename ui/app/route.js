// Where in the page we are. It stands behind the `#` of the address, so a user's id reaches no log of a server.
import { signal } from "@preact/signals";

/** {view, rest: [..], query: URLSearchParams} */
export const route = signal(read());

function read() {
  const [at, query = ""] = location.hash.replace(/^#\/?/, "").split("?");
  const [view, ...rest] = at.split("/").map(decoded);
  return { view: view || "now", rest: rest.filter(Boolean), query: new URLSearchParams(query) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

addEventListener("hashchange", () => {
  route.value = read();
});

/** The address of a view: link("user", "u1"). */
export const link = (...parts) => `#/${parts.map((part) => encodeURIComponent(part.toWellFormed())).join("/")}`;

export function go(address) {
  location.hash = address;
}
