/**
 * Puts the native addons for this Node.js, platform and C library where the build and the sources find them:
 *
 *   node native/prepare.mjs      → node_modules/.addons/<ABI>/{uws,mmap,guard}.node and manifest.json
 *
 * uws comes as a binary in a package. Which one is a matter of the C library: uws.json lists them, the preferred first, each with the
 * sha256 of every binary that may be loaded. mmap is compiled here: its releases are not signed. So is
 * guard, which is the project's own (map-guard.c) and uses nothing of Node.js but Node-API, whose headers are a package. No install script of a package runs
 * during npm ci (.npmrc), so this is the only place where a binary comes from.
 */
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import { machine, type } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";

const here = path.dirname(fileURLToPath(import.meta.url));
const root = path.dirname(here);
const modules = path.join(root, "node_modules");
const { platform, arch, versions } = process;
const nodeMajor = Number.parseInt(versions.node, 10);

/** Where the addons for this Node.js lie. */
export const ADDONS = path.join(modules, ".addons", versions.modules);
const MANIFEST = path.join(ADDONS, "manifest.json");

/** V8's headers are C++20 from this Node.js on; mmap-io's binding.gyp says C++17. */
const CPP20_NODE_MAJOR_MIN = 24;

/** What is wrong, for a person; the stack would say nothing. */
export class AddonError extends Error {}

/** Version of glibc, such as "2.41"; null on another C library (musl) and on systems without glibc (macOS). */
function glibcVersion() {
  process.report.excludeNetwork = true;
  return process.report.getReport().header.glibcVersionRuntime ?? null;
}

/** What the addons and a build are for. ./minivault makes the same words with the shell. */
function machineName() {
  const glibc = glibcVersion();
  return `${versions.modules} ${type()} ${machine()} ${glibc === null ? "other" : `glibc ${glibc}`}`;
}

/** Whether version a is b or later; both as "2.38". */
function isAtLeast(a, b) {
  const [left, right] = [a, b].map((version) => version.split(".").map(Number));
  return left[0] !== right[0] ? left[0] > right[0] : (left[1] ?? 0) >= (right[1] ?? 0);
}

const sha256 = (content) => createHash("sha256").update(content).digest("hex");

/** The first entry of uws.json that has a binary for this machine. Throws an AddonError that says what would have one. */
function chooseUws(entries) {
  const target = `${platform}-${arch}`;
  const glibc = platform === "linux" ? glibcVersion() : null;
  if (platform === "linux" && glibc === null)
    throw new AddonError(
      "this system's C library is not glibc (musl, as in Alpine Linux?); uWebSockets.js needs glibc",
    );
  const fitting = entries.filter(({ sha256 }) => sha256[`${target}-${versions.modules}`] !== undefined);
  const chosen = fitting.find(({ glibcMin }) => glibc === null || isAtLeast(glibc, glibcMin));
  if (chosen !== undefined) return { ...chosen, hash: chosen.sha256[`${target}-${versions.modules}`] };
  if (fitting.length === 0)
    throw new AddonError(`there is no binary of uWebSockets.js for Node ${versions.node} on ${target}`);
  throw new AddonError(
    `Node ${nodeMajor} needs glibc ${fitting[0].glibcMin} or newer (Debian 13, Ubuntu 24.04), and this system has ${glibc}: use Node 20 or 22 here`,
  );
}

/** The binary of uWebSockets.js for this machine, checked against its pin. */
function uwsAddon() {
  const entries = JSON.parse(fs.readFileSync(path.join(here, "uws.json"), "utf8"));
  const { folder, name, hash } = chooseUws(entries);
  const file = path.join(modules, folder, `uws_${platform}_${arch}_${versions.modules}.node`);
  let content;
  try {
    content = fs.readFileSync(file);
  } catch (error) {
    throw new AddonError(`the native addon uws is missing (${error.message}); run npm ci`);
  }
  const found = sha256(content);
  if (found !== hash)
    throw new AddonError(
      `${file} is not the binary that native/uws.json names: its sha256 is ${found}, not ${hash}; remove node_modules and run npm ci`,
    );
  return { content, from: name };
}

/** The headers beside this Node.js, when they are its own: those are right whatever npm is told about another one. */
function headersBeside() {
  const prefix = path.dirname(path.dirname(process.execPath));
  try {
    const header = fs.readFileSync(path.join(prefix, "include/node/node_version.h"), "utf8");
    return header.match(/NODE_MODULE_VERSION (\d+)$/m)?.[1] === versions.modules ? prefix : null;
  } catch {
    return null;
  }
}

/** Compiles mmap-io. Where Node's headers are not beside it, node-gyp fetches them. */
function mmapAddon() {
  const folder = path.join(modules, "mmap-io");
  if (!fs.existsSync(folder)) throw new AddonError("the package mmap-io is missing; run npm ci");
  // What was compiled for another Node.js is not up to date for this one, whatever make thinks of the times.
  fs.rmSync(path.join(folder, "build"), { recursive: true, force: true });
  const env = { ...process.env, npm_config_build_from_source: "true" };
  const prefix = headersBeside();
  if (prefix !== null) env.npm_config_nodedir = prefix;
  // gyp puts these behind the flags of binding.gyp, and of two standards the compiler takes the last.
  if (nodeMajor >= CPP20_NODE_MAJOR_MIN) env.CXXFLAGS = `${env.CXXFLAGS ?? ""} -std=c++20`;
  const words = ["rebuild", "mmap-io", "--ignore-scripts=false", "--foreground-scripts", "--loglevel=error"];
  const { status, error, stdout, stderr } = spawnSync("npm", words, { cwd: root, env, encoding: "utf8" });
  const file = path.join(
    folder,
    `build/binding/Release/node-v${versions.modules}-${platform}-${arch}/mmap_io.node`,
  );
  if (status !== 0 || !fs.existsSync(file)) {
    process.stderr.write(`${stdout ?? ""}${stderr ?? ""}`);
    throw new AddonError(compileProblem(error));
  }
  return { content: fs.readFileSync(file), from: "mmap-io, compiled here" };
}

const GUARD_SOURCE = path.join(here, "map-guard.c");

/** Compiles map-guard.c. It must stay loaded for good; macOS' linker leaves Node's symbols to be found when it is loaded. */
function guardAddon() {
  const file = path.join(ADDONS, `guard.node.${process.pid}.new`);
  const include = path.join(modules, "node-api-headers/include");
  const linking =
    platform === "darwin" ? ["-bundle", "-undefined", "dynamic_lookup"] : ["-shared", "-Wl,-z,nodelete"];
  const flags = ["-std=c11", "-O2", "-Wall", "-Wextra", "-fPIC", "-fvisibility=hidden", ...linking];
  fs.mkdirSync(ADDONS, { recursive: true });
  const words = [...flags, "-I", include, GUARD_SOURCE, "-o", file];
  const { status, error, stderr } = spawnSync(process.env.CC ?? "cc", words, { encoding: "utf8" });
  if (status !== 0) {
    process.stderr.write(stderr ?? "");
    throw new AddonError(
      `the native addon guard could not be compiled (${error?.message ?? "what the compiler said is above"}); a C compiler is needed, which comes with g++ (Debian: apt-get install g++)`,
    );
  }
  const content = fs.readFileSync(file);
  fs.rmSync(file);
  return { content, from: "native/map-guard.c, compiled here" };
}

function compileProblem(error) {
  const missing = ["python3", "make", "g++"].filter((tool) => !isInstalled(tool));
  if (missing.length > 0) {
    const tools = missing.join(" ");
    return `the native addon mmap-io could not be compiled because of missing tools: ${tools}; install them (Debian: apt-get install ${tools}) and start again`;
  }
  return `the native addon mmap-io could not be compiled (${error?.message ?? "npm rebuild failed; its output is above"})`;
}

function isInstalled(tool) {
  const names = tool === "g++" ? [process.env.CXX ?? "g++", "c++"] : [tool];
  return (process.env.PATH ?? "")
    .split(path.delimiter)
    .some((folder) => names.some((name) => fs.existsSync(path.join(folder, name))));
}

/** The glibc that a binary asks for at least, from the names of symbol versions in it; null when it names none. */
function glibcNeeded(content) {
  const named = content.toString("latin1").matchAll(/\0GLIBC_(2\.\d+)(?:\.\d+)?(?=\0)/g);
  return [...named]
    .map(([, version]) => version)
    .reduce((most, version) => (most !== null && isAtLeast(most, version) ? most : version), null);
}

/** What the guard is made of, so that it is made anew when that changes. */
function guardSource() {
  return sha256(fs.readFileSync(GUARD_SOURCE));
}

/** The manifest when all addons for this machine are there, else null. */
function currentManifest() {
  try {
    const manifest = JSON.parse(fs.readFileSync(MANIFEST, "utf8"));
    const isWhole = Object.entries(manifest.addons).every(
      ([name, { hash }]) => sha256(fs.readFileSync(path.join(ADDONS, `${name}.node`))) === hash,
    );
    const isCurrent = manifest.machine === machineName() && manifest.guardSource === guardSource();
    return isCurrent && isWhole ? manifest : null;
  } catch {
    return null;
  }
}

/**
 * Makes what is missing and answers the manifest: { machine, guardSource: sha256 of map-guard.c, glibc: least version or null, addons: { name: { hash, from } } }.
 * Throws an AddonError.
 */
export function prepareAddons() {
  const known = currentManifest();
  if (known !== null) return known;
  const addons = { uws: uwsAddon(), mmap: mmapAddon(), guard: guardAddon() };
  const manifest = { machine: machineName(), guardSource: guardSource(), glibc: null, addons: {} };
  fs.mkdirSync(ADDONS, { recursive: true });
  // Without a manifest there are no addons, so it goes first and comes last.
  fs.rmSync(MANIFEST, { force: true });
  for (const [name, { content, from }] of Object.entries(addons)) {
    const file = path.join(ADDONS, `${name}.node`);
    // Who has loaded the file that is there keeps it.
    fs.writeFileSync(`${file}.${process.pid}`, content);
    fs.renameSync(`${file}.${process.pid}`, file);
    try {
      process.dlopen({ exports: {} }, file);
    } catch (error) {
      throw new AddonError(
        `the native addon ${name} does not load in this Node (${versions.node}): ${error.message.split("\n")[0]}`,
      );
    }
    manifest.addons[name] = { hash: sha256(content), from };
    const needed = glibcNeeded(content);
    if (needed !== null && (manifest.glibc === null || isAtLeast(needed, manifest.glibc)))
      manifest.glibc = needed;
  }
  fs.writeFileSync(`${MANIFEST}.${process.pid}`, `${JSON.stringify(manifest, null, 2)}\n`);
  fs.renameSync(`${MANIFEST}.${process.pid}`, MANIFEST);
  return manifest;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    prepareAddons();
  } catch (error) {
    if (!(error instanceof AddonError)) throw error;
    console.error(`minivault: ${error.message}`);
    process.exitCode = 1;
  }
}
