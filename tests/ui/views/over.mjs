import { Service, check, examine, open, openPage, unfaulted, until } from "../world.mjs";
import { OVER, answerInPlace } from "../reports.mjs";
import { day } from "../traffic.mjs";

async function start(after) {
  const service = await Service.start({ flags: ["--limit", "3", "--window", "5d"] });
  after(() => service.remove());
  await service.count(day(Date.now()).sort((one, other) => one.ts - other.ts));
  // An ad server that asks nobody.
  const now = Date.now();
  for (let n = 0; n < 8; n += 1) await service.count([{ user: "u-over", da: "77", ts: now - 8000 + n * 1000, id: `over-${n}`, keys: ["campaign:1"] }]);
  return service;
}

export async function shows_what_was_too_many_and_why({ browser, after }) {
  const service = await start(after);
  for (const [scheme, width, name] of [["light", 1280, "over-light"], ["dark", 1280, "over-dark"], ["light", 360, "over-narrow"]]) {
    const page = await openPage(browser, service, { scheme, width });
    const isPlayed = await answerInPlace(page, service, OVER(Date.now()));
    await open(page, service, "#/over");
    const tile = page.locator(".tile", { hasText: "Too many" }).locator("dd");
    await until("what is over is counted", async () => /[1-9]/.test(await tile.innerText()));
    await page.getByRole("table", { name: "Over-delivery by cause" }).waitFor();
    await page.getByRole("table", { name: "Events over a cap" }).waitFor();
    if (!isPlayed) {
      const told = await service.call("GET", "/over/summary?by=cause");
      check(told.by.reduce((sum, { over }) => sum + over, 0) === told.over, "the causes add up");
    }
    await examine(page, name);
    await page.context().close();
  }
}

export async function shows_the_events_of_a_cause({ browser, after }) {
  const service = await start(after);
  const page = await openPage(browser, service);
  await answerInPlace(page, service, OVER(Date.now()));
  await open(page, service, "#/over");
  await page.getByRole("button", { name: /^Events of/ }).first().click();
  await page.getByRole("button", { name: "Show all" }).waitFor();
  const causes = await page.getByRole("table", { name: "Events over a cap" }).locator("tbody .badge").allInnerTexts();
  check(causes.length > 0 && new Set(causes).size === 1, `events of one cause, not of ${causes}`);
  await page.getByRole("button", { name: "Rule", exact: true }).click();
  await page.getByRole("table", { name: "Over-delivery by rule" }).waitFor();
  unfaulted(page, "causes");
}
