/**
 * `PUT /_import?mode=…`: takes a tar as `/_export` gives it, or as others make it, while it comes. Lines tell
 * how far it is. Whatever breaks it off, what was stored stays, and the same archive can be sent again.
 *
 *   body ─► archive ─► members, small ones many at once, large ones one by one ─► values
 */

import { type ReadMember, readMember } from "../../archive/member.ts";
import { ArchiveReader, type Member } from "../../archive/tar-reader.ts";
import { END_BYTES } from "../../archive/tar-writer.ts";
import type { Token } from "../../auth/tokens.ts";
import { parametersOf } from "../../rules/query.ts";
import { copyOf, nameOf } from "../../util/bytes.ts";
import { ERRORS, type ErrorCode } from "../../util/errors.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import { NO_BODY } from "../http/body-length.ts";
import type { FrontContext } from "../http/context.ts";
import type { Req, Res } from "../http/http.ts";
import { LINGER_BYTES_MAX, LINGER_MS_MAX, lengthToTake, refuse } from "../http/linger.ts";
import { LineAnswer, REVOKED } from "../lines/line-answer.ts";
import { PUT } from "../status/meter.ts";
import { BodyFlow, type BodyTaker } from "../writes/body-flow.ts";
import { manyKeysProblem } from "../writes/many-keys.ts";
import { type ImportMode, IncomingValues, type Stored } from "./incoming.ts";

const IMPORT_PATH = "_import";
const MODES: readonly string[] = ["create", "replace", "newer"];
const CONTENT_ENCODING = Buffer.from("content-encoding");
/** Values that are being stored at once, and their bytes. */
const UNDER_WAY_MAX = 512;
const UNDER_WAY_BYTES_MAX = 16 * 1024 * 1024;
/** Others get their turn after so long. */
const SLICE_MS = 2;
/** Refusals that are told by name. */
const TOLD_MAX = 20;

const NO_END = { code: "bad_request", detail: "the archive has no end: it was cut, or is none" } as const;

/**
 * What takes a PUT of a reserved path, which is in `context.key`.
 * @returns a function that answers false where the request is for something else
 */
export function createImport(context: FrontContext): (res: Res, req: Req) => boolean {
  const { meter } = context;
  return (res, req) => {
    if (nameOf(context.key.bytes.subarray(0, context.key.length)) !== IMPORT_PATH) return false;
    const declared = lengthToTake(meter, PUT, res, req);
    if (declared === null) return true;
    const refused = (code: ErrorCode, detail = ""): true => {
      meter.count(PUT, refuse(res, code, declared, { detail }));
      return true;
    };
    const query = req.getQuery() ?? "";
    const modes = parametersOf(query).getAll("mode");
    if (modes.length > 1 || !MODES.includes(modes[0] ?? "create"))
      return refused("bad_request", `mode is ${MODES.join(", ")}, or left out, which is create`);
    const problem = manyKeysProblem(req);
    if (problem !== null) return refused("bad_request", problem);
    if (context.stopping) return refused("stopping");
    if (declared === NO_BODY) return refused("length_required");
    if (!/^(?:identity)?$/i.test(req.getHeader(CONTENT_ENCODING)))
      return refused("unsupported_encoding", "send the archive as it is, without a Content-Encoding");
    const request = new Import(context, res, (modes[0] ?? "create") as ImportMode, `/_import?${query}`);
    res.onData((chunk, last) => request.data(chunk, last));
    void request.run();
    return true;
  };
}

class Import implements BodyTaker {
  private readonly context: FrontContext;
  private readonly res: Res;
  private readonly target: string;
  /** For the audit. */
  private readonly ended: ((target: string, status: number) => void) | null;
  private readonly archive = new ArchiveReader();
  private readonly values: IncomingValues;
  private readonly answer: LineAnswer;
  private readonly flow: BodyFlow;
  receivedBytes = 0;
  isReceiving = true;
  /** The last bytes of the body so far, END_BYTES at most. */
  private tail: Buffer = Buffer.alloc(0);
  private counts = { entries: 0, stored: 0, kept: 0, refused: 0 };
  private readonly told: object[] = [];
  /** Keys that are being stored; an archive may have one twice. */
  private readonly underWay = new Map<string, Promise<void>>();
  private underWayBytes = 0;
  /** Called when one of them is done. */
  private wake = (): void => {};
  private readonly caller: Token;
  /** Where in the archive the last of its members ends. */
  private membersEnd = 0;
  /** Why nothing more is taken. */
  private failure: { code: ErrorCode; detail: string } | null = null;
  private droppedBytes = 0;
  private onEnd = (): void => {};

  constructor(context: FrontContext, res: Res, mode: ImportMode, target: string) {
    this.context = context;
    this.res = res;
    this.target = target;
    this.ended = context.notes?.own() ?? null;
    this.caller = context.caller;
    this.values = new IncomingValues(context, context.caller, mode);
    this.answer = new LineAnswer(
      context,
      res,
      PUT,
      () => ({ ...this.counts, bytes: this.receivedBytes }),
      () => this.gone(),
    );
    this.flow = new BodyFlow(res, context.pacer, this);
    // Later: what is resumed while uWS still reads from it stays deaf.
    this.archive.onDrain = () =>
      setImmediate(() => {
        if (this.archive.hasRoom) this.flow.setPaused(false);
      });
  }

  /** A piece of the body. `chunk` is only valid during the call. */
  data(chunk: ArrayBuffer, last: boolean): void {
    if (!this.isReceiving) return;
    this.receivedBytes += chunk.byteLength;
    if (this.failure !== null) this.drop(chunk.byteLength);
    else if (chunk.byteLength > 0) {
      const bytes = Buffer.from(chunk.slice(0));
      this.tail = Buffer.from(Buffer.concat([this.tail, bytes.subarray(-END_BYTES)]).subarray(-END_BYTES));
      if (!this.archive.write(bytes) && !last) this.flow.setPaused(true);
    }
    if (!last) return;
    // uWS reads on within one turn although it was paused. The next request must not find the socket deaf.
    this.flow.setPaused(false);
    this.isReceiving = false;
    if (this.failure === null && !this.hasEnd) this.failure = NO_END;
    this.archive.end();
    this.onEnd();
  }

  private get hasEnd(): boolean {
    return this.tail.length === END_BYTES && this.tail.every((byte) => byte === 0);
  }

  /** Takes all members, and gives the last line. */
  async run(): Promise<void> {
    try {
      await this.takeAll();
      // Zeros that belong to a value are no end.
      if (this.receivedBytes < this.membersEnd + END_BYTES) this.failure ??= NO_END;
    } catch (error) {
      this.failure ??= { code: "bad_request", detail: `the archive is damaged: ${(error as Error).message}` };
    }
    await Promise.all(this.underWay.values());
    if (!this.answer.isListened) return;
    if (this.isReceiving) await this.restOfBody();
    this.flow.end();
    this.archive.destroy();
    const document = { ...this.counts, ...(this.told.length === 0 ? {} : { refusals: this.told }) };
    const status =
      this.failure !== null
        ? this.answer.fail(this.failure, document)
        : this.counts.refused > 0
          ? this.answer.fail({ code: "bad_request", detail: "not all values could be stored" }, document)
          : this.answer.succeed({ ...document, complete: true });
    this.ended?.(this.target, status);
  }

  /** What comes behind a failure is thrown away, so that the client hears of it. */
  private async restOfBody(): Promise<void> {
    this.failure ??= { code: "internal", detail: "" };
    this.archive.destroy();
    this.flow.setPaused(false);
    const timer = setTimeout(() => this.res.close(), LINGER_MS_MAX);
    await new Promise<void>((resolve) => {
      this.onEnd = resolve;
    });
    clearTimeout(timer);
  }

  private drop(bytes: number): void {
    this.droppedBytes += bytes;
    if (this.droppedBytes > LINGER_BYTES_MAX) this.res.close();
  }

  private async takeAll(): Promise<void> {
    let untilMs = performance.now() + SLICE_MS;
    for await (const member of this.archive.members()) {
      this.membersEnd = member.end;
      await this.take(member);
      if (!this.context.mayGoOn(this.caller)) this.failure ??= REVOKED;
      this.answer.tell();
      if (this.failure !== null || !this.answer.isListened) return;
      if (this.context.stopping) this.failure = { code: "stopping", detail: "" };
      if (performance.now() < untilMs) continue;
      await new Promise((resolve) => setImmediate(resolve));
      untilMs = performance.now() + SLICE_MS;
    }
  }

  private async take(member: Member): Promise<void> {
    const { type } = member.head;
    if (type !== "file" && type !== "contiguous-file") {
      // Folders are in the names of files; links and devices are no values.
      if (type === "directory") return;
      this.counts.entries++;
      this.note(member.head.name, {
        kind: "refused",
        code: "bad_request",
        detail: `a ${type ?? "member of another kind"} is no value`,
      });
      return;
    }
    this.counts.entries++;
    const read = readMember(member.head);
    const refusal =
      typeof read === "string"
        ? ({ kind: "refused", code: "bad_key", detail: read } as const)
        : this.values.refusal(read);
    if (refusal !== null || typeof read === "string") {
      if (refusal !== null) this.note(member.head.name, refusal);
      return;
    }
    const name = nameOf(read.key);
    await this.underWay.get(name);
    if (read.bytes > CHUNK_BYTES) {
      this.note(name, await this.values.storeStream(read, member.pieces()));
      return;
    }
    this.storeSoon(name, read, copyOf(await member.whole()));
    while (this.underWay.size >= UNDER_WAY_MAX || this.underWayBytes > UNDER_WAY_BYTES_MAX)
      await new Promise<void>((resolve) => {
        this.wake = resolve;
      });
  }

  private storeSoon(name: string, member: ReadMember, bytes: Uint8Array): void {
    this.underWayBytes += bytes.length;
    const done = this.values.storeWhole(member, bytes).then((stored) => {
      this.underWayBytes -= bytes.length;
      this.underWay.delete(name);
      this.note(name, stored);
      this.wake();
    });
    this.underWay.set(name, done);
  }

  private note(name: string, stored: Stored): void {
    if (stored.kind !== "refused") {
      this.counts[stored.kind]++;
      return;
    }
    this.counts.refused++;
    const { code, detail } = stored;
    const key = Buffer.from(name, "latin1").toString("utf8");
    if (this.told.length < TOLD_MAX)
      this.told.push({ key, error: detail === "" ? ERRORS[code].message : detail, code });
    // What is wrong with the node, and not with the value, would be so of all that follow.
    if (ERRORS[code].status >= 500 && code !== "upgrade_first") this.failure ??= { code, detail };
  }

  /** The client is too slow, or sends nothing any more. */
  stalled(): void {
    this.failure ??= { code: "too_slow", detail: "" };
    this.isReceiving = false;
    this.archive.destroy();
    this.onEnd();
  }

  private gone(): void {
    this.isReceiving = false;
    this.flow.end();
    this.archive.destroy();
    this.onEnd();
    this.ended?.(this.target, 0);
  }
}
