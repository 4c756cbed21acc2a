/**
 * An export as a file. Until it is whole it is called FILE.part; one that was broken off goes on behind its
 * last whole member. What comes is read as an archive, too, so that it is known where that is.
 */
import fs from "node:fs";
import { readMember } from "../../archive/member.ts";
import { ArchiveReader } from "../../archive/tar-reader.ts";
import { type NodeClient, pathOf, textOf } from "../client/node-client.ts";
import { PartFile, Unwritten } from "../subcommand/part-file.ts";
import type { Terminal } from "../subcommand/subcommand.ts";
import { type TakePiece, targetFile, writeInto } from "../subcommand/target-file.ts";
import { counting } from "../subcommand/transfer.ts";

const PIECE_BYTES = 1024 * 1024;
/** Keys by which a beginning is known: of so many, one has hardly ever been left as it was. */
const LATEST_MAX = 1000;

export interface Exported {
  keys: number;
  bytes: number;
  /** It has gone on where an earlier one was broken off. */
  resumed: boolean;
}

/** Where members end that are whole. */
interface Place {
  keys: number;
  end: number;
  firstKey: Buffer | null;
  lastKey: Buffer | null;
}

/** What an earlier export has left. */
interface Beginning extends Place {
  /** Its last keys with their versions, rising: what they came from is known by them. */
  latest: Listed[];
}

/** A key as an archive and a list have it. */
interface Listed {
  key: string;
  etag: string;
}

/**
 * Exports into a file, or to standard output ("-").
 * @param query of the export
 */
export async function exportTo(
  client: NodeClient,
  query: URLSearchParams,
  file: string,
  terminal: Terminal,
): Promise<Exported> {
  const target = file === "-" ? null : targetFile(file);
  if (target === null)
    return writeInto(file, terminal, (take) => receive(client, query, terminal, NOWHERE, take));
  const part = await PartFile.open(`${target}.part`);
  try {
    const place = await placeToGoOn(part.name, client, query, terminal);
    part.truncate(place.end);
    const take = async (piece: Uint8Array): Promise<void> => part.append(piece);
    const done = await receive(client, query, terminal, place, take).catch((error: Error) => {
      const hint =
        part.bytes > 0 ? `; what came is in ${part.name}, and the same command goes on from there` : "";
      throw new Error(`${error.message}${hint}`, { cause: error });
    });
    await part.finish(target);
    return done;
  } finally {
    part.close();
  }
}

const NOWHERE: Place = { keys: 0, end: 0, firstKey: null, lastKey: null };

/** Where an earlier export was broken off; at the beginning, where it was of something else. */
async function placeToGoOn(
  part: string,
  client: NodeClient,
  query: URLSearchParams,
  terminal: Terminal,
): Promise<Place> {
  const prefix = query.get("prefix") ?? "";
  const place = await placeIn(part);
  const { firstKey, lastKey } = place;
  if (firstKey === null || lastKey === null) return place;
  const bytes = Buffer.from(prefix);
  if (![firstKey, lastKey].every((key) => key.subarray(0, bytes.length).equals(bytes)))
    throw new Error(`${part} is of an export with another prefix: remove it, or name another file`);
  const anew = (why: string): Place => {
    terminal.err(`${part} ${why}: it is made anew\n`);
    return NOWHERE;
  };
  const [first] = await listed(client, query, { limit: "1" });
  if (first !== undefined && Buffer.compare(firstKey, Buffer.from(first.key)) > 0)
    return anew("lacks keys before its first one, such as of a longer prefix");
  const start = place.latest[0].key;
  const now = await listed(client, query, { start, limit: String(LATEST_MAX) });
  const versions = new Map(now.map(({ key, etag }) => [key, etag]));
  if (!place.latest.some(({ key, etag }) => versions.get(key) === etag))
    return anew("has nothing near its end that is there now, as if it were of another store");
  return place;
}

/**
 * Up to where a file is an archive of an export.
 * @throws Error where it is something else
 */
async function placeIn(file: string): Promise<Beginning> {
  const size = fs.statSync(file).size;
  const place: Beginning = { ...NOWHERE, latest: [] };
  const { latest } = place;
  const tracker = new Tracker(place, size, (key, etag) => {
    latest.push({ key: key.toString(), etag });
    if (latest.length >= 2 * LATEST_MAX) latest.splice(0, LATEST_MAX);
  });
  for await (const piece of fs.createReadStream(file, { highWaterMark: PIECE_BYTES })) {
    await tracker.take(piece as Buffer);
    if (tracker.isOver) break;
  }
  await tracker.stop();
  // A torn end is what a broken export has; its beginning is whole.
  if (tracker.failure instanceof Foreign || (tracker.failure !== null && place.keys === 0))
    throw new Error(`${file} is no beginning of an export: remove it, or name another file`);
  return place;
}

/** What is in an archive that no export has. */
class Foreign extends Error {}

/** Follows an archive member by member, as its bytes pass. */
class Tracker {
  private readonly reader = new ArchiveReader();
  private readonly place: Place;
  private readonly size: number;
  private readonly met: (key: Buffer, etag: string) => void;
  private readonly done: Promise<void>;
  private drained = (): void => {};
  isOver = false;
  /** Why what passed is no archive. */
  failure: Error | null = null;

  /**
   * @param size members that end behind it are not whole
   * @param met is told of each one that is
   */
  constructor(place: Place, size: number, met: (key: Buffer, etag: string) => void = () => {}) {
    this.place = place;
    this.size = size;
    this.met = met;
    this.reader.onDrain = () => this.drained();
    this.done = this.follow(place.end).catch((error: Error) => {
      this.failure = error;
      this.isOver = true;
      this.drained();
    });
  }

  private async follow(start: number): Promise<void> {
    for await (const member of this.reader.members()) {
      if (start + member.end > this.size) break;
      const read = readMember(member.head);
      const { lastKey } = this.place;
      if (typeof read === "string" || read.etag === null)
        throw new Foreign("a member is no value of an export");
      if (lastKey !== null && Buffer.compare(lastKey, read.key) >= 0)
        throw new Foreign("its keys are in no order");
      this.place.keys++;
      this.place.firstKey ??= read.key;
      this.place.end = start + member.end;
      this.place.lastKey = read.key;
      this.met(read.key, read.etag);
    }
    this.isOver = true;
    this.drained();
  }

  async take(piece: Buffer): Promise<void> {
    if (this.isOver || this.reader.write(piece)) return;
    await new Promise<void>((resolve) => {
      this.drained = resolve;
    });
  }

  async stop(): Promise<void> {
    this.reader.destroy();
    await this.done;
  }
}

async function receive(
  client: NodeClient,
  query: URLSearchParams,
  terminal: Terminal,
  from: Place,
  take: TakePiece,
): Promise<Exported> {
  const place = { ...from };
  const ask = new URLSearchParams(query);
  if (place.lastKey !== null) ask.set("after", place.lastKey.toString("utf8"));
  const total = terminal.isTerminal ? place.keys + (await countOf(client, ask)) : 0;
  const answer = await client.ask("GET", `/_export?${ask}`);
  const shown = counting(terminal, "exporting", "keys");
  const tracker = new Tracker(place, Number.POSITIVE_INFINITY);
  let bytes = from.end;
  try {
    for await (const piece of answer.body) {
      await take(piece as Buffer);
      await tracker.take(piece as Buffer);
      bytes += (piece as Buffer).length;
      shown.at(place.keys, Math.max(total, place.keys));
    }
    if (tracker.failure !== null) throw tracker.failure;
  } catch (error) {
    if (error instanceof Unwritten) throw error;
    throw new Error(`the export was cut: ${(error as Error).message}`, { cause: error });
  } finally {
    shown.stop();
    answer.body.destroy();
    await tracker.stop();
  }
  return { keys: place.keys, bytes, resumed: from.lastKey !== null };
}

/** How many keys an export has, as a list would say; for the progress. */
async function countOf(client: NodeClient, query: URLSearchParams): Promise<number> {
  let keys = 0;
  for await (const { count = 0 } of pagesOf(client, query, { count: "" })) keys += count;
  return keys;
}

/** The first keys of a page of the list of what an export has. */
async function listed(
  client: NodeClient,
  query: URLSearchParams,
  more: Record<string, string>,
): Promise<Listed[]> {
  for await (const { keys = [] } of pagesOf(client, query, more)) if (keys.length > 0) return keys;
  return [];
}

/** Of a list. */
interface Page {
  count?: number;
  keys?: Listed[];
  cursor: string | null;
}

/** The pages of a list of what an export has. */
async function* pagesOf(
  client: NodeClient,
  query: URLSearchParams,
  more: Record<string, string>,
): AsyncGenerator<Page> {
  const path = pathOf(query.get("prefix") ?? "");
  for (let cursor: string | null = ""; cursor !== null; ) {
    const ask = new URLSearchParams({ list: "", ...more });
    for (const name of ["after", "consistency"]) {
      const text = query.get(name);
      if (text !== null) ask.set(name, text);
    }
    if (cursor !== "") ask.set("cursor", cursor);
    const page = JSON.parse(await textOf(await client.ask("GET", `${path}?${ask}`))) as Page;
    yield page;
    cursor = page.cursor;
  }
}
