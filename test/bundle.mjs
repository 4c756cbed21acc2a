/**
 * Test files as programs that Node runs without a loader: each in one file with what it imports of this repository.
 * A loader costs each of some 260 processes about a second, and makes each constant of another file a call.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";

/** Modules keep the place where they are written: what they read or start lies beside them. None is the one that was started. */
const inPlace = {
  name: "in-place",
  setup(bundle) {
    bundle.onLoad({ filter: /\.ts$/ }, ({ path: file }) => {
      const text = readFileSync(file, "utf8");
      const names = [
        ["__filename", file],
        ["__dirname", path.dirname(file)],
      ].filter(([name]) => text.includes(name));
      const head = names.map(([name, value]) => `const ${name} = ${JSON.stringify(value)};`).join("");
      const contents = text
        .replaceAll("require.main === module", "false")
        .replaceAll("import.meta.url", JSON.stringify(pathToFileURL(file).href));
      // On the first line, so that all lines keep their numbers.
      return { contents: head + contents, loader: "ts" };
    });
  },
};

/**
 * Writes `files` (paths below `root`) below `out`.
 * @returns {Promise<string[]>} their programs, in the same order
 */
export async function bundleTests(root, files, out) {
  await build({
    absWorkingDir: root,
    entryPoints: files,
    outdir: out,
    outbase: root,
    bundle: true,
    packages: "external",
    platform: "node",
    format: "cjs",
    target: `node${process.versions.node}`,
    sourcemap: "linked",
    sourcesContent: false,
    plugins: [inPlace],
    logLevel: "warning",
  });
  return files.map((file) => path.join(out, file.replace(/\.ts$/, ".js")));
}
