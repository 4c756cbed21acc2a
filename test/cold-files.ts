/** Puts the files of a folder out of memory. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { isInMemory, mapSlab } from "../src/engine/slabs/maps.ts";

/**
 * Drops the page cache of all files below a folder; none may be mapped by a process. False: the system does not do that, or not for this
 * file system.
 */
export function dropCache(folder: string): boolean {
  let cold = true;
  for (const entry of fs.readdirSync(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const file = path.join(entry.parentPath, entry.name);
    try {
      execFileSync("dd", [`of=${file}`, "oflag=nocache", "conv=notrunc,fdatasync", "count=0", "status=none"]);
    } catch {
      return false; // a dd that is not GNU's
    }
    const { size } = fs.statSync(file);
    if (file.endsWith(".slab") && isInMemory(mapSlab(file, size), 0, size)) cold = false;
  }
  return cold;
}
