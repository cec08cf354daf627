import { Service, check, examine, open, openPage, unfaulted, until } from "../world.mjs";
import { day } from "../traffic.mjs";

async function start(after) {
  const service = await Service.start({ flags: ["--limit", "5", "--window", "5d"] });
  after(() => service.remove());
  await service.count(day(Date.now()));
  await service.call("PUT", "/rules/brand-x", { key: "campaign:1", limit: 3, window: "24h" });
  await service.call("PUT", "/rules/brand-x.strict", { key: "campaign:1", limit: 2, window: "24h", mode: "shadow" });
  await service.call("PUT", "/rules/house", { key: "campaign:9", limit: null, window: "24h" });
  await service.call("PUT", "/rules/daily", { key: "advertiser:*", limit: 20, window: { calendar: "day", tz: "Asia/Seoul" } });
  await service.call("PUT", "/rules/clicks", { key: "da:*", kind: "click", limit: 1, window: "lifetime" });
  return service;
}

/** Tries what is in the form where the service can, and saves it. */
async function tryAndSave(service, dialog, page, picture) {
  if (await service.offers("POST /rules/try")) {
    check((await dialog.getByRole("button", { name: "Save", exact: true }).count()) === 0, "it is tried before it is saved");
    await dialog.getByRole("button", { name: "Try", exact: true }).click();
    await dialog.getByRole("heading", { name: "What it would do" }).waitFor();
  } else {
    await dialog.getByText("This service cannot try rules.").waitFor();
  }
  if (picture) await examine(page, picture);
  await dialog.getByRole("button", { name: "Save", exact: true }).click();
  await page.getByText("Saved.", { exact: true }).waitFor();
}

export async function has_shadow_rules_beside_enforced({ browser, after }) {
  const service = await start(after);
  for (const [scheme, width, name] of [["light", 1280, "rules-light"], ["dark", 1280, "rules-dark"], ["light", 360, "rules-narrow"]]) {
    const page = await openPage(browser, service, { scheme, width });
    await open(page, service, "#/rules");
    const group = page.getByRole("region", { name: "Rules on campaign:1" });
    await group.getByRole("button", { name: "3 impressions in 24h brand-x" }).waitFor();
    await group.getByRole("button", { name: "2 impressions in 24h shadow brand-x.strict" }).waitFor();
    await page.getByRole("button", { name: "no limit on impressions house" }).waitFor();
    await examine(page, name);
    await page.context().close();
  }
}

export async function adds_a_rule_with_try({ browser, after }) {
  const service = await start(after);
  const page = await openPage(browser, service);
  await open(page, service, "#/rules");
  await page.getByRole("button", { name: "Add a rule" }).click();
  const dialog = page.getByRole("dialog", { name: "Add a rule" });
  await dialog.getByLabel("Name").fill("brand-y");
  await dialog.getByLabel("Key", { exact: true }).fill("campaign:2");
  await dialog.getByLabel("At most").fill("2");
  await dialog.getByLabel("Of", { exact: true }).fill("24h");
  await tryAndSave(service, dialog, page, "rules-try");
  await page.getByRole("button", { name: "2 impressions in 24h brand-y" }).waitFor();
  const rule = await service.call("GET", "/rules/brand-y");
  check(rule.limit === 2 && rule.key === "campaign:2" && rule.window === "24h" && rule.mode === "enforce", JSON.stringify(rule));
  unfaulted(page, "add");
}

export async function changes_no_rule_that_somebody_else_has_changed({ browser, after }) {
  const service = await start(after);
  const page = await openPage(browser, service, { expected: [[/\/rules\/brand-x$/, 412]] });
  await open(page, service, "#/rules");
  await page.getByRole("button", { name: "3 impressions in 24h brand-x" }).click();
  const dialog = page.getByRole("dialog", { name: "Rule brand-x" });
  await dialog.getByLabel("At most").fill("4");
  await service.call("PUT", "/rules/brand-x", { key: "campaign:1", limit: 8, window: "24h" });
  if (await service.offers("POST /rules/try")) await dialog.getByRole("button", { name: "Save untried" }).click();
  else await dialog.getByRole("button", { name: "Save", exact: true }).click();
  await dialog.getByText("Somebody has changed this rule meanwhile").waitFor();
  check((await service.call("GET", "/rules/brand-x")).limit === 8, "theirs stays");
  await examine(page, "rules-conflict");
  await dialog.getByRole("button", { name: "Load it as it is now" }).click();
  await until("theirs is in the form", async () => (await dialog.getByLabel("At most").inputValue()) === "8");
  await dialog.getByLabel("At most").fill("6");
  await tryAndSave(service, dialog, page);
  check((await service.call("GET", "/rules/brand-x")).limit === 6, "now it is saved");
  unfaulted(page, "conflict");
}

export async function says_what_is_wrong_with_a_rule({ browser, after }) {
  const service = await start(after);
  const page = await openPage(browser, service, { expected: [[/\/rules\/(try|bad)$/, 422]] });
  await open(page, service, "#/rules");
  await page.getByRole("button", { name: "Add a rule" }).click();
  const dialog = page.getByRole("dialog", { name: "Add a rule" });
  await dialog.getByLabel("Name").fill("bad");
  await dialog.getByLabel("Key", { exact: true }).fill("campaign:2");
  await dialog.getByLabel("At most").fill("100000");
  const first = (await service.offers("POST /rules/try")) ? "Try" : "Save";
  await dialog.getByRole("button", { name: first, exact: true }).click();
  await dialog.getByText("limit_out_of_range").waitFor();
  await examine(page, "rules-refused");
}

export async function removes_a_rule_after_a_question({ browser, after }) {
  const service = await start(after);
  const page = await openPage(browser, service);
  await open(page, service, "#/rules");
  await page.getByRole("button", { name: "no limit on impressions house" }).click();
  const dialog = page.getByRole("dialog", { name: "Rule house" });
  await dialog.getByRole("button", { name: "Remove…" }).click();
  await dialog.getByRole("button", { name: "Remove", exact: true }).click();
  await page.getByText("Removed.", { exact: true }).waitFor();
  const { rules } = await service.call("GET", "/rules");
  check(!rules.some(({ id }) => id === "house"), "it is gone");
  // That of the flags is read alone.
  await page.getByRole("button", { name: "5 impressions in 5d default" }).click();
  const kept = page.getByRole("dialog", { name: "Rule default" });
  await kept.getByText("This rule is kept by the flags").waitFor();
  check((await kept.getByRole("button", { name: /Remove|Save/ }).count()) === 0, "it can be changed by the flags alone");
  unfaulted(page, "remove");
}
