import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";

const ROOT = path.join(__dirname, "../..");

interface Component {
  name: string;
  version: string;
  purl: string;
  hashes?: { alg: string; content: string }[];
}

test("sbom: every package that gets into the program, with version and hash, and no tool of development", () => {
  const { status, stdout, stderr } = spawnSync("npm", ["run", "--silent", "sbom"], {
    cwd: ROOT,
    encoding: "utf8",
    maxBuffer: 64 * 1024 * 1024,
  });
  assert.equal(status, 0, stderr);
  const { bomFormat, specVersion, components, metadata } = JSON.parse(stdout);
  assert.deepEqual([bomFormat, /^1\.\d$/.test(specVersion)], ["CycloneDX", true]);
  const { dependencies, devDependencies, version } = JSON.parse(
    readFileSync(path.join(ROOT, "package.json"), "utf8"),
  );
  assert.equal(metadata.component.purl, `pkg:npm/minivault@${version}`);
  const lock = JSON.parse(readFileSync(path.join(ROOT, "package-lock.json"), "utf8")).packages;
  for (const name of Object.keys(dependencies)) {
    const found = (components as Component[]).find((one) => one.name === name);
    assert.equal(found?.version, lock[`node_modules/${name}`].version, name);
    assert.equal(found?.hashes?.[0].alg, "SHA-512", name);
  }
  for (const name of Object.keys(devDependencies).filter((one) => lock[`node_modules/${one}`].dev === true))
    assert.ok(!(components as Component[]).some((one) => one.name === name), name);
});
