/** Puts the files of a folder out of memory. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { mapSlab } from "../src/engine/slabs/maps.ts";
import { loadAddon } from "../src/platform/addon.ts";

/**
 * Drops the page cache of all files below a folder; none may be mapped by a process. False: the system does not do that, or not for this
 * file system.
 */
export function dropCache(folder: string): boolean {
  for (const entry of fs.readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    try {
      execFileSync("dd", [`of=${file}`, "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"]);
    } catch {
      return false; // a dd that is not GNU's
    }
  }
  // The system reads ahead as it likes.
  return missingPages(folder) > 0;
}

/** How many pages of the slabs below a folder are not in memory. */
export function missingPages(folder: string): number {
  const slabs = (fs.readdirSync(folder, { recursive: true }) as string[]).filter((name) =>
    name.endsWith(".slab"),
  );
  return slabs.reduce((missing, name) => {
    const file = path.join(folder, name);
    const { bytes } = mapSlab(file, fs.statSync(file).size);
    return missing + loadAddon("mmap").incore(bytes as Buffer)[0];
  }, 0);
}
