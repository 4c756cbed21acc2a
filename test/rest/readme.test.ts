/** README.md's examples are what really happens: each line with curl is run as it stands there, one after the other on one node. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import { content, hasCurl, WITHOUT_CURL } from "./client.ts";
import { cleanEnvironment, REPOSITORY, removeFolder, temporaryFolder, withServer } from "./server.ts";

const PHOTO_BYTES = 100_000;

/** The commands of all console blocks, with what README says that they print. */
function examples(): { command: string; output: string }[] {
  const readme = fs.readFileSync(path.join(REPOSITORY, "README.md"), "utf8");
  const blocks = [...readme.matchAll(/^```console\n(.*?)^```$/gms)].map(([, block]) => block);
  return blocks
    .flatMap((block) => block.split(/^\$ /m).slice(1))
    .map((text) => {
      const end = text.indexOf("\n");
      return { command: text.slice(0, end), output: text.slice(end + 1) };
    });
}

/** Without what is another one each time. */
const lasting = (output: string): string =>
  output
    .replaceAll("\r", "")
    .replace(/^(Date|Last-Modified): \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT$/gm, "$1: …")
    .replace(/^ETag: "[0-9a-f]{32}"$/gm, "ETag: …")
    .trim();

test("README: its lines with curl print what it says", hasCurl ? {} : { skip: WITHOUT_CURL }, (t) =>
  withServer({}, async ({ port }) => {
    const cwd = temporaryFolder();
    t.after(() => removeFolder(cwd));
    const photo = content(1, PHOTO_BYTES);
    fs.writeFileSync(path.join(cwd, "photo.jpg"), photo);
    const all = examples();
    assert.ok(all.length >= 10, `${all.length} examples`);
    for (const { command, output } of all) {
      const here = command.replaceAll("localhost:3000", `127.0.0.1:${port}`);
      assert.notEqual(here, command, "it asks the node");
      // No progress of curl's, and no settings of this user's.
      const line = here.replace(/^curl /, "curl -q -s --noproxy '*' ");
      const { stdout } = spawnSync("sh", ["-c", line], { cwd, env: cleanEnvironment(), encoding: "utf8" });
      assert.equal(lasting(stdout), lasting(output), command);
    }
    assert.ok(fs.readFileSync(path.join(cwd, "copy.jpg")).equals(photo));
  }),
);
