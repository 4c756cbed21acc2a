/**
 * The shape of the source: imports point one way, and each third-party API has one door (STYLE of the project; README, "How it works").
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";

const SOURCE = path.join(__dirname, "../src");
/** From the top down: a folder may import itself and what stands after it. "" is src itself. */
const LAYERS = [
  ...["", "master", "server"],
  ...["cluster/node", "cluster/repair", "cluster/sync", "cluster/membership", "cluster/replica"],
  ...["cluster/peers", "cluster/wire", "cluster/register", "cluster/layout"],
  ...["cli", "shards", "engine", "engine/compaction", "engine/log", "rules", "format", "util"],
];

const files = readdirSync(SOURCE, { recursive: true })
  .map(String)
  .filter((file) => file.endsWith(".ts"));

function importsOf(file: string): string[] {
  const text = readFileSync(path.join(SOURCE, file), "utf8");
  return [...text.matchAll(/(?:from|import|require\()\s*"([^"]+)"/g)].map((match) => match[1]);
}

test("layers: imports point one way", () => {
  for (const file of files) {
    const folder = path.dirname(file) === "." ? "" : path.dirname(file);
    const level = LAYERS.indexOf(folder);
    assert.ok(level >= 0, `src/${file} is in no known layer`);
    for (const target of importsOf(file)) {
      if (!target.startsWith(".")) continue;
      const to = path.relative(SOURCE, path.dirname(path.join(SOURCE, path.dirname(file), target)));
      assert.ok(
        LAYERS.indexOf(to) >= level,
        `src/${file} imports ${target}: ${folder || "src"} must not know ${to || "src"}`,
      );
    }
  }
});

test("layers: each third-party package has one door", () => {
  const doors: Record<string, string[]> = {};
  // A file may name a package twice: its types, and where it is loaded.
  for (const file of files)
    for (const target of new Set(importsOf(file)))
      if (!target.startsWith(".") && !target.startsWith("node:"))
        doors[target] = [...(doors[target] ?? []), file];
  for (const [name, users] of Object.entries(doors)) {
    // Types of uWS are also named where the addon is loaded.
    const allowed = name === "uWebSockets.js" ? 2 : 1;
    assert.ok(users.length <= allowed, `${name} is imported by ${users.join(", ")}`);
  }
});
