import type { BatchAnswer, EventBody } from "./types.js";

/** Every error of this package. */
export class FreqcapError extends Error {}

/** The service refused the call. `code` is stable; docs/reference/errors.md has them all. */
export class ProblemError extends FreqcapError {
  constructor(
    readonly status: number,
    readonly code: string,
    readonly detail: string,
  ) {
    super(`${status} ${code}: ${detail}`);
  }
}

/** Why there is no answer: none in time, nobody there, or a 5xx. */
export type Reason = "timeout" | "away" | "unavailable";

/** A call without an answer of the service. */
export class UnavailableError extends FreqcapError {
  /** Of a batch: what was counted so far, and the events to send later, with their ids. */
  answer?: BatchAnswer;
  rest: EventBody[] = [];
  /** What a 503 counted of a batch. */
  partial?: BatchAnswer;

  constructor(
    readonly reason: Reason,
    readonly detail: string,
    readonly retryAfterMs?: number,
  ) {
    super(`${reason}: ${detail}`);
  }
}
