/**
 * `GET /_export?prefix=…`: what a list with that prefix finds, as a tar, as fast as the client takes it.
 *
 *   list ─► keys ─► values, a few ahead ─► archive ─► pieces ─► socket
 *
 * What cannot be read breaks it off, with a log line and a cut connection: an archive that ends in order has
 * everything.
 */
import { headOf } from "../../archive/member.ts";
import { ArchiveWriter } from "../../archive/tar-writer.ts";
import type { Token } from "../../auth/tokens.ts";
import type { KeyRange } from "../../engine/catalog/runs/listing.ts";
import type { NamesAnswer } from "../../shards/catalog/messages.ts";
import { copyOf, nameOf } from "../../util/bytes.ts";
import { type ErrorCode, VaultError } from "../../util/errors.ts";
import { KEY_BYTES_MAX } from "../../util/limits.ts";
import type { FrontContext } from "../http/context.ts";
import type { Res } from "../http/http.ts";
import { sendError, statusLine } from "../http/reply.ts";
import { REVOKED } from "../lines/line-answer.ts";
import { StreamedAnswer } from "../lines/streamed-answer.ts";
import { Tries } from "../lines/tries.ts";
import { boundedRange, readParameters } from "../list/list-query.ts";
import { askOn, type ListSource, sourceOf } from "../list/list-source.ts";
import { GET, HEAD } from "../status/meter.ts";
import { type Outgoing, OutgoingValues, viewsOf } from "./outgoing.ts";

/** Keys asked for at a time. */
const PAGE_KEYS = 1000;
/** Values read ahead of their turn: so many MiB at most. */
const AHEAD = 32;
/** Others get their turn after so long. */
const SLICE_MS = 2;
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

class Export {
  private readonly context: FrontContext;
  private readonly answer: StreamedAnswer;
  private readonly source: ListSource;
  private readonly consistency: "quorum" | "one" | null;
  private readonly values: OutgoingValues;
  private readonly caller: Token;
  private readonly archive = new ArchiveWriter();
  private left: KeyRange | null;
  /** Goes on when there is room again, or nobody to write to. */
  private wake = (): void => {};
  /** What comes next, of which a byte at a time is sent where something has to be. */
  private held: Uint8Array = new Uint8Array(0);

  /** To be made in the request's handler. */
  constructor(
    context: FrontContext,
    res: Res,
    source: ListSource,
    range: KeyRange,
    consistency: "quorum" | "one" | null,
  ) {
    this.context = context;
    this.source = source;
    this.caller = context.caller;
    this.left = range;
    this.consistency = consistency;
    this.values = new OutgoingValues(context, consistency);
    this.answer = new StreamedAnswer(context, res, headOfExport(context), {
      onRoom: () => this.wake(),
      onOver: () => {
        this.archive.destroy();
        this.wake();
      },
      blank: () => this.nextByte(),
    });
  }

  async run(): Promise<void> {
    const { answer, archive } = this;
    // Before the first byte a failure is an answer like any other.
    const first = await this.page().catch((error: VaultError) => error);
    if (!answer.isOpen) return;
    if (first instanceof Error) {
      answer.refuse({ code: first.code, detail: first.message });
      return;
    }
    answer.send(new Uint8Array(0));
    const filled = this.fill(first).then(
      () => archive.end(),
      (error: Error) => archive.destroy(error),
    );
    try {
      await this.send();
      answer.end(this.held);
    } catch (error) {
      if (answer.isOpen) this.breakOff(error as Error);
    }
    await filled;
  }

  private breakOff(error: Error): void {
    this.context.log.error({ error: error.message }, "an export broke off");
    // No end: what came before is not all.
    this.answer.cut();
  }

  /** The next keys. Throws VaultError. */
  private async page(): Promise<Uint8Array[]> {
    if (this.left === null) return [];
    const question = { kind: "names", range: this.left, limit: PAGE_KEYS } as const;
    const answer = await askOn(this.source, question, this.consistency, this.goesOn);
    if (answer.kind === "refused")
      throw new VaultError(answer.code, ...(answer.detail === "" ? [] : [answer.detail]));
    this.left = (answer as NamesAnswer).left;
    return answer.keys;
  }

  /** What was begun, and somebody waits for, is not broken off by what passes by itself. */
  private readonly goesOn = (): boolean => this.answer.begun && this.answer.isOpen && !this.context.stopping;

  /** Reads something, and again where it was refused for a while. */
  private async patiently<Result>(read: () => Promise<Result>): Promise<Result> {
    for (const tries = new Tries(this.goesOn); ; ) {
      try {
        return await read();
      } catch (error) {
        if (!(error instanceof VaultError && (await tries.again(error.code)))) throw error;
      }
    }
  }

  /** Puts all values into the archive. */
  private async fill(first: readonly Uint8Array[]): Promise<void> {
    for (let keys = first; ; keys = await this.page()) {
      const ahead: ReturnType<OutgoingValues["read"]>[] = [];
      const read = (index: number): void => {
        if (index >= keys.length) return;
        ahead[index] = this.patiently(() => this.values.read(keys[index]));
        // It is looked at when its turn comes.
        ahead[index].catch(() => {});
      };
      for (let index = 0; index < AHEAD; index++) read(index);
      for (let index = 0; index < keys.length; index++) {
        const value = await ahead[index];
        delete ahead[index];
        read(index + AHEAD);
        if (!this.answer.isOpen) return;
        if (this.context.stopping) throw new VaultError("stopping");
        if (!this.context.mayGoOn(this.caller)) throw new VaultError(REVOKED.code, REVOKED.detail);
        const large = (): Promise<Outgoing | null> => this.values.readLarge(keys[index]);
        await this.put(value === "large" ? await this.patiently(large) : value);
      }
      if (this.left === null) return;
    }
  }

  private async put(outgoing: Outgoing | null): Promise<void> {
    if (outgoing === null) return;
    const { value, bytes, open } = outgoing;
    if (bytes !== null) await this.archive.put(headOf(value), bytes);
    if (open === null) return;
    try {
      await this.archive.putStream(headOf(value), viewsOf(open));
    } finally {
      // An archive that was given up meanwhile has not read it.
      open.reader.close();
    }
  }

  /** Hands the archive to the socket. */
  private async send(): Promise<void> {
    let untilMs = performance.now() + SLICE_MS;
    for await (const piece of this.archive.pieces()) {
      await this.write(piece);
      if (performance.now() < untilMs) continue;
      await new Promise((resolve) => setImmediate(resolve));
      untilMs = performance.now() + SLICE_MS;
    }
  }

  private async write(piece: Uint8Array): Promise<void> {
    const { answer, held } = this;
    const end = Math.max(0, piece.length - HELD_BYTES);
    this.held = copyOf(piece, end);
    answer.send(held);
    answer.send(piece.subarray(0, end));
    while (answer.isOpen && !answer.hasRoom)
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
    if (!answer.isOpen) throw new Error("the client has gone");
  }

  private nextByte(): Uint8Array {
    const byte = this.held.subarray(0, 1);
    this.held = this.held.subarray(1);
    return byte;
  }
}

function headOfExport({ varies }: FrontContext): string {
  const lines = [
    statusLine(200),
    "Content-Type: application/x-tar",
    'Content-Disposition: attachment; filename="minivault.tar"',
    "Cache-Control: no-store",
  ];
  if (varies) lines.push("Vary: Authorization");
  return lines.join("\r\n");
}
