import { Service, check, examine, open, openPage, unfaulted } from "../world.mjs";
import { REACH, answerInPlace } from "../reports.mjs";
import { day } from "../traffic.mjs";

async function start(after) {
  const service = await Service.start({ flags: ["--limit", "5", "--window", "5d"] });
  after(() => service.remove());
  await service.call("PUT", "/rules/brand-x", { key: "campaign:1", limit: 3, window: "7d" });
  await service.count(day(Date.now()));
  return service;
}

export async function marks_the_limit_and_what_is_over_it({ browser, after }) {
  const service = await start(after);
  for (const [scheme, width, name] of [["light", 1280, "reach-light"], ["dark", 1280, "reach-dark"], ["light", 360, "reach-narrow"]]) {
    const page = await openPage(browser, service, { scheme, width });
    const isPlayed = await answerInPlace(page, service, REACH(Date.now()));
    await open(page, service, "#/reach");
    await page.getByLabel("Key", { exact: true }).fill("campaign:1");
    await page.getByRole("button", { name: "Count" }).click();
    await page.locator(".histo .limit-line").waitFor({ state: "attached" });
    const bars = await page.locator(".histo rect.bar").count();
    const over = await page.locator(".histo rect.bar.over").count();
    const limit = isPlayed ? 5 : 3;
    check(bars === 10 && over === 10 - limit, `${bars} bins, ${over} over the limit`);
    if (!isPlayed) {
      const told = await service.call("GET", "/reach/campaign:1?window=7d");
      const tile = await page.locator(".tile", { hasText: "Users" }).first().locator("dd").innerText();
      check(tile.replace(/\D/g, "") === String(told.users), `${tile} is not ${told.users} users`);
    }
    await page.locator(".chart canvas").waitFor();
    await examine(page, name);
    await page.context().close();
  }
}

export async function lists_the_keys_of_a_level({ browser, after }) {
  const service = await start(after);
  const page = await openPage(browser, service);
  await answerInPlace(page, service, REACH(Date.now()));
  await open(page, service, "#/reach");
  await page.getByRole("link", { name: "campaign:1" }).waitFor();
  await examine(page, "reach-top");
  await page.getByRole("link", { name: "campaign:1" }).click();
  await page.locator(".histo").waitFor();
  unfaulted(page, "top");
}

export async function says_so_where_the_service_has_no_reports({ browser, after }) {
  const service = await start(after);
  const page = await openPage(browser, service);
  // An older service.
  await page.route("**/openapi.json", async (route) => {
    const answer = await route.fetch();
    const document = await answer.json();
    for (const path of Object.keys(document.paths)) if (/^\/(reach|over|rules\/try)/.test(path)) delete document.paths[path];
    await route.fulfill({ response: answer, json: document });
  });
  await open(page, service, "#/reach");
  await page.getByRole("heading", { name: "Reach is not available" }).waitFor();
  await examine(page, "reach-not-available");
  await open(page, service, "#/over");
  await page.getByRole("heading", { name: "Over-delivery is not available" }).waitFor();
  await examine(page, "over-not-available");
}
