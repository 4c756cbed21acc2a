/**
 * Prints what the program is made of, as CycloneDX: of the list that npm makes of the lock file, the packages that get into
 * the one file (`bundled` in package.json) and what those need. To npm all of them are tools, since the package that is
 * published needs none of them to be installed.
 */
import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";

const root = path.join(path.dirname(fileURLToPath(import.meta.url)), "..");
const { bundled } = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
const words = ["sbom", "--package-lock-only", "--sbom-format", "cyclonedx", "--sbom-type", "application"];
const { status, stdout, stderr } = spawnSync("npm", words, {
  cwd: root,
  encoding: "utf8",
  maxBuffer: 256 * 1024 * 1024,
});
if (status !== 0) {
  process.stderr.write(stderr);
  process.exit(1);
}
const document = JSON.parse(stdout);
const own = document.metadata.component["bom-ref"];
const needs = new Map(document.dependencies.map(({ ref, dependsOn = [] }) => [ref, dependsOn]));
const nameOf = new Map(document.components.map((component) => [component["bom-ref"], component.name]));
const kept = new Set();
const open = needs.get(own).filter((ref) => bundled.includes(nameOf.get(ref)));
for (let ref = open.pop(); ref !== undefined; ref = open.pop()) {
  if (kept.has(ref)) continue;
  kept.add(ref);
  open.push(...(needs.get(ref) ?? []));
}
document.components = document.components
  .filter((component) => kept.has(component["bom-ref"]))
  .map((component) => ({
    ...component,
    scope: "required",
    properties: component.properties?.filter(({ name }) => name !== "cdx:npm:package:development"),
  }));
document.dependencies = document.dependencies
  .filter(({ ref }) => ref === own || kept.has(ref))
  .map(({ ref, dependsOn = [] }) => ({ ref, dependsOn: dependsOn.filter((one) => kept.has(one)) }));
process.stdout.write(`${JSON.stringify(document, null, 2)}\n`);
