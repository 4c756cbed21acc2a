/** What is typed into the console's editor and not saved yet: nothing takes it away unasked. In Chromium. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import type { Page } from "playwright-core";
import { freePort } from "../../native-bench/processes.ts";
import { needsChromium, openPage, sharedChromium, shows } from "./chromium.ts";
import { call, closeConnections } from "./client.ts";
import { startServer } from "./server.ts";

const TEXT = { "Content-Type": "text/plain" };

const browser = sharedChromium();
after(closeConnections);

async function openKey(page: Page, key: string): Promise<void> {
  await page.getByLabel("Key", { exact: true }).fill(key);
  await page.getByRole("button", { name: "Open" }).click();
}

/** Types at the end of the value, as a person does: only then a browser warns of what would be lost. */
async function type(page: Page, text: string): Promise<void> {
  await page.getByLabel("Value").focus();
  await page.keyboard.press("Control+End");
  await page.keyboard.type(text);
}

/** Whether a browser would be told to ask; it does so only after a real gesture. Runs in the page itself. */
function asksBeforeItGoes(): boolean {
  const inside = globalThis as unknown as EventTarget;
  return !inside.dispatchEvent(new Event("beforeunload", { cancelable: true }));
}

test(
  "console: unsaved edits stay until they are given up, by keyboard; and over a restart of the node",
  needsChromium,
  async () => {
    const server = await startServer({ flags: ["-port", String(await freePort())] });
    try {
      for (const key of ["a", "b"]) await call(server.port, "PUT", `/${key}`, { body: key, headers: TEXT });
      const { page, complaints } = await openPage(browser(), `${server.url}/_ui/`);
      const dialog = page.getByRole("alertdialog", { name: "These edits would be lost" });
      const tree = (key: string) => page.locator("ul.keys").getByRole("button", { name: key, exact: true });
      const leaving: [name: string, leave: () => Promise<void>][] = [
        ["another key", () => openKey(page, "b")],
        ["a key of the tree", () => tree("b").click()],
        ["a new key", () => page.getByRole("button", { name: "New", exact: true }).click()],
        ["the value anew", () => page.getByRole("button", { name: "Load anew" }).click()],
        ["a key that is not there", () => openKey(page, "none")],
        [
          "another token",
          async () => {
            await page.getByLabel("Token").fill("another");
            await page.getByRole("button", { name: "Use" }).click();
          },
        ],
      ];
      await openKey(page, "a");
      await shows(page, "a");
      // Nothing is asked where nothing was changed.
      await openKey(page, "b");
      await shows(page, "b");
      await openKey(page, "a");
      await shows(page, "a");
      await type(page, "!");
      for (const [name, leave] of leaving) {
        await leave();
        await dialog.waitFor();
        // Where the focus is: Enter or Escape keep what was typed.
        assert.equal(await page.locator(":focus").innerText(), "Keep editing", name);
        await page.keyboard.press(name === "the value anew" ? "Enter" : "Escape");
        await dialog.waitFor({ state: "hidden" });
        assert.equal(await page.getByLabel("Value").inputValue(), "a!", name);
        assert.equal(await page.getByRole("heading", { level: 3, name: "a", exact: true }).count(), 1, name);
      }

      // The browser asks before the page goes.
      assert.equal(await page.evaluate(asksBeforeItGoes), true);

      await server.kill();
      await page.getByText("the node does not answer").waitFor();
      await server.restart();
      await page.getByRole("status").filter({ hasText: "healthy" }).waitFor();
      await shows(page, "a!");

      await page.getByRole("button", { name: "Save" }).click();
      await page.getByText("Saved.").waitFor();
      assert.equal((await call(server.port, "GET", "/a")).text, "a!");
      // What is saved is not asked for; what is typed since is.
      await openKey(page, "b");
      await shows(page, "b");
      await type(page, "?");
      await openKey(page, "a");
      await dialog.waitFor();
      await page.keyboard.press("Tab");
      await page.keyboard.press("Enter");
      await shows(page, "a!");
      assert.equal(await page.locator("section:focus").count(), 1, "the focus is at the value that is shown");
      assert.equal((await call(server.port, "GET", "/b")).text, "b");

      // A key that is new, and one that is deleted, whatever was typed.
      await page.getByLabel("Key", { exact: true }).fill("c");
      await page.getByRole("button", { name: "New", exact: true }).click();
      await page.getByRole("heading", { level: 3, name: "c", exact: true }).waitFor();
      await page.getByLabel("Type").fill("text/html");
      await openKey(page, "a");
      await dialog.waitFor();
      await page.getByRole("button", { name: "Give them up" }).click();
      await shows(page, "a!");
      await type(page, "?");
      await page.getByRole("button", { name: "Delete" }).click();
      await page.getByRole("button", { name: "Delete it, surely" }).click();
      await page.getByText("a is deleted.").waitFor();
      assert.equal(await dialog.isVisible(), false);
      assert.equal(await page.evaluate(asksBeforeItGoes), false);
      await page.close();
      assert.deepEqual(complaints, []);
    } finally {
      await server.dispose();
    }
  },
);
