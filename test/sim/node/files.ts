/**
 * The small files of a simulated node, in memory: what the shipped code does with `node:fs` below ROOT. A power loss takes what was not
 * synced.
 */
import type { Simulation } from "./simulation.ts";

export const ROOT = "/simulated";

interface MemoryFile {
  bytes: Buffer;
  /** What survives a power loss; null: nothing yet. */
  synced: Buffer | null;
}

/** Numbers that no file of this process has. */
const FIRST_FD = 1_000_000;
/** How long what does not block takes. */
const WORK_MS = 0.5;

/** Files below a folder, as they were at some time. */
export type FolderCopy = ReadonlyMap<string, Buffer>;

export class SimFiles {
  private readonly simulation: Simulation;
  private readonly files = new Map<string, MemoryFile>();
  private readonly open = new Map<number, string>();
  private nextFd = FIRST_FD;

  constructor(simulation: Simulation) {
    this.simulation = simulation;
  }

  /** What is there of a folder. */
  copy(folder: string): FolderCopy {
    const found = new Map<string, Buffer>();
    for (const [name, { bytes }] of this.files) if (name.startsWith(`${folder}/`)) found.set(name, bytes);
    return found;
  }

  /** Puts a folder back as it was. */
  putBack(folder: string, copy: FolderCopy): void {
    this.remove(folder);
    for (const [name, bytes] of copy) this.files.set(name, { bytes, synced: bytes });
  }

  remove(folder: string): void {
    for (const name of [...this.files.keys()]) if (name.startsWith(`${folder}/`)) this.files.delete(name);
  }

  losePower(folder: string): void {
    for (const [name, file] of [...this.files]) {
      if (!name.startsWith(`${folder}/`)) continue;
      if (file.synced === null) this.files.delete(name);
      else file.bytes = file.synced;
    }
  }

  install(): void {
    const fs = require("node:fs");
    const promises = require("node:fs/promises");
    const { simulation } = this;
    const isOurs = (place: unknown): boolean =>
      typeof place === "number" ? place >= FIRST_FD : String(place).startsWith(ROOT);
    const both = (name: string, own: (...words: never[]) => unknown): void => {
      const before = fs[name];
      simulation.replace(fs, name, (...words: unknown[]) =>
        isOurs(words[0]) ? own(...(words as never[])) : before(...words),
      );
    };
    both("readFileSync", (place: string | number, encoding?: string) => {
      const bytes = this.read(this.nameOf(place));
      return encoding === undefined ? Buffer.from(bytes) : bytes.toString();
    });
    both("fstatSync", (fd: number) => ({ size: this.read(this.nameOf(fd)).length }));
    both("rmSync", (name: string) => this.files.delete(name));
    both("openSync", (name: string, flags: string) => this.openFile(name, flags));
    both("closeSync", (fd: number) => this.open.delete(fd));
    both("writeFileSync", (place: string | number, text: string) => this.write(this.nameOf(place), text));
    both("fsyncSync", (fd: number) => this.sync(this.nameOf(fd)));
    both("renameSync", (from: string, to: string) => this.rename(from, to));
    both("mkdirSync", () => undefined);
    both("readdirSync", (folder: string) => this.list(folder));
    const later = (name: string, own: (...words: never[]) => unknown): void => {
      const before = promises[name];
      simulation.replace(promises, name, async (...words: unknown[]) => {
        if (!isOurs(words[0])) return before(...words);
        await this.worked();
        return own(...(words as never[]));
      });
    };
    later("open", (name: string) => this.handle(name));
    later("rename", (from: string, to: string) => this.rename(from, to));
    later("writeFile", (name: string, bytes: Uint8Array) => this.write(name, bytes));
    later("appendFile", (name: string, bytes: Uint8Array) => {
      const before = this.files.get(name)?.bytes ?? Buffer.alloc(0);
      this.write(name, Buffer.concat([before, bytes]));
    });
  }

  private worked(): Promise<void> {
    return new Promise((resolve) => setTimeout(resolve, this.simulation.chance() * WORK_MS));
  }

  private handle(name: string) {
    this.files.set(name, { bytes: Buffer.alloc(0), synced: this.files.get(name)?.synced ?? null });
    return {
      writeFile: async (text: string) => {
        await this.worked();
        this.write(name, text);
      },
      datasync: async () => {
        await this.worked();
        this.sync(name);
      },
      close: async () => {},
    };
  }

  private openFile(name: string, flags: string): number {
    if (flags === "wx" && this.files.has(name)) throw failure("EEXIST", name);
    const isFolder = [...this.files.keys()].some((each) => each.startsWith(`${name}/`));
    if (flags.startsWith("r") && !this.files.has(name) && !isFolder) throw failure("ENOENT", name);
    // Of a folder only that it is synced.
    if (flags === "wx") this.files.set(name, { bytes: Buffer.alloc(0), synced: null });
    this.open.set(this.nextFd, name);
    return this.nextFd++;
  }

  private nameOf(place: string | number): string {
    return typeof place === "number" ? (this.open.get(place) as string) : place;
  }

  private read(name: string): Buffer {
    const file = this.files.get(name);
    if (file === undefined) throw failure("ENOENT", name);
    return file.bytes;
  }

  private write(name: string, content: string | Uint8Array): void {
    const bytes = Buffer.from(content as string);
    const file = this.files.get(name);
    if (file === undefined) this.files.set(name, { bytes, synced: null });
    else file.bytes = bytes;
  }

  private sync(name: string): void {
    const file = this.files.get(name);
    if (file !== undefined) file.synced = file.bytes;
  }

  private rename(from: string, to: string): void {
    const file = this.files.get(from);
    if (file === undefined) throw failure("ENOENT", from);
    this.files.delete(from);
    this.files.set(to, file);
  }

  private list(folder: string): string[] {
    const inside = [...this.files.keys()].filter((name) => name.startsWith(`${folder}/`));
    return [...new Set(inside.map((name) => name.slice(folder.length + 1).split("/")[0]))].sort();
  }
}

function failure(code: string, name: string): Error {
  return Object.assign(new Error(`${code}: '${name}'`), { code });
}
