/** A front with peer routes on a handler that records, and clients for it. */

import { Receiver } from "../../src/auth/answer.ts";
import { KeyRing } from "../../src/auth/keys.ts";
import { RequestSigner } from "../../src/auth/signature.ts";
import { keyRecord } from "../../src/auth/tokens.ts";
import { NodeHttp } from "../../src/cluster/link/node-http.ts";
import { PeerClient, type PeerClientOptions } from "../../src/cluster/peers/peer-client.ts";
import type { PeerHandler, PeerSink, PeerSource } from "../../src/cluster/peers/peer-handler.ts";
import { createFront, type Front, type FrontOptions } from "../../src/server/front.ts";
import { VaultError } from "../../src/util/errors.ts";
import { FakeVault } from "../server/fake-vault.ts";

export const KEY = "correct-horse-battery-staple";

/** Echoes frames; keeps what streams in, by the head's text. Frames with a meaning: see `frame`. */
export class RecordingHandler implements PeerHandler {
  hear(_from: string, _marks: string | null): string | null {
    return null;
  }

  hello(_from: string): Uint8Array {
    return Buffer.from("{}");
  }

  ownLife(): string | null {
    return null;
  }

  frames: string[] = [];
  layouts: string[] = [];
  readonly values = new Map<string, Buffer>();
  sinksOpen = 0;
  sinksAborted = 0;
  sinkBytes = 0;
  sourcesOpen = 0;
  /** Answers wait until `release`. */
  held = false;
  /** Milliseconds before a frame is answered; 0: at once. */
  delayMs = 0;
  /** Bytes a sink takes before it asks for a pause, of 20 ms. */
  windowBytes = Number.POSITIVE_INFINITY;
  pauses = 0;
  /** A sink fails with this after its first bytes. */
  sinkFailure: VaultError | null = null;
  private waiting: Array<() => void> = [];

  frame(bytes: Uint8Array, reply: (answer: Uint8Array) => void): void {
    const text = Buffer.from(bytes).toString("latin1");
    this.frames.push(text);
    if (text.startsWith("throw")) throw new Error("a frame is broken");
    if (text.startsWith("stopping")) throw new VaultError("stopping");
    const answer = Buffer.from(`echo ${text}`, "latin1");
    if (this.held) this.waiting.push(() => reply(answer));
    else if (this.delayMs > 0) setTimeout(() => reply(answer), this.delayMs);
    else reply(answer);
  }

  release(): void {
    this.held = false;
    for (const run of this.waiting.splice(0)) run();
  }

  readLayout(): Uint8Array {
    return Buffer.from('{"epoch":7}');
  }

  takeLayout(document: Uint8Array, reply: (answer: Uint8Array) => void): void {
    const text = Buffer.from(document).toString();
    if (text.includes("bad")) throw new VaultError("bad_request", "no layout");
    this.layouts.push(text);
    setImmediate(() => reply(Buffer.from('{"success":true}')));
  }

  openSink(head: Uint8Array): PeerSink {
    const name = Buffer.from(head).toString();
    if (name === "refused") throw new VaultError("overloaded", "no room");
    this.sinksOpen++;
    const pieces: Buffer[] = [];
    let pending = 0;
    let open = true;
    const close = () => {
      if (!open) return false;
      open = false;
      this.sinksOpen--;
      return true;
    };
    const sink: PeerSink = {
      onDrain: () => {},
      onFail: () => {},
      write: (bytes) => {
        pieces.push(Buffer.from(bytes));
        this.sinkBytes += bytes.length;
        pending += bytes.length;
        const failure = this.sinkFailure;
        if (failure !== null)
          setImmediate(() => {
            if (close()) sink.onFail(failure.code, failure.message);
          });
        if (pending < this.windowBytes) return true;
        this.pauses++;
        setTimeout(() => {
          pending = 0;
          if (open) sink.onDrain();
        }, 20);
        return false;
      },
      commit: (done) => {
        close();
        this.values.set(name, Buffer.concat(pieces));
        setImmediate(() => done(Buffer.from(`stored ${name}`)));
      },
      abort: () => {
        if (close()) this.sinksAborted++;
      },
    };
    return sink;
  }

  openSource(head: Uint8Array): PeerSource {
    const name = Buffer.from(head).toString();
    const value = this.values.get(name);
    if (value === undefined) throw new VaultError("not_found");
    this.sourcesOpen++;
    let open = true;
    return {
      head: Buffer.from(`head of ${name}`),
      valueBytes: value.length,
      read: (offset) => {
        if (name === "broken" && offset > 0) throw new VaultError("corrupt");
        return value.subarray(offset, offset + 1024 * 1024);
      },
      close: () => {
        if (open) this.sourcesOpen--;
        open = false;
      },
    };
  }
}

export interface Node {
  front: Front;
  handler: RecordingHandler;
  url: string;
  /** What is known of it by whoever has the key. */
  receiver: Receiver;
  log: string[];
}

/** The same under another URL, or with a clock that is off. */
export function receiverLike({ receiver }: Node, { url = receiver.url, offMs = 0 }): Receiver {
  const like = new Receiver(url);
  like.learn({ session: receiver.session ?? "", clock: receiver.clock() + offMs, mac: "" });
  return like;
}

/** Learns of a node what its answers tell. */
export async function meet(receiver: Receiver, key = KEY): Promise<Receiver> {
  const signer = new RequestSigner(new KeyRing([key]));
  const client = new NodeHttp({ url: receiver.url, signer, receiver, connections: 1 });
  await client.request("GET", "/_peer/ping", null, 20_000);
  await client.close();
  return receiver;
}

/** Starts a front with peer routes, on a given port where one is given. */
export async function startNode(
  options: Partial<FrontOptions> & { mode?: "all" | "writes" } = {},
): Promise<Node> {
  const handler = new RecordingHandler();
  const log: string[] = [];
  let url = "";
  const front = await createFront({
    vault: new FakeVault(),
    host: "127.0.0.1",
    port: 0,
    auth:
      options.auth === undefined ? { mode: options.mode ?? "all", tokens: [keyRecord(KEY)] } : options.auth,
    maxValueBytes: 64 * 1024 * 1024,
    role: "worker",
    version: "1.2.3",
    log: {
      info: (fields, message) => log.push(`${message} ${JSON.stringify(fields)}`),
      error: (fields, message) => log.push(`${message} ${JSON.stringify(fields)}`),
    },
    peers: {
      handler,
      ring: options.auth === null ? null : new KeyRing([KEY]),
      audience: (other) => (other === url ? null : `this is ${url}`),
    },
    ...options,
  });
  url = `${options.tls ? "https" : "http"}://127.0.0.1:${front.port}`;
  const receiver = new Receiver(url);
  const isKeyed = options.auth !== null && !options.tls && !("peers" in options);
  return { front, handler, url, log, receiver: isKeyed ? await meet(receiver) : receiver };
}

/** A client that signs with KEY; closed by its user. */
export function createClient(url: string, options: Partial<PeerClientOptions> = {}): PeerClient {
  return new PeerClient({ url, sign: new RequestSigner(new KeyRing([KEY])), ...options });
}
