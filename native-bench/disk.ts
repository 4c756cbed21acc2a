/** What the disk does by itself: one small pwrite and one fdatasync after another, into blocks that were written before. */
import fs from "node:fs";
import path from "node:path";
import { median } from "./statistics.ts";

/** A 100-byte value with key and record header takes about this much. */
const WRITE_BYTES = 192;
const FILE_BYTES = 16 * 1024 * 1024;

export interface DiskFigure {
  perSecond: number;
  /** Median of a pwrite with its fdatasync, in seconds. */
  median: number;
}

/** Writes and syncs for about `ms` milliseconds. */
export function measureDisk(folder: string, ms: number): DiskFigure {
  const file = path.join(folder, "disk-loop");
  const fd = fs.openSync(file, "wx+");
  try {
    fs.writeSync(fd, Buffer.alloc(FILE_BYTES), 0, FILE_BYTES, 0);
    fs.fsyncSync(fd);
    const bytes = Buffer.alloc(WRITE_BYTES, 1);
    const took: number[] = [];
    const startMs = performance.now();
    let nowMs = startMs;
    for (let at = 0; nowMs - startMs < ms; at = (at + WRITE_BYTES) % (FILE_BYTES - WRITE_BYTES)) {
      const beforeMs = nowMs;
      fs.writeSync(fd, bytes, 0, WRITE_BYTES, at);
      fs.fdatasyncSync(fd);
      nowMs = performance.now();
      took.push((nowMs - beforeMs) / 1000);
    }
    return { perSecond: (took.length * 1000) / (nowMs - startMs), median: median(took) };
  } finally {
    fs.closeSync(fd);
    fs.unlinkSync(file);
  }
}
