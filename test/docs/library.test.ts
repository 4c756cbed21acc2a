/** The programs in docs/library.md and README.md that use the package print what stands below them. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { test } from "node:test";
import {
  builtProgram,
  cleanEnvironment,
  REPOSITORY,
  removeFolder,
  temporaryFolder,
  withServer,
} from "../rest/server.ts";

/** Programs with what they print. */
function programsOf(page: string): { code: string; printed: string }[] {
  const text = fs.readFileSync(path.join(REPOSITORY, page), "utf8");
  const blocks = text.matchAll(/^```js\n(.*?)^```\n\n```text\n(.*?)^```$/gms);
  return [...blocks].map(([, code, printed]) => ({ code, printed }));
}

function run(file: string): Promise<{ status: number | null; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, [file], {
      env: cleanEnvironment(),
      stdio: ["ignore", "pipe", "pipe"],
    });
    const texts = { stdout: "", stderr: "" };
    for (const name of ["stdout", "stderr"] as const)
      child[name].on("data", (piece) => (texts[name] += piece));
    child.once("close", (status) => resolve({ status, ...texts }));
  });
}

test("docs: the programs that use the package print what stands below them", async (t) => {
  await builtProgram();
  const folder = temporaryFolder();
  t.after(() => removeFolder(folder));
  // As if they were installed.
  const modules = path.join(folder, "node_modules");
  fs.mkdirSync(modules);
  fs.symlinkSync(REPOSITORY, path.join(modules, "minivault"));
  for (const name of ["keyv", "unstorage"])
    fs.symlinkSync(path.join(REPOSITORY, "node_modules", name), path.join(modules, name));
  const programs = ["README.md", "docs/library.md"].flatMap(programsOf);
  assert.ok(programs.length >= 4, `${programs.length} programs`);
  await withServer({}, async ({ port }) => {
    for (const [index, { code, printed }] of programs.entries()) {
      const file = path.join(folder, `${index}.mjs`);
      fs.writeFileSync(file, code.replaceAll("localhost:3000", `127.0.0.1:${port}`));
      const { status, stdout, stderr } = await run(file);
      assert.deepEqual([status, stderr], [0, ""], code);
      // An event of a watch may come in between, or not any more.
      assert.equal(stdout.replaceAll(/^update users:ada\n/gm, ""), printed, code);
    }
  });
});
