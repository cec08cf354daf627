import { Service, check, examine, open, openPage, picture, unfaulted, until } from "../world.mjs";
import { history } from "../traffic.mjs";

const KEYS = { admin: ["admin"], bidder: ["decide"], ops: ["metrics", "rules:read"], support: ["users:read", "decide"] };

async function start(after) {
  const service = await Service.start({ flags: ["--limit", "5", "--window", "5d"], keys: KEYS });
  after(() => service.remove());
  await service.count(history("anna", Date.now()));
  await service.call("PUT", "/rules/brand-x", { key: "campaign:1", limit: 3, window: "24h" });
  await service.call("PUT", "/rules/brand-x", { key: "campaign:1", limit: 4, window: "24h" });
  await service.call("DELETE", "/users/nobody");
  return service;
}

export async function asks_for_a_key_and_keeps_it_in_this_tab({ browser, after }) {
  const service = await start(after);
  const page = await openPage(browser, service, { expected: [[/\/whoami$/, 401]] });
  await open(page, service, "#/rules");
  await page.getByRole("heading", { name: "A key, please" }).waitFor();
  await examine(page, "access-gate");
  await page.getByLabel("Secret of the key").fill("fc_wrong_key");
  await page.getByRole("button", { name: "Open" }).click();
  await page.getByText("there is no such key").waitFor();
  await page.getByLabel("Secret of the key").fill(service.secrets.admin);
  await page.getByRole("button", { name: "Open" }).click();
  await page.getByRole("button", { name: "4 impressions in 24h brand-x" }).waitFor();
  const kept = await page.evaluate(() => [JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie, location.href]);
  check(kept[0].includes(service.secrets.admin), "the tab keeps it");
  check(kept.slice(1).every((text) => !text.includes("fc_")), "nothing else does");
  await page.reload();
  await page.getByRole("button", { name: "4 impressions in 24h brand-x" }).waitFor();
  await page.getByRole("button", { name: "Forget key" }).click();
  await page.getByRole("heading", { name: "A key, please" }).waitFor();
  check((await page.evaluate(() => sessionStorage.length)) === 0, "it is forgotten");
  unfaulted(page, "key");
}

export async function shows_keys_and_the_audit({ browser, after }) {
  const service = await start(after);
  for (const [scheme, width, name] of [["light", 1280, "access-light"], ["dark", 1280, "access-dark"], ["light", 360, "access-narrow"]]) {
    const page = await openPage(browser, service, { scheme, width, key: "admin" });
    await open(page, service, "#/access");
    const audit = page.getByRole("table", { name: "Audit" });
    await audit.getByText("limit: 3 \u2192 4").waitFor();
    await audit.getByText("limit: 3 \u2192 4").click();
    await page.getByRole("table", { name: "Calls by key" }).getByText("admin", { exact: true }).waitFor();
    await examine(page, name);
    await page.context().close();
  }
}

/** What a key sees of each view: a text, or null where the view is there. */
const SEEN = {
  bidder: { now: "how the service is", user: null, rules: "rules", reach: "reports", over: "reports" },
  ops: { now: null, user: "users", rules: null, reach: "reports", over: "reports" },
  support: { now: "how the service is", user: null, rules: "rules", reach: "reports", over: "reports" },
};

export async function shows_each_view_as_far_as_the_scopes_go({ browser, after }) {
  const service = await start(after);
  for (const [key, views] of Object.entries(SEEN)) {
    const page = await openPage(browser, service, { key, width: key === "ops" ? 360 : 1280 });
    for (const [view, refused] of Object.entries(views)) {
      await open(page, service, `#/${view}`);
      const told = page.getByRole("heading", { name: `This key may not see ${refused}` });
      if (refused) await told.waitFor();
      else {
        await page.locator(".main .card").first().waitFor();
        check((await page.getByRole("heading", { name: /may not see/ }).count()) === 0, `${key} may see ${view}`);
      }
      await examine(page, `rights-${key}-${view}`);
    }
    // A key that may not write is offered no change.
    if (key === "ops") {
      await open(page, service, "#/rules");
      await page.getByRole("button", { name: "4 impressions in 24h brand-x" }).waitFor();
      check((await page.getByRole("button", { name: "Add a rule" }).count()) === 0, "it may add no rule");
    }
    if (key !== "ops") {
      await open(page, service, "#/user/anna");
      await page.getByText("Capped now on").waitFor();
      check((await page.getByRole("button", { name: "Erase…" }).count()) === 0, "it may erase nobody");
      await examine(page, `rights-${key}-anna`);
    }
    await open(page, service, "#/access");
    await page.getByRole("heading", { name: "This key may not see who changed what" }).waitFor();
    await page.context().close();
  }
}

export async function is_locked_once_the_key_is_taken_away({ browser, after }) {
  const service = await start(after);
  const page = await openPage(browser, service, { key: "ops", expected: [[/\/(metrics|status|rules|whoami)$/, 401]] });
  await open(page, service, "#/now");
  await page.getByRole("heading", { name: "All is well" }).waitFor();
  const { ops, ...rest } = KEYS;
  await service.setKeys(rest);
  await page.getByText("The key is no longer accepted").waitFor();
  await picture(page, "access-taken-away");
  unfaulted(page, "taken away");
}
