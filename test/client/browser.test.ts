/**
 * The libraries in a real browser, Chromium: a page of another origin uses a node that allows it. Over three nodes:
 * test/storm/browser.test.ts.
 */
import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { needsChromium } from "../rest/chromium.ts";
import { call } from "../rest/client.ts";
import { withServer } from "../rest/server.ts";
import { type Pages, startPages } from "./browser.ts";

describe("browser: the libraries in Chromium", needsChromium, () => {
  let pages: Pages;
  before(async () => {
    pages = await startPages();
  });
  after(() => pages?.close());

  test("browser: every method, streams and the adapters, against one node", async () => {
    await withServer({ flags: ["-cors", pages.origin] }, async ({ url }) => {
      const page = await pages.open();
      const options = JSON.stringify({ url });
      assert.deepEqual(await pages.within(page, "everyMethod", ["index"], options), {
        created: true,
        entry: [{ a: ["ä"] }, "application/json", { of: "a page" }, true, true],
        bytes: true,
        absent: ["undefined", "false"],
        exists: ["ExistsError", 409, "exists"],
        condition: ["PreconditionFailedError", 412, "precondition_failed"],
        isChanged: true,
        increment: [5, 6],
        patch: { b: 2 },
        append: "NotFoundError",
        list: [["b/bytes", "b/json", "b/n"], 3],
        batch: [[201, 200], true],
        lock: ["LockedError", 409, "locked"],
        deleted: [true, false],
        rest: 3,
        watch: [],
        stopped: "enough",
      });
      assert.deepEqual(await pages.within(page, "streams", ["index"], options), {
        stream: true,
        blob: true,
        types: ["video/mp4", "image/png"],
        log: true,
        part: [true, true],
        broken: "the source broke off",
        stopped: "no longer",
        nothing: false,
      });
      assert.deepEqual(await pages.within(page, "adapters", ["keyv", "unstorage"], options), [
        "one",
        "two",
        ["x:y"],
      ]);
      await page.close();
    });
  });

  test("browser: a page whose origin is not allowed reads and writes nothing, and is told", async () => {
    await withServer({ flags: ["-cors", pages.origin] }, async ({ url, port: node }) => {
      await call(node, "PUT", "/r", { body: "old" });
      // By another name it is another origin.
      const page = await pages.open("localhost");
      assert.deepEqual(await pages.within(page, "refused", ["index"], JSON.stringify({ url })), [
        "NetworkError",
        "UnknownOutcomeError",
      ]);
      assert.equal((await call(node, "GET", "/r")).text, "old");
      await page.close();
    });
  });
});
