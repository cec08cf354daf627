import { readFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";

import { FreqcapError, ProblemError, UnavailableError } from "./errors.js";

const ANSWER_BYTES_MAX = 64 * 1024 * 1024;

interface Answer {
  status: number;
  retryAfter: string | undefined;
  body: Record<string, unknown> | undefined;
}

/** Sends calls to one service on connections that are kept. */
export class Transport {
  private readonly base: URL;
  private readonly agent: http.Agent;
  private key: string | undefined;

  constructor(
    url: string,
    key: string | undefined,
    private readonly keyFile: string | undefined,
    agent: http.Agent | undefined,
  ) {
    this.base = new URL(url);
    if (this.base.protocol !== "http:" && this.base.protocol !== "https:") {
      throw new FreqcapError(`${url} is not an http:// or https:// address`);
    }
    if (key !== undefined && keyFile !== undefined) {
      throw new FreqcapError("give the key or its file, not both");
    }
    this.key = keyFile === undefined ? key : readKey(keyFile);
    const kept = { keepAlive: true, maxFreeSockets: 256, noDelay: true };
    this.agent = agent ?? (this.base.protocol === "https:" ? new https.Agent(kept) : new http.Agent(kept));
  }

  /** One call, over before `until` (performance.now()): the answer of a 2xx. */
  async once(method: string, path: string, body: string | undefined, form: string, until: number): Promise<object> {
    let answer = await this.repeatable(method, path, body, form, until);
    if (answer.status === 401 && this.keyChanged()) {
      answer = await this.repeatable(method, path, body, form, until);
    }
    if (answer.status >= 200 && answer.status < 300 && answer.body !== undefined) {
      return answer.body;
    }
    throw refusal(answer);
  }

  /**
   * A kept connection that the service has meanwhile closed is no failure: the call goes out again. Every call of this client may
   * be repeated.
   */
  private async repeatable(method: string, path: string, body: string | undefined, form: string, until: number): Promise<Answer> {
    for (;;) {
      const { gone, answer } = await this.exchange(method, path, body, form, until);
      if (answer instanceof UnavailableError) {
        if (gone && performance.now() < until) {
          continue;
        }
        throw answer;
      }
      return answer;
    }
  }

  private exchange(method: string, path: string, body: string | undefined, form: string, until: number) {
    return new Promise<{ gone: boolean; answer: Answer | UnavailableError }>((done) => {
      const headers: http.OutgoingHttpHeaders = this.headers();
      if (body !== undefined) {
        headers["content-type"] = form;
        headers["content-length"] = Buffer.byteLength(body);
      }
      const request = this.request(method, path, headers, (response) => {
        const pieces: Buffer[] = [];
        let size = 0;
        response.on("data", (piece: Buffer) => {
          pieces.push(piece);
          size += piece.length;
          if (size > ANSWER_BYTES_MAX) {
            fail(new UnavailableError("unavailable", `an answer of over ${ANSWER_BYTES_MAX} bytes`), false);
          }
        });
        response.on("error", (error) => fail(new UnavailableError("away", error.message), false));
        response.on("end", () => {
          clearTimeout(timer);
          const retryAfter = response.headers["retry-after"];
          done({ gone: false, answer: { status: response.statusCode ?? 0, retryAfter, body: object(Buffer.concat(pieces)) } });
        });
      });
      const fail = (error: UnavailableError, gone: boolean) => {
        clearTimeout(timer);
        done({ gone, answer: error });
        request.destroy();
      };
      const left = Math.max(until - performance.now(), 0);
      const timer = setTimeout(() => fail(new UnavailableError("timeout", `no answer of ${this.base.host} in time`), false), left);
      request.on("error", (error) => fail(new UnavailableError("away", error.message), request.reusedSocket));
      request.end(body);
    });
  }

  /** Opens a long answer. */
  open(path: string, headers: http.OutgoingHttpHeaders, silenceMs: number): Promise<http.IncomingMessage> {
    return new Promise((done, fail) => {
      const request = this.request("GET", path, { ...headers, ...this.headers(), connection: "close" }, done, false);
      request.setTimeout(silenceMs, () => request.destroy(new Error(`silent for ${silenceMs} ms`)));
      request.on("error", (error) => fail(new UnavailableError("away", error.message)));
      request.end();
    });
  }

  /** Closes the connections that wait. */
  close(): void {
    this.agent.destroy();
  }

  private request(method: string, path: string, headers: http.OutgoingHttpHeaders, heard: (response: http.IncomingMessage) => void, kept = true) {
    const module = this.base.protocol === "https:" ? https : http;
    return module.request(
      {
        method,
        protocol: this.base.protocol,
        hostname: this.base.hostname.replace(/^\[(.*)\]$/, "$1"),
        port: this.base.port,
        // As it is: `fetch` and URL would take an id of two dots for a folder.
        path: this.base.pathname.replace(/\/$/, "") + path,
        headers,
        agent: kept ? this.agent : false,
      },
      heard,
    );
  }

  private headers(): http.OutgoingHttpHeaders {
    return this.key === undefined ? {} : { authorization: `Bearer ${this.key}` };
  }

  /** Reads the key's file again: it may have been rotated. */
  private keyChanged(): boolean {
    const before = this.key;
    if (this.keyFile !== undefined) {
      this.key = readKey(this.keyFile);
    }
    return this.key !== before;
  }
}

/** The error that an answer other than a 2xx is. */
export function refusal(answer: Answer): FreqcapError {
  const problem = answer.body ?? {};
  const detail = typeof problem.detail === "string" ? problem.detail : `status ${answer.status}`;
  if (answer.status >= 400 && answer.status < 500) {
    return new ProblemError(answer.status, typeof problem.code === "string" ? problem.code : "unknown", detail);
  }
  const after = /^\d+$/.test(answer.retryAfter ?? "") ? Number(answer.retryAfter) * 1000 : undefined;
  const error = new UnavailableError("unavailable", detail, after);
  if (typeof problem.unavailable === "number") {
    error.partial = problem as never;
  }
  return error;
}

function readKey(file: string): string {
  const key = readFileSync(file, "utf8").trim();
  if (key === "") {
    throw new FreqcapError(`${file} is empty; it has to have the key's secret`);
  }
  return key;
}

export function object(data: Buffer): Record<string, unknown> | undefined {
  try {
    const read: unknown = JSON.parse(data.toString("utf8"));
    return typeof read === "object" && read !== null ? (read as Record<string, unknown>) : undefined;
  } catch {
    return undefined;
  }
}
