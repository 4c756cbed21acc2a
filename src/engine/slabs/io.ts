/**
 * The file calls that the engine makes, in one place, so that tests can count, record and fail them. Offsets
 * and lengths in bytes. Every call throws Node's system error (`code`: ENOSPC, EIO, …); `pwrite` writes
 * everything or throws.
 */
import fs from "node:fs";
import { promisify } from "node:util";
import { loadAddon } from "../../platform/addon.ts";
import { syncDirectory } from "../../util/sealed-file.ts";

export interface FileIo {
  open(path: string, flags: "r" | "r+" | "wx+"): number;
  close(fd: number): void;
  pwrite(fd: number, bytes: Uint8Array, offset: number, length: number, position: number): void;
  fdatasync(fd: number): void;
  fsync(fd: number): void;
  ftruncate(fd: number, bytes: number): void;
  /** Size of an open file in bytes. */
  size(fd: number): number;
  /** Names that an open file has; 0: it was unlinked. */
  links(fd: number): number;
  rename(from: string, to: string): void;
  unlink(path: string): void;
  /** fsync of a directory, so that creations, renames and unlinks in it last. */
  syncDirectory(path: string): void;
  fdatasyncAsync(fd: number): Promise<void>;
  ftruncateAsync(fd: number, bytes: number): Promise<void>;
}

export const nodeIo: FileIo = {
  open: (path, flags) => fs.openSync(path, flags, 0o600),
  close: (fd) => fs.closeSync(fd),
  pwrite(fd, bytes, offset, length, position) {
    // A short write is legal, for one at a full disk: the rest then fails with the reason.
    for (let done = 0; done < length; )
      done += fs.writeSync(fd, bytes, offset + done, length - done, position + done);
  },
  fdatasync: (fd) => fs.fdatasyncSync(fd),
  fsync: (fd) => fs.fsyncSync(fd),
  ftruncate: (fd, bytes) => fs.ftruncateSync(fd, bytes),
  // Not by stat: this is asked around each write.
  size: (fd) => loadAddon("guard").fileBytes(fd),
  links: (fd) => fs.fstatSync(fd).nlink,
  rename: (from, to) => fs.renameSync(from, to),
  unlink: (path) => fs.unlinkSync(path),
  syncDirectory,
  fdatasyncAsync: promisify(fs.fdatasync),
  ftruncateAsync: promisify(fs.ftruncate),
};

const nothing = (): void => {};

/**
 * Reads, and lets every change seem to be made: for looking at a store as a start would, without touching it.
 */
export const readOnlyIo: FileIo = {
  open: (path) => fs.openSync(path, "r"),
  close: (fd) => fs.closeSync(fd),
  pwrite: nothing,
  fdatasync: nothing,
  fsync: nothing,
  ftruncate: nothing,
  size: (fd) => fs.fstatSync(fd).size,
  links: (fd) => fs.fstatSync(fd).nlink,
  rename: nothing,
  unlink: nothing,
  syncDirectory: nothing,
  fdatasyncAsync: async () => {},
  ftruncateAsync: async () => {},
};

/** Whether an error says that there is no room: a full disk or an exhausted quota. */
export function isDiskFull(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException).code;
  return code === "ENOSPC" || code === "EDQUOT";
}
