// Uses a relayer's console as operators do, in a real browser, and takes pictures of every view. Reads JSON from standard input:
//   {"url": relayer, "out": folder, "key": operator's key, "waiting": id of a request that waits, "done": id of one that is done,
//    "post": body of a public decryption that the relayer will answer}
// Writes {"pictures": [names]}. Fails with words.
import assert from "node:assert/strict";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { text } from "node:stream/consumers";
import { launch } from "./browser.mjs";

const { url, out, key, waiting, done, post } = JSON.parse(await text(process.stdin));
await mkdir(out, { recursive: true });
const desktop = { viewport: { width: 1280, height: 900 } };
const phone = { viewport: { width: 360, height: 740 }, isMobile: true, hasTouch: true, deviceScaleFactor: 2 };
const pictures = [];
const browser = await launch();

/** Opens the console; with a key, as if it had been entered. What the page says on the console, or breaks on, is a problem. */
async function open(options, withKey, path = "") {
  const context = await browser.newContext(options);
  if (withKey) await context.addInitScript((key) => sessionStorage.setItem("operator-key", key), key);
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
  await page.goto(`${url}/console/${path}`);
  return { page, problems, close: () => context.close() };
}

async function picture(page, name) {
  await page.screenshot({ path: join(out, `${name}.png`), fullPage: true });
  pictures.push(name);
}

/** Nothing is wider than the window, everything that can be used has a name, and every text can be told from its ground. */
async function inspect(page, where) {
  const { wide, nameless, headings, faint } = await page.evaluate(() => {
    const numbers = (colour) => (colour.match(/[\d.]+/g) ?? []).map(Number);
    const luminance = (rgb) => {
      const [r, g, b] = rgb.map((c) => (c / 255 <= 0.03928 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = (element) => {
      for (let at = element; at; at = at.parentElement) {
        const [r, g, b, a = 1] = numbers(getComputedStyle(at).backgroundColor);
        if (a === 1) return [r, g, b];
      }
      return [255, 255, 255];
    };
    const faint = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      if (!walker.currentNode.data.trim() || element.closest("noscript, .unseen, .skip")) continue;
      const [light, dark] = [luminance(numbers(getComputedStyle(element).color).slice(0, 3)), luminance(ground(element))].sort((a, b) => b - a);
      if ((light + 0.05) / (dark + 0.05) < 4.5) faint.push(walker.currentNode.data);
    }
    return {
      wide: document.documentElement.scrollWidth - innerWidth,
      nameless: [...document.querySelectorAll("button, input, a")].filter((one) => !one.textContent.trim() && !one.labels?.length).length,
      headings: document.querySelectorAll("h1").length,
      faint,
    };
  });
  assert.equal(wide, 0, `${where}: the page is wider than the window`);
  assert.equal(nameless, 0, `${where}: something has no name`);
  assert.equal(headings, 1, `${where}: one first heading`);
  assert.deepEqual(faint, [], `${where}: text that is hard to read`);
}

const heading = (page, name) => page.getByRole("heading", { name });

/** Each view, once it has its content. */
const views = {
  overview: ["", async (page) => {
    await heading(page, /want.? attention/).waitFor();
    await page.getByText("Party 4").waitFor();
    await page.getByText("stands by").waitFor();
  }],
  requests: ["#/requests", (page) => page.locator("li.request").nth(4).waitFor()],
  request: [`#/requests/${waiting}`, (page) => page.getByText("Party 3").waitFor()],
};

try {
  // Without a key nothing is shown, and a wrong one is said to be wrong.
  const light = await open({ ...desktop, colorScheme: "light" }, false);
  const { page } = light;
  await heading(page, "Operator’s key").waitFor();
  await inspect(page, "key");
  await picture(page, "key-light");
  await page.getByLabel("Key", { exact: true }).fill("kms_wrong");
  await page.getByRole("button", { name: "Open the console" }).click();
  await page.getByRole("alert").getByText("not known here").waitFor();
  await page.getByLabel("Key", { exact: true }).fill(key);
  await page.getByRole("button", { name: "Open the console" }).click();
  await views.overview[1](page);
  // The browser itself reports the two answers without access.
  assert.ok(light.problems.every((problem) => problem.includes("401")), light.problems.join("\n"));
  light.problems.length = 0;

  // What is said of the parties is what they said; a stage leads to its requests.
  await page.getByText("3 of 4 ready, none more may fail").waitFor();
  await page.getByText("chain 31337, https://two.example: 9 blocks behind").waitFor();
  await page.locator('a[data-key="dispatched"]').click();
  await page.locator(`a[href="#/requests/${waiting}"]`).waitFor();
  assert.equal(await page.locator(`a[href="#/requests/${done}"]`).count(), 0, "a request of another stage is listed");
  await page.getByRole("link", { name: "Failed" }).click();
  await page.getByText("a quorum is out of reach").waitFor();

  // Found by the first digits of its id; the way of a request that is done is whole.
  await page.getByRole("searchbox").fill(done.slice(0, 12));
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByRole("link", { name: done.slice(0, 10) }).click();
  await page.getByText("confirmed").waitFor();
  const stages = await page.locator(".timeline .stage").allTextContents();
  assert.deepEqual(stages, ["seen", "final", "dispatched", "quorum", "submitting", "mined", "done"]);
  await inspect(page, "done");
  await picture(page, "done-light");
  await page.getByRole("searchbox").fill("0x12zz");
  await page.getByRole("button", { name: "Find" }).click();
  await page.getByRole("alert").getByText("hex digits").waitFor();
  assert.ok(light.problems.every((problem) => problem.includes("400")), light.problems.join("\n"));
  light.problems.length = 0;

  // A new request comes into the list by itself, and its view follows it to the end.
  await page.getByRole("link", { name: "Requests" }).first().click();
  await page.locator("li.request").first().waitFor();
  const answer = await page.request.post(`${url}/v2/public-decrypt`, { data: post, headers: { "content-type": "application/json" } });
  assert.equal(answer.status(), 202);
  const { requestId } = await answer.json();
  await page.locator(`a[href="#/requests/${requestId}"]`).click();
  await page.locator("h1 .mark", { hasText: "done" }).waitFor();
  assert.deepEqual(light.problems, []);

  // With the keyboard alone: the first stop leads past the head.
  await page.reload();
  await heading(page, /^Request/).waitFor();
  await page.keyboard.press("Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Skip to the content");
  await light.close();

  for (const [device, options] of Object.entries({ desktop, phone })) {
    for (const colorScheme of ["light", "dark"]) {
      for (const [name, [path, ready]] of Object.entries(views)) {
        const { page, problems, close } = await open({ ...options, colorScheme }, true, path);
        await ready(page);
        await page.getByText("Live", { exact: true }).waitFor();
        await inspect(page, `${name}, ${device}, ${colorScheme}`);
        await picture(page, `${name}-${device}-${colorScheme}`);
        assert.deepEqual(problems, []);
        await close();
      }
    }
  }

  // A relayer that is gone is said so, and what was seen stays.
  const lost = await open({ ...phone, colorScheme: "light" }, true, "#/requests");
  await lost.page.locator("li.request").first().waitFor();
  await lost.page.route("**/api/**", (route) => route.abort());
  await lost.page.goto(`${url}/console/?again#/`);
  await lost.page.getByText("Connection lost, trying again").waitFor();
  await picture(lost.page, "lost-phone");
  await lost.close();
} finally {
  await browser.close();
}
console.log(JSON.stringify({ pictures }));
