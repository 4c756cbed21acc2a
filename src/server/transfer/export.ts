/**
 * `GET /_export?prefix=…`: what a list with that prefix finds, as a tar, as fast as the client takes it.
 *
 *   list ─► keys ─► values, a few ahead ─► archive ─► pieces ─► socket
 *
 * What cannot be read breaks it off, with a log line and a cut connection: an archive that ends in order has
 * everything.
 */
import { headOf } from "../../archive/member.ts";
import { ArchiveWriter } from "../../archive/tar.ts";
import type { KeyRange } from "../../engine/catalog/runs/listing.ts";
import type { NamesAnswer } from "../../shards/catalog/messages.ts";
import { nameOf } from "../../util/bytes.ts";
import { type ErrorCode, VaultError } from "../../util/errors.ts";
import { KEY_BYTES_MAX } from "../../util/limits.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import type { Paced } from "../http/pace.ts";
import { sendError, statusLine } from "../http/reply.ts";
import { boundedRange, readParameters } from "../list/list-query.ts";
import { type ListSource, sourceOf } from "../list/list-source.ts";
import { GET, HEAD } from "../status/meter.ts";
import { type Outgoing, OutgoingValues } from "./outgoing.ts";

/** Keys asked for at a time. */
const PAGE_KEYS = 1000;
/** Values read ahead of their turn: so many MiB at most. */
const AHEAD = 32;
/** Handed to the socket at a time, about. */
const PIECE_BYTES = 128 * 1024;
/** Others get their turn after so long. */
const SLICE_MS = 2;
/** A client that takes nothing for so long is closed. */
const STALL_MS = 60_000;
/** Kept back, for so many beats. */
const HELD_BYTES = 32;
const EXPORT_PATH = "_export";

/**
 * What takes a GET or HEAD of a reserved path, which is in `context.key`.
 * @returns a function that answers false where the request is for something else
 */
export function createExport(context: FrontContext): (res: Res, query: string, head: boolean) => boolean {
  const { meter } = context;
  return (res, query, head) => {
    if (nameOf(context.key.bytes.subarray(0, context.key.length)) !== EXPORT_PATH) return false;
    const verb = head ? HEAD : GET;
    const refused = (code: ErrorCode, detail: string): true => {
      meter.count(verb, sendError(res, code, { detail, head }));
      return true;
    };
    if (head) {
      meter.count(HEAD, sendError(res, "method_not_allowed", { headers: [["Allow", "GET"]], head }));
      return true;
    }
    const parameters = readParameters(query);
    if (typeof parameters === "string") return refused("bad_request", parameters);
    const { prefix = "", consistency = null } = parameters;
    if (consistency !== null && consistency !== "quorum" && consistency !== "one")
      return refused("bad_request", "consistency is quorum or one");
    if (Buffer.byteLength(prefix) > KEY_BYTES_MAX)
      return refused("bad_request", `prefix is longer than a key: ${KEY_BYTES_MAX} bytes`);
    const range = boundedRange(new Uint8Array(Buffer.from(prefix)), parameters, false);
    if (typeof range === "string") return refused("bad_request", range);
    const source = sourceOf(context);
    if ("code" in source) return refused(source.code, source.detail);
    void new Export(context, res, source, range, consistency).run();
    return true;
  };
}

class Export implements Paced {
  private readonly context: FrontContext;
  private readonly res: Res;
  private readonly source: ListSource;
  private readonly consistency: "quorum" | "one" | null;
  private readonly values: OutgoingValues;
  private readonly archive = new ArchiveWriter();
  private left: KeyRange | null;
  private open = true;
  /** The socket has room; who waits for that. */
  private writable = true;
  private onWritable = (): void => {};
  private waitsSinceMs = 0;
  /** What comes next, of which each beat sends a byte: that arms uWS' timer anew. */
  private held: Uint8Array = new Uint8Array(0);

  constructor(
    context: FrontContext,
    res: Res,
    source: ListSource,
    range: KeyRange,
    consistency: "quorum" | "one" | null,
  ) {
    this.context = context;
    this.res = res;
    this.source = source;
    this.left = range;
    this.consistency = consistency;
    this.values = new OutgoingValues(context, consistency);
  }

  /** To be called in the request's handler. */
  async run(): Promise<void> {
    const { res, context, archive } = this;
    context.inFlight.enter();
    context.pacer.add(this);
    res.onAborted(() => this.finish(0));
    res.onWritable(() => {
      this.writable = true;
      this.onWritable();
      return true;
    });
    // Before the first byte a failure is an answer like any other.
    const first = await this.page().catch((error: VaultError) => error);
    if (!this.open) return;
    if (first instanceof Error) {
      const { code, message } = first;
      res.cork(() => sendError(res, code, { detail: message }));
      this.finish(first.status);
      return;
    }
    res.cork(() => this.begin());
    const filled = this.fill(first).then(
      () => archive.end(),
      (error: Error) => archive.destroy(error),
    );
    try {
      await this.send();
      res.cork(() => this.open && res.end(this.held));
      this.finish(200);
    } catch (error) {
      if (this.open) this.breakOff(error as Error);
    }
    await filled;
  }

  private begin(): void {
    const lines = [
      statusLine(200),
      "Content-Type: application/x-tar",
      'Content-Disposition: attachment; filename="minivault.tar"',
      "Cache-Control: no-store",
    ];
    if (this.context.varies) lines.push("Vary: Authorization");
    this.res.writeStatus(lines.join("\r\n"));
  }

  private breakOff(error: Error): void {
    this.context.log.error({ error: error.message }, "an export broke off");
    // No end: what came before is not all.
    this.res.close();
  }

  /** The next keys. Throws VaultError. */
  private async page(): Promise<Uint8Array[]> {
    if (this.left === null) return [];
    const question = { kind: "names", range: this.left, limit: PAGE_KEYS } as const;
    const answer = await this.source.ask(question, this.consistency);
    if (answer.kind === "refused")
      throw new VaultError(answer.code, ...(answer.detail === "" ? [] : [answer.detail]));
    this.left = (answer as NamesAnswer).left;
    return answer.keys;
  }

  /** Puts all values into the archive. */
  private async fill(first: readonly Uint8Array[]): Promise<void> {
    for (let keys = first; ; keys = await this.page()) {
      const ahead: ReturnType<OutgoingValues["read"]>[] = [];
      const read = (index: number): void => {
        if (index >= keys.length) return;
        ahead[index] = this.values.read(keys[index]);
        // It is looked at when its turn comes.
        ahead[index].catch(() => {});
      };
      for (let index = 0; index < AHEAD; index++) read(index);
      for (let index = 0; index < keys.length; index++) {
        const value = await ahead[index];
        delete ahead[index];
        read(index + AHEAD);
        if (!this.open) return;
        if (this.context.stopping) throw new VaultError("stopping");
        await this.put(value === "large" ? await this.values.readLarge(keys[index]) : value);
      }
      if (this.left === null) return;
    }
  }

  private async put(outgoing: Outgoing | null): Promise<void> {
    if (outgoing === null) return;
    const { value, bytes, pieces } = outgoing;
    if (bytes !== null) await this.archive.put(headOf(value), bytes);
    else if (pieces !== null) await this.archive.putStream(headOf(value), pieces());
  }

  /** Hands the archive to the socket. */
  private async send(): Promise<void> {
    let pieces: Uint8Array[] = [];
    let bytes = 0;
    let untilMs = performance.now() + SLICE_MS;
    for await (const piece of this.archive.pieces()) {
      pieces.push(piece);
      bytes += piece.length;
      if (bytes >= PIECE_BYTES) {
        await this.write(Buffer.concat(pieces));
        pieces = [];
        bytes = 0;
      }
      if (performance.now() < untilMs) continue;
      await new Promise((resolve) => setImmediate(resolve));
      untilMs = performance.now() + SLICE_MS;
    }
    if (bytes > 0) await this.write(Buffer.concat(pieces));
  }

  private async write(bytes: Uint8Array): Promise<void> {
    if (!this.open) throw new Error("the client has gone");
    const all = Buffer.concat([this.held, bytes]);
    const end = Math.max(0, all.length - HELD_BYTES);
    this.held = all.subarray(end);
    if (end === 0) return;
    this.res.cork(() => {
      this.writable = this.res.write(all.subarray(0, end));
    });
    if (this.writable) return;
    this.waitsSinceMs = performance.now();
    await new Promise<void>((resolve) => {
      this.onWritable = resolve;
    });
    this.onWritable = () => {};
  }

  beat(nowMs: number): void {
    if (!this.writable && nowMs - this.waitsSinceMs > STALL_MS) {
      this.res.close();
      return;
    }
    if (this.held.length === 0) return;
    const one = this.held.subarray(0, 1);
    this.held = this.held.subarray(1);
    this.res.cork(() => this.res.write(one));
  }

  /** @param status 0: the client has gone */
  private finish(status: number): void {
    if (!this.open) return;
    this.open = false;
    this.archive.destroy();
    this.onWritable();
    const { meter, pacer, inFlight } = this.context;
    pacer.delete(this);
    inFlight.leave();
    if (status === 0) meter.countAborted(GET);
    else meter.count(GET, status);
  }
}
