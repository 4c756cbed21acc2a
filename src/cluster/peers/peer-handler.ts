/**
 * What a node does with the requests of other nodes: what stands behind the paths between nodes. Whoever
 * implements this works on its own node's data alone. Only a write that is handed on asks other nodes; it
 * comes in batches of its own kind, so that no answer that it needs waits behind it.
 */
import type { ErrorCode } from "../../util/errors.ts";

/** A value that streams in from another node. As the vault's Upload, with opaque answers. */
export interface PeerSink {
  /**
   * Takes the next bytes (copied before it returns). False: enough for now, until `onDrain`; bytes passed all
   * the same are kept.
   */
  write(bytes: Uint8Array): boolean;
  /** Set by the caller. */
  onDrain: () => void;
  /** Set by the caller: it failed before its end; nothing is kept; called once. */
  onFail: (code: ErrorCode, detail: string) => void;
  /** The body is complete, and genuine. `done` is called later, with the answer to send. */
  commit(done: (answer: Uint8Array) => void): void;
  /** It will not be completed: leaves nothing behind. No callback follows. Idempotent. */
  abort(): void;
}

/** A value that streams out to another node. */
export interface PeerSource {
  /** What the other node needs to know of it, opaque here, at most PEER_HEAD_BYTES_MAX. */
  head: Uint8Array;
  readonly valueBytes: number;
  /**
   * The bytes from `offset` on, as far as they lie in one piece; valid until close. Throws VaultError when
   * they are damaged.
   */
  read(offset: number): Uint8Array;
  /**
   * Whether a part of the piece that was last read is still what it was (see ValueReader). Left out: nothing
   * here is on a disk.
   */
  holds?(from: number, to: number): boolean;
  /** Idempotent. */
  close(): void;
}

/** Memory for the answers to a batch. */
export interface AnswerRoom {
  /** Takes so much of it; false: there is no room for them. */
  take(bytes: number): boolean;
}

export interface PeerHandler {
  /**
   * Who sends a request, and how far its log was answered, where it says so. Answers why the request is not
   * taken, or null. Throws when that cannot be noted.
   */
  hear(from: string, marks: string | null): string | null;
  /** What this node knows of the store of one that starts, as JSON. May throw VaultError. */
  hello(from: string): Uint8Array;
  /** Who this node is, for the answer to a pulse; null: it is in no cluster. */
  ownLife(): string | null;
  /**
   * One operation. `bytes` is valid during the call. `reply` is called once, at once or later; its answer is
   * kept until the whole batch is answered, so it must not change any more. What is thrown here fails the
   * batch with an unknown outcome.
   * @param room to be asked before an answer is made that may be long: a few bytes can ask for many
   */
  frame(bytes: Uint8Array, reply: (answer: Uint8Array) => void, room: AnswerRoom): void;
  /** The layout that this node knows, as JSON. */
  readLayout(): Uint8Array;
  /** A layout, as JSON, valid during the call; `reply` gets the JSON to answer. May throw VaultError. */
  takeLayout(document: Uint8Array, reply: (answer: Uint8Array) => void): void;
  /** A value begins to arrive. `head` is valid during the call. Throws VaultError to refuse it. */
  openSink(head: Uint8Array): PeerSink;
  /** A value is asked for. `head` is valid during the call. Throws VaultError, such as "not_found". */
  openSource(head: Uint8Array): PeerSource;
}

/** The answer to a ping: what the wall clock of the node shows, in milliseconds since 1970, and who it is. */
export function pingAnswer(wallMillis: number, life: string | null): Buffer {
  const from = life === null ? "" : `,"from":"${life}"`;
  return Buffer.from(`{"success":true,"clock":${wallMillis}${from}}\n`);
}

/** The life in a ping's answer; null: it tells none. */
export function lifeOf(answer: Uint8Array): string | null {
  return /"from":"([\w.-]{1,4096})"/.exec(Buffer.from(answer).toString("latin1"))?.[1] ?? null;
}

/** The clock of a ping's answer; null: it tells none. */
export function clockOf(answer: Uint8Array): number | null {
  const digits = /"clock":(\d{1,15})[,}]/.exec(Buffer.from(answer).toString("latin1"))?.[1];
  return digits === undefined ? null : Number(digits);
}
