import type http from "node:http";

import type { StreamOptions } from "./client.js";
import { UnavailableError } from "./errors.js";
import { object, refusal, type Transport } from "./transport.js";

const RETRY_FIRST_MS = 100;
const RETRY_MAX_MS = 10_000;
const LINE_CHARS_MAX = 1024 * 1024;

/** `cap`, `checkpoint`, `snapshot_begin`, `snapshot_end`, `reset` or `lagged`. `id`, if any, goes on after it. */
export interface StreamEvent {
  event: string;
  data: unknown;
  id?: string;
}

export async function* follow(transport: Transport, options: StreamOptions): AsyncGenerator<StreamEvent> {
  let { after, from = "snapshot" } = options;
  let pause = RETRY_FIRST_MS;
  while (!options.signal?.aborted) {
    try {
      for await (const event of oneConnection(transport, { ...options, after, from })) {
        pause = RETRY_FIRST_MS;
        after = event.id ?? after;
        yield event;
      }
    } catch (error) {
      if (!(error instanceof UnavailableError)) {
        throw error;
      }
      pause = Math.max(pause, Math.min(error.retryAfterMs ?? 0, RETRY_MAX_MS));
    }
    // What came before the first checkpoint cannot be gone on from; only a snapshot has all of it.
    from = "snapshot";
    await new Promise((done) => setTimeout(done, pause * (0.5 + Math.random() / 2)));
    pause = Math.min(pause * 2, RETRY_MAX_MS);
  }
}

async function* oneConnection(transport: Transport, options: StreamOptions): AsyncGenerator<StreamEvent> {
  const asked = new URLSearchParams();
  if (options.shards !== undefined) {
    asked.set("shards", options.shards);
  }
  if (options.keys !== undefined) {
    asked.set("keys", options.keys);
  }
  const headers: http.OutgoingHttpHeaders = { accept: "text/event-stream" };
  if (options.after === undefined) {
    asked.set("from", options.from ?? "snapshot");
  } else {
    headers["last-event-id"] = options.after;
  }
  const response = await transport.open(`/caps/stream?${asked}`, headers, options.silenceMs ?? 45_000);
  const stop = () => response.destroy();
  options.signal?.addEventListener("abort", stop);
  try {
    if (response.statusCode !== 200) {
      throw refusal({
        status: response.statusCode ?? 0,
        retryAfter: response.headers["retry-after"],
        body: object(Buffer.concat(await response.toArray())),
      });
    }
    yield* events(lines(response));
  } finally {
    options.signal?.removeEventListener("abort", stop);
    response.destroy();
  }
}

async function* lines(response: http.IncomingMessage): AsyncGenerator<string> {
  response.setEncoding("utf8");
  let rest = "";
  try {
    for await (const piece of response as AsyncIterable<string>) {
      const split = (rest + piece).split("\n");
      rest = split.pop() ?? "";
      yield* split.map((line) => line.replace(/\r$/, ""));
      if (rest.length > LINE_CHARS_MAX) {
        throw new UnavailableError("unavailable", `a line of over ${LINE_CHARS_MAX} characters`);
      }
    }
  } catch (error) {
    throw error instanceof UnavailableError ? error : new UnavailableError("away", String(error));
  }
}

async function* events(lines: AsyncIterable<string>): AsyncGenerator<StreamEvent> {
  let event = "message";
  let data: string[] = [];
  let id: string | undefined;
  for await (const line of lines) {
    if (line === "") {
      if (data.length > 0) {
        yield { event, data: JSON.parse(data.join("\n")), ...(id === undefined ? {} : { id }) };
      }
      event = "message";
      data = [];
      id = undefined;
      continue;
    }
    const [, field, value] = /^([^:]*)(?:: ?)?(.*)$/s.exec(line) ?? ["", "", ""];
    if (field === "event") {
      event = value ?? "";
    } else if (field === "data") {
      data.push(value ?? "");
    } else if (field === "id") {
      id = value;
    }
  }
}
