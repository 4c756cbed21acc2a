/** The libraries in a real browser, Chromium: a page of another origin uses nodes that allow it. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { transformSync } from "esbuild";
import type { Browser, Page } from "playwright-core";
import { startCluster } from "../cluster/workers.ts";
import { launchChromium, needsChromium } from "../rest/chromium.ts";
import { call, closeConnections } from "../rest/client.ts";
import { builtProgram, REPOSITORY, withServer } from "../rest/server.ts";

describe("browser: the libraries in Chromium", needsChromium, () => {
  let pages: Server;
  let browser: Browser;
  let port = 0;
  /** Of the page, as nodes are to allow it. */
  const origin = () => `http://127.0.0.1:${port}`;

  before(async () => {
    await builtProgram();
    const source = readFileSync(path.join(__dirname, "in-page.ts"), "utf8");
    const script = transformSync(source, { loader: "ts", format: "esm" }).code;
    pages = createServer(({ url = "" }, response) => {
      const [, library] = /^\/([\w-]+\.mjs)$/.exec(url) ?? [];
      const isScript = library !== undefined;
      response.setHeader("Content-Type", isScript ? "text/javascript" : "text/html");
      if (library === "in-page.mjs") response.end(script);
      else if (isScript) response.end(readFileSync(path.join(REPOSITORY, "dist/client", library)));
      else response.end("<!doctype html><title>a page</title>");
    });
    await new Promise<void>((resolve) => pages.listen(0, "127.0.0.1", resolve));
    ({ port } = pages.address() as AddressInfo);
    browser = (await launchChromium()) as Browser;
  });
  after(async () => {
    await browser?.close();
    pages?.closeAllConnections();
    pages?.close();
    closeConnections();
  });

  async function open(host = "127.0.0.1"): Promise<Page> {
    const page = await browser.newPage();
    await page.goto(`http://${host}:${port}/`);
    return page;
  }

  /** Calls a function of in-page.ts with what these modules give, and more. */
  function within(page: Page, name: string, modules: string[], ...words: string[]): Promise<unknown> {
    const given = [...modules.map((module) => `await import("/${module}.mjs")`), ...words];
    return page.evaluate(`(async () => (await import("/in-page.mjs")).${name}(${given.join(", ")}))()`);
  }

  test("browser: every method, streams and the adapters, against one node", async () => {
    await withServer({ flags: ["-cors", origin()] }, async ({ url }) => {
      const page = await open();
      const options = JSON.stringify({ url });
      assert.deepEqual(await within(page, "everyMethod", ["index"], options), {
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
      assert.deepEqual(await within(page, "streams", ["index"], options), {
        stream: true,
        blob: true,
        types: ["video/mp4", "image/png"],
        part: [true, true],
        broken: "the source broke off",
        stopped: "no longer",
        nothing: false,
      });
      assert.deepEqual(await within(page, "adapters", ["keyv", "unstorage"], options), [
        "one",
        "two",
        ["x:y"],
      ]);
      await page.close();
    });
  });

  test("browser: a page whose origin is not allowed reads and writes nothing, and is told", async () => {
    await withServer({ flags: ["-cors", origin()] }, async ({ url, port: node }) => {
      await call(node, "PUT", "/r", { body: "old" });
      // By another name it is another origin.
      const page = await open("localhost");
      assert.deepEqual(await within(page, "refused", ["index"], JSON.stringify({ url })), [
        "NetworkError",
        "UnknownOutcomeError",
      ]);
      assert.equal((await call(node, "GET", "/r")).text, "old");
      await page.close();
    });
  });

  test("browser: of three nodes one is killed, and reads, writes and a watch go on", async () => {
    const cluster = await startCluster({ workers: 3, flags: ["-cors", origin()] });
    try {
      const page = await open();
      await page.exposeFunction("killOne", () => cluster.workers[0].kill());
      const url = cluster.workers.map((worker) => `http://127.0.0.1:${worker.port}`);
      const keys = Array.from({ length: 40 }, (_, i) => `k${i}`);
      const words = [JSON.stringify({ url }), JSON.stringify(keys), "globalThis.killOne"];
      assert.deepEqual(await within(page, "failover", ["index"], ...words), {
        values: keys.map((_, i) => i),
        count: keys.length,
        isExact: true,
      });
      await page.close();
    } finally {
      await cluster.dispose();
    }
  });
});
