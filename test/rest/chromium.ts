/** Chromium for tests, driven by playwright-core. */
import fs from "node:fs";
import { type Browser, chromium } from "playwright-core";

const CHROMIUM = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"].find((file) =>
  fs.existsSync(file),
);
/** Options of a test: skipped where there is no Chromium (Debian: apt-get install chromium). */
export const needsChromium = {
  skip: CHROMIUM === undefined ? "chromium is not installed" : false,
  timeout: 600_000,
};
/** Longest that a page may take to show something, on a machine that is busy. */
export const SHOWN_MS_MAX = 120_000;

/** Starts it; null: it is not here. */
export async function launchChromium(): Promise<Browser | null> {
  if (CHROMIUM === undefined) return null;
  return chromium.launch({
    executablePath: CHROMIUM,
    args: ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"],
    timeout: SHOWN_MS_MAX,
  });
}
