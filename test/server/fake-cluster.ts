/**
 * A cluster to a front, whose values are those of a fake vault: small ones come with the answer, large ones lie at another node, where they
 * can be replaced, or that can fail, just when they are opened.
 */
import type { ClusterAccess, ReadAnswer, RemoteStream } from "../../src/cluster/node/access.ts";
import { PeerError } from "../../src/cluster/peers/peer-error.ts";
import { inlineValue, type RemoteValue } from "../../src/cluster/wire/values.ts";
import { endOf } from "../../src/format/end.ts";
import type { Ballot } from "../../src/format/record.ts";
import { etagText } from "../../src/format/version.ts";
import type { Upload, WriteDone, WriteHead } from "../../src/shards/arena/write.ts";
import type { CatalogAnswer, CatalogQuestion } from "../../src/shards/catalog/messages.ts";
import { CHUNK_BYTES } from "../../src/util/limits.ts";
import type { FakeVault } from "./fake-vault.ts";

const PIECE_BYTES = 256 * 1024;

/** What the other node answers of a version that it has no more. */
export const GONE = new PeerError(
  "peer_refused",
  "not_sent",
  'the node answered 404 {"success":false,"error":"this version is not here any more"}',
  404,
);
export const REFUSED = new PeerError("peer_failed", "not_sent", "connect ECONNREFUSED 127.0.0.1:3001");

export class FakeCluster implements ClusterAccess {
  readonly region = "here";
  readonly consistency = "quorum";
  readonly keepsFields = true;
  readonly keepsEnds = true;
  readonly remembers = true;
  readonly writes: ClusterAccess["writes"] = {
    ...{ drawsVersions: true, writer: 1, elsewhere: () => null, begins: () => false, shared: () => {} },
  };
  readonly feeds = { ask: () => {}, cancel: () => {}, close: () => {} } as unknown as ClusterAccess["feeds"];
  /** Values that were asked of the other node, and those of them that are being read. */
  opens = 0;
  streamsOpen = 0;
  /** Called before each of them is opened, with its number from 1 on; an error is what becomes of it. */
  beforeOpen: (open: number) => Error | null = () => null;
  /** Called before each piece, with where it begins and the number of what was opened: as above. */
  beforePiece: (offset: number, open: number) => Error | null = () => null;
  private readonly vault: FakeVault;

  constructor(vault: FakeVault) {
    this.vault = vault;
  }

  /** The version that a key has now, as the cluster tells it. */
  etagOf(key: string): string {
    return etagText(ballotOf(this.vault.values.get(key)?.version ?? 0));
  }

  mayAnswer(): boolean {
    return false;
  }

  isHere(): boolean {
    return false;
  }

  read(key: Uint8Array, _consistency: string, done: (answer: ReadAnswer) => void): void {
    const found = this.vault.values.get(Buffer.from(key).toString());
    if (found === undefined) {
      done({ state: "absent", ballot: null, replicas: 3 });
      return;
    }
    const { json, contentType, trailer, bytes, version } = found;
    const ballot = ballotOf(version);
    const kind = { json, contentType, trailer, end: endOf(trailer) };
    const large: RemoteValue = {
      ...{ tombstone: false, ...kind, valueBytes: bytes.length, node: "http://other", ballot },
    };
    const value = bytes.length <= CHUNK_BYTES ? inlineValue(kind, bytes) : large;
    done({ state: "found", value, ballot, replicas: 3 });
  }

  async open(key: Uint8Array, value: RemoteValue, start: number, end: number): Promise<RemoteStream> {
    const open = ++this.opens;
    const failure = this.beforeOpen(open);
    if (failure !== null) throw failure;
    const found = this.vault.values.get(Buffer.from(key).toString());
    if (found?.version !== value.ballot.clockLow) throw GONE;
    return this.stream(found.bytes.subarray(start, end), open);
  }

  private stream(bytes: Uint8Array, open: number): RemoteStream {
    this.streamsOpen++;
    let isOpen = true;
    const close = (): void => {
      if (isOpen) this.streamsOpen--;
      isOpen = false;
    };
    const pieces = async function* (this: FakeCluster) {
      try {
        for (let offset = 0; offset < bytes.length; offset += PIECE_BYTES) {
          await new Promise((resolve) => setImmediate(resolve));
          const failure = this.beforePiece(offset, open);
          if (failure !== null) throw failure;
          yield bytes.subarray(offset, offset + PIECE_BYTES);
        }
      } finally {
        close();
      }
    }.call(this);
    return { [Symbol.asyncIterator]: () => pieces, destroy: close };
  }

  async list(question: CatalogQuestion): Promise<CatalogAnswer> {
    if (question.kind !== "names") return { kind: "refused", code: "not_yet", detail: "" };
    const { low, high } = question.range;
    const keys = [...this.vault.values.keys()]
      .map((key) => new Uint8Array(Buffer.from(key)))
      .filter((key) => Buffer.compare(key, low) >= 0 && (high === null || Buffer.compare(key, high) < 0))
      .sort(Buffer.compare);
    return { kind: "names", ended: { keys: [], nowMs: 0 }, keys, left: null };
  }

  now(): number {
    return Date.now();
  }

  submit(head: WriteHead, body: Uint8Array, done: WriteDone): boolean {
    return this.vault.submit(head, body, done);
  }

  upload(head: WriteHead): Upload | null {
    const upload = this.vault.upload(head);
    if (upload === null) return null;
    const name = Buffer.from(head.key.bytes.subarray(0, head.key.length)).toString();
    const { commit } = upload;
    upload.commit = (done) =>
      commit((result) => {
        const stored = this.vault.values.get(name);
        // What is kept with it is only known now.
        if (result.error === null && stored !== undefined)
          stored.trailer = head.trailerAtEnd?.() ?? head.trailer;
        done(result);
      });
    return upload;
  }
}

function ballotOf(version: number): Ballot {
  return { clockLow: version, clockHigh: 0, node: 1, incarnation: 1 };
}
