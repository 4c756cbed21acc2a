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

interface Needs {
  dependencies?: object;
  optionalDependencies?: object;
  peerDependencies?: object;
}

function namesIn({ dependencies = {}, optionalDependencies = {}, peerDependencies = {} }: Needs): string[] {
  return Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies });
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
  const { bundled, devDependencies, version } = JSON.parse(
    readFileSync(path.join(ROOT, "package.json"), "utf8"),
  );
  assert.equal(metadata.component.purl, `pkg:npm/minivault@${version}`);
  const lock = JSON.parse(readFileSync(path.join(ROOT, "package-lock.json"), "utf8")).packages;
  for (const name of bundled) {
    const found = (components as Component[]).find((one) => one.name === name);
    assert.equal(found?.version, lock[`node_modules/${name}`].version, name);
    assert.equal(found?.hashes?.[0].alg, "SHA-512", name);
  }
  for (const name of ["typescript", "esbuild", "autocannon", "unstorage", "keyv", "tsx", "playwright-core"]) {
    assert.ok(name in devDependencies, name);
    assert.ok(!(components as Component[]).some((one) => one.name === name), name);
  }
  // Each is there for a reason: what nothing needs is not in it.
  const needed = new Set<string>(bundled);
  for (const name of needed)
    for (const [key, entry] of Object.entries(lock as Record<string, Needs>))
      if (key.endsWith(`node_modules/${name}`)) for (const one of namesIn(entry)) needed.add(one);
  const unneeded = (components as Component[]).filter(({ name }) => !needed.has(name));
  assert.deepEqual(
    unneeded.map(({ name }) => name),
    [],
  );
});
