import { randomUUID } from "node:crypto";
import type http from "node:http";

import { batches, nothing, Tries, withId } from "./batch.js";
import { FreqcapError, UnavailableError, type Reason } from "./errors.js";
import { follow, type StreamEvent } from "./stream.js";
import { Transport } from "./transport.js";
import type {
  BatchAnswer,
  CandidateBody,
  CapAnswer,
  CheckAnswer,
  CheckBody,
  EventAnswer,
  EventBody,
  ReleaseAnswer,
  ReserveAnswer,
  ReserveBody,
  UserCaps,
} from "./types.js";

const RETRY_FIRST_MS = 50;
const RETRY_MAX_MS = 2_000;
const RETRY_AFTER_MAX_MS = 60_000;
const TRY_MAX_MS = 10_000;

/** Settings of a client. */
export interface Options {
  /** The secret of a key, or a file that has it, which is read again once the key is refused. */
  key?: string;
  keyFile?: string;
  /** Deadline of `cap`, `check` and `reserve`; 20 ms. */
  decisionDeadlineMs?: number;
  /** Deadline of the other calls; 2 s. */
  deadlineMs?: number;
  /** What a decision without an answer is: the ad is shown (`allow`) or not (`deny`). */
  onTimeout?: "allow" | "deny";
  /** An agent of your own, for TLS settings or proxies. */
  agent?: http.Agent;
}

/** A decision. `fallback` is there only where the client made it itself, and says why. */
export type Decided<T> = T & { fallback?: Reason };

export interface CapOptions {
  keys?: string[];
  kind?: string;
  at?: number;
  explain?: boolean;
  deadlineMs?: number;
  [more: string]: unknown;
}

export interface StreamOptions {
  /** As `0-63`, and as `campaign:*`; without them all. */
  shards?: string;
  keys?: string;
  /** `now` leaves out what is capped already. */
  from?: "snapshot" | "now";
  /** The id of an earlier event to go on from. */
  after?: string;
  /** A connection that is silent for so long is given up; 45 s. */
  silenceMs?: number;
  signal?: AbortSignal;
}

/**
 * Calls one freqcap, and keeps its connections.
 *
 * A decision (`cap`, `check`, `reserve`) that has no answer before its deadline, finds nobody or is answered 5xx, is made here, as
 * `onTimeout` says. It then has the member `fallback`, and `fallbacks` counts it by reason. All other calls throw an
 * `UnavailableError` then.
 */
export class Client {
  readonly fallbacks: Record<Reason, number> = { timeout: 0, away: 0, unavailable: 0 };
  private readonly transport: Transport;
  private readonly decisionDeadlineMs: number;
  private readonly deadlineMs: number;
  private readonly deny: boolean;

  constructor(url = "http://127.0.0.1:8080", options: Options = {}) {
    if (options.onTimeout !== undefined && options.onTimeout !== "allow" && options.onTimeout !== "deny") {
      throw new FreqcapError(`onTimeout is allow or deny, not ${String(options.onTimeout)}`);
    }
    this.transport = new Transport(url, options.key, options.keyFile, options.agent);
    this.decisionDeadlineMs = options.decisionDeadlineMs ?? 20;
    this.deadlineMs = options.deadlineMs ?? 2_000;
    this.deny = options.onTimeout === "deny";
  }

  /**
   * Counts one event and gives the verdict after it. Without an id one is made, so that it counts once however often it is sent.
   * 503 is tried again until the deadline.
   */
  async count(event: EventBody, deadlineMs = this.deadlineMs): Promise<EventAnswer> {
    const body = JSON.stringify(withId(event));
    return (await this.untilTaken(body, "application/json", performance.now() + deadlineMs, () => {})) as EventAnswer;
  }

  /**
   * Counts any number of events in batches. What is answered 503 is sent again, with the same ids, after `Retry-After`. `index` of an
   * error is the event's place among all. After `deadlineMs` it throws an `UnavailableError`, whose `answer` is what was counted so
   * far and whose `rest` are the events to send later, with their ids.
   */
  async countAll(events: Iterable<EventBody>, deadlineMs = 60_000): Promise<BatchAnswer> {
    const until = performance.now() + deadlineMs;
    const total = nothing();
    const pieces = batches(events);
    let before = 0;
    for (let next = pieces.next(); !next.done; next = pieces.next()) {
      const { piece, lines } = next.value;
      const tries = new Tries();
      try {
        const last = (await this.untilTaken(lines, "application/x-ndjson", until, (part) => tries.add(part))) as BatchAnswer;
        tries.add(last);
        tries.into(total, last, before, piece.length);
      } catch (error) {
        if (error instanceof UnavailableError) {
          error.answer = total;
          error.rest = piece;
          for (const others of pieces) {
            error.rest = error.rest.concat(others.piece);
          }
        }
        throw error;
      }
      before += piece.length;
    }
    return total;
  }

  /** The verdict on one ad. */
  async cap(user: string, da: string, options: CapOptions = {}): Promise<Decided<CapAnswer>> {
    const { keys = [], deadlineMs, ...others } = options;
    const asked = keys.map((key) => ["key", key] as [string, string]);
    for (const [name, value] of Object.entries(others)) {
      if (value != null) {
        asked.push([name, String(value)]);
      }
    }
    const query = asked.map(([name, value]) => `${encodeURIComponent(name)}=${encodeURIComponent(value)}`).join("&");
    const path = `/cap/${segment(user)}/${segment(da)}${query === "" ? "" : `?${query}`}`;
    return this.decide("GET", path, undefined, deadlineMs, () => ({
      user,
      da,
      kind: options.kind ?? "impression",
      rules: [],
      window: null,
      ...this.verdict(),
    }));
  }

  /** The verdicts on up to 1,000 ads, in their order. */
  async check(body: CheckBody, deadlineMs?: number): Promise<Decided<CheckAnswer>> {
    return this.decide("POST", "/check", body, deadlineMs, () => ({
      user: String(body.user),
      results: body.candidates.map((one) => ({ da: daOf(one), ...this.verdict() })),
    }));
  }

  /**
   * Takes the first ads that are not capped and counts them at once; `ttl: null` counts for good. Without an id one is made. `count`
   * with the same user, da, kind and id confirms. Where the decision is made here, `allow` names the first `want`, `deny` none;
   * nothing is counted then.
   */
  async reserve(body: ReserveBody, deadlineMs?: number): Promise<Decided<ReserveAnswer>> {
    const id = body.id ?? randomUUID();
    return this.decide("POST", "/reserve", { ...body, id }, deadlineMs, () => {
      const taken = this.deny ? [] : body.candidates.slice(0, body.want ?? 1);
      return { id: String(id), reserved: taken.map((one) => ({ da: daOf(one), expires_at: null })), refused: [] };
    });
  }

  /** Gives back what was reserved under an id, or one ad of it. */
  async release(user: string, id: string, da?: string, deadlineMs = this.deadlineMs): Promise<ReleaseAnswer> {
    return (await this.ask("POST", "/release", { user, id, da }, deadlineMs)) as ReleaseAnswer;
  }

  /** Every key capped now for a user. */
  async userCaps(user: string, deadlineMs = this.deadlineMs): Promise<UserCaps> {
    return (await this.ask("GET", `/users/${segment(user)}/caps`, undefined, deadlineMs)) as UserCaps;
  }

  /**
   * The changes of caps, for ever: it connects again after the last checkpoint whenever the connection ends. A refusal of the service
   * is thrown.
   */
  stream(options: StreamOptions = {}): AsyncGenerator<StreamEvent> {
    return follow(this.transport, options);
  }

  /** Closes the connections. */
  close(): void {
    this.transport.close();
  }

  private async decide<T extends object>(
    method: string,
    path: string,
    body: object | undefined,
    deadlineMs = this.decisionDeadlineMs,
    instead: () => T,
  ): Promise<Decided<T>> {
    try {
      return (await this.ask(method, path, body, deadlineMs)) as Decided<T>;
    } catch (error) {
      if (!(error instanceof UnavailableError)) {
        throw error;
      }
      this.fallbacks[error.reason] += 1;
      return { ...instead(), fallback: error.reason };
    }
  }

  private verdict() {
    return { capped: this.deny, capped_until: null, rule: null, key: null, count: 0, limit: null, remaining: null };
  }

  private ask(method: string, path: string, body: object | undefined, deadlineMs: number): Promise<object> {
    const text = body === undefined ? undefined : JSON.stringify(body);
    return this.transport.once(method, path, text, "application/json", performance.now() + deadlineMs);
  }

  /** Sends events until they are taken. `partly` hears what a 503 counted nevertheless. */
  private async untilTaken(body: string, form: string, until: number, partly: (answer: BatchAnswer) => void): Promise<object> {
    for (let pause = RETRY_FIRST_MS; ; pause = Math.min(pause * 2, RETRY_MAX_MS)) {
      try {
        return await this.transport.once("POST", "/events", body, form, Math.min(until, performance.now() + TRY_MAX_MS));
      } catch (error) {
        if (!(error instanceof UnavailableError)) {
          throw error;
        }
        if (error.partial !== undefined) {
          partly(error.partial);
        }
        const wait = error.retryAfterMs ?? pause * (0.5 + Math.random() / 2);
        if (performance.now() + Math.min(wait, RETRY_AFTER_MAX_MS) >= until) {
          throw error;
        }
        await new Promise((done) => setTimeout(done, Math.min(wait, RETRY_AFTER_MAX_MS)));
      }
    }
  }
}

/** An id as a part of a path. A `.` or `..` alone would be taken for a folder. */
function segment(id: string): string {
  return id === "." || id === ".." ? id.replaceAll(".", "%2E") : encodeURIComponent(id);
}

function daOf(candidate: CandidateBody): string {
  return String(typeof candidate === "object" ? candidate.da : candidate);
}
