/** The documents are whole: links lead somewhere, lists of flags and figures are those of the source, README.md stays short. */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { FLAGS } from "../../src/config/flags.ts";
import { REPOSITORY, withServer } from "../rest/server.ts";
import { REFERENCE, referencePage } from "./reference.ts";
import { listedFiles, WAYS } from "./ways.ts";

const README_LINES_MAX = 200;

function read(name: string): string {
  return fs.readFileSync(path.join(REPOSITORY, name), "utf8");
}

const pages = [
  ...fs.readdirSync(REPOSITORY),
  ...fs.readdirSync(path.join(REPOSITORY, "docs"), { recursive: true }).map((file) => `docs/${file}`),
  "src/format/FORMAT.md",
  "native-bench/NOTES.md",
].filter((name) => name.endsWith(".md"));

/** A heading as the fragment of a link to it. */
function fragmentOf(heading: string): string {
  const word = heading.toLowerCase().replaceAll(/[^\p{Letter}\p{Number} _-]/gu, "");
  return word.replaceAll(" ", "-");
}

test("docs: README.md is short", () => {
  const lines = read("README.md").split("\n").length - 1;
  assert.ok(lines <= README_LINES_MAX, `${lines} lines`);
});

for (const name of pages)
  test(`docs: the links of ${name} lead somewhere`, () => {
    for (const [, target] of read(name).matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:/.test(target)) continue;
      const [file, fragment] = target.split("#");
      const found = file === "" ? name : path.join(path.dirname(name), file);
      assert.ok(fs.existsSync(path.join(REPOSITORY, found)), `${target} is not there`);
      if (fragment === undefined) continue;
      const headings = [...read(found).matchAll(/^#+ (.*)$/gm)].map(([, heading]) => fragmentOf(heading));
      assert.ok(headings.includes(fragment), `${target}: there is no such heading`);
    }
  });

test("docs/operations.md lists every flag, and no other", () => {
  const rows = [...read("docs/operations.md").matchAll(/^\| (`-[^|]*) \|/gm)].map(([, names]) => names);
  const listed = rows.flatMap((names) => [...names.matchAll(/`-([a-z0-9-]+)`/g)].map(([, flag]) => flag));
  assert.deepEqual(listed.sort(), [...FLAGS.map((flag) => flag.name), "version", "help"].sort());
});

test("docs/operations.md explains every figure of /_stats", () =>
  withServer({}, async ({ url }) => {
    const figures = (await (await fetch(`${url}/_stats`)).json()) as object;
    const page = read("docs/operations.md");
    const plain = ["role", "version", "uptimeSeconds", "nodes", "memory", "shards"];
    for (const figure of Object.keys(figures))
      assert.ok(plain.includes(figure) || page.includes(`\`${figure}\``), `${figure} is not explained`);
  }));

test("docs: every file of the source that a page names is there", () => {
  for (const name of pages.filter((page) => /^docs\/(?!bench|scale)/.test(page))) {
    const names = read(name).matchAll(/(?<![\w/.-])((?:[a-z][a-z-]*\/)+[a-z][a-z.-]*\.(?:ts|c|mjs|sh))\b/g);
    for (const [, file] of names) {
      const there = [file, path.join("src", file)].some((one) => fs.existsSync(path.join(REPOSITORY, one)));
      assert.ok(there, `${name} names ${file}, which is not there`);
    }
  }
});

test("docs/architecture.md lists the files of each way", () => {
  for (const way of WAYS) {
    const files = listedFiles(way);
    assert.ok(files.length > 5, `${way.name}: ${files.length} files`);
    for (const file of files)
      assert.ok(fs.existsSync(path.join(REPOSITORY, "src", file)), `${way.name}: ${file} is not there`);
    assert.ok(files.length <= way.filesMax, `${way.name}: ${files.length} files, more than ${way.filesMax}`);
  }
});

test("docs/api-reference.html is what the tables of the API make (npm run docs:api), without anything from other hosts", () => {
  const page = fs.readFileSync(REFERENCE, "utf8");
  assert.equal(page, referencePage());
  assert.doesNotMatch(page, /<script|<link|<img|@import|url\(|https?:\/\//);
  const ids = new Set([...page.matchAll(/ id="([^"]+)"/g)].map(([, id]) => id));
  for (const [, target] of page.matchAll(/href="([^"]+)"/g))
    assert.ok(
      target.startsWith("#") ? ids.has(target.slice(1)) : fs.existsSync(path.join(REFERENCE, "..", target)),
      target,
    );
});
