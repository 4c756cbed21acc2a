/**
 * A disk that remembers: every write, size change, creation, rename, unlink and sync of the engine is recorded, and from the
 * record it is known what a power loss at any moment may leave. (After SQLite's and RocksDB's fault-injection file systems.)
 *
 * The model: a change of a file is certain once an fdatasync or fsync of that file that began after it has returned; a change of a
 * directory once an fsync of the directory has. Of all other changes any subset may be there, and of a write any subset of
 * its 512-byte sectors. A rename is there whole or not at all.
 */
import fs from "node:fs";
import path from "node:path";
import { type FileIo, nodeIo } from "../../src/engine/slabs/io.ts";
import type { Random } from "../random.ts";

const SECTOR_BYTES = 512;

type FileChange = { position: number; bytes: Buffer } | { size: number };
/** Names that change together: to a file, or to nothing. */
type NameChange = [name: string, file: number | null][];

type Event =
  | { kind: "file"; file: number; change: FileChange }
  | { kind: "names"; names: NameChange }
  /** Makes the changes of a file, or (-1) of the directories, certain that were recorded before event `before`. */
  | { kind: "sync"; file: number; directory: string; before: number };

/** Files by path within the data directory; good until the next image is asked for. */
export type Image = Map<string, Buffer>;

/** Which of the changes that are not certain an image has. */
export type Survival = "none" | "all" | "random" | "one" | "all but one" | "torn";
const SURVIVALS: readonly Survival[] = ["none", "all", "random", "one", "all but one", "torn"];

export class RecordedDisk {
  private readonly root: string;
  private readonly events: Event[] = [];
  private readonly files: Buffer[] = [];
  private readonly birth = new Map<string, number>();
  private readonly names = new Map<string, number>();
  private readonly descriptors = new Map<number, number>();
  readonly io: FileIo;

  /** @param root data directory; what is in it now counts as certain */
  constructor(root: string) {
    this.root = root;
    for (const entry of fs.readdirSync(root, { recursive: true, withFileTypes: true })) {
      if (!entry.isFile()) continue;
      const file = path.join(entry.parentPath, entry.name);
      this.birth.set(path.relative(root, file), this.files.push(fs.readFileSync(file)) - 1);
    }
    for (const [name, file] of this.birth) this.names.set(name, file);
    this.io = this.recorder();
  }

  /** Number of events so far: a moment of the run. */
  get now(): number {
    return this.events.length;
  }

  private recorder(): FileIo {
    const relative = (file: string): string => path.relative(this.root, file);
    const fileOf = (fd: number): number => this.descriptors.get(fd) as number;
    const write = (fd: number, bytes: Uint8Array, position: number): void => {
      const change = { position, bytes: Buffer.from(bytes) };
      this.events.push({ kind: "file", file: fileOf(fd), change });
    };
    const resized = (fd: number, size: number): void => {
      this.events.push({ kind: "file", file: fileOf(fd), change: { size } });
    };
    const synced = (file: number, directory: string, before: number): void => {
      this.events.push({ kind: "sync", file, directory, before });
    };
    const rename = (names: NameChange): void => {
      this.events.push({ kind: "names", names });
      for (const [name, file] of names)
        if (file === null) this.names.delete(name);
        else this.names.set(name, file);
    };
    return {
      open: (file, flags) => {
        const fd = nodeIo.open(file, flags);
        if (flags === "wx+") rename([[relative(file), this.files.push(Buffer.alloc(0)) - 1]]);
        this.descriptors.set(fd, this.names.get(relative(file)) as number);
        return fd;
      },
      close: nodeIo.close,
      pwrite: (fd, bytes, offset, length, position) => {
        write(fd, bytes.subarray(offset, offset + length), position);
        nodeIo.pwrite(fd, bytes, offset, length, position);
      },
      fdatasync: (fd) => synced(fileOf(fd), "", this.now),
      fsync: (fd) => synced(fileOf(fd), "", this.now),
      size: nodeIo.size,
      links: nodeIo.links,
      ftruncate: (fd, size) => {
        resized(fd, size);
        nodeIo.ftruncate(fd, size);
      },
      rename: (from, to) => {
        nodeIo.rename(from, to);
        rename([
          [relative(from), null],
          [relative(to), this.names.get(relative(from)) as number],
        ]);
      },
      unlink: (file) => {
        nodeIo.unlink(file);
        rename([[relative(file), null]]);
      },
      syncDirectory: (directory) => synced(-1, relative(directory), this.now),
      fdatasyncAsync: async (fd) => {
        // What is written while a sync runs may or may not be caught by it.
        const file = fileOf(fd);
        const before = this.now;
        await new Promise((resolve) => setImmediate(resolve));
        synced(file, "", before);
      },
      ftruncateAsync: (fd, size) => {
        resized(fd, size);
        return nodeIo.ftruncateAsync(fd, size);
      },
    };
  }

  /**
   * Images of power losses: for every sync, just before it returns and just after, and for one in `every` of the other moments, images
   * with each kind of survival of what was not certain.
   */
  *images(random: Random, every: number): Generator<{ moment: number; survival: Survival; image: Image }> {
    const certain = new Certain(this.files, this.birth);
    for (let moment = 0; moment <= this.events.length; moment++) {
      const boundary =
        this.events[moment]?.kind === "sync" ||
        this.events[moment - 1]?.kind === "sync" ||
        moment === this.now;
      if (boundary || random.below(every) === 0)
        for (const survival of SURVIVALS) {
          if (survival !== "none" && certain.open.length === 0) continue;
          yield { moment, survival, image: certain.image(survival, random) };
        }
      if (moment < this.events.length) certain.advance(this.events[moment], moment);
    }
  }
}

/** What is certain at a moment, and what is not yet. */
class Certain {
  readonly open: { moment: number; event: Exclude<Event, { kind: "sync" }> }[] = [];
  private readonly files: Buffer[];
  private readonly own = new Set<number>();
  private readonly names: Map<string, number>;

  constructor(files: readonly Buffer[], names: ReadonlyMap<string, number>) {
    this.files = [...files];
    this.names = new Map(names);
  }

  advance(event: Event, moment: number): void {
    if (event.kind !== "sync") {
      this.open.push({ moment, event });
      return;
    }
    const covers = (change: Event, made: number): boolean =>
      made < event.before &&
      (change.kind === "file"
        ? change.file === event.file
        : change.kind === "names" &&
          event.file < 0 &&
          change.names.every(([name]) => directoryOf(name) === event.directory));
    const rest = this.open.filter(({ event: change, moment: made }) => {
      if (!covers(change, made)) return true;
      apply(this.files, this.own, this.names, change, null);
      return false;
    });
    this.open.splice(0, this.open.length, ...rest);
  }

  image(survival: Survival, random: Random): Image {
    const files = [...this.files];
    const own = new Set<number>();
    const names = new Map(this.names);
    const chosen = random.below(Math.max(1, this.open.length));
    const share = 1 + random.below(9);
    for (const [at, { event }] of this.open.entries()) {
      const kept =
        survival === "all" ||
        survival === "torn" ||
        (survival === "random" && random.below(10) < share) ||
        (survival === "one" && at === chosen) ||
        (survival === "all but one" && at !== chosen);
      if (!kept) continue;
      const torn = survival === "torn" || (survival === "random" && random.below(2) === 0);
      apply(files, own, names, event, torn ? () => random.below(10) < share : null);
    }
    const image: Image = new Map();
    for (const [name, file] of names) image.set(name, files[file]);
    return image;
  }
}

function directoryOf(name: string): string {
  const directory = path.dirname(name);
  return directory === "." ? "" : directory;
}

/**
 * Makes one change.
 * @param own files whose buffers may be changed in place; others are copied first
 * @param sector which sectors of a write arrive; null: all
 */
function apply(
  files: Buffer[],
  own: Set<number>,
  names: Map<string, number>,
  event: Exclude<Event, { kind: "sync" }>,
  sector: (() => boolean) | null,
): void {
  if (event.kind === "names") {
    for (const [name, file] of event.names)
      if (file === null) names.delete(name);
      else names.set(name, file);
    return;
  }
  const { change, file } = event;
  const before = files[file];
  const size =
    "size" in change ? change.size : Math.max(before.length, change.position + change.bytes.length);
  if (!own.has(file) || size !== before.length) {
    files[file] = Buffer.alloc(size);
    before.copy(files[file]);
    own.add(file);
  }
  if ("size" in change) return;
  const { bytes, position } = change;
  for (let from = position; from < position + bytes.length; ) {
    const to = Math.min(position + bytes.length, from - (from % SECTOR_BYTES) + SECTOR_BYTES);
    if (sector === null || sector()) bytes.copy(files[file], from, from - position, to - position);
    from = to;
  }
}

/** Writes an image into an empty directory. */
export function writeImage(image: Image, directory: string): void {
  for (const [name, bytes] of image) {
    const file = path.join(directory, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, bytes);
  }
}
