/**
 * The one door to native addons. From source they are loaded out of node_modules. The bundle carries them inside: they are
 * written once to a private folder under a name that contains their hash, and checked against that hash before each load.
 */
import { createHash, randomBytes } from "node:crypto";
import fs from "node:fs";
import { homedir, tmpdir, userInfo } from "node:os";
import path from "node:path";
import { threadId } from "node:worker_threads";
import { brotliDecompressSync } from "node:zlib";

/** What mmap-io's native part offers (its own JavaScript only finds the file). */
export interface MmapAddon {
  map(bytes: number, protection: number, flags: number, fd: number, offset?: number, advise?: number): Buffer;
  advise(buffer: Buffer, advise: number): void;
  /** [pages not in memory, pages in memory] */
  incore(buffer: Buffer): [number, number];
  readonly PROT_READ: number;
  readonly MAP_SHARED: number;
  readonly MADV_RANDOM: number;
  readonly MADV_SEQUENTIAL: number;
  readonly MADV_WILLNEED: number;
  readonly MADV_NORMAL: number;
  readonly PAGESIZE: number;
}

export type UwsAddon = typeof import("uWebSockets.js");

interface Addons {
  uws: UwsAddon;
  mmap: MmapAddon;
}

interface Embedded {
  /** sha256 of the file, hexadecimal. */
  hash: string;
  /** The file, by brotli, in base64. */
  data: string;
}

/** Put in by the build; absent when run from source. */
declare const EMBEDDED_ADDONS: Record<keyof Addons, Embedded>;

const loaded: Partial<Addons> = {};
let preferred: string | null = null;

/** Names the folder to try first for extracted addons. */
export function setAddonDirectory(folder: string): void {
  preferred = folder;
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
    typeof EMBEDDED_ADDONS === "undefined"
      ? require(sourcePath(name))
      : loadEmbedded(name, EMBEDDED_ADDONS[name])
  ) as Addons[Name];
  loaded[name] = addon;
  return addon;
}

/** Where the packages keep their binaries. The build reads the same places. */
function sourcePath(name: keyof Addons): string {
  const { platform, arch, versions } = process;
  const modules = path.join(__dirname, "../../node_modules");
  return name === "uws"
    ? path.join(modules, `uWebSockets.js/dist/bin/uws_${platform}_${arch}_${versions.modules}.node`)
    : path.join(
        modules,
        `mmap-io/build/binding/Release/node-v${versions.modules}-${platform}-${arch}/mmap_io.node`,
      );
}

function candidateFolders(): string[] {
  const cache = process.env.XDG_CACHE_HOME || path.join(homedir(), ".cache");
  const folders = [path.join(cache, "minivault"), path.join(tmpdir(), `minivault-${userInfo().uid}`)];
  return preferred === null ? folders : [preferred, ...folders];
}

function loadEmbedded(name: string, embedded: Embedded): unknown {
  const tried: string[] = [];
  for (const folder of candidateFolders()) {
    try {
      fs.mkdirSync(folder, { recursive: true, mode: 0o700 });
      const { uid, mode } = fs.lstatSync(folder);
      if (uid !== userInfo().uid) throw new Error("it belongs to another user");
      if ((mode & 0o022) !== 0) throw new Error("others may write to it");
      return require(extract(folder, name, embedded));
    } catch (error) {
      tried.push(`${folder}: ${(error as Error).message.split("\n")[0]}`);
    }
  }
  throw new Error(
    `the native addon ${name} could not be loaded from any folder; make one of them writable and executable: ${tried.join("; ")}`,
  );
}

/** The addon's file in `folder`, with the right content. */
function extract(folder: string, name: string, embedded: Embedded): string {
  const file = path.join(folder, `${name}-${embedded.hash.slice(0, 32)}.node`);
  if (hashOf(file) === embedded.hash) return file;
  const fresh = `${file}.${process.pid}.${threadId}.${randomBytes(4).toString("hex")}`;
  try {
    const fd = fs.openSync(fresh, "wx", 0o700);
    try {
      fs.writeFileSync(fd, brotliDecompressSync(Buffer.from(embedded.data, "base64")));
      fs.fsyncSync(fd);
    } finally {
      fs.closeSync(fd);
    }
    fs.renameSync(fresh, file);
  } catch (error) {
    fs.rmSync(fresh, { force: true });
    throw error;
  }
  if (hashOf(file) !== embedded.hash) throw new Error(`${file} does not hold what was written to it`);
  return file;
}

function hashOf(file: string): string | null {
  try {
    return createHash("sha256").update(fs.readFileSync(file)).digest("hex");
  } catch {
    return null;
  }
}
