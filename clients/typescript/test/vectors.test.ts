// Every step of clients/vectors.json against a running service (FREQCAP_URL, FREQCAP_KEY) and the fake one (FREQCAP_FAKE).
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { Client, ProblemError, signPixel, UnavailableError, type EventBody, type Options } from "../src/index.js";

type Json = any;

const run = `ts-${randomUUID().slice(0, 12)}`;
const text = readFileSync(new URL("../../../vectors.json", import.meta.url), "utf8").replaceAll("{run}", run);
const vectors: Json = JSON.parse(text);
const { FREQCAP_URL: url = "", FREQCAP_KEY: key, FREQCAP_FAKE: fake = "" } = process.env;
const shared = new Client(url || undefined, { key, decisionDeadlineMs: 30_000, deadlineMs: 30_000 });

function nobodyListens(): Promise<string> {
  return new Promise((done) => {
    const server = createServer();
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address() as { port: number };
      server.close(() => done(`http://127.0.0.1:${port}`));
    });
  });
}

async function clientOf(step: Json, folder: string): Promise<Client> {
  const base = step.base === undefined ? url : step.base === "refused" ? await nobodyListens() : fake + step.base;
  const settings = step.client;
  const options: Options = { key: settings.key, onTimeout: settings.on_timeout };
  options.decisionDeadlineMs = settings.decision_deadline_ms;
  options.deadlineMs = settings.deadline_ms;
  if (settings.key_file !== undefined) {
    options.keyFile = join(folder, "key");
    writeFileSync(options.keyFile, settings.key_file[0] + "\n");
  }
  const client = new Client(base, options);
  if (options.keyFile !== undefined) {
    writeFileSync(options.keyFile, settings.key_file[1] + "\n");
  }
  return client;
}

async function call(client: Client, step: Json): Promise<Json> {
  const { args } = step;
  switch (step.call) {
    case "count":
      return client.count(args.event);
    case "count_all": {
      const events: EventBody[] = args.events ?? Array.from({ length: args.repeat }, (_, n) => ({ ...args.event, da: `${args.event.da}-${n}` }));
      if (args.bad !== undefined) {
        events[args.bad]!.user = "";
      }
      return client.countAll(events, step.client?.deadline_ms);
    }
    case "cap": {
      const { user, da, ...options } = args;
      return client.cap(user, da, options);
    }
    case "check":
      return client.check(args.body);
    case "reserve":
      return client.reserve(args.body);
    case "release":
      return client.release(args.body.user, args.body.id, args.body.da);
    case "pixel": {
      const response = await fetch(url + signPixel(args.kid, args.secret, args.claims));
      return { result: response.headers.get("freqcap-result") };
    }
    case "user_caps":
      return client.userCaps(args.user);
    case "stream": {
      const events = [];
      for await (const event of client.stream({ keys: args.keys, from: args.from })) {
        events.push(event);
        if (events.length === args.take) {
          break;
        }
      }
      return events;
    }
    default:
      throw new Error(`no call ${step.call}`);
  }
}

function compare(wanted: Json, got: Json, where: string): void {
  if (wanted === "$int") {
    assert.ok(Number.isInteger(got), `${where} is ${got}`);
  } else if (wanted === "$text") {
    assert.ok(typeof got === "string" && got !== "", `${where} is ${got}`);
  } else if (Array.isArray(wanted)) {
    assert.equal(got?.length, wanted.length, `${where} is ${JSON.stringify(got)}`);
    wanted.forEach((one, place) => compare(one, got[place], `${where}[${place}]`));
  } else if (typeof wanted === "object" && wanted !== null) {
    assert.equal(typeof got, "object", where);
    for (const [name, one] of Object.entries(wanted)) {
      compare(one, got[name], `${where}.${name}`);
    }
  } else {
    assert.equal(got ?? null, wanted, where);
  }
}

const { paths } = JSON.parse(readFileSync(new URL("../../../../openapi/openapi.json", import.meta.url), "utf8"));
for (const step of vectors.steps.filter((step: Json) => (step.needs ?? "/events") in paths)) {
  test(step.name, { skip: url === "" && "script/clients starts what these tests want" }, async () => {
    const folder = mkdtempSync(join(tmpdir(), "freqcap-"));
    const client = step.client === undefined ? shared : await clientOf(step, folder);
    try {
      if (step.error !== undefined) {
        await assert.rejects(call(client, step), (error) => {
          if (step.error.unavailable !== undefined) {
            assert.ok(error instanceof UnavailableError, String(error));
            assert.equal(error.reason, step.error.unavailable);
            assert.equal(error.rest.length, step.error.rest ?? 0);
            assert.ok(error.rest.every((event) => event.id));
          } else {
            assert.ok(error instanceof ProblemError, String(error));
            assert.deepEqual([error.status, error.code], [step.error.status, step.error.code]);
          }
          return true;
        });
        return;
      }
      let answer = await call(client, step);
      for (let time = 1; time < (step.times ?? 1); time++) {
        answer = await call(client, step);
      }
      compare(step.expect, answer, "the answer");
      assert.equal(answer.fallback, step.fallback);
      compare(step.counters ?? {}, client.fallbacks, "fallbacks");
    } finally {
      rmSync(folder, { recursive: true });
      if (client !== shared) {
        client.close();
      }
    }
  });
}

for (const { name, kid, secret, claims, url: wanted } of vectors.signing) {
  test(`signing: ${name}`, () => assert.equal(signPixel(kid, secret, claims), wanted));
}

test("without a word on times a signature holds for an hour", () => {
  const before = Date.now();
  const event = /e=([^&]*)/.exec(signPixel("k", "s", { user: "u", da: "d", id: "i" }))![1]!;
  const { iat, exp } = JSON.parse(Buffer.from(event, "base64url").toString());
  assert.ok(before <= iat && iat <= Date.now());
  assert.equal(exp - iat, 3_600_000);
});

test("settings that make no sense are refused", () => {
  for (const bad of [{ onTimeout: "perhaps" }, { key: "a", keyFile: "b" }, { keyFile: "/dev/null" }] as Options[]) {
    assert.throws(() => new Client("http://127.0.0.1:1", bad));
  }
  assert.throws(() => new Client("127.0.0.1:8080"));
});

test("the connections of the shared client are closed", () => shared.close());
