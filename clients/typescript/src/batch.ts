import { randomUUID } from "node:crypto";

import type { BatchAnswer, Capped, EventBody } from "./types.js";

const BATCH_EVENTS_MAX = 1_000;
const BATCH_BYTES_MAX = 1024 * 1024;
const ERRORS_MAX = 100;

/** The event with an id: its own, or one made now. A retry with the same id counts once. */
export function withId(event: EventBody): EventBody {
  return event.id == null ? { ...event, id: randomUUID() } : event;
}

/** The events, each with an id, and the lines to send, in pieces of bounded count and size. */
export function* batches(events: Iterable<EventBody>): Generator<{ piece: EventBody[]; lines: string }> {
  let piece: EventBody[] = [];
  let lines: string[] = [];
  let size = 0;
  for (const event of events) {
    const named = withId(event);
    const line = JSON.stringify(named) + "\n";
    const bytes = Buffer.byteLength(line);
    if (piece.length > 0 && (piece.length === BATCH_EVENTS_MAX || size + bytes > BATCH_BYTES_MAX)) {
      yield { piece, lines: lines.join("") };
      piece = [];
      lines = [];
      size = 0;
    }
    piece.push(named);
    lines.push(line);
    size += bytes;
  }
  if (piece.length > 0) {
    yield { piece, lines: lines.join("") };
  }
}

/** The answer to no events. */
export function nothing(): BatchAnswer {
  return { counted: 0, duplicate: 0, late: 0, erased: 0, ignored: 0, rejected: 0, errors: [], capped: [] };
}

/**
 * The answers to one batch, which is sent until everything in it is taken. What an earlier try counted is a duplicate to the last
 * one; it was counted by this call, all the same.
 */
export class Tries {
  private counted = 0;
  private readonly capped = new Map<string, Capped>();

  add(answer: BatchAnswer): void {
    this.counted += answer.counted;
    for (const one of answer.capped) {
      this.capped.set(JSON.stringify([one.user, one.key]), one);
    }
  }

  /** Adds the batch of `events`, of which `before` came earlier, to the whole answer. */
  into(total: BatchAnswer, last: BatchAnswer, before: number, events: number): void {
    let settled = 0;
    for (const name of ["late", "erased", "ignored", "rejected"] as const) {
      total[name] += last[name];
      settled += last[name];
    }
    total.counted += this.counted;
    total.duplicate += Math.max(events - this.counted - settled, 0);
    total.capped.push(...this.capped.values());
    for (const error of last.errors.slice(0, ERRORS_MAX - total.errors.length)) {
      total.errors.push({ ...error, index: error.index + before });
    }
  }
}
