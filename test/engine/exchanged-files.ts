/**
 * Files of a store of two shards that were removed, cut, exchanged for older copies of themselves or for the other shard's, and copies of a whole directory that
 * were made file by file while it was written to. Nothing that was stored is then called absent, no old value is shown, and nothing that was deleted is back; what
 * cannot be served `verify` calls damaged.
 */
import assert from "node:assert/strict";
import fs from "node:fs";
import path from "node:path";
import { verifyDirectory } from "../../src/engine/check/verify.ts";
import { completeStoreFile, openStoreFile } from "../../src/engine/directory/store-file.ts";
import { nodeIo } from "../../src/engine/slabs/io.ts";
import { loadHash } from "../../src/util/hash.ts";
import { type Diagnostic, Random } from "../random.ts";
import {
  Harness,
  MEMORY_FOLDER,
  SMALL_CHUNK_BYTES,
  SMALL_SLAB_BYTES,
  temporaryDirectory,
} from "./harness.ts";

export interface ExchangeOptions {
  seed: number;
  /** Stores that are written and then damaged. */
  stores: number;
  /** Of the damages of a store one in so many is tried. */
  oneIn: number;
  /** Copies made file by file, of each store. */
  copies: number;
}

const SHARDS = 2;
const PHASES = 6;
const OPERATIONS = 90;
const KEYS = 40;
/** Each look at the clock is so much later, so that every commit is noted in the list of slabs. */
const CLOCK_STEP_MS = 150;

type Files = Map<string, Buffer>;
type Content = Map<string, Buffer | null>;

/** A directory at a moment: its files, what each shard's keys hold, and how many writes there were before. */
interface Moment {
  files: Files;
  content: Content[];
  writes: number;
}

interface Write {
  shard: number;
  key: string;
  value: Buffer | null;
}

interface Tally {
  stores: number;
  damages: number;
  copies: number;
  refused: number;
  right: number;
  damaged: number;
  wrong: number;
  absent: number;
  back: number;
  unnoticed: number;
}

function readFiles(directory: string): Files {
  const files: Files = new Map();
  for (const name of fs.readdirSync(directory, { recursive: true }).map(String).sort()) {
    const file = path.join(directory, name);
    if (fs.statSync(file).isFile()) files.set(name, fs.readFileSync(file));
  }
  return files;
}

function writeFiles(files: Files, directory: string): void {
  for (let shard = 0; shard < SHARDS; shard++)
    fs.mkdirSync(path.join(directory, `shard-00${shard}`), { recursive: true });
  for (const [name, bytes] of files) fs.writeFileSync(path.join(directory, name), bytes);
}

/** Opens both shards; a start that fails gives back what the other one has open. */
async function openAll(directory: string, now: () => number): Promise<Harness[]> {
  await loadHash();
  const sizes = { slabBytes: SMALL_SLAB_BYTES, chunkBytes: SMALL_CHUNK_BYTES };
  const store = openStoreFile(nodeIo, directory, { shards: SHARDS, ...sizes });
  const vaults: Harness[] = [];
  try {
    for (let shard = 0; shard < SHARDS; shard++)
      vaults.push(await Harness.open(directory, { store, shard, now, snapshotEntriesMin: 1 }));
  } catch (error) {
    for (const vault of vaults) await vault.crash();
    throw error;
  }
  completeStoreFile(nodeIo, directory);
  return vaults;
}

/** A store that is written, closed, crashed and compacted in phases; how it was in between. */
class Written {
  readonly moments: Moment[] = [];
  private readonly random: Random;
  private readonly directory: string;
  private content: Content[] = Array.from({ length: SHARDS }, () => new Map());
  private now = Date.UTC(2026, 0, 1);
  readonly writes: Write[] = [];

  constructor(directory: string, random: Random) {
    this.directory = directory;
    this.random = random;
  }

  readonly clock = (): number => {
    this.now += CLOCK_STEP_MS;
    return this.now;
  };

  private keep(): void {
    this.moments.push({
      files: readFiles(this.directory),
      content: this.content.map((one) => new Map(one)),
      writes: this.writes.length,
    });
  }

  private note(write: Write): void {
    this.writes.push(write);
    this.content[write.shard].set(write.key, write.value);
  }

  private async work(vaults: readonly Harness[], operations: number): Promise<void> {
    const { random } = this;
    for (let i = 0; i < operations; i++) {
      const shard = random.below(SHARDS);
      const vault = vaults[shard];
      const key = `key ${random.below(KEYS)}`;
      if (random.below(5) === 0) {
        assert.equal(vault.remove(key).error, null);
        this.note({ shard, key, value: null });
      } else {
        const bytes = random.below(12) === 0 ? 9000 : 200 + random.below(2500);
        const value = Buffer.alloc(bytes, `${this.writes.length};${key} `);
        assert.equal((bytes > 4096 ? vault.upload(key, value) : vault.put(key, value)).error, null);
        this.note({ shard, key, value });
      }
      if (random.below(3) === 0) vault.shard.idle(8192);
      if (i % 10 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
  }

  /** Writes all phases; how the last one ends is up to chance. */
  async run(): Promise<void> {
    let vaults = await openAll(this.directory, this.clock);
    for (let phase = 0; phase < PHASES; phase++) {
      await this.work(vaults, OPERATIONS / 2);
      for (const vault of vaults) vault.shard.mark();
      this.keep();
      await this.work(vaults, OPERATIONS / 2);
      const last = phase === PHASES - 1;
      const choice = this.random.below(3);
      if (choice === 0 && !last) continue;
      for (const vault of vaults) await (choice === 1 ? vault.crash() : vault.shard.close());
      this.keep();
      if (!last) vaults = await openAll(this.directory, this.clock);
    }
  }
}

/** Opens a directory and counts what its keys are called. `allowed`: what a key may hold, by shard and key. */
async function examine(
  t: Diagnostic,
  files: Files,
  what: string,
  allowed: (shard: number, key: string) => (Buffer | null)[],
  clock: () => number,
  tally: Tally,
): Promise<void> {
  const directory = temporaryDirectory(MEMORY_FOLDER);
  try {
    writeFiles(files, directory.path);
    const places: string[] = [];
    const summary = await verifyDirectory(directory.path, {
      damage: ({ file, text }) => places.push(`${file}: ${text}`),
      note: () => {},
      progress: () => {},
    });
    const unnoticed = (start: number, why: string): void => {
      tally.unnoticed++;
      t.diagnostic(`unnoticed by verify: ${what}, start ${start}: ${why}`);
    };
    // Damage that was there once must be there at every later start: whatever the starts write.
    for (let start = 0; start < 3; start++) {
      let vaults: Harness[];
      try {
        vaults = await openAll(directory.path, clock);
      } catch (error) {
        tally.refused++;
        if (summary !== null && places.length === 0) unnoticed(start, (error as Error).message);
        return;
      }
      let noticed = places.length > 0;
      for (const [shard, vault] of vaults.entries())
        for (let number = 0; number < KEYS; number++) {
          const key = `key ${number}`;
          const read = vault.read(key);
          const values = allowed(shard, key);
          if (read.state === "damaged") {
            tally.damaged++;
            if (start === 0 && !noticed) {
              noticed = true;
              unnoticed(start, `${key} of shard ${shard} is damaged; ${vault.warnings.join("; ")}`);
            }
            continue;
          }
          const value = read.state === "found" ? read.value : null;
          if (values.some((one) => (one === null ? value === null : value?.equals(one) === true)))
            tally.right++;
          else {
            const kind = value === null ? "absent" : values.every((one) => one === null) ? "back" : "wrong";
            tally[kind]++;
            assert.fail(
              `${what}, start ${start}: ${key} of shard ${shard} is ${kind}; ${vault.warnings.join("; ")}`,
            );
          }
        }
      // A write makes its key known again, for good.
      for (const vault of vaults) {
        assert.equal(vault.put("healed", "healed").error, null, what);
        const read = vault.read("healed");
        assert.ok(read.state === "found" && read.value.toString() === "healed", what);
        vault.shard.idle(8192);
      }
      for (const vault of vaults) await (start === 1 ? vault.crash() : vault.shard.close());
    }
  } finally {
    directory.remove();
  }
}

/** All damages of one file each (two where they are exchanged), of the last moment. */
function* damagesOf(moments: readonly Moment[], random: Random): Generator<{ what: string; files: Files }> {
  const { files } = moments[moments.length - 1];
  const changed = (name: string, bytes: Buffer | null): Files => {
    const copy = new Map(files);
    if (bytes === null) copy.delete(name);
    else copy.set(name, bytes);
    return copy;
  };
  for (const [name, bytes] of files) {
    yield { what: `${name} removed`, files: changed(name, null) };
    for (const length of new Set([0, bytes.length >> 1, bytes.length - 1, random.below(bytes.length + 1)]))
      if (length >= 0 && length < bytes.length)
        yield { what: `${name} cut to ${length}`, files: changed(name, bytes.subarray(0, length)) };
    const seen: Buffer[] = [bytes];
    for (const [number, moment] of moments.entries()) {
      const older = moment.files.get(name);
      if (older === undefined || seen.some((one) => one.equals(older))) continue;
      seen.push(older);
      yield { what: `${name} as at moment ${number}`, files: changed(name, older) };
    }
    if (!name.startsWith("shard-000/")) continue;
    const twin = name.replace("shard-000", "shard-001");
    const other = files.get(twin);
    if (other === undefined) continue;
    yield { what: `${name} exchanged`, files: changed(name, other).set(twin, bytes) };
    yield { what: `${name} from the other shard`, files: changed(name, other) };
  }
  for (const name of ["slabs.list", "slabs.copy"])
    yield {
      what: `${name} of both shards removed`,
      files: new Map([...files].filter(([file]) => !file.endsWith(name))),
    };
  yield {
    what: "shard-001 emptied",
    files: new Map([...files].filter(([file]) => !file.startsWith("shard-001"))),
  };
}

/** A copy made file by file, in an order of chance, while the directory went from one moment to another. */
function tornCopy(moments: readonly Moment[], random: Random): { files: Files; from: number; to: number } {
  const from = random.below(moments.length - 1);
  const to = from + 1 + random.below(Math.min(4, moments.length - 1 - from));
  const names = [...new Set(moments.slice(from, to + 1).flatMap(({ files }) => [...files.keys()]))];
  names.sort(() => random.below(3) - 1);
  const files: Files = new Map();
  names.forEach((name, i) => {
    const moment = from + Math.floor(((to - from + 1) * i) / names.length);
    const bytes = moments[moment].files.get(name);
    if (bytes !== undefined) files.set(name, bytes);
  });
  return { files, from, to };
}

/** Damages stores until enough were; prints the figures. */
export async function exchangedFiles(t: Diagnostic, options: ExchangeOptions): Promise<void> {
  const tally: Tally = {
    ...{ stores: 0, damages: 0, copies: 0, refused: 0, right: 0, damaged: 0 },
    ...{ wrong: 0, absent: 0, back: 0, unnoticed: 0 },
  };
  while (tally.stores < options.stores) {
    const seed = options.seed + tally.stores++;
    const random = new Random(seed);
    const directory = temporaryDirectory(MEMORY_FOLDER);
    try {
      const written = new Written(directory.path, random);
      await written.run();
      const { moments, writes, clock } = written;
      const { content } = moments[moments.length - 1];
      for (const { what, files } of damagesOf(moments, random)) {
        if (random.below(options.oneIn) > 0) continue;
        tally.damages++;
        const allowed = (shard: number, key: string) => [content[shard].get(key) ?? null];
        await examine(t, files, `SEED=${seed}: ${what}`, allowed, clock, tally);
      }
      for (let copy = 0; copy < options.copies; copy++) {
        tally.copies++;
        const { files, from, to } = tornCopy(moments, random);
        const meanwhile = writes.slice(moments[from].writes, moments[to].writes);
        // What a key held at some time while the copy was made.
        const allowed = (shard: number, key: string) => [
          moments[from].content[shard].get(key) ?? null,
          ...meanwhile.filter((one) => one.shard === shard && one.key === key).map(({ value }) => value),
        ];
        await examine(
          t,
          files,
          `SEED=${seed}: copy ${copy}, moments ${from} to ${to}`,
          allowed,
          clock,
          tally,
        );
      }
    } finally {
      directory.remove();
    }
  }
  t.diagnostic(JSON.stringify(tally));
  assert.deepEqual([tally.wrong, tally.absent, tally.back, tally.unnoticed], [0, 0, 0, 0]);
  assert.ok(tally.damaged > 0 && tally.right > 0);
}
