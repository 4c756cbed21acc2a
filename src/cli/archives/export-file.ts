/**
 * An export as a file. Until it is whole it is called FILE.part; one that was broken off goes on behind its
 * last whole member. What comes is read as an archive, too, so that it is known where that is.
 */
import fs from "node:fs";
import { readMember } from "../../archive/member.ts";
import { ArchiveReader } from "../../archive/tar.ts";
import { type NodeClient, pathOf, textOf } from "../client/node-client.ts";
import type { Terminal } from "../subcommand/subcommand.ts";
import { counting } from "../subcommand/transfer.ts";

const PIECE_BYTES = 1024 * 1024;

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
  lastKey: Buffer | null;
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
  if (file === "-") {
    const out = terminal.stdout();
    return receive(client, query, terminal, NOWHERE, (piece) => {
      return new Promise((resolve, reject) => {
        out.write(piece, (error) => (error ? reject(error) : resolve()));
      });
    });
  }
  const part = `${file}.part`;
  const fd = fs.openSync(part, fs.constants.O_RDWR | fs.constants.O_CREAT, 0o600);
  try {
    const place = await placeIn(part, query.get("prefix") ?? "");
    fs.ftruncateSync(fd, place.end);
    let at = place.end;
    const done = await receive(client, query, terminal, place, async (piece) => {
      for (let from = 0; from < piece.length; ) {
        const written = fs.writeSync(fd, piece, from, piece.length - from, at);
        from += written;
        at += written;
      }
    }).catch((error: Error) => {
      const hint = at > 0 ? `; what came is in ${part}, and the same command goes on from there` : "";
      throw new Error(`${error.message}${hint}`, { cause: error });
    });
    fs.fsyncSync(fd);
    fs.renameSync(part, file);
    return done;
  } finally {
    fs.closeSync(fd);
    if (fs.statSync(part, { throwIfNoEntry: false })?.size === 0) fs.rmSync(part);
  }
}

const NOWHERE: Place = { keys: 0, end: 0, lastKey: null };

/** Up to where a file is an archive. */
async function placeIn(file: string, prefix: string): Promise<Place> {
  const size = fs.statSync(file).size;
  const place: Place = { ...NOWHERE };
  const tracker = new Tracker(place, size);
  for await (const piece of fs.createReadStream(file, { highWaterMark: PIECE_BYTES })) {
    await tracker.take(piece as Buffer);
    if (tracker.isOver) break;
  }
  await tracker.stop();
  if (
    place.lastKey !== null &&
    !place.lastKey.subarray(0, Buffer.byteLength(prefix)).equals(Buffer.from(prefix))
  )
    throw new Error(`${file} is of an export with another prefix: remove it, or name another file`);
  return place;
}

/** Follows an archive member by member, as its bytes pass. */
class Tracker {
  private readonly reader = new ArchiveReader();
  private readonly place: Place;
  private readonly size: number;
  private readonly done: Promise<void>;
  private drained = (): void => {};
  isOver = false;
  /** Why what passed is no archive. */
  failure: Error | null = null;

  /** @param size members that end behind it are not whole */
  constructor(place: Place, size: number) {
    this.place = place;
    this.size = size;
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
      member.skip();
      if (typeof read === "string") throw new Error(read);
      this.place.keys++;
      this.place.end = start + member.end;
      this.place.lastKey = read.key;
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
  write: (piece: Buffer) => Promise<void>,
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
      await write(piece as Buffer);
      await tracker.take(piece as Buffer);
      bytes += (piece as Buffer).length;
      shown.at(place.keys, Math.max(total, place.keys));
    }
    if (tracker.failure !== null) throw tracker.failure;
  } catch (error) {
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
  const path = pathOf(query.get("prefix") ?? "");
  let count = 0;
  for (let cursor: string | null = ""; cursor !== null; ) {
    const ask = new URLSearchParams({ list: "", count: "" });
    const after = query.get("after");
    if (after !== null) ask.set("after", after);
    if (cursor !== "") ask.set("cursor", cursor);
    const page = JSON.parse(await textOf(await client.ask("GET", `${path}?${ask}`))) as {
      count: number;
      cursor: string | null;
    };
    count += page.count;
    cursor = page.cursor;
  }
  return count;
}
