/**
 * Builds dist/minivault.js: the whole program in one file, with its threads, WebAssembly and native addons inside; and
 * dist/client, what programs import.
 *
 *   node esbuild.config.mjs [ENTRY OUTFILE]     ENTRY: another one of this repository, such as that of the benchmarks in process
 *
 * Pieces of dependencies are rewritten by exact text. Where the text is no longer found the build fails, so that an update of
 * a dependency cannot silently produce a program that only breaks when it runs.
 */
import { execFileSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, renameSync, utimesSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, constants } from "node:zlib";
import { build } from "esbuild";
import { ADDONS, AddonError, prepareAddons } from "./native/prepare.mjs";
import { buildClients } from "./src/client/build.mjs";
import { buildConsole } from "./src/console/build.mjs";

const root = path.dirname(fileURLToPath(import.meta.url));
const modules = path.join(root, "node_modules");
const { version, devDependencies, bundled } = JSON.parse(
  readFileSync(path.join(root, "package.json"), "utf8"),
);
const { platform, arch, versions } = process;

/** File below node_modules → [text that must be there, what to put instead]. */
const REWRITES = {
  // Piscina starts its worker file by path; in the bundle that is the bundle itself (src/shards/thread/spawn.ts).
  "piscina/dist/index.js": [["(0, node_path_1.resolve)(__dirname, 'worker.js')", "__filename"]],
  // Process priorities need a native package that minivault does not use.
  "piscina/dist/worker.js": [["require('@napi-rs/nice')", "{}"]],
};

function fail(message) {
  console.error(`build: ${message}`);
  process.exit(1);
}

/** The manifest of the native addons, which are made when they are not there. */
function prepared() {
  try {
    return prepareAddons();
  } catch (error) {
    if (error instanceof AddonError) fail(error.message);
    throw error;
  }
}

function compressed(name) {
  const content = readFileSync(path.join(ADDONS, `${name}.node`));
  const params = { [constants.BROTLI_PARAM_QUALITY]: 5, [constants.BROTLI_PARAM_SIZE_HINT]: content.length };
  return brotliCompressSync(content, { params }).toString("base64");
}

/** The commit being built. An image is built without .git, so it can be told in the environment. */
function commit() {
  if (process.env.BUILD_COMMIT) return process.env.BUILD_COMMIT;
  // A package that was installed lies in the repository of somebody else.
  if (!existsSync(path.join(root, ".git"))) return "unknown";
  try {
    return execFileSync("git", ["rev-parse", "--short", "HEAD"], {
      cwd: root,
      stdio: ["ignore", "pipe", "ignore"],
    })
      .toString()
      .trim();
  } catch {
    return "unknown";
  }
}

/** Takes the place of src/platform/embedded.ts. */
function embeddedModule() {
  const entries = Object.entries(manifest.addons).map(
    ([name, { hash }]) => `${name}: { hash: "${hash}", data: () => "${compressed(name)}" }`,
  );
  return `export const EMBEDDED = { ${entries.join(", ")} };`;
}

const rewritten = new Set();
const rewrite = {
  name: "rewrite",
  setup(bundle) {
    for (const [file, changes] of Object.entries(REWRITES)) {
      const filter = new RegExp(`${file.replaceAll(/[.]/g, "\\.")}$`);
      bundle.onLoad({ filter }, ({ path: found }) => {
        let contents = readFileSync(found, "utf8");
        for (const [from, to] of changes) {
          if (contents.split(from).length !== 2)
            fail(`${file} no longer contains exactly one «${from}»; adapt REWRITES`);
          contents = contents.replace(from, () => to);
        }
        rewritten.add(file);
        return { contents, loader: "js" };
      });
    }
    bundle.onLoad({ filter: /src\/platform\/embedded\.ts$/ }, () => {
      rewritten.add("embedded");
      return { contents: embeddedModule(), loader: "js" };
    });
    bundle.onLoad({ filter: /src\/platform\/console-page\.ts$/ }, () => ({
      contents: `export const CONSOLE_PAGE = ${JSON.stringify(page)};`,
      loader: "js",
    }));
    // Not among the package's exports, but part of what it publishes.
    bundle.onResolve({ filter: /^piscina\/dist\/worker\.js$/ }, () => ({
      path: path.join(modules, "piscina/dist/worker.js"),
    }));
  },
};

const started = new Date();
const manifest = prepared();
const [entry = "src/main.ts", out = "dist/minivault.js"] = process.argv.slice(2);
const outfile = path.join(root, out);
// Meanwhile.
const clients = entry === "src/main.ts" ? buildClients() : null;
clients?.catch(() => {});
const page = await buildConsole();
const { outputFiles } = await build({
  entryPoints: [path.join(root, entry)],
  outfile,
  write: false,
  bundle: true,
  minify: true,
  platform: "node",
  format: "cjs",
  target: `node${Number.parseInt(versions.node, 10)}`,
  banner: { js: "#!/usr/bin/env node" },
  define: {
    BUILD_INFO: JSON.stringify({
      version,
      commit: commit(),
      nodeMajor: Number.parseInt(versions.node, 10),
      platform,
      arch,
      glibcMin: manifest.glibc,
      uws: manifest.addons.uws.from,
    }),
  },
  plugins: [rewrite],
  // Development tools are where the repository is.
  external: Object.keys(devDependencies).filter((name) => !bundled.includes(name)),
  logLevel: "warning",
});
for (const file of ["embedded", ...Object.keys(REWRITES)])
  if (!rewritten.has(file)) fail(`${file} is no longer part of the bundle; adapt REWRITES`);

// A program that starts meanwhile sees the old file or the new one, never a part.
mkdirSync(path.dirname(outfile), { recursive: true });
const fresh = `${outfile}.${process.pid}`;
writeFileSync(fresh, outputFiles[0].contents, { mode: 0o755 });
renameSync(fresh, outfile);
if (clients !== null) {
  await clients.catch((error) => fail(error.message));
  // Tells ./minivault what this build is for and, by its time, which sources it cannot contain.
  const stamp = path.join(root, "dist/.built");
  writeFileSync(stamp, `${manifest.machine}\n`);
  utimesSync(stamp, started, started);
}
const seconds = ((Date.now() - started.getTime()) / 1000).toFixed(1);
console.error(`built ${out}: ${(outputFiles[0].contents.length / 2 ** 20).toFixed(1)} MiB in ${seconds} s`);
