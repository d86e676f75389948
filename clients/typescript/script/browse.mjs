// Uses the example page as people do, in a real browser, and takes pictures. Reads JSON from standard input:
//   {"url": page, "out": folder, "balance": "1,250.50 CONF", "transfer": {"amount": "250.25", "balance": "1,000.25 CONF"}}
// Writes {"shown": [values seen]}. Fails with words.
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { launch } from "./browser.mjs";

const { url, out, balance, transfer } = JSON.parse(await text(process.stdin));
await mkdir(out, { recursive: true });
const PATIENCE = { timeout: 60_000 };
const desktop = { viewport: { width: 1024, height: 900 } };
const phone = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
const shown = [];
const browser = await launch();

/** Opens the page. What it says on the console, or breaks on, fails the run. */
async function open(options) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE.timeout);
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  await page.goto(url);
  return { page, problems, close: () => context.close() };
}

/** Nothing is wider than the window, and everything that can be used has a name. */
async function inspect(page) {
  const { wide, nameless } = await page.evaluate(() => ({
    wide: document.documentElement.scrollWidth - innerWidth,
    nameless: [...document.querySelectorAll("button, input")].filter((one) => !one.textContent.trim() && !one.labels?.length).length,
  }));
  assert.equal(wide, 0, "the page is wider than the window");
  assert.equal(nameless, 0, "something has no name");
}

const button = (page, name) => page.getByRole("button", { name });
const value = (page) => page.getByLabel("Balance", { exact: true });

async function connect(page) {
  await page.getByText("for localhost only").waitFor();
  await button(page, /test wallet/).click();
  await page.getByRole("heading", { name: "Your balance" }).waitFor();
  assert.match(await value(page).textContent(), /^•+$/, "nothing is shown before it is asked for");
}

async function read(page, expected) {
  await button(page, "Decrypt for me").click();
  const problem = page.getByRole("alert");
  await page.getByText("only you see this").or(problem).first().waitFor();
  if (await problem.isVisible()) assert.fail(`the page says: ${await problem.textContent()}`);
  assert.equal(await value(page).textContent(), expected);
  shown.push(expected);
}

try {
  const light = await open({ ...desktop, colorScheme: "light" });
  await light.page.screenshot({ path: join(out, "connect-light.png") });
  await connect(light.page);
  await read(light.page, balance);
  await inspect(light.page);
  await light.page.screenshot({ path: join(out, "balance-light.png"), fullPage: true });
  await button(light.page, "Hide").click();
  assert.match(await value(light.page).textContent(), /^•+$/);

  if (transfer) {
    await light.page.getByLabel(/^Amount/).fill("many");
    await button(light.page, "Encrypt and send").click();
    await light.page.getByRole("alert").getByText("The amount is a number").waitFor();
    await light.page.screenshot({ path: join(out, "error-light.png"), fullPage: true });
    await light.page.getByLabel(/^Amount/).fill(transfer.amount);
    await button(light.page, "Encrypt and send").click();
    const sent = light.page.getByText(/^Sent to/);
    const problem = light.page.getByRole("alert");
    await sent.or(problem).first().waitFor();
    if (await problem.isVisible()) assert.fail(`the page says: ${await problem.textContent()}`);
    // The permit of before still counts.
    await read(light.page, transfer.balance);
    await light.page.screenshot({ path: join(out, "transfer-light.png"), fullPage: true });
  }
  assert.deepEqual(light.problems, []);
  await light.close();

  const last = transfer?.balance ?? balance;
  for (const [name, options] of [
    ["dark", { ...desktop, colorScheme: "dark" }],
    ["phone-light", { ...phone, colorScheme: "light" }],
    ["phone-dark", { ...phone, colorScheme: "dark" }],
  ]) {
    const { page, problems, close } = await open(options);
    await connect(page);
    await inspect(page);
    await page.screenshot({ path: join(out, `connected-${name}.png`), fullPage: true });
    await read(page, last);
    await inspect(page);
    await page.screenshot({ path: join(out, `balance-${name}.png`), fullPage: true });
    assert.deepEqual(problems, []);
    await close();
  }

  // A relayer that is gone is said so, in words.
  const { page, close } = await open({ ...phone, colorScheme: "light" });
  await page.route("**/v2/user-decrypt", (route) => route.abort());
  await connect(page);
  await button(page, "Decrypt for me").click();
  await page.getByRole("alert").getByText("Is the demo still running?").waitFor();
  await inspect(page);
  await page.screenshot({ path: join(out, "unreachable-phone.png"), fullPage: true });
  await close();
} finally {
  await browser.close();
}
console.log(JSON.stringify({ shown }));
