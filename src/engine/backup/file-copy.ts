/** Copies of files that are on the disk when these return. */
import fs from "node:fs";

const PIECE_BYTES = 1024 * 1024;
const { COPYFILE_EXCL, COPYFILE_FICLONE } = fs.constants;

/** Copies a whole file; where the file system can, both share their blocks until one of them is changed. */
export async function copyWhole(from: string, to: string): Promise<void> {
  await fs.promises.copyFile(from, to, COPYFILE_EXCL | COPYFILE_FICLONE);
  const file = await fs.promises.open(to, "r+");
  try {
    await file.chmod(0o600);
    await file.sync();
  } finally {
    await file.close();
  }
}

/**
 * Copies the beginning of a file.
 * @param bytes to be copied
 * @param size what the copy is to be like after them: zeros without blocks
 * @returns bytes that were there
 */
export async function copyBeginning(from: string, to: string, bytes: number, size: number): Promise<number> {
  const source = await fs.promises.open(from, "r");
  try {
    const target = await fs.promises.open(to, "wx", 0o600);
    try {
      const piece = Buffer.alloc(Math.min(PIECE_BYTES, Math.max(1, bytes)));
      let done = 0;
      while (done < bytes) {
        const { bytesRead } = await source.read(piece, 0, Math.min(piece.length, bytes - done), done);
        if (bytesRead === 0) break;
        await target.writeFile(piece.subarray(0, bytesRead));
        done += bytesRead;
      }
      await target.truncate(size);
      await target.sync();
      return done;
    } finally {
      await target.close();
    }
  } finally {
    await source.close();
  }
}

/** Writes a new file. */
export async function writeNew(to: string, bytes: Uint8Array): Promise<void> {
  const file = await fs.promises.open(to, "wx", 0o600);
  try {
    await file.writeFile(bytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

/** What was created in a folder stays there. */
export async function syncFolder(folder: string): Promise<void> {
  const file = await fs.promises.open(folder, "r");
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
