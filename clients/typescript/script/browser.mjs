// Starts a headless Chromium from npm (or the one that KMS_CHROMIUM or PATH names).
import { existsSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { delimiter, join } from "node:path";
import { chromium as playwright } from "playwright-core";

const cache = new URL("../../../.cache/chromium-147", import.meta.url).pathname;

/** Unpacks the packaged browser once, and the libraries that it needs for machines without them. */
async function packaged() {
  await mkdir(cache, { recursive: true });
  // The package unpacks into the folder for temporary files.
  process.env.TMPDIR = cache;
  const { default: chromium, inflate } = await import("@sparticuz/chromium");
  const executablePath = await chromium.executablePath();
  const libraries = join(cache, "al2023", "lib");
  if (!existsSync(libraries)) {
    await inflate(new URL("bin/al2023.tar.br", import.meta.resolve("@sparticuz/chromium/package.json")).pathname).catch(() => undefined);
  }
  const path = [process.env.LD_LIBRARY_PATH, libraries].filter(Boolean).join(delimiter);
  return { executablePath, env: { ...process.env, LD_LIBRARY_PATH: path } };
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
  const found = fits ? await packaged() : { executablePath: installed() };
  if (!found.executablePath) throw new Error("no Chromium: set KMS_CHROMIUM to one");
  // Tests run as root in containers, where Chromium's own sandbox does not.
  return playwright.launch({ ...found, args: ["--no-sandbox"] });
}
