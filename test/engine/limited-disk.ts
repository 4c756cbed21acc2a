/** A disk of few blocks, for tests: files are real, and a write that needs a block more than there is fails with ENOSPC. */
import fs from "node:fs";
import { type FileIo, nodeIo } from "../../src/engine/slabs/io.ts";

const BLOCK_BYTES = 4096;

interface LimitedFile {
  blocks: Set<number>;
  descriptors: number;
  named: boolean;
}

export class LimitedDisk {
  /** Blocks and files that there is room for. */
  freeBlocks: number;
  freeFiles = Number.POSITIVE_INFINITY;
  private readonly names = new Map<string, LimitedFile>();
  private readonly open = new Map<number, LimitedFile>();
  readonly io: FileIo;

  constructor(bytes: number) {
    this.freeBlocks = Math.floor(bytes / BLOCK_BYTES);
    const pwrite: FileIo["pwrite"] = (fd, bytes, offset, length, position) => {
      this.allocate(fd, position, length);
      nodeIo.pwrite(fd, bytes, offset, length, position);
    };
    const ftruncate: FileIo["ftruncate"] = (fd, bytes) => {
      nodeIo.ftruncate(fd, bytes);
      this.cut(this.open.get(fd) as LimitedFile, bytes);
    };
    this.io = {
      ...nodeIo,
      open: (path, flags) => {
        if (flags === "wx+" && !fs.existsSync(path) && this.freeFiles-- <= 0) {
          this.freeFiles = 0;
          throw noRoom();
        }
        const fd = nodeIo.open(path, flags);
        const file = this.names.get(path) ?? { blocks: new Set(), descriptors: 0, named: true };
        this.names.set(path, file);
        file.descriptors++;
        this.open.set(fd, file);
        return fd;
      },
      close: (fd) => {
        nodeIo.close(fd);
        const file = this.open.get(fd) as LimitedFile;
        this.open.delete(fd);
        file.descriptors--;
        this.forget(file);
      },
      pwrite,
      ftruncate,
      ftruncateAsync: async (fd, bytes) => ftruncate(fd, bytes),
      rename: (from, to) => {
        nodeIo.rename(from, to);
        this.unname(to);
        const file = this.names.get(from);
        this.names.delete(from);
        if (file !== undefined) this.names.set(to, file);
      },
      unlink: (path) => {
        nodeIo.unlink(path);
        this.unname(path);
      },
    };
  }

  private unname(path: string): void {
    const file = this.names.get(path);
    this.names.delete(path);
    if (file === undefined) return;
    file.named = false;
    this.freeFiles++;
    this.forget(file);
  }

  private forget(file: LimitedFile): void {
    if (!file.named && file.descriptors === 0) this.cut(file, 0);
  }

  private cut(file: LimitedFile, bytes: number): void {
    for (const block of file.blocks)
      if (block * BLOCK_BYTES >= bytes) {
        file.blocks.delete(block);
        this.freeBlocks++;
      }
  }

  private allocate(fd: number, position: number, length: number): void {
    const { blocks } = this.open.get(fd) as LimitedFile;
    const needed: number[] = [];
    for (let block = Math.floor(position / BLOCK_BYTES); block * BLOCK_BYTES < position + length; block++)
      if (!blocks.has(block)) needed.push(block);
    if (needed.length > this.freeBlocks) throw noRoom();
    this.freeBlocks -= needed.length;
    for (const block of needed) blocks.add(block);
  }
}

function noRoom(): Error {
  return Object.assign(new Error("ENOSPC: injected"), { code: "ENOSPC" });
}
