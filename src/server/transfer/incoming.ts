/**
 * Storing what an archive brings: each value as if it had been sent alone, in one of three modes. What passes
 * by itself (a full queue, too few replicas for a moment) is tried again.
 */
import { createHash, type Hash } from "node:crypto";
import type { ReadMember } from "../../archive/member.ts";
import { type Token, WRITE } from "../../auth/tokens.ts";
import {
  isMetadataName,
  META_PREFIX,
  type MetadataLine,
  metadataTrailer,
} from "../../format/fields/metadata.ts";
import { checksumField, md5Field, readSums } from "../../format/fields/sums.ts";
import { readFields, writeFields } from "../../format/fields/trailer.ts";
import { JSON_PREFIX, JSON_SUFFIX } from "../../format/offsets.ts";
import { hasEnded, NO_LIFE } from "../../rules/expiry.ts";
import { plainHead, type WriteHead, type WriteResult } from "../../shards/arena/write.ts";
import { ERRORS, type ErrorCode } from "../../util/errors.ts";
import { isHeaderText } from "../../util/header-text.ts";
import {
  CHUNK_BYTES,
  CONTENT_TYPE_BYTES_MAX,
  KEPT_HEADER_BYTES_MAX,
  KEY_BYTES_MAX,
  META_BYTES_MAX,
  RECORD_KEY_BYTES_MAX,
} from "../../util/limits.ts";
import { storedBytes } from "../../value/stored.ts";
import type { FrontContext } from "../http/context.ts";
import { Tries } from "../lines/tries.ts";
import { readCurrent } from "../reads/current.ts";
import { NO_ENDS } from "../writes/writes.ts";

/**
 * create: only keys that are not there. replace: all. newer: keys that are not there, or have an older
 * version than the archive.
 */
export type ImportMode = "create" | "replace" | "newer";

/** What became of a value. */
export type Stored =
  | { kind: "stored" }
  /** By the mode, what is there stays. */
  | { kind: "kept" }
  | { kind: "refused"; code: ErrorCode; detail: string };

const STORED: Stored = { kind: "stored" };
const KEPT: Stored = { kind: "kept" };
/** Of `newer`: how often another writer may be faster. */
const FASTER_MAX = 20;
/** Tried again as well: whether it was done is not known, and it may be done twice; or nobody knows why. */
const ALSO_TRIED: readonly ErrorCode[] = ["unknown_outcome", "internal"];

/** Stores the values of one archive. */
export class IncomingValues {
  private readonly context: FrontContext;
  private readonly caller: Token;
  private readonly mode: ImportMode;

  constructor(context: FrontContext, caller: Token, mode: ImportMode) {
    this.context = context;
    this.caller = caller;
    this.mode = mode;
  }

  /** Why a value cannot be taken, whatever its bytes; null: it can. */
  refusal({ key, etag, contentType, metadata, sums, end, bytes }: ReadMember): Stored | null {
    const refused = (code: ErrorCode, detail = ""): Stored => ({ kind: "refused", code, detail });
    // Longer ones have come by S3, where there is a place for them.
    const longest = this.target.keepsEnds ? RECORD_KEY_BYTES_MAX : KEY_BYTES_MAX;
    if (key.length === 0 || key.length > longest) return refused("bad_key");
    if (!this.caller.allows(WRITE) || !this.caller.covers(key, key.length)) return refused("forbidden");
    if (bytes > this.context.maxValueBytes)
      return refused("too_large", `values are limited to ${this.context.maxValueBytes} bytes`);
    if (contentType.length > CONTENT_TYPE_BYTES_MAX || !isHeaderText(contentType))
      return refused("bad_request", "its type is none that a header can have");
    if (this.mode === "newer" && etag === null)
      return refused("bad_request", "it has no version, which the mode newer needs");
    // What has ended since then is not there.
    if (hasEnded(end, this.target.now())) return KEPT;
    if (end !== 0 && !this.target.keepsEnds) return refused("upgrade_first", NO_ENDS);
    if (metadata === "" && sums === "") return null;
    if (metadataLines(metadata) === null)
      return refused("bad_request", "its metadata is none that a value can have");
    if (readSums(sums) === null) return refused("bad_request", "its sums are none that a value can have");
    return this.target.keepsFields ? null : refused("upgrade_first");
  }

  private get target() {
    return this.context.cluster ?? this.context.vault;
  }

  /** Stores a value whose bytes are at hand (at most CHUNK_BYTES). */
  storeWhole(member: ReadMember, bytes: Uint8Array): Promise<Stored> {
    const body = member.json ? storedBytes(bytes) : bytes;
    if (body.length <= CHUNK_BYTES) {
      const md5 = md5Of(member);
      md5?.hash.update(bytes);
      if (md5?.isWrong() === true) return Promise.resolve(WRONG_MD5);
    }
    if (body.length > CHUNK_BYTES) return this.storeStream(member, once(bytes));
    return this.store(member, (head) => this.submit(head, body));
  }

  /** Stores a value that comes in pieces; not again, when it fails: they have gone. */
  storeStream(member: ReadMember, pieces: AsyncIterable<Uint8Array>): Promise<Stored> {
    let begun = false;
    return this.store(member, (head) => {
      if (begun) return Promise.resolve({ error: "unavailable", detail: AGAIN });
      begun = true;
      return this.upload(head, pieces, member);
    });
  }

  private tries(): Tries {
    return new Tries(() => !this.context.stopping, ALSO_TRIED);
  }

  private async store(
    member: ReadMember,
    write: (head: WriteHead) => Promise<Pick<WriteResult, "error" | "detail">>,
  ): Promise<Stored> {
    const { key, etag, json, contentType, end } = member;
    const head: WriteHead = {
      ...plainHead(this.mode === "create" ? "post" : "put", key),
      json,
      contentType: json ? "" : contentType,
      trailer: trailerOf(member),
      life: end === 0 ? NO_LIFE : { ...NO_LIFE, expiresMs: end },
    };
    const tries = this.tries();
    for (let faster = 0; ; ) {
      if (this.mode === "newer") {
        const condition = await this.conditionOf(key, etag as string);
        if ("kind" in condition) return condition;
        Object.assign(head, condition);
      }
      const { error, detail } = await write(head);
      if (error === null) return STORED;
      if (error === "exists" && this.mode === "create") return KEPT;
      if (error === "precondition_failed" && faster++ < FASTER_MAX) continue;
      if (detail === AGAIN || !(await tries.again(error)))
        return { kind: "refused", code: error, detail: detail || ERRORS[error].message };
    }
  }

  /** What a write has to hold to, so that it only replaces an older version; or what becomes of it. */
  private conditionOf(
    key: Uint8Array,
    etag: string,
  ): Promise<Pick<WriteHead, "ifMatch" | "ifNoneMatch"> | Stored> {
    return new Promise((resolve) =>
      readCurrent(this.context, key, "quorum", (current) => {
        if (current.state === "absent") resolve({ ifMatch: "", ifNoneMatch: "*" });
        else if (current.state === "failed")
          resolve({ kind: "refused", code: current.code, detail: current.detail });
        // Versions rise in the order of their digits.
        else if (current.etag.slice(1, -1) >= etag) resolve(KEPT);
        else resolve({ ifMatch: current.etag, ifNoneMatch: "" });
      }),
    );
  }

  private submit(head: WriteHead, body: Uint8Array): Promise<Pick<WriteResult, "error" | "detail">> {
    return new Promise((resolve) => {
      const isTaken = this.target.submit(head, body, ({ error, detail }) => resolve({ error, detail }));
      if (!isTaken) resolve({ error: "overloaded", detail: "" });
    });
  }

  private async upload(
    head: WriteHead,
    pieces: AsyncIterable<Uint8Array>,
    member: ReadMember,
  ): Promise<Pick<WriteResult, "error" | "detail">> {
    let upload = this.target.upload(head);
    for (const tries = this.tries(); upload === null; upload = this.target.upload(head))
      if (!(await tries.again("overloaded"))) return { error: "overloaded", detail: AGAIN };
    let failure: Pick<WriteResult, "error" | "detail"> | null = null;
    let drained = (): void => {};
    upload.onDrain = () => drained();
    upload.onFail = ({ error, detail }) => {
      failure = { error, detail };
      drained();
    };
    const write = async (bytes: Uint8Array): Promise<void> => {
      if (failure === null && upload?.write(bytes) === false && failure === null)
        await new Promise<void>((resolve) => {
          drained = resolve;
        });
    };
    const md5 = md5Of(member);
    try {
      if (head.json) await write(JSON_PREFIX);
      // To its end, whatever becomes of it: the next member stands behind it.
      let left = member.bytes;
      for await (const piece of pieces) {
        md5?.hash.update(piece);
        await write(piece);
        left -= piece.length;
      }
      // An archive that is given up ends like one that is whole.
      if (left !== 0) throw new Error("it ends in the middle of a value");
      if (head.json) await write(JSON_SUFFIX);
    } catch (error) {
      upload.abort();
      throw error;
    }
    if (failure !== null) return failure;
    if (md5?.isWrong() === true) {
      upload.abort();
      return WRONG_MD5_ERROR;
    }
    const done = upload;
    return new Promise((resolve) => done.commit(({ error, detail }) => resolve({ error, detail })));
  }
}

const WRONG_MD5_ERROR = {
  error: "bad_request",
  detail: "its bytes are not those that its MD5 is of",
} as const;
const WRONG_MD5: Stored = { kind: "refused", code: WRONG_MD5_ERROR.error, detail: WRONG_MD5_ERROR.detail };

/** For a member that says the MD5 of its bytes: judges them. Null: it does not. */
function md5Of({ sums, json }: ReadMember): { hash: Hash; isWrong(): boolean } | null {
  const md5 = json ? null : (readSums(sums)?.md5 ?? null);
  // Where the parts of an upload have ended is not known any more.
  if (md5 === null || md5.parts !== 0) return null;
  const hash = createHash("md5");
  return { hash, isWrong: () => !hash.digest().equals(md5.md5) };
}

/** What is kept with a member's value. The sums of a JSON value would be of other bytes than those stored. */
function trailerOf({ metadata, sums, json }: ReadMember): Uint8Array {
  const lines = metadataTrailer(metadataLines(metadata) ?? []);
  const { md5, checksum } = (json ? null : readSums(sums)) ?? { md5: null, checksum: null };
  if (md5 === null && checksum === null) return lines;
  const fields = [...(readFields(lines) ?? [])];
  if (md5 !== null) fields.push(md5Field(md5));
  if (checksum !== null) fields.push(checksumField(checksum));
  return writeFields(fields);
}

const AGAIN = "its bytes have gone by; import the archive again";

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  yield bytes;
}

/** The headers in a member's metadata; null: they are none that could have come with a value. */
function metadataLines(text: string): MetadataLine[] | null {
  if (text === "") return [];
  const lines: MetadataLine[] = [];
  let metaBytes = 0;
  for (const line of text.replace(/\n$/, "").split("\n")) {
    const colon = line.indexOf(": ");
    const name = line.slice(0, Math.max(0, colon));
    const value = line.slice(colon + 2);
    if (colon <= 0 || !isMetadataName(name) || !isHeaderText(value)) return null;
    if (name.startsWith(META_PREFIX)) metaBytes += name.length - META_PREFIX.length + value.length;
    else if (value.length > KEPT_HEADER_BYTES_MAX || lines.some(([known]) => known === name)) return null;
    lines.push([name, value]);
  }
  return metaBytes > META_BYTES_MAX ? null : lines;
}
