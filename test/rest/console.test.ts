/**
 * The console in a real browser: Chromium, driven by playwright-core, without anything from other hosts. Skipped
 * where there is no Chromium (Debian: apt-get install chromium).
 */
import assert from "node:assert/strict";
import path from "node:path";
import { after, describe, test } from "node:test";
import { gzipSync } from "node:zlib";
import type { Page } from "playwright-core";
import { startCluster } from "../cluster/workers.ts";
import { needsChromium, openPage, SHOWN_MS_MAX, sharedChromium, shows } from "./chromium.ts";
import { call, closeConnections } from "./client.ts";
import { removeFolder, runProgram, temporaryFolder, waitUntil, withServer } from "./server.ts";

const PAGE_BYTES_MAX = 200 * 1024;

const folder = temporaryFolder();
const browser = sharedChromium();
after(() => {
  closeConnections();
  removeFolder(folder);
});

const open = (url: string, width?: number) => openPage(browser(), url, width);

/** Waits until so many nodes of a table are well, or not. */
function counts(page: Page, word: "good" | "bad", count: number): Promise<void> {
  const cells = page.locator(`td .${word}`);
  return waitUntil(`${count} ${word}`, async () => (await cells.count()) === count, SHOWN_MS_MAX);
}

/** What runs in the page itself. */
interface Inside {
  document: { documentElement: { scrollWidth: number; clientWidth: number } };
  getComputedStyle(element: object): { color: string; backgroundColor: string };
}

/** Files as they are dropped. */
function dropOf(names: string[]): object {
  const { DataTransfer } = globalThis as unknown as {
    DataTransfer: new () => { items: { add(file: File): void } };
  };
  const dropped = new DataTransfer();
  for (const name of names) dropped.items.add(new File([`of ${name}`], name, { type: "text/plain" }));
  return dropped;
}

/** By how much the page is wider than what shows it. */
function overhang(): number {
  const { scrollWidth, clientWidth } = (globalThis as unknown as Inside).document.documentElement;
  return scrollWidth - clientWidth;
}

function colours(): string[] {
  const inside = globalThis as unknown as Inside;
  const { color, backgroundColor } = inside.getComputedStyle(inside.document.documentElement);
  return [color, backgroundColor];
}

describe("console: what is sent", () => {
  test("one page with a strict policy, without a token; browsers that ask for / are sent there, curl is not", async () => {
    await withServer({ flags: ["-auth", "a-key-of-this-test"] }, async ({ port }) => {
      for (const target of ["/_ui/", "/_ui", "/%5Fui/"]) {
        const { status, headers, body } = await call(port, "GET", target);
        assert.deepEqual([status, headers["content-type"]], [200, "text/html; charset=utf-8"]);
        assert.ok(body.length <= PAGE_BYTES_MAX, `${body.length} bytes`);
        const policy = String(headers["content-security-policy"]);
        assert.match(
          policy,
          /^default-src 'none'; script-src 'sha256-[^ ;]+'; style-src 'sha256-[^ ;]+'; connect-src 'self';/,
        );
        assert.match(policy, /frame-ancestors 'none'/);
        assert.doesNotMatch(body.toString(), /(?:src|href)="(?!data:,)/);
      }
      assert.equal((await call(port, "HEAD", "/_ui/")).status, 200);
      assert.equal((await call(port, "PUT", "/_ui/", { body: "x" })).status, 401);
      assert.equal((await call(port, "GET", "/_ui/other")).status, 401);
      const page = await call(port, "GET", "/", { headers: { Accept: "text/html,application/xhtml+xml" } });
      assert.deepEqual([page.status, page.headers.location], [302, "/_ui/"]);
      assert.equal((await call(port, "GET", "/", { headers: { Accept: "*/*" } })).json().name, "minivault");
      assert.equal((await call(port, "GET", "/")).status, 200);
    });
  });
});

describe("console: in Chromium", needsChromium, () => {
  test("a first visit: /, put, see it, edit it, a conflict, delete it", async () => {
    await withServer({}, async ({ port, url }) => {
      await call(port, "PUT", "/photos/1", {
        body: "x".repeat(3_000_000),
        headers: { "Content-Type": "video/mp4" },
      });
      const { page, complaints } = await open(`${url}/`);
      assert.equal(new URL(page.url()).pathname, "/_ui/");
      await page.getByText("worker", { exact: false }).first().waitFor();
      await page.getByRole("status").filter({ hasText: "healthy" }).waitFor();
      await page.getByRole("heading", { name: "Figures" }).waitFor();

      const key = page.getByLabel("Key", { exact: true });
      await key.fill("notes/ü <b>1</b>");
      await page.getByRole("button", { name: "New" }).click();
      await page.getByLabel("Value").fill("hello");
      await page.getByRole("button", { name: "Create" }).click();
      await page.getByText("version", { exact: false }).waitFor();
      const stored = `/notes/${encodeURIComponent("ü <b>1</b>")}`;
      assert.equal((await call(port, "GET", stored)).text, "hello");
      assert.equal(await page.locator("h3 b").count(), 0);

      await page.getByLabel("Value").fill("hello again");
      await page.getByRole("button", { name: "Save" }).click();
      const saved = async () => (await call(port, "GET", stored)).text === "hello again";
      while (!(await saved())) await page.waitForTimeout(20);

      // Somebody else is faster, once this page has what it saved.
      const { headers } = await call(port, "HEAD", stored);
      await page.getByText(`version ${headers.etag}`).waitFor();
      await call(port, "PUT", stored, {
        body: "of somebody else",
        headers: { "Content-Type": "text/plain" },
      });
      await page.getByLabel("Value").fill("mine");
      await page.getByRole("button", { name: "Save" }).click();
      await page.getByText("Somebody has changed it meanwhile").waitFor();
      assert.equal((await call(port, "GET", stored)).text, "of somebody else");

      await page.getByRole("button", { name: "Load anew" }).click();
      await page.getByRole("button", { name: "Give them up" }).click();
      await shows(page, "of somebody else");
      await page.getByRole("button", { name: "Delete" }).click();
      await page.getByRole("button", { name: "Delete it, surely" }).click();
      await page.getByText("is deleted.", { exact: false }).waitFor();
      assert.equal((await call(port, "GET", stored)).status, 404);

      // What is large is not fetched.
      await key.fill("photos/1");
      await page.getByRole("button", { name: "Open" }).click();
      await page.getByText("Not shown here").waitFor();
      await key.fill("none");
      await page.getByRole("button", { name: "Open" }).click();
      await page.getByText("There is no such key.").waitFor();

      await page
        .getByLabel("Upload to")
        .setInputFiles({ name: "a.txt", mimeType: "text/plain", buffer: Buffer.from("file") });
      await page.getByText("a.txt is stored.").waitFor();
      assert.equal((await call(port, "GET", "/a.txt")).text, "file");
      assert.deepEqual(complaints, []);
      await page.close();
    });
  });

  test("the tree: prefixes are walked, a long list says that it is cut, a name is shown as it is", async () => {
    await withServer({}, async ({ port, url }) => {
      const operations = Array.from({ length: 450 }, (_, index) => ({
        op: "put",
        key: `many/${String(index).padStart(4, "0")}`,
        value: index,
      }));
      operations.push({ op: "put", key: "pictures/<img src=x onerror=alert(1)>", value: 1 });
      const headers = { "Content-Type": "application/json" };
      const sent = await call(port, "POST", "/_batch", { headers, body: JSON.stringify({ operations }) });
      assert.equal(sent.status, 200, sent.text);
      const { page, complaints } = await open(`${url}/_ui/`);
      const rows = page.locator("ul.keys li");
      await page.getByRole("button", { name: "many/" }).click();
      await page.getByText("The list is cut here.").waitFor();
      // A page has at most 200, and fewer where the node is slow.
      let shown = await rows.count();
      assert.ok(shown <= 200, `${shown} on the first page`);
      while (shown < 450) {
        await page.getByRole("button", { name: "More" }).click();
        await waitUntil("another page", async () => (await rows.count()) > shown, SHOWN_MS_MAX);
        shown = await rows.count();
      }
      assert.equal(shown, 450);
      assert.equal(await page.getByText("The list is cut here.").count(), 0);
      await page.getByRole("button", { name: "0007", exact: true }).click();
      await shows(page, '{"value":7}');
      await page.getByRole("button", { name: "all keys" }).click();
      await page.getByRole("button", { name: "pictures/" }).click();
      await page.getByRole("button", { name: "<img src=x" }).waitFor();
      assert.equal(await page.locator("ul.keys img").count(), 0);
      assert.deepEqual(complaints, []);
      await page.close();
    });
  });

  test("what is saved keeps its end, its lines and what is kept beside it; an end is set; what unpacks to much is not shown", async () => {
    await withServer({}, async ({ port, url }) => {
      const text = "one\r\ntwo\r\n";
      const kept = { "Content-Type": "text/plain", "Cache-Control": "max-age=5", "X-Meta-Owner": "ada" };
      await call(port, "PUT", "/w/1?ttl=1h", { body: text, headers: kept });
      await call(port, "PUT", "/w/mixed", { body: "a\nb\r\n", headers: { "Content-Type": "text/plain" } });
      const packed = { "Content-Type": "text/plain", "Content-Encoding": "gzip" };
      await call(port, "PUT", "/w/packed", { body: gzipSync(Buffer.alloc(3_000_000, "x")), headers: packed });
      const { page, complaints } = await open(`${url}/_ui/`);
      await page.getByRole("button", { name: "w/" }).click();
      const begin = page.getByLabel("Begins with");
      await begin.fill("pa");
      await page.getByRole("button", { name: "mixed" }).waitFor({ state: "detached" });
      await page.getByRole("button", { name: "packed" }).click();
      await page.getByText("Not shown here").waitFor();
      await begin.fill("");
      await page.getByRole("button", { name: "mixed" }).click();
      await page.getByRole("heading", { name: "w/mixed" }).waitFor();
      await page.getByText("Not shown here").waitFor();
      await page.getByRole("button", { name: "1", exact: true }).click();
      await shows(page, "one\ntwo\n");
      await page.getByText(/, ends /).waitFor();
      await page.getByLabel("Value").fill("one\n2\n");
      await page.getByRole("button", { name: "Save" }).click();
      await page.getByText("Saved.").waitFor();
      const saved = await call(port, "GET", "/w/1");
      assert.equal(saved.text, "one\r\n2\r\n");
      assert.deepEqual([saved.headers["cache-control"], saved.headers["x-meta-owner"]], ["max-age=5", "ada"]);
      const left = Number(saved.headers["x-ttl"]);
      assert.ok(left > 0 && left <= 3600, `${left} s are left`);

      // An end, a bad one, none; each over the version that is shown.
      const setEnd = async (end: string, words: string | RegExp): Promise<number> => {
        await page.getByLabel("Ends after").fill(end);
        await page.getByRole("button", { name: "Set the end" }).click();
        await page.getByRole("status").filter({ hasText: words }).waitFor();
        return Number((await call(port, "HEAD", "/w/1")).headers["x-ttl"] ?? 0);
      };
      assert.ok((await setEnd("2h", "It ends then.")) > 3600);
      assert.ok((await setEnd("soon", /ttl is a number of seconds/)) > 3600);
      assert.equal(await setEnd("", "It never ends now."), 0);
      await page.getByText(", never ends").waitFor();
      assert.deepEqual(complaints, []);
      await page.close();
    });
  });

  test("files dropped anywhere on the keys are stored, and none over another", async () => {
    await withServer({}, async ({ port, url }) => {
      await call(port, "PUT", "/d/0", { body: "x", headers: { "Content-Type": "text/plain" } });
      const { page, complaints } = await open(`${url}/_ui/`);
      await page.getByRole("button", { name: "d/" }).click();
      await page.getByRole("button", { name: "0", exact: true }).waitFor();
      const drop = async (...names: string[]): Promise<void> => {
        const dataTransfer = await page.evaluateHandle(dropOf, names);
        await page.dispatchEvent("ul.keys", "drop", { dataTransfer });
      };
      await drop("a.txt", "b.txt");
      await page.getByText("2 files are stored.").waitFor();
      await page.getByRole("button", { name: "b.txt" }).waitFor();
      assert.equal((await call(port, "GET", "/d/b.txt")).text, "of b.txt");
      await drop("c.txt", "0", "e.txt");
      await page.getByText("d/c.txt is stored. d/0 is there already; delete it first.").waitFor();
      assert.equal((await call(port, "GET", "/d/0")).text, "x");
      assert.equal((await call(port, "GET", "/d/e.txt")).status, 404);
      assert.deepEqual(complaints, []);
      await page.close();
    });
  });

  test("changes below the prefix that is shown appear as they happen, in the tree and in words", async () => {
    await withServer({}, async ({ port, url }) => {
      const put = (key: string) =>
        call(port, "PUT", key, { body: "x", headers: { "Content-Type": "text/plain" }, agent: false });
      await put("/live/0");
      const { page, complaints } = await open(`${url}/_ui/`);
      await page.getByRole("button", { name: "live/" }).click();
      await page.getByRole("button", { name: "0", exact: true }).waitFor();
      // The page begins to follow when it has been drawn: until it does, another change is another chance.
      const words = page.locator("ul.changes li");
      let number = 0;
      await waitUntil(
        "a change",
        async () => {
          await put(`/live/new-${number++}`);
          return (await words.count()) > 0;
        },
        SHOWN_MS_MAX,
      );
      await page.getByRole("button", { name: "new-0", exact: true }).waitFor();
      assert.equal((await call(port, "DELETE", "/live/new-0", { agent: false })).status, 200);
      await page.getByText(/^delete live\/new-0/).waitFor();
      await page.getByRole("button", { name: "new-0", exact: true }).waitFor({ state: "detached" });
      assert.deepEqual(complaints, []);
      await page.close();
    });
  });

  test("a token that only reads: nothing without it, values with it, no change by it", async () => {
    const file = path.join(folder, "tokens");
    const made = await runProgram([
      ...["token", "reader", "-prefix", "a/", "-allow", "read,metrics", "-tokens", file, "-json"],
    ]);
    const writer = await runProgram([
      "token",
      "writer",
      "-prefix",
      "",
      "-allow",
      "write",
      "-tokens",
      file,
      "-json",
    ]);
    const { token } = JSON.parse(made.output);
    await withServer({ flags: ["-tokens", file] }, async ({ port, url }) => {
      const headers = {
        Authorization: `Bearer ${JSON.parse(writer.output).token}`,
        "Content-Type": "text/plain",
      };
      await call(port, "PUT", "/a/1", { headers, body: "shown" });
      await call(port, "PUT", "/b/1", { headers, body: "hidden" });
      const { page, complaints } = await open(`${url}/_ui/`);
      await page.getByText("a token that allows", { exact: false }).waitFor();
      assert.equal(await page.getByRole("heading", { name: "Figures" }).count(), 0);
      await page.getByLabel("Token").fill(token);
      await page.getByRole("button", { name: "Use" }).click();
      await page.getByRole("heading", { name: "Figures" }).waitFor();
      const show = async (key: string) => {
        await page.getByLabel("Key", { exact: true }).fill(key);
        await page.getByRole("button", { name: "Open" }).click();
      };
      await show("b/1");
      await page.getByText("status 403").waitFor();
      await show("a/1");
      await shows(page, "shown");
      await page.getByLabel("Value").fill("changed");
      await page.getByRole("button", { name: "Save" }).click();
      await page.getByRole("status").filter({ hasText: "this token does not allow that" }).waitFor();
      assert.ok(!page.url().includes("mv1") && !(await page.locator("body").innerText()).includes("hidden"));
      assert.deepEqual(complaints, []);
      await page.close();
    });
  });

  test("a cluster: workers at the master, one that dies turns red; all of it fits a phone, dark and light", async () => {
    const cluster = await startCluster({ workers: 3, direct: true });
    try {
      await cluster.ready();
      const { page, complaints } = await open(`http://127.0.0.1:${cluster.masterPort}/_ui/`);
      await page.getByRole("heading", { name: "Workers" }).waitFor();
      await counts(page, "good", 3);
      const worker = await open(`${cluster.workers[0].url}/_ui/`, 380);
      await worker.page.getByRole("heading", { name: "Other nodes" }).waitFor();
      await counts(worker.page, "good", 2);
      await cluster.workers[2].kill();
      await counts(page, "bad", 1);
      await counts(worker.page, "bad", 1);
      for (const colorScheme of ["dark", "light"] as const) {
        await worker.page.emulateMedia({ colorScheme });
        assert.equal(await worker.page.evaluate(overhang), 0);
        const [text, ground] = await worker.page.evaluate(colours);
        assert.notEqual(text, ground);
      }
      const folderOfPictures = process.env.SCREENSHOTS;
      if (folderOfPictures !== undefined) {
        await page.screenshot({ path: path.join(folderOfPictures, "console-master.png") });
        await worker.page.screenshot({ path: path.join(folderOfPictures, "console-phone.png") });
      }
      assert.deepEqual([...complaints, ...worker.complaints], []);
      await page.close();
      await worker.page.close();
    } finally {
      await cluster.dispose();
    }
  });
});
