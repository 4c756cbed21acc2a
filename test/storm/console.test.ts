/** The console over a million keys: how long a page of it takes, and what the browser holds. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { launchChromium, needsChromium, SHOWN_MS_MAX } from "../rest/chromium.ts";
import { call, closeConnections } from "../rest/client.ts";
import { waitUntil, withServer } from "../rest/server.ts";

const KEYS = 1_000_000;
const BATCH_KEYS = 10_000;
/** Of the page's own objects, whatever it has shown. */
const HEAP_BYTES_MAX = 64 * 2 ** 20;

/** Of each ten: one below a month, two below a user, seven side by side. */
function keyOf(number: number): string {
  const name = String(number).padStart(7, "0");
  if (number % 10 === 0) return `logs/2026-${String(1 + ((number / 10) % 12)).padStart(2, "0")}/${name}`;
  return number % 10 < 3 ? `users/${String(number % 5000).padStart(4, "0")}/${name}` : `flat/${name}`;
}

async function fill(port: number): Promise<void> {
  for (let first = 0; first < KEYS; first += BATCH_KEYS) {
    const lines = Array.from({ length: BATCH_KEYS }, (_, index) =>
      JSON.stringify({ op: "put", key: keyOf(first + index), value: first + index }),
    );
    const headers = { "Content-Type": "application/x-ndjson" };
    const { status, text } = await call(port, "POST", "/_batch", { headers, body: lines.join("\n") });
    assert.equal(status, 200, text);
  }
}

test(
  "console: a million keys are walked, narrowed and paged; the page stays small",
  needsChromium,
  async (t) => {
    const browser = await launchChromium();
    assert.ok(browser !== null);
    t.after(() => browser.close());
    t.after(closeConnections);
    await withServer({ flags: ["-sync", "os"] }, async ({ port, url }) => {
      await fill(port);
      const page = await browser.newPage();
      page.setDefaultTimeout(SHOWN_MS_MAX);
      const timed = async (what: string, act: () => Promise<void>): Promise<void> => {
        const startMs = performance.now();
        await act();
        t.diagnostic(`${what}: ${Math.round(performance.now() - startMs)} ms`);
      };
      const rows = page.locator("ul.keys li");
      const button = (name: string) => page.getByRole("button", { name, exact: true });
      await timed("first visit", async () => {
        await page.goto(`${url}/`);
        await button("flat/").waitFor();
      });
      assert.deepEqual(await rows.allInnerTexts(), ["flat/", "logs/", "users/"]);
      await timed("5,000 prefixes, the first of them", async () => {
        await button("users/").click();
        await button("0001/").waitFor();
      });
      await button("all keys").click();
      await timed("700,000 keys side by side, the first of them", async () => {
        await button("flat/").click();
        await button("0000003").waitFor();
      });
      for (let more = 0; more < 10; more++)
        await timed("more", async () => {
          const shown = await rows.count();
          await button("More").click();
          await waitUntil("another page", async () => (await rows.count()) > shown, SHOWN_MS_MAX);
        });
      await timed("narrowed to one in the middle", async () => {
        await page.getByLabel("Begins with").fill("0500003");
        await waitUntil("one row", async () => (await rows.count()) === 1, SHOWN_MS_MAX);
      });
      await button("0500003").click();
      await page.getByRole("button", { name: "Save" }).waitFor();
      assert.equal(await page.locator("textarea").inputValue(), '{"value":500003}');
      const session = await page.context().newCDPSession(page);
      await session.send("HeapProfiler.collectGarbage");
      const { usedSize } = await session.send("Runtime.getHeapUsage");
      t.diagnostic(`heap of the page: ${(usedSize / 2 ** 20).toFixed(1)} MiB`);
      assert.ok(usedSize < HEAP_BYTES_MAX, `${usedSize} bytes`);
    });
  },
);
