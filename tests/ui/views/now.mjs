import { Service, examine, open, openPage, until } from "../world.mjs";
import { day } from "../traffic.mjs";

async function busy(after) {
  const service = await Service.start({ flags: ["--limit", "5", "--window", "5d"] });
  let isOn = true;
  const traffic = (async () => {
    for (let round = 0; isOn; round += 1) {
      const now = Date.now();
      await service.count(day(now, 60).map((event) => ({ ...event, id: `${event.id}-${round}`, ts: now })));
      for (let n = 0; n < 10; n += 1) await service.call("GET", `/cap/u${n}/100?key=campaign:1`);
    }
  })();
  after(() => service.remove());
  after(async () => {
    isOn = false;
    await traffic.catch(() => {});
  });
  return service;
}

export async function shows_how_the_service_is({ browser, after }) {
  const service = await busy(after);
  for (const [scheme, width, name] of [["light", 1280, "now-light"], ["dark", 1280, "now-dark"], ["light", 360, "now-narrow"]]) {
    const page = await openPage(browser, service, { scheme, width });
    await open(page, service);
    await page.getByRole("heading", { name: "All is well" }).waitFor();
    await until("a rate of events is shown", async () => {
      const text = await page.locator(".tile", { hasText: "Events a second" }).locator("dd").innerText();
      return /[1-9]/.test(text);
    });
    await until("the p99 of GET /cap is shown", async () => /\d/.test(await page.locator(".tile", { hasText: "GET /cap, p99" }).locator("dd").innerText()));
    await page.locator(".chart canvas").first().waitFor();
    await page.getByRole("rowheader", { name: "/cap/{user}/{da}" }).waitFor();
    await examine(page, name);
    await page.context().close();
  }
}

export async function colours_follow_the_switch_and_are_kept({ browser, after }) {
  const service = await Service.start();
  after(() => service.remove());
  const page = await openPage(browser, service, { scheme: "light" });
  await open(page, service);
  const background = () => page.evaluate(() => getComputedStyle(document.body.parentElement).backgroundColor);
  await page.getByRole("heading", { name: "All is well" }).waitFor();
  const light = await background();
  await page.getByRole("button", { name: "Dark" }).click();
  await until("it is dark", async () => (await background()) !== light);
  await page.reload();
  await page.getByRole("heading", { name: "All is well" }).waitFor();
  await until("it is still dark", async () => (await background()) !== light);
  await page.getByRole("button", { name: "As the system has it" }).click();
  await until("it is light again", async () => (await background()) === light);
}

export async function the_keyboard_is_enough({ browser, after }) {
  const service = await Service.start();
  after(() => service.remove());
  const page = await openPage(browser, service);
  await open(page, service);
  await page.getByRole("heading", { name: "All is well" }).waitFor();
  await page.keyboard.press("Tab");
  await until("the first stop leads to the content", () => page.evaluate(() => document.activeElement.className === "skip"));
  await page.keyboard.press("Enter");
  await until("the heading has the focus", () => page.evaluate(() => document.activeElement.tagName === "H1"));
  await page.getByRole("link", { name: "User", exact: true }).focus();
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "User", exact: true }).waitFor();
  await until("the new view's heading has the focus", () => page.evaluate(() => document.activeElement.tagName === "H1" && document.activeElement.textContent === "User"));
  await page.keyboard.press("/");
  await until("the field of the look-up has the focus", () => page.evaluate(() => document.activeElement.hasAttribute("data-search")));
  await page.keyboard.type("u1");
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name: "Nothing is held of this user" }).waitFor();
  await examine(page, "user-unknown");
}
