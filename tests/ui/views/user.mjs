import { Service, check, examine, open, openPage, unfaulted, until } from "../world.mjs";
import { HOUR, MARKUP, history } from "../traffic.mjs";

async function start(after) {
  const service = await Service.start({ flags: ["--limit", "5", "--window", "5d"] });
  after(() => service.remove());
  return service;
}

export async function shows_until_when_each_event_counts({ browser, after }) {
  const service = await start(after);
  await service.call("PUT", "/rules/brand-x", { key: "campaign:42", limit: 9, window: "7d" });
  await service.call("PUT", "/rules/brand-x.strict", { key: "campaign:42", limit: 4, window: "7d", mode: "shadow" });
  await service.count(history("anna", Date.now()));
  for (const [scheme, width, name] of [["light", 1280, "user-light"], ["dark", 1280, "user-dark"], ["light", 360, "user-narrow"]]) {
    const page = await openPage(browser, service, { scheme, width });
    await open(page, service, "#/user");
    await page.getByLabel("User id").fill("anna");
    await page.getByRole("button", { name: "Look up" }).click();
    await page.getByText("Capped now on 2 keys").waitFor();
    // The seven events of ad 90 are over the five of the default rule.
    const row = page.getByRole("img", { name: /^da:90: 7 impressions held, 7 still counting, capped until/ });
    await row.waitFor();
    check((await row.locator("rect.bar").count()) === 7, "an event has no bar");
    // One bar ends where the service says that the event leaves.
    const held = await service.call("GET", "/users/anna");
    const events = held.logs.find(({ key }) => key === "da:90").kinds[0].events;
    const ends = events.map(({ leaves }) => Math.max(...leaves.map(({ at }) => at)));
    const widths = await row.locator("rect.bar").evaluateAll((bars) => bars.map((bar) => [Number(bar.getAttribute("x")), Number(bar.getAttribute("width"))]));
    const perMs = (widths[1][0] - widths[0][0]) / (events[1].ts - events[0].ts);
    for (const [at, [, wide]] of widths.entries()) {
      const expected = (ends[at] - events[at].ts) * perMs;
      check(Math.abs(wide - expected) < Math.max(3, expected * 0.02), `bar ${at} is ${wide} px wide, not ${expected}`);
    }
    await page.getByText("<b>bold</b>").first().waitFor();
    await examine(page, name);
    await page.context().close();
  }
}

export async function says_why_an_ad_is_capped({ browser, after }) {
  const service = await start(after);
  await service.call("PUT", "/rules/brand-x.strict", { key: "da:90", limit: 4, window: "7d", mode: "shadow" });
  await service.count(history("anna", Date.now()));
  const page = await openPage(browser, service);
  await open(page, service, "#/user/anna");
  await page.getByRole("button", { name: "Why? da:90" }).click();
  const dialog = page.getByRole("dialog", { name: "May this ad be shown?" });
  await dialog.getByText("Capped", { exact: true }).waitFor();
  const told = await service.call("GET", "/cap/anna/90?explain=true");
  check(told.capped && told.why.code === "capped", "the service caps it");
  await dialog.getByText(told.why.text.split(";")[0]).waitFor();
  await dialog.getByText("would cap", { exact: true }).waitFor();
  await examine(page, "user-why");
  await dialog.getByLabel("Ad", { exact: true }).fill("78");
  await dialog.getByRole("button", { name: "Ask" }).click();
  await dialog.getByText("May be shown", { exact: true }).waitFor();
  await page.keyboard.press("Escape");
  await until("the dialog is closed", async () => (await page.getByRole("dialog").count()) === 0);
  unfaulted(page, "why");
}

export async function pages_through_300_000_ads({ browser, after }) {
  const service = await start(after);
  const now = Date.now();
  const all = 300_000;
  for (let from = 0; from < all; from += 10_000) {
    await service.count(Array.from({ length: 10_000 }, (_, n) => ({ user: "bot", da: `ad-${String(from + n).padStart(6, "0")}`, ts: now - 60_000 })));
  }
  const page = await openPage(browser, service);
  await open(page, service, "#/user/bot");
  await page.getByText("Keys 1 to 50, and more").waitFor();
  for (const expected of ["Keys 51 to 100, and more", "Keys 101 to 150, and more"]) {
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByText(expected).waitFor();
  }
  check((await page.locator(".tl-row").count()) === 50, "a page has 50 keys, whatever was there before");
  await page.getByRole("button", { name: "Previous" }).click();
  await page.getByText("Keys 51 to 100, and more").waitFor();
  await page.getByRole("button", { name: "First" }).click();
  await page.getByText("Keys 1 to 50, and more").waitFor();
  unfaulted(page, "pages");
}

export async function erases_a_user_once_the_id_is_typed({ browser, after }) {
  const service = await start(after);
  await service.count(history(MARKUP, Date.now() - HOUR));
  const page = await openPage(browser, service);
  await open(page, service, "#/user");
  await page.getByLabel("User id").fill(MARKUP);
  await page.getByRole("button", { name: "Look up" }).click();
  await page.getByRole("heading", { name: MARKUP }).waitFor();
  await page.getByRole("button", { name: "Erase…" }).click();
  const dialog = page.getByRole("dialog", { name: "Erase this user?" });
  const erase = dialog.getByRole("button", { name: "Erase", exact: true });
  check(await erase.isDisabled(), "erasure needs to be confirmed");
  await dialog.getByLabel("Type the user's id to confirm").fill("someone else");
  check(await erase.isDisabled(), "another id confirms nothing");
  await examine(page, "user-erase");
  await dialog.getByLabel("Type the user's id to confirm").fill(MARKUP);
  await erase.click();
  await page.getByText("Erased.", { exact: true }).waitFor();
  await page.getByRole("heading", { name: "Nothing is held of this user" }).waitFor();
  const held = await service.call("GET", `/users/${encodeURIComponent(MARKUP)}`);
  check(held.logs.length === 0, "the service holds nothing");
  await examine(page, "user-erased");
}
