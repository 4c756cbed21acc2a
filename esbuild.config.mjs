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
const {
  version,
  devDependencies,
  bundled: carried,
} = JSON.parse(readFileSync(path.join(root, "package.json"), "utf8"));
const { platform, arch, versions } = process;

const source = (file) => JSON.stringify(path.join(root, "src", file));

/** File below node_modules → [text that must be there, what to put instead]. */
const REWRITES = {
  // Piscina starts its worker file by path; the bundle has that file's code as a text (src/platform/thread-code.ts).
  "piscina/dist/index.js": [
    [
      "(0, node_path_1.resolve)(__dirname, 'worker.js')",
      `require(${source("platform/thread-code.ts")}).THREAD_CODE.pool`,
    ],
  ],
  "piscina/dist/worker_pool/index.js": [
    ["Worker(filename, workerOpts)", "Worker(filename, { ...workerOpts, eval: true })"],
  ],
  "piscina/dist/worker.js": [
    // Process priorities need a native package that minivault does not use.
    ["require('@napi-rs/nice')", "{}"],
    // And that file loads its task handler by name.
    ["__importStar(require(s))", `require(${source("shards/catalog/tasks.ts")})`],
  ],
};

/** What runs in threads of its own, each a file with all that it imports: name in src/platform/thread-code.ts → entry. */
const THREADS = {
  pool: "node_modules/piscina/dist/worker.js",
  hash: "src/s3/hashing/hash-thread.ts",
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

/** Takes the place of src/platform/embedded.ts. Threads read no HTTP: what does that is five MiB of text. */
function embeddedModule(isThread) {
  const entries = Object.entries(manifest.addons)
    .filter(([name]) => !isThread || name !== "uws")
    .map(([name, { hash }]) => `${name}: { hash: "${hash}", data: () => "${compressed(name)}" }`);
  return `export const EMBEDDED = { ${entries.join(", ")} };`;
}

const rewritten = new Set();
/** @param threads code of the threads; null: this is one of them */
const rewrite = (threads) => ({
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
      return { contents: embeddedModule(threads === null), loader: "js" };
    });
    bundle.onLoad({ filter: /src\/platform\/thread-code\.ts$/ }, () => {
      rewritten.add("thread-code");
      return { contents: `export const THREAD_CODE = ${JSON.stringify(threads)};`, loader: "js" };
    });
    bundle.onLoad({ filter: /src\/platform\/console-page\.ts$/ }, () => ({
      contents: `export const CONSOLE_PAGE = ${JSON.stringify(page)};`,
      loader: "js",
    }));
  },
});

const started = new Date();
const manifest = prepared();
const [entry = "src/main.ts", out = "dist/minivault.js"] = process.argv.slice(2);
const outfile = path.join(root, out);
// Meanwhile.
const clients = entry === "src/main.ts" ? buildClients() : null;
clients?.catch(() => {});
const page = await buildConsole();
const define = {
  BUILD_INFO: JSON.stringify({
    version,
    commit: commit(),
    nodeMajor: Number.parseInt(versions.node, 10),
    platform,
    arch,
    glibcMin: manifest.glibc,
    uws: manifest.addons.uws.from,
  }),
};

/** An entry with all that it imports, as one text. */
async function bundled(entryPoint, options) {
  const { outputFiles } = await build({
    entryPoints: [path.join(root, entryPoint)],
    outfile,
    write: false,
    bundle: true,
    minify: true,
    platform: "node",
    target: `node${Number.parseInt(versions.node, 10)}`,
    define,
    // Development tools are where the repository is.
    external: Object.keys(devDependencies).filter((name) => !carried.includes(name)),
    logLevel: "warning",
    ...options,
  });
  return outputFiles[0].text;
}

const threads = {};
// In a function of its own: a thread's code is a script, whose variables would else be properties of the global object.
for (const [name, file] of Object.entries(THREADS))
  threads[name] = await bundled(file, { format: "iife", plugins: [rewrite(null)] });
const program = await bundled(entry, {
  format: "cjs",
  banner: { js: "#!/usr/bin/env node" },
  plugins: [rewrite(threads)],
});
for (const file of ["embedded", "thread-code", ...Object.keys(REWRITES)])
  if (!rewritten.has(file)) fail(`${file} is no longer part of the bundle; adapt REWRITES`);

// A program that starts meanwhile sees the old file or the new one, never a part.
mkdirSync(path.dirname(outfile), { recursive: true });
const fresh = `${outfile}.${process.pid}`;
writeFileSync(fresh, program, { mode: 0o755 });
renameSync(fresh, outfile);
if (clients !== null) {
  await clients.catch((error) => fail(error.message));
  // Tells ./minivault what this build is for and, by its time, which sources it cannot contain.
  const stamp = path.join(root, "dist/.built");
  writeFileSync(stamp, `${manifest.machine}\n`);
  utimesSync(stamp, started, started);
}
const seconds = ((Date.now() - started.getTime()) / 1000).toFixed(1);
console.error(`built ${out}: ${(program.length / 2 ** 20).toFixed(1)} MiB in ${seconds} s`);
