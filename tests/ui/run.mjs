// Walks through every view of the operator's page in a browser, against running services. Run by script/ui.
// Arguments: names of journeys; all without.
import { readdir } from "node:fs/promises";
import { openBrowser } from "./world.mjs";

/** As a journey is called in the output. */
const titleOf = (subject, name) => `${subject}: ${name.replaceAll("_", " ")}`;

const wanted = process.argv.slice(2);
const files = (await readdir(new URL("./views/", import.meta.url))).filter((file) => file.endsWith(".mjs")).sort();
const browser = await openBrowser();
let failed = 0;
try {
  for (const file of files) {
    const subject = file.replace(".mjs", "");
    const journeys = await import(`./views/${file}`);
    const chosen = Object.entries(journeys).filter(([name]) => !wanted.length || wanted.some((one) => titleOf(subject, name).includes(one)));
    if (!chosen.length) continue;
    for (const [name, journey] of chosen) {
      const started = Date.now();
      const label = titleOf(subject, name);
      const cleanUp = [];
      try {
        await journey({ browser, after: (end) => cleanUp.push(end) });
        console.log(`ok    ${label} (${((Date.now() - started) / 1000).toFixed(1)} s)`);
      } catch (error) {
        failed += 1;
        console.log(`FAIL  ${label}\n${error.stack}`);
      }
      for (const context of browser.contexts()) await context.close();
      for (const end of cleanUp.reverse()) await end();
    }
  }
} finally {
  await browser.close();
}
console.log(failed ? `${failed} failed` : "all journeys passed");
process.exit(failed ? 1 : 0);
