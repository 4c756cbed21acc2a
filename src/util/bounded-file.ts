/**
 * Reading small files whole, whatever has become of them: one that another program let grow, or that is
 * sparse and says terabytes, would take the memory, or minutes, before anybody saw that it is damaged.
 */
import fs from "node:fs";

/** Larger than files of JSON are: a layout of 65,536 partitions on a thousand nodes is below 8 MiB. */
export const SEALED_BYTES_MAX = 128 * 1024 * 1024;

/**
 * The content of a file.
 * @throws what the system says, or Error with a sentence when it has more than `bytesMax`
 */
export function readBounded(file: string, bytesMax: number): Buffer {
  const fd = fs.openSync(file, "r");
  try {
    const { size } = fs.fstatSync(fd);
    if (size > bytesMax)
      throw new Error(`${file} is damaged: it has ${size} bytes, and never has more than ${bytesMax}`);
    return fs.readFileSync(fd);
  } finally {
    fs.closeSync(fd);
  }
}
