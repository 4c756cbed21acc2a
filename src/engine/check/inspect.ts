/**
 * What is in one file of a data directory, as plain objects for a person or a program to read. Writes nothing
 * and survives damage: what cannot be told is said so. `loadHash` must have finished.
 */
import fs from "node:fs";
import path from "node:path";
import { readManifest } from "../../format/manifest.ts";
import {
  FIRST_UNIT,
  FOOTER_BYTES,
  HEADER_BYTES,
  HEADER_MAGIC,
  SNAPSHOT_HEADER_BYTES,
  SNAPSHOT_MAGIC,
  TYPE_CHUNK,
  TYPE_MANIFEST,
  UNIT_BYTES,
} from "../../format/offsets.ts";
import {
  contentTypeBytesOf,
  emptyHead,
  isExtended,
  isFresh,
  isJson,
  isPlausible,
  keyBytesOf,
  keyOf,
  placeOf,
  type RecordSource,
  readHead,
  recordSource,
  trailerOf,
  typeOf,
  unitsAt,
  valueBytesOf,
} from "../../format/record.ts";
import { decodeFooter, describeHeader, headerProblem, looksSealed } from "../../format/slab.ts";
import {
  decodeNote,
  decodeSlabList,
  LIST_MAGIC,
  LISTED_FULL,
  LISTED_OPEN,
  LISTED_UNKNOWN,
  listIdentity,
} from "../../format/slab-list.ts";
import { describeSnapshotHeader } from "../../format/snapshot/index-snapshot.ts";
import { versionText } from "../../format/version.ts";
import { readBounded, SEALED_BYTES_MAX } from "../../util/bounded-file.ts";
import { checksumLine } from "../../util/sealed-file.ts";
import { readStoreOrBackup } from "../directory/backup-file.ts";
import type { StoreIdentity } from "../directory/store-file.ts";
import { LIST_BYTES_MAX, LIST_NAMES } from "../list/copies.ts";
import { readSlab } from "../slabs/files.ts";
import { inspectRun } from "./catalog/inspect-run.ts";
import { tornBytes, type WalkedRecord, walkSlab } from "./walk.ts";
import { keyText, typeName } from "./words/describe.ts";
import { fieldsText } from "./words/fields.ts";
import type { Item } from "./words/item.ts";

export type { Item };

/** A slab is at most 64 MiB; a larger file is none. */
const FILE_BYTES_MAX = 64 * 1024 * 1024;

/**
 * Members of STORE that nobody may learn, since who knows them can choose keys that collide: output is sent
 * around. The file itself has them.
 */
const SECRETS = /("hashSecret"\s*:\s*")[^"]*/g;

/**
 * Lists what is in a file. False at the end: it is no file of minivault, as far as its beginning and its name
 * say.
 */
export function* inspectFile(file: string): Generator<Item, boolean> {
  const name = path.basename(file);
  const fileBytes = fs.statSync(file).size;
  const begin = readSlab(file, 0, HEADER_BYTES, () => {});
  const magic = Buffer.from(begin.subarray(0, 8)).toString("latin1");
  if (magic === HEADER_MAGIC || /^\d{10}\.slab/.test(name)) yield* slabItems(file, fileBytes, begin);
  else if (magic === SNAPSHOT_MAGIC || name === "index.snapshot") {
    const header = describeSnapshotHeader(begin.subarray(0, SNAPSHOT_HEADER_BYTES));
    yield {
      what: "index snapshot",
      fileBytes,
      ...header,
      ...(header.checksum === "good" ? {} : { problem: "the header is damaged" }),
    };
  } else if (magic === LIST_MAGIC || (LIST_NAMES as readonly string[]).includes(name)) yield* listItems(file);
  else if (/^(?:STORE|BACKUP|CLUSTER|CATALOG)/.test(name)) yield sealedItem(file, name);
  else if (/^\d{10}\.keys/.test(name)) yield* inspectRun(file);
  else return false;
  return true;
}

const STATES: Readonly<Record<number, string>> = {
  [LISTED_OPEN]: "open",
  [LISTED_FULL]: "full",
  [LISTED_UNKNOWN]: "unknown",
};

/** A list of slabs: what it says as a whole, then each slab. */
function* listItems(file: string): Generator<Item> {
  const bytes = readBounded(file, LIST_BYTES_MAX);
  const identity = listIdentity(bytes);
  const content = decodeSlabList(bytes, identity);
  if (typeof content === "string") {
    yield { what: "list of slabs", problem: content };
    return;
  }
  const { slabs, ...rest } = content;
  const storeId = Buffer.from(identity.storeId).toString("hex");
  yield {
    what: "list of slabs",
    shard: identity.shard,
    storeId,
    ...rest,
    slabs: slabs.length,
    checksum: "good",
  };
  for (const { sequence, state, endUnit, last, seal } of slabs)
    yield {
      what: "slab",
      sequence,
      state: STATES[state] ?? state,
      end: endUnit * UNIT_BYTES,
      lastChecksum: hex(last >>> 0),
      ...(state === LISTED_FULL ? { footerChecksum: hex(seal >>> 0) } : {}),
    };
  const note = decodeNote(bytes, identity);
  if (note !== null)
    yield {
      what: "note",
      sequence: note.sequence,
      durableUpTo: note.endUnit * UNIT_BYTES,
      lastChecksum: hex(note.last >>> 0),
    };
}

/** STORE, BACKUP, CLUSTER and CATALOG: a line of JSON and its checksum. */
function sealedItem(file: string, name: string): Item {
  const [line, sum] = readBounded(file, SEALED_BYTES_MAX).toString().split("\n");
  const isGood = sum === checksumLine(line);
  const shown = line.replace(SECRETS, "$1…");
  let content: unknown = shown;
  try {
    content = JSON.parse(shown);
  } catch {
    // Shown as it is.
  }
  return {
    what: /^[A-Z]+/.exec(name)?.[0].toLowerCase() ?? name,
    content,
    checksum: isGood ? "good" : "bad",
    ...(isGood ? {} : { problem: "the checksum does not hold" }),
  };
}

/** The store two folders up, if it can be read: its id is part of every checksum. */
function storeOf(file: string): StoreIdentity | string {
  const directory = path.dirname(path.dirname(path.resolve(file)));
  try {
    return readStoreOrBackup(directory) ?? `there is no ${path.join(directory, "STORE")}`;
  } catch (error) {
    return (error as Error).message;
  }
}

function* slabItems(file: string, fileBytes: number, page: Uint8Array): Generator<Item> {
  const store = storeOf(file);
  const said = describeHeader(page);
  const shardByName = /shard-(\d{3})$/.exec(path.dirname(path.resolve(file)));
  const sequence = Number(/^\d{10}/.exec(path.basename(file))?.[0] ?? said.sequence);
  const shard = shardByName === null ? Number(said.shard) : Number(shardByName[1]);
  const slabBytes =
    typeof store !== "string"
      ? store.slabBytes
      : said.checksum === "good"
        ? Number(said.slabBytes)
        : fileBytes;
  const size = Math.min(slabBytes - (slabBytes % UNIT_BYTES), FILE_BYTES_MAX);
  const expected = typeof store === "string" ? null : { shard, sequence, slabBytes, storeId: store.slabId };
  const problem =
    expected === null
      ? said.checksum === "good"
        ? null
        : "the header is damaged"
      : (headerProblem(page, expected)?.text ?? null);
  yield { what: "header", offset: 0, fileBytes, ...said, ...(problem === null ? {} : { problem }) };
  if (typeof store === "string")
    yield {
      what: "note",
      text: `checksums of records cannot be judged without the STORE file two folders up: ${store}`,
    };
  if (fileBytes < slabBytes)
    yield {
      what: "end of file",
      offset: fileBytes,
      problem: `the file was cut here, it had ${slabBytes} bytes`,
    };
  if (size < HEADER_BYTES + FOOTER_BYTES) return;
  const bytes = readSlab(file, 0, size, () => {});
  const map = recordSource(bytes);
  const held = { source: map, zerosFrom: size / UNIT_BYTES };
  const footer = decodeFooter(bytes, sequence);
  const walk =
    typeof store === "string"
      ? followLengths(map)
      : walkSlab(held, footer, (unit) => placeOf(store.salt, shard, sequence, unit), store.keyHash);
  for (const record of walk.records) yield recordItem(map, record, typeof store !== "string");
  const end = walk.endUnit * UNIT_BYTES;
  const footerAt = size - FOOTER_BYTES;
  if (footer !== null) {
    yield { what: "table", offset: footer.tableOffset, entries: footer.entries, checksum: "good" };
    const { endUnit, clockLow, clockHigh } = footer;
    yield {
      what: "footer",
      offset: footerAt,
      end: endUnit * UNIT_BYTES,
      clockHigh,
      clockLow,
      checksum: "good",
    };
  } else if (looksSealed(bytes.subarray(footerAt)))
    yield { what: "footer", offset: footerAt, problem: "table or footer are damaged" };
  else {
    const torn = tornBytes(held, walk.endUnit);
    yield { what: "end of records", offset: end, sealed: false, ...(torn > 0 ? { tornBytes: torn } : {}) };
  }
}

/** Without a seed for checksums: from record to record by what their headers say. */
function followLengths(map: RecordSource): { records: WalkedRecord[]; endUnit: number } {
  const records: WalkedRecord[] = [];
  const last = map.bytes.length / UNIT_BYTES;
  let unit = FIRST_UNIT;
  while (isPlausible(map, unit, last)) {
    const endUnit = unit + unitsAt(map, unit);
    records.push({
      unit,
      endUnit,
      problem: null,
      type: typeOf(map, unit),
      key: keyOf(map, unit),
      keyIsCertain: false,
    });
    unit = endUnit;
  }
  return { records, endUnit: unit };
}

function recordItem(map: RecordSource, record: WalkedRecord, isJudged: boolean): Item {
  const { unit, endUnit, problem, type, key } = record;
  const item: Item = {
    what: typeName(type),
    offset: unit * UNIT_BYTES,
    bytes: (endUnit - unit) * UNIT_BYTES,
  };
  if (key !== null) {
    item.key = JSON.parse(keyText(key));
    const head = emptyHead();
    readHead(map, unit, head);
    item.keyBytes = keyBytesOf(map, unit);
    item.contentTypeBytes = contentTypeBytesOf(map, unit);
    item.valueBytes = valueBytesOf(map, unit);
    item.json = isJson(map, unit);
    if (type === TYPE_CHUNK) item.chunk = head.chunk;
    else item.ballot = versionText(head);
    item.operation = hex(head.operationHigh) + hex(head.operationLow);
    if (isFresh(map, unit)) item.fresh = true;
    if (isExtended(map, unit)) item.fields = fieldsText(trailerOf(map, unit));
  }
  item.checksum = isJudged ? (problem === null ? "good" : "bad") : "unknown";
  if (problem !== null) item.problem = problem;
  if (type === TYPE_MANIFEST && problem === null) {
    try {
      item.manifest = readManifest(map, unit);
    } catch {
      item.problem = "its list of chunks cannot be read";
    }
  }
  return item;
}

function hex(word: number): string {
  return word.toString(16).padStart(8, "0");
}
