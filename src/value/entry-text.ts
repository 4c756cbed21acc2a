/**
 * What a list says of a key, as JSON, for the catalog of a node and for lists over a cluster. It is written
 * as bytes, one behind the other: as texts they would be joined of pieces, flattened and encoded, which costs
 * more than finding them.
 */
import { JSON_PREFIX, JSON_SUFFIX } from "../format/offsets.ts";
import type { Ballot } from "../format/record.ts";
import { etagScratch, writeEtag } from "../format/version.ts";
import { bufferOf, copyOf } from "../util/bytes.ts";
import { JSON_TYPE } from "../util/header-text.ts";

/** It grows: many pages have few keys. */
const START_BYTES = 4 * 1024;
const BEFORE_KEY = Buffer.from('{"key":');
const BEFORE_PREFIX = Buffer.from('{"prefix":');
const BEFORE_ETAG = Buffer.from(',"etag":');
const BEFORE_BYTES = Buffer.from(',"bytes":');
const BEFORE_TYPE = Buffer.from(',"type":');
/** The content type of JSON, as JSON. */
export const JSON_TYPE_TEXT = JSON.stringify(JSON_TYPE);
const BETWEEN = Buffer.from(",\n");
const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const CLOSE = 0x7d;
const ZERO = 0x30;
const NEW_LINE = 0x0a;
/** All of an entry but its key, its type and what comes behind. */
const FRAME_BYTES = 128;
/** Numbers above are written by way of a text. */
const SMALL_NUMBER_MAX = 0x7fffffff;

export interface EntryFacts {
  key: Uint8Array;
  ballot: Ballot;
  bytes: number;
  json: boolean;
  /** Of what is not JSON. */
  contentType: string;
}

export class EntryWriter {
  private readonly lines: boolean;
  private bytes: Buffer = bufferOf(new Uint8Array(START_BYTES));
  /** Bytes so far. */
  length = 0;
  private readonly etag = etagScratch();
  private lastType = "";
  private lastTypeBytes: Uint8Array = new Uint8Array(0);

  /** @param lines each entry is a line of its own; else there are commas between them */
  constructor(lines: boolean) {
    this.lines = lines;
  }

  /**
   * A key that is there.
   * @param etag with its quotes
   * @param bytes of the value
   * @param type content type, as JSON
   * @param more further members, each behind a comma
   */
  entry(key: Uint8Array, etag: Uint8Array, bytes: number, type: string, more: string): void {
    if (type !== this.lastType) {
      this.lastType = type;
      this.lastTypeBytes = Buffer.from(type);
    }
    this.open(BEFORE_KEY, key);
    this.put(BEFORE_ETAG);
    this.put(etag);
    this.put(BEFORE_BYTES);
    this.number(bytes);
    this.put(BEFORE_TYPE);
    this.put(this.lastTypeBytes);
    if (more !== "") this.text(more);
    this.close();
  }

  /**
   * A key that is there, by what is known of it.
   * @param ttlMs left of its life; null: it does not end
   * @param value in stored form; null: it does not come with the list
   */
  facts(facts: EntryFacts, ttlMs: number | null, value: Uint8Array | null): void {
    const { key, ballot, bytes, json, contentType } = facts;
    writeEtag(this.etag, ballot.clockLow, ballot.clockHigh, ballot.node, ballot.incarnation);
    const type = json ? JSON_TYPE_TEXT : JSON.stringify(contentType);
    const member = value === null ? "" : valueMember(value, json);
    this.entry(key, this.etag, bytes, type, ttlMember(ttlMs) + member);
  }

  /** A key of which only the version is told. */
  absence(key: Uint8Array, etag: Uint8Array): void {
    this.open(BEFORE_KEY, key);
    this.put(BEFORE_ETAG);
    this.put(etag);
    this.close();
  }

  /** What several keys begin with. */
  prefix(prefix: Uint8Array): void {
    this.open(BEFORE_PREFIX, prefix);
    this.close();
  }

  /** Takes back what was written from there on. */
  cutTo(length: number): void {
    this.length = length;
  }

  /** All of it, in memory of its own, so that it can be handed over. */
  whole(): Uint8Array {
    return copyOf(this.bytes, 0, this.length);
  }

  /** All of it; begins anew. */
  takeText(): string {
    const text = this.bytes.toString("utf8", 0, this.length);
    this.length = 0;
    return text;
  }

  private open(before: Uint8Array, key: Uint8Array): void {
    this.reserve(FRAME_BYTES + key.length + this.lastTypeBytes.length);
    if (!this.lines && this.length > 0) this.put(BETWEEN);
    this.put(before);
    this.key(key);
  }

  private close(): void {
    this.bytes[this.length++] = CLOSE;
    if (this.lines) this.bytes[this.length++] = NEW_LINE;
  }

  /** A key as JSON: mostly it is its own bytes. */
  private key(key: Uint8Array): void {
    const { bytes } = this;
    let at = this.length;
    bytes[at++] = QUOTE;
    for (let index = 0; index < key.length; index++) {
      const byte = key[index];
      if (byte < 0x20 || byte > 0x7e || byte === QUOTE || byte === BACKSLASH) {
        this.text(keyText(key));
        this.reserve(FRAME_BYTES + this.lastTypeBytes.length);
        return;
      }
      bytes[at++] = byte;
    }
    bytes[at++] = QUOTE;
    this.length = at;
  }

  private number(value: number): void {
    if (value > SMALL_NUMBER_MAX) {
      this.text(String(value));
      return;
    }
    let end = this.length + 1;
    for (let rest = value; rest > 9; rest = (rest / 10) | 0) end++;
    for (let rest = value, at = end - 1; at >= this.length; at--) {
      this.bytes[at] = ZERO + (rest % 10);
      rest = (rest / 10) | 0;
    }
    this.length = end;
  }

  private text(text: string): void {
    this.reserve(3 * text.length + FRAME_BYTES);
    this.length += this.bytes.write(text, this.length);
  }

  /** Short ones: a call of `set` costs more. */
  private put(source: Uint8Array): void {
    const { bytes } = this;
    let at = this.length;
    for (let index = 0; index < source.length; index++) bytes[at++] = source[index];
    this.length = at;
  }

  private reserve(more: number): void {
    if (this.length + more <= this.bytes.length) return;
    const grown = bufferOf(new Uint8Array(Math.max(2 * this.bytes.length, this.length + more)));
    grown.set(this.bytes.subarray(0, this.length));
    this.bytes = grown;
  }
}

/** What is left of a life as a member of its entry, in seconds. */
export function ttlMember(ttlMs: number | null): string {
  return ttlMs === null ? "" : `,"ttl":${Math.max(1, Math.floor(ttlMs)) / 1000}`;
}

/** A key as JSON. */
export function keyText(key: Uint8Array): string {
  return JSON.stringify(bufferOf(key).toString());
}

/** A value in stored form as a member of its entry. */
export function valueMember(value: Uint8Array, json: boolean): string {
  const bytes = bufferOf(value);
  if (!json) return `,"base64":"${bytes.toString("base64")}"`;
  // Line ends in JSON are white space: a text of its own must stay on one line.
  const text = bytes.toString("utf8", JSON_PREFIX.length, bytes.length - JSON_SUFFIX.length);
  return `,"value":${text.replaceAll(/[\r\n]/g, " ")}`;
}
