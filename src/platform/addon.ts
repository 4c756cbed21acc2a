/**
 * The one door to native addons. From source they are loaded out of node_modules. The bundle carries them
 * inside (embedded.ts): they are written to a private folder, under a name that contains their hash. What is
 * loaded is the very descriptor whose bytes were checked against it: a file that takes the name's place
 * meanwhile is not.
 *
 *   <data directory>/.addons  →  $XDG_CACHE_HOME/minivault or ~/.cache/minivault  →  <temporary folder>/minivault-<user id>
 *
 * The first of these that works is used. What is loaded runs as this user, so a folder only counts when it
 * belongs to this user and nobody else may write to it.
 */
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import { homedir, tmpdir } from "node:os";
import path from "node:path";
import { brotliDecompressSync } from "node:zlib";
import { EMBEDDED, type EmbeddedAddon } from "./embedded.ts";
import { trustProblem } from "./private-directory.ts";

/** What is used of mmap-io's native part (its own JavaScript only finds the file). */
export interface MmapAddon {
  map(bytes: number, protection: number, flags: number, fd: number, offset?: number): Buffer;
  /** [pages not in memory, pages in memory] */
  incore(buffer: Buffer): [number, number];
  readonly PROT_READ: number;
  readonly MAP_SHARED: number;
  readonly PAGESIZE: number;
}

export type UwsAddon = typeof import("uWebSockets.js");

/** native/map-guard.c. */
export interface GuardAddon {
  /**
   * Has pages of a map that cannot be read replaced by zeros from now on, and counted: in `counts[0]` and
   * `counts[index]`, before the read that met them goes on. `map` is all of the memory that mmap gave.
   */
  watch(map: ArrayBufferLike, counts: Int32Array, index: number): void;
  /** Size of an open file, without marking its times as seen (see there). Moves the file's own position. */
  fileBytes(descriptor: number): number;
  /**
   * Where an open file holds something at or after a position, as far as its file system can tell; what lies
   * before reads as zeros. -1: only zeros are left. Moves the file's own position.
   */
  nextData(descriptor: number, from: number): number;
  /**
   * Has a TCP connection to somebody near offer no more than `bytes` at once where `unreadMin` or more wait
   * in it (0: in any case); answers what it was before. 0: it is left as it is.
   */
  clampWindow(descriptor: number, bytes: number, unreadMin: number): number;
  /**
   * Has the system keep no more than `bytes` of it unread, once it offers no more than `offeredMax`; answers
   * how much it was before. 0: it is left as it is.
   */
  boundBuffer(descriptor: number, bytes: number, offeredMax: number): number;
  /** Undoes that: lets the system choose again, from `bytes` on. */
  freeBuffer(descriptor: number, bytes: number): void;
}

interface Addons {
  uws: UwsAddon;
  mmap: MmapAddon;
  guard: GuardAddon;
}

/** What a process that was killed while it wrote an addon left behind is removed after this time. */
const LEFTOVER_MS = 10 * 60 * 1000;
const PIECE_BYTES = 256 * 1024;
/** What stands before a descriptor's number in a path: it changes nothing but the text. */
const SPELLINGS: Record<keyof Addons, string> = { uws: "", mmap: "./", guard: "././" };

const loaded: Partial<Addons> = {};
let preferred: string | null = null;

/**
 * Names the folder to try first for extracted addons: `.addons` in the data directory. Its parent must exist
 * when an addon is loaded. Each thread has its own setting.
 */
export function setAddonDirectory(folder: string): void {
  preferred = path.resolve(folder);
}

/** The folder set by `setAddonDirectory`, to be passed on to threads. */
export function addonDirectory(): string | null {
  return preferred;
}

/** Loads an addon, once per thread. Throws with all that was tried when there is no place to load it from. */
export function loadAddon<Name extends keyof Addons>(name: Name): Addons[Name] {
  const known = loaded[name];
  if (known !== undefined) return known as Addons[Name];
  const addon = (
    EMBEDDED === null ? loadInstalled(name) : loadEmbedded(name, EMBEDDED[name])
  ) as Addons[Name];
  loaded[name] = addon;
  return addon;
}

/** From where native/prepare.mjs puts the addons. */
function loadInstalled(name: keyof Addons): unknown {
  const { modules, node } = process.versions;
  try {
    const addon = require(path.join(__dirname, "../../node_modules/.addons", modules, `${name}.node`));
    if (name === "guard" && addon.nextData === undefined) throw new Error("it is older than its source");
    return addon;
  } catch (error) {
    const reason = (error as Error).message.split("\n")[0];
    throw new Error(
      `the native addon ${name} is not installed for this Node (${node}): ${reason}; run ./minivault --prepare`,
    );
  }
}

/** How Node.js, and the loader, call a lack of descriptors; no other folder helps. */
const NO_DESCRIPTOR = /too many open files|ENFILE/i;

interface Place {
  folder: string;
  /** Whether the folders above it may be made too. The data directory is not ours to make. */
  parents: boolean;
}

function places(): Place[] {
  const found: Place[] = [];
  if (preferred !== null) found.push({ folder: preferred, parents: false });
  const cache = cacheFolder();
  if (cache !== null) found.push({ folder: path.join(cache, "minivault"), parents: true });
  found.push({ folder: path.join(tmpdir(), `minivault-${process.getuid?.() ?? "user"}`), parents: false });
  return found;
}

/** As the XDG Base Directory Specification has it: a path that is not absolute is ignored. */
function cacheFolder(): string | null {
  const given = process.env.XDG_CACHE_HOME;
  if (given !== undefined && path.isAbsolute(given)) return given;
  try {
    const home = homedir();
    return path.isAbsolute(home) ? path.join(home, ".cache") : null;
  } catch {
    return null; // a user id without an entry in the user database, and no HOME
  }
}

function loadEmbedded(name: keyof Addons, embedded: EmbeddedAddon): unknown {
  const tried: string[] = [];
  for (const { folder, parents } of places()) {
    try {
      makePrivate(folder, parents);
      return loadFrom(folder, name, embedded);
    } catch (error) {
      tried.push(`${folder} (${reasonOf(error as Error)})`);
    }
  }
  const isOutOfDescriptors = NO_DESCRIPTOR.test(tried.join());
  const remedy = isOutOfDescriptors
    ? "too many files are open: raise the limit (ulimit -n)"
    : "make one of these folders writable for this user alone, on a file system that allows execution";
  throw new Error(
    `the native addon ${name} could not be loaded from any of: ${tried.join(", ")}; ${remedy}`,
    {
      cause: isOutOfDescriptors ? { code: "EMFILE" } : undefined,
    },
  );
}

function reasonOf(error: Error): string {
  const reason = error.message.split("\n")[0];
  return reason.includes("failed to map segment") ? `${reason}: the file system is mounted noexec` : reason;
}

/** Makes the folder, or checks that the one that is there can be trusted. */
function makePrivate(folder: string, parents: boolean): void {
  try {
    fs.mkdirSync(folder, { recursive: parents, mode: 0o700 });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "EEXIST") throw error;
  }
  if (!fs.lstatSync(folder).isDirectory()) throw new Error("it is not a folder");
  const found = trustProblem(folder);
  if (found !== null) throw new Error(found.problem);
}

/**
 * Loads an addon out of `folder`, which is private, and puts it there first where it is missing or is
 * something else.
 */
export function loadFrom(folder: string, name: keyof Addons, embedded: EmbeddedAddon): unknown {
  const file = path.join(folder, `${name}-${embedded.hash}.node`);
  const fd = openChecked(file, embedded.hash) ?? extract(folder, file, embedded);
  try {
    const module = { exports: {} };
    process.dlopen(module, pathOf(fd, name, file));
    return module.exports;
  } finally {
    fs.closeSync(fd);
  }
}

/** A descriptor of a file with these very bytes, or null: there is none, or it holds something else. */
function openChecked(file: string, hash: string): number | null {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = fs.constants;
  let fd: number;
  try {
    // A pipe in its place must not hold the start up.
    fd = fs.openSync(file, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  } catch {
    return null;
  }
  try {
    if (hashOf(fd) === hash) return fd;
  } catch {
    // Read again when it is written anew.
  }
  fs.closeSync(fd);
  return null;
}

/** sha256 of an open file, hexadecimal; a piece at a time, since fresh memory is dear at a start. */
function hashOf(fd: number): string {
  const hash = createHash("sha256");
  const piece = Buffer.allocUnsafe(PIECE_BYTES);
  for (let position = 0, read = 1; read > 0; position += read) {
    read = fs.readSync(fd, piece, 0, PIECE_BYTES, position);
    hash.update(piece.subarray(0, read));
  }
  return hash.digest("hex");
}

/**
 * A path that leads to the file of a descriptor whatever has become of its name. The loader takes two equal
 * paths for one library, and descriptors' numbers are used again: so each addon has a spelling of its own.
 * Where there is no /proc, it is the name, as long as that leads to the same file.
 */
function pathOf(fd: number, name: keyof Addons, file: string): string {
  const here = fs.fstatSync(fd);
  for (const candidate of [`/proc/self/fd/${SPELLINGS[name]}${fd}`, file]) {
    const there = fs.statSync(candidate, { throwIfNoEntry: false });
    if (there !== undefined && there.dev === here.dev && there.ino === here.ino) return candidate;
  }
  throw new Error(`${file} was replaced while it was loaded`);
}

/** Writes the addon to `file` in `folder`; answers a descriptor for reading it. */
function extract(folder: string, file: string, embedded: EmbeddedAddon): number {
  removeLeftovers(folder);
  const fresh = `${file}.${randomBytes(8).toString("hex")}.new`;
  let checked: number | null = null;
  try {
    const fd = fs.openSync(fresh, "wx", 0o600);
    try {
      fs.writeFileSync(fd, brotliDecompressSync(Buffer.from(embedded.data(), "base64")));
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    checked = openChecked(fresh, embedded.hash);
    if (checked === null) throw new Error(`${fresh} does not hold what was written to it`);
    fs.renameSync(fresh, file);
    return checked;
  } catch (error) {
    if (checked !== null) fs.closeSync(checked);
    fs.rmSync(fresh, { force: true });
    throw error;
  }
}

function removeLeftovers(folder: string): void {
  for (const entry of fs.readdirSync(folder)) {
    if (!entry.endsWith(".new")) continue;
    const file = path.join(folder, entry);
    const stat = fs.lstatSync(file, { throwIfNoEntry: false });
    if (stat !== undefined && Date.now() - stat.mtimeMs > LEFTOVER_MS) fs.rmSync(file, { force: true });
  }
}
