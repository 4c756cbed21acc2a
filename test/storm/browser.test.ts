/** The client in a page, against a cluster. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { startPages } from "../client/browser.ts";
import { startCluster } from "../cluster/workers.ts";
import { needsChromium } from "../rest/chromium.ts";

test(
  "a page in Chromium: of three nodes one is killed, and reads, writes and a watch go on",
  needsChromium,
  async (t) => {
    const pages = await startPages();
    t.after(() => pages.close());
    const cluster = await startCluster({ workers: 3, flags: ["-cors", pages.origin] });
    try {
      const page = await pages.open();
      await page.exposeFunction("killOne", () => cluster.workers[0].kill());
      const url = cluster.workers.map((worker) => `http://127.0.0.1:${worker.port}`);
      const keys = Array.from({ length: 40 }, (_, i) => `k${i}`);
      const words = [JSON.stringify({ url }), JSON.stringify(keys), "globalThis.killOne"];
      assert.deepEqual(await pages.within(page, "failover", ["index"], ...words), {
        values: keys.map((_, i) => i),
        count: keys.length,
        isExact: true,
      });
      await page.close();
    } finally {
      await cluster.dispose();
    }
  },
);
