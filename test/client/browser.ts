/** Pages in Chromium that have the libraries as they are built. */
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import path from "node:path";
import { transformSync } from "esbuild";
import type { Browser, Page } from "playwright-core";
import { launchChromium } from "../rest/chromium.ts";
import { closeConnections } from "../rest/client.ts";
import { builtProgram, REPOSITORY } from "../rest/server.ts";

export interface Pages {
  /** Of the pages, as nodes are to allow it. */
  readonly origin: string;
  /** Another host is another origin. */
  open(host?: string): Promise<Page>;
  /** Calls a function of in-page.ts with what these modules give, and more words of JavaScript. */
  within(page: Page, name: string, modules: string[], ...words: string[]): Promise<unknown>;
  close(): Promise<void>;
}

/** Serves them, and starts the browser, which has to be here. */
export async function startPages(): Promise<Pages> {
  await builtProgram();
  const source = readFileSync(path.join(__dirname, "in-page.ts"), "utf8");
  const script = transformSync(source, { loader: "ts", format: "esm" }).code;
  const server = createServer(({ url = "" }, response) => {
    const [, library] = /^\/([\w-]+\.mjs)$/.exec(url) ?? [];
    const isScript = library !== undefined;
    response.setHeader("Content-Type", isScript ? "text/javascript" : "text/html");
    if (library === "in-page.mjs") response.end(script);
    else if (isScript) response.end(readFileSync(path.join(REPOSITORY, "dist/client", library)));
    else response.end("<!doctype html><title>a page</title>");
  });
  const browser = (await launchChromium()) as Browser;
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  return {
    origin: `http://127.0.0.1:${port}`,
    async open(host = "127.0.0.1") {
      const page = await browser.newPage();
      await page.goto(`http://${host}:${port}/`);
      return page;
    },
    within(page, name, modules, ...words) {
      const given = [...modules.map((module) => `await import("/${module}.mjs")`), ...words];
      return page.evaluate(`(async () => (await import("/in-page.mjs")).${name}(${given.join(", ")}))()`);
    },
    async close() {
      await browser.close();
      server.closeAllConnections();
      server.close();
      closeConnections();
    },
  };
}
