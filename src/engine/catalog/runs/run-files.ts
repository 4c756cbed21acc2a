/**
 * Runs in files: written aside, synced, renamed, then read through maps.
 */
import fs from "node:fs";
import path from "node:path";
import type { Fences } from "../../../format/keys/fences.ts";
import { blockSeed, KEY_BLOCK_BYTES } from "../../../format/keys/key-block.ts";
import { decodeRunEnd, encodeRunEnd, RUN_FOOTER_BYTES } from "../../../format/keys/run-end.ts";
import { reasonOf } from "../../../platform/system-error.ts";
import type { FileIo } from "../../slabs/io.ts";
import { mapSlab } from "../../slabs/maps.ts";
import { RunBuilder } from "./builder.ts";
import { runFileName } from "./manifest.ts";
import { type KeyRun, RunDamage, type RunPart, runOf } from "./run.ts";

/** A run continues in another file from so many blocks on. */
export const RUN_FILE_BLOCKS_MAX = 16_000;
/** Blocks that are written with one call. */
const WRITTEN_BLOCKS = 64;
/** A map of more than this cannot be had. */
const RUN_FILE_BYTES_MAX = 2 ** 31;

/** A file of a run, through its map. */
class FilePart implements RunPart {
  readonly name: string;
  readonly file: number;
  readonly fences: Fences;
  readonly keys: number;
  readonly bytes: number;
  private readonly map: Uint8Array;
  private readonly salt: number;

  /**
   * Opens a file of a run.
   * @throws RunDamage when it is not what it should be
   */
  constructor(directory: string, file: number, salt: number) {
    this.name = runFileName(file);
    const where = path.join(directory, this.name);
    let bytes: number;
    try {
      bytes = fs.statSync(where).size;
    } catch (error) {
      throw new RunDamage(`${this.name}: ${reasonOf(error)}`);
    }
    if (bytes < RUN_FOOTER_BYTES || bytes > RUN_FILE_BYTES_MAX)
      throw new RunDamage(`${this.name}: it has ${bytes} bytes`);
    const map = mapSlab(where, bytes).bytes;
    const end = decodeRunEnd(map);
    if (typeof end === "string") throw new RunDamage(`${this.name}: ${end}`);
    if (end.footer.salt !== salt || end.footer.file !== file || end.footer.blocks === 0)
      throw new RunDamage(`${this.name}: it is another file`);
    this.file = file;
    this.fences = end.fences;
    this.keys = end.footer.keys;
    this.bytes = bytes;
    this.map = map;
    this.salt = salt;
  }

  readBlock(block: number, target: Uint8Array): number {
    const at = block * KEY_BLOCK_BYTES;
    target.set(this.map.subarray(at, at + KEY_BLOCK_BYTES));
    return blockSeed(this.salt, this.file, block);
  }
}

/** Writes one file of a run. */
class RunFileWriter {
  readonly file: number;
  private readonly io: FileIo;
  private readonly directory: string;
  private readonly salt: number;
  private readonly fd: number;
  private readonly buffer = new Uint8Array(WRITTEN_BLOCKS * KEY_BLOCK_BYTES);
  private buffered = 0;
  private written = 0;
  private readonly builder: RunBuilder;

  constructor(io: FileIo, directory: string, file: number, salt: number) {
    this.io = io;
    this.directory = directory;
    this.file = file;
    this.salt = salt;
    this.builder = new RunBuilder(this.take, (block) => blockSeed(salt, file, block));
    fs.rmSync(this.unfinished, { force: true });
    this.fd = io.open(this.unfinished, "wx+");
  }

  private get unfinished(): string {
    return path.join(this.directory, `${runFileName(this.file)}.new`);
  }

  private readonly take = (block: Uint8Array): void => {
    this.buffer.set(block, this.buffered);
    this.buffered += KEY_BLOCK_BYTES;
    if (this.buffered === this.buffer.length) this.flush();
  };

  private flush(): void {
    this.io.pwrite(this.fd, this.buffer, 0, this.buffered, this.written);
    this.written += this.buffered;
    this.buffered = 0;
  }

  get isFull(): boolean {
    return this.builder.blocks >= RUN_FILE_BLOCKS_MAX;
  }

  add(key: Uint8Array, from: number, to: number): void {
    this.builder.add(key, from, to);
  }

  /** Completes the file under its own name, once it is on the disk. */
  async end(): Promise<void> {
    const { builder, io, fd, salt, file } = this;
    try {
      builder.end();
      this.flush();
      const { blocks, keys, fences } = builder;
      const end = encodeRunEnd({ salt, file, blocks, keys }, fences);
      io.pwrite(fd, end, 0, end.length, this.written);
      await io.fdatasyncAsync(fd);
    } finally {
      io.close(fd);
    }
    io.rename(this.unfinished, path.join(this.directory, runFileName(file)));
  }

  /** Leaves nothing behind. */
  abandon(): void {
    this.io.close(this.fd);
    fs.rmSync(this.unfinished, { force: true });
  }
}

/** Takes the key `key[from .. to)`. */
export type AddKey = (key: Uint8Array, from: number, to: number) => void;

/** Gives rising keys to `add`, with pauses; at the end false: the work has become pointless. */
export type FillRun = (add: AddKey) => AsyncGenerator<void, boolean>;

export interface RunFilesSetup {
  io: FileIo;
  directory: string;
  /** First word of the store's id. */
  salt: number;
  /** Number of the next file. */
  next: number;
}

/** The files of all runs. */
export class RunFiles {
  private readonly io: FileIo;
  readonly directory: string;
  private readonly salt: number;
  next: number;

  constructor({ io, directory, salt, next }: RunFilesSetup) {
    this.io = io;
    this.directory = directory;
    this.salt = salt;
    this.next = next;
  }

  /** @throws RunDamage */
  open(files: readonly number[]): KeyRun {
    return runOf(files.map((file) => new FilePart(this.directory, file, this.salt)));
  }

  /**
   * Writes the keys that `fill` gives to `add` into files, and opens them.
   * @param fill answers false when the work is to stop
   * @returns null: it was stopped; or there was no key ("empty")
   * @throws what the disk says; then nothing of it is left
   */
  async write(fill: FillRun): Promise<KeyRun | "empty" | null> {
    const files: number[] = [];
    let writer: RunFileWriter | null = null;
    const add: AddKey = (key, from, to) => {
      writer ??= new RunFileWriter(this.io, this.directory, this.next++, this.salt);
      writer.add(key, from, to);
    };
    const end = async (): Promise<void> => {
      if (writer === null) return;
      const ended: RunFileWriter = writer;
      writer = null;
      files.push(ended.file);
      await ended.end();
    };
    try {
      const steps = fill(add);
      for (;;) {
        const { done, value } = await steps.next();
        if (done === true) {
          if (value) break;
          this.discard(writer, files);
          return null;
        }
        if ((writer as RunFileWriter | null)?.isFull === true) await end();
      }
      await end();
      if (files.length === 0) return "empty";
      this.io.syncDirectory(this.directory);
      return this.open(files);
    } catch (error) {
      this.discard(writer, files);
      throw error;
    }
  }

  private discard(writer: RunFileWriter | null, files: readonly number[]): void {
    writer?.abandon();
    for (const file of files)
      for (const suffix of ["", ".new"])
        fs.rmSync(path.join(this.directory, `${runFileName(file)}${suffix}`), { force: true });
  }

  /** Removes the files of a run that no manifest names any more; who reads them has them mapped. */
  remove(run: KeyRun): void {
    for (const part of run.parts)
      if (part instanceof FilePart) fs.rmSync(path.join(this.directory, part.name), { force: true });
  }
}

/** Numbers of the files of a run. */
export function filesOf(run: KeyRun): number[] {
  return run.parts.map((part) => (part as FilePart).file);
}
