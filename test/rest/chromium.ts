/** Chromium for tests, driven by playwright-core. */
import fs from "node:fs";
import { after, before } from "node:test";
import { type Browser, chromium, type Page } from "playwright-core";
import { waitUntil } from "./server.ts";

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

/** One for all tests of a file, from before the first to after the last. */
export function sharedChromium(): () => Browser {
  let browser: Browser | null;
  before(async () => {
    browser = await launchChromium();
  });
  after(async () => {
    await browser?.close();
  });
  return () => browser as Browser;
}

/** A page that fails the test for what a browser complains of, and for requests to anybody else. */
export async function openPage(
  browser: Browser,
  url: string,
  width = 1200,
): Promise<{ page: Page; complaints: string[] }> {
  const page = await browser.newPage({ viewport: { width, height: 900 } });
  page.setDefaultTimeout(SHOWN_MS_MAX);
  const complaints: string[] = [];
  page.on("pageerror", (error) => complaints.push(error.message));
  page.on("console", (message) => {
    if (/Content Security Policy|Refused to/.test(message.text())) complaints.push(message.text());
  });
  page.on("request", (request) => {
    const target = new URL(request.url());
    if (/^https?:$/.test(target.protocol) && target.host !== new URL(url).host)
      complaints.push(request.url());
  });
  await page.goto(url);
  return { page, complaints };
}

/** Waits until the value that can be edited is this one. */
export function shows(page: Page, text: string): Promise<void> {
  return waitUntil(
    `${text} is shown`,
    async () => (await page.locator("textarea").inputValue()) === text,
    SHOWN_MS_MAX,
  );
}
