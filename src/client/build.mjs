/**
 * Builds what programs import, dist/client: each of the three for `import` and for `require`, with its types. The adapters
 * import the client, so that a program that uses both has its classes once.
 */
import { execFile } from "node:child_process";
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { build } from "esbuild";

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.join(here, "../..");
const target = path.join(root, "dist/client");

/** Names in dist/client, and what they are made of. */
const ENTRIES = { index: "index.ts", keyv: "keyv/keyv.ts", unstorage: "unstorage/unstorage.ts" };
/** Extensions by the way of importing. */
const FORMATS = { esm: "mjs", cjs: "cjs" };

/** Files by their names below dist/client. Throws with what is wrong. */
async function librariesAndTypes() {
  const files = new Map();
  const bundles = Object.keys(FORMATS).flatMap((format) =>
    Object.entries(ENTRIES).map(([name, entry]) => bundle(files, format, name, entry)),
  );
  await Promise.all([...bundles, types(files)]);
  return files;
}

async function bundle(files, format, name, entry) {
  const extension = FORMATS[format];
  const { outputFiles } = await build({
    entryPoints: [path.join(here, entry)],
    write: false,
    bundle: true,
    platform: "neutral",
    format,
    target: "es2022",
    legalComments: "none",
    logLevel: "warning",
    plugins: [
      {
        name: "the client is imported",
        setup(bundling) {
          bundling.onResolve({ filter: /^\.\.\/client\.ts$/ }, () => ({
            path: `./index.${extension}`,
            external: true,
          }));
        },
      },
    ],
  });
  files.set(`${name}.${extension}`, outputFiles[0].text);
}

/** Declarations, once for each way of importing: a file of types is of one of them by its name. */
async function types(files) {
  mkdirSync(path.join(root, "dist"), { recursive: true });
  const folder = mkdtempSync(path.join(root, "dist/types-"));
  try {
    const words = ["--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--outDir", folder];
    await compile(["-p", here, ...words]);
    for (const file of readdirSync(folder, { recursive: true }).map(String)) {
      if (!file.endsWith(".d.ts")) continue;
      const text = readFileSync(path.join(folder, file), "utf8");
      for (const extension of Object.values(FORMATS)) {
        const named = text.replaceAll(/(from |import\()"(\.[^"]*)\.ts"/g, `$1"$2.${extension}"`);
        files.set(path.join("types", file.replace(/ts$/, extension.replace("js", "ts"))), named);
      }
    }
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

async function compile(words) {
  const compiler = path.join(root, "node_modules/typescript/bin/tsc");
  try {
    await promisify(execFile)(process.execPath, [compiler, ...words], { cwd: root });
  } catch (error) {
    throw new Error(`the types of dist/client cannot be made: ${error.stdout || error.message}`);
  }
}

/** Writes dist/client; who reads meanwhile sees whole files. */
export async function buildClients() {
  for (const [name, text] of await librariesAndTypes()) {
    const file = path.join(target, name);
    mkdirSync(path.dirname(file), { recursive: true });
    // Beside it a package that is made meanwhile would have it.
    const fresh = path.join(root, "dist", `${path.basename(name)}.${process.pid}`);
    writeFileSync(fresh, text);
    renameSync(fresh, file);
  }
}
