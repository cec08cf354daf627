// Answers of the reports in their documented form, for a service that does not have them yet: what the page makes of them is
// looked at all the same. Where the service has them, its own answers are shown.
import { HOUR } from "./traffic.mjs";

/** Answers `paths` ([operation, path pattern, answer]) in place of the service, and adds them to its document. */
export async function answerInPlace(page, service, paths) {
  const missing = [];
  for (const one of paths) if (!(await service.offers(one[0]))) missing.push(one);
  if (!missing.length) return false;
  await page.route("**/openapi.json", async (route) => {
    const answer = await route.fetch();
    const document = await answer.json();
    for (const [operation] of missing) {
      const [method, path] = operation.split(" ");
      document.paths[path] = { ...document.paths[path], [method.toLowerCase()]: { security: [{ key: ["reports"] }] } };
    }
    await route.fulfill({ response: answer, json: document });
  });
  for (const [, pattern, answer] of missing) await page.route(pattern, (route) => route.fulfill({ json: answer(new URL(route.request().url())) }));
  return true;
}

export const REACH = (now) => [
  ["GET /reach/{key}", /\/reach\/[^?]+/, (url) => ({
    key: decodeURIComponent(url.pathname.split("/").at(-1)), kind: "impression", window: "7d", as_of: now, complete_from: now - 168 * HOUR,
    users: 18_422, impressions: 61_930, average: 3.36,
    histogram: [5210, 4120, 3310, 2604, 1822, 640, 322, 190, 96].map((users, at) => ({ frequency: at + 1, users, impressions: users * (at + 1) })).concat([{ frequency: "10+", users: 108, impressions: 1630 }]),
    rule: "brand-x", limit: 5, limit_window: "7d", at_limit: 1822, over: { users: 1356, impressions: 3020 }, capped_now: 3178, saturated: 2, took_ms: 412, per: "user",
    hours: Array.from({ length: 24 }, (_, n) => ({ from: now - (24 - n) * HOUR, users: Math.round(420 + 380 * Math.sin((n - 6) / 4)), impressions: 900, cumulative: Math.round(9000 * (1 - Math.exp(-n / 9))) })),
  })],
  ["GET /reach", /\/reach\?/, () => ({
    level: "campaign", kind: "impression", window: "7d", as_of: now, complete_from: now - 168 * HOUR, took_ms: 200, per: "user",
    keys: [1, 2, 3].map((n) => ({ key: `campaign:${n}`, users: 9000 / n, impressions: 30_000 / n, average: 3.3, limit: n === 1 ? 3 : null, at_limit: 100, over: { users: n === 1 ? 1356 : 0, impressions: n === 1 ? 3020 : 0 }, capped_now: 40, saturated: 0 })),
  })],
];

const CAUSES = { in_flight: 412, mirror: 96, ignored: 1180, lapsed: 31, rule_change: 210, backfill: 12 };

export const OVER = (now) => [
  ["GET /over/summary", /\/over\/summary/, (url) => {
    const by = url.searchParams.get("by");
    const over = Object.values(CAUSES).reduce((sum, n) => sum + n, 0);
    const rows = {
      cause: Object.entries(CAUSES).map(([cause, over]) => ({ cause, over })),
      rule: [["brand-x", 1500], ["default", 441]].map(([rule, over]) => ({ rule, over })),
      key: [["campaign:1", 1500], ["da:77", 441]].map(([key, over]) => ({ key, over })),
      hour: Array.from({ length: 24 }, (_, n) => ({ hour: (Math.floor(now / HOUR) - 23 + n) * HOUR, over: Math.round(80 + 70 * Math.sin((n - 6) / 4)) })),
    };
    return { impressions: 61_930, over, share: over / 61_930, by: rows[by] };
  }],
  ["GET /over", /\/over\?/, (url) => ({
    events: Object.keys(CAUSES).filter((cause) => !url.searchParams.get("cause") || cause === url.searchParams.get("cause"))
      .map((cause, n) => ({ ts: now - n * 61_000, user: `u${n}`, key: "campaign:1", rule: "brand-x", cause, count: 6 + n, limit: 5, delay_ms: 140 * (n + 1) })),
    cursor: null,
  })],
];
