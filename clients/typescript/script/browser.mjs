// Starts a headless Chromium from npm (or the one that KMS_CHROMIUM or PATH names).
import { execFileSync } from "node:child_process";
import { existsSync } from "node:fs";
import { mkdir, readFile } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { chromium as playwright } from "playwright-core";

const cache = new URL("../../../.cache/chromium-147", import.meta.url).pathname;

/** Unpacks the packaged browser once. */
async function packaged() {
  await mkdir(cache, { recursive: true });
  // The package unpacks into the folder for temporary files.
  process.env.TMPDIR = cache;
  const { default: chromium } = await import("@sparticuz/chromium");
  return chromium.executablePath();
}

/** The libraries that the packaged browser needs, which come with it, for machines without them. */
async function libraries() {
  const archive = new URL("../../bin/al2023.tar.br", import.meta.resolve("@sparticuz/chromium"));
  const folder = join(cache, "al2023");
  await mkdir(folder, { recursive: true });
  execFileSync("tar", ["-x", "-C", folder], { input: brotliDecompressSync(await readFile(archive)) });
  return [process.env.LD_LIBRARY_PATH, join(folder, "lib")].filter(Boolean).join(delimiter);
}

function installed() {
  if (process.env.KMS_CHROMIUM) return process.env.KMS_CHROMIUM;
  const names = ["chromium", "chromium-browser", "google-chrome"];
  const folders = (process.env.PATH ?? "").split(delimiter);
  return folders.flatMap((folder) => names.map((name) => join(folder, name))).find((path) => existsSync(path));
}

/** A running browser. */
export async function launch() {
  const fits = process.platform === "linux" && process.arch === "x64" && !process.env.KMS_CHROMIUM;
  const executablePath = fits ? await packaged() : installed();
  if (!executablePath) throw new Error("no Chromium: set KMS_CHROMIUM to one");
  // Tests run as root in containers, where Chromium's own sandbox does not.
  const options = { executablePath, args: ["--no-sandbox"] };
  try {
    return await playwright.launch(options);
  } catch (error) {
    if (!fits || !String(error).includes("shared libraries")) throw error;
    return playwright.launch({ ...options, env: { ...process.env, LD_LIBRARY_PATH: await libraries() } });
  }
}
