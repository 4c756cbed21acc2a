/**
 * A file that is being filled, and has its name only when it is whole. One command at a time fills it: where
 * the system can (Linux, one network namespace), a socket that is named after it keeps others out.
 */
import fs from "node:fs";
import type { Server } from "node:net";
import path from "node:path";
import { syncFolder } from "../../engine/backup/file-copy.ts";
import { HAS_NAMED_SOCKETS, holdSocket } from "../../platform/named-socket.ts";
import { reasonOf } from "../../platform/system-error.ts";

/** What came could not be written. */
export class Unwritten extends Error {
  constructor(name: string, cause: unknown) {
    super(`cannot write ${name}: ${reasonOf(cause)}`, { cause });
  }
}

export class PartFile {
  readonly name: string;
  private readonly fd: number;
  private readonly socket: Server | null;
  /** How much of it is filled. */
  bytes = 0;

  private constructor(name: string, fd: number, socket: Server | null) {
    this.name = name;
    this.fd = fd;
    this.socket = socket;
  }

  /** @throws Error when it cannot be written, or another command does */
  static async open(name: string): Promise<PartFile> {
    const fd = fs.openSync(name, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
    try {
      const { dev, ino } = fs.fstatSync(fd, { bigint: true });
      const socket = HAS_NAMED_SOCKETS ? await holdSocket(`minivault-part-${dev}-${ino}`) : null;
      // Who had it before may just have given it its name.
      const isIts = fs.statSync(name, { bigint: true, throwIfNoEntry: false })?.ino === ino;
      if ((socket === null && HAS_NAMED_SOCKETS) || !isIts) {
        socket?.close();
        throw new Error(`another command is writing ${name}: wait for it, or name another file`);
      }
      return new PartFile(name, fd, socket);
    } catch (error) {
      fs.closeSync(fd);
      throw error;
    }
  }

  /** Takes away what stands behind; to be called before anything is appended. */
  truncate(bytes: number): void {
    fs.ftruncateSync(this.fd, bytes);
    this.bytes = bytes;
  }

  /** @throws Unwritten */
  append(piece: Uint8Array): void {
    for (let from = 0; from < piece.length; ) {
      const written = this.write(piece, from);
      from += written;
      this.bytes += written;
    }
  }

  private write(piece: Uint8Array, from: number): number {
    try {
      return fs.writeSync(this.fd, piece, from, piece.length - from, this.bytes);
    } catch (error) {
      throw new Unwritten(this.name, error);
    }
  }

  /** It is whole: gives it its name. */
  async finish(target: string): Promise<void> {
    fs.fsyncSync(this.fd);
    fs.renameSync(this.name, target);
    await syncFolder(path.dirname(target));
  }

  /** Lets others have it. It stays, unless nothing is in it. */
  close(): void {
    const isEmpty = fs.fstatSync(this.fd).size === 0;
    fs.closeSync(this.fd);
    if (isEmpty) fs.rmSync(this.name, { force: true });
    this.socket?.close();
  }
}
