/**
 * Memory maps of whole files, for reading. The map lives as long as the result.
 */
import fs from "node:fs";
import { devNull } from "node:os";
import { VaultError } from "../util/errors.ts";
import { loadAddon } from "./addon.ts";
import { isOutOfDescriptors, reasonOf } from "./system-error.ts";

/**
 * A descriptor that this thread keeps for a file to be mapped when no other one is free: a map needs it for a
 * moment only, and what is mapped after a commit cannot be refused any more. -1: there is none.
 */
let spare = -1;
let keepsSpare = false;

/** Takes a descriptor aside for this thread, from now on. */
export function keepSpareDescriptor(): void {
  keepsSpare = true;
  if (spare >= 0) return;
  try {
    spare = fs.openSync(devNull, "r");
  } catch {
    // Tried again after the next map.
  }
}

function openIfAny(file: string): number | null {
  try {
    return openWithSpare(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return null;
    const text = `a data file could not be opened: ${reasonOf(error)}`;
    const code = isOutOfDescriptors(error) ? "overloaded" : "corrupt";
    throw Object.assign(new VaultError(code, text), { cause: error });
  }
}

function openWithSpare(file: string): number {
  try {
    return fs.openSync(file, "r");
  } catch (error) {
    if (spare < 0 || !isOutOfDescriptors(error)) throw error;
    fs.closeSync(spare);
    spare = -1;
    return fs.openSync(file, "r");
  }
}

function mapOf(fd: number, bytes: number): Buffer {
  const mmap = loadAddon("mmap");
  try {
    return mmap.map(bytes, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0);
  } catch (error) {
    const text = `a data file could not be mapped, as this process may have no more maps or addresses (vm.max_map_count, ulimit -v): ${reasonOf(error)}`;
    throw Object.assign(new VaultError("overloaded", text), { cause: error });
  }
}

/**
 * Maps a file; null where there is none.
 * @param missing counts of pages that could not be read, and where in them this file's are
 * @throws VaultError "overloaded" where the system has no descriptor or addresses left for it, "corrupt"
 *   where the file cannot be opened for another reason
 */
export function mapFile(file: string, bytes: number, missing: Int32Array, index: number): Uint8Array | null {
  const fd = openIfAny(file);
  if (fd === null) return null;
  try {
    const map = mapOf(fd, bytes);
    loadAddon("guard").watch(map.buffer, missing, index);
    return new Uint8Array(map.buffer, map.byteOffset, bytes);
  } finally {
    fs.closeSync(fd);
    if (keepsSpare) keepSpareDescriptor();
  }
}
