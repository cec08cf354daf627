import { Service, examine, open, openPage, unfaulted } from "../world.mjs";
import { day } from "../traffic.mjs";

export async function says_that_the_connection_is_lost_and_goes_on_by_itself({ browser, after }) {
  const service = await Service.start({ flags: ["--limit", "5", "--window", "5d"] });
  after(() => service.remove());
  await service.count(day(Date.now()));
  const page = await openPage(browser, service, { expected: [[/./, "lost"]] });
  await open(page, service, "#/now");
  await page.getByRole("heading", { name: "All is well" }).waitFor();
  const { port } = service;
  await service.stop("SIGKILL");
  await page.getByText("Connection lost").waitFor();
  await page.getByRole("heading", { name: "Not known" }).waitFor();
  await examine(page, "lost-now");
  // A view that has nothing yet says what is wrong, and what it will do.
  await page.getByRole("link", { name: "Rules" }).click();
  await page.getByText("The rules could not be loaded").waitFor();
  await page.getByText("The service cannot be reached.").waitFor();
  await examine(page, "lost-rules");
  await service.run(port);
  await page.getByText("Connection lost").waitFor({ state: "detached" });
  await page.getByRole("button", { name: "5 impressions in 5d default" }).waitFor();
  unfaulted(page, "lost");
}

export async function says_so_where_the_service_is_away_from_the_start({ browser, after }) {
  const service = await Service.start();
  after(() => service.remove());
  const page = await openPage(browser, service, { expected: [[/\/whoami$/, "lost"]] });
  await page.route("**/whoami", (route) => route.abort("connectionrefused"));
  await open(page, service);
  await page.getByRole("heading", { name: "The page cannot be shown" }).waitFor();
  await examine(page, "lost-start");
  await page.unroute("**/whoami");
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByRole("heading", { name: "All is well" }).waitFor();
  unfaulted(page, "start");
}
