import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { unreadableWord } from "../../src/platform/command-line.ts";
import { removeFolder, temporaryFolder } from "../rest/server.ts";

const folder = temporaryFolder();
after(() => removeFolder(folder));

/** What is found where the system has started a program with these words and variables, as Node.js shows them. */
function found(words: Buffer[], variables: [string, Buffer][] = []): string | null {
  const joined = (parts: Buffer[]) => Buffer.concat(parts.flatMap((part) => [part, Buffer.of(0)]));
  const entries = variables.map(([name, value]) => Buffer.concat([Buffer.from(`${name}=`), value]));
  writeFileSync(path.join(folder, "cmdline"), joined([Buffer.from("node"), ...words]));
  writeFileSync(path.join(folder, "environ"), joined(entries));
  const env = Object.fromEntries(variables.map(([name, value]) => [name, value.toString()]));
  return unreadableWord(
    words.map((word) => word.toString()),
    env,
    folder,
  );
}

test("command line: a word or a variable that is not UTF-8 is refused, and U+FFFD itself is a character", () => {
  const [bad, good, own] = [Buffer.from("k\xff", "latin1"), Buffer.from("é"), Buffer.from("\ufffd")];
  assert.match(String(found([good, bad])), /^"k\ufffd" is not UTF-8: /);
  assert.equal(found([good, own]), null);
  assert.equal(found([good], [["MINIVAULT_DATA", own]]), null);
  const variables: [string, Buffer][] = [
    ["OTHER", bad],
    ["MINIVAULT_DATA", bad],
  ];
  assert.match(String(found([good], variables)), /^MINIVAULT_DATA is not UTF-8: /);
  assert.equal(found([own], variables.slice(0, 1)), null);
  // Where the system does not show them, nothing is known, and nothing refused.
  assert.equal(unreadableWord(["\ufffd"], { MINIVAULT_DATA: "\ufffd" }, path.join(folder, "none")), null);
});
