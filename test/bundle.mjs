/**
 * Test files as programs that Node runs without a loader: each in one file with what it imports of this repository.
 * A loader costs each of some 260 processes about a second, and makes each constant of another file a call.
 */
import { readFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { build } from "esbuild";

/** What tests start as threads and processes: programs too, which a loader would compile anew for each. */
const STARTED = [
  "src/app/front-thread.ts",
  "src/s3/hashing/hash-thread.ts",
  "src/shards/catalog/handler.ts",
  "src/shards/thread/handler.ts",
  "test/sim/chunk.ts",
  "test/sim/node/chunk.ts",
];

const programOf = (file) => file.replace(/\.ts$/, ".js");

/** Modules keep the place where they are written: what they read or start lies beside them. None is the one that was started. */
const inPlace = (root, out) => ({
  name: "in-place",
  setup(bundle) {
    const started = STARTED.map((file) => [path.join(root, file), path.join(out, programOf(file))]);
    bundle.onLoad({ filter: /\.ts$/ }, ({ path: file }) => {
      let text = readFileSync(file, "utf8");
      // What has a program runs as that; the rest, such as threads of a test's own file, needs the loader.
      if (file === path.join(root, "src/shards/thread/from-source.ts"))
        text = `${text.replace("function fromSource(", "function byLoader(")}
          const programs = new Map(${JSON.stringify(started)});
          export function fromSource(file: string): ThreadStart {
            const program = programs.get(file);
            return program === undefined ? byLoader(file) : [program, {}];
          }`;
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
});

/**
 * Writes `files` (paths below `root`) below `out`.
 * @returns {Promise<string[]>} their programs, in the same order
 */
export async function bundleTests(root, files, out) {
  await build({
    absWorkingDir: root,
    entryPoints: [...files, ...STARTED],
    outdir: out,
    outbase: root,
    bundle: true,
    packages: "external",
    platform: "node",
    format: "cjs",
    target: `node${process.versions.node}`,
    sourcemap: "linked",
    sourcesContent: false,
    plugins: [inPlace(root, out)],
    logLevel: "warning",
  });
  return files.map((file) => path.join(out, programOf(file)));
}
