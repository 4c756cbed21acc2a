/**
 * Reads that must wait for the disk: for a record that is not in memory, or until it is written down that a
 * value has ended. The front goes on with other requests meanwhile.
 */
import type { KeyBytes, WriteDone } from "../../shards/arena/write.ts";
import { COLD_READS_MAX, type Found, type Vault } from "../../shards/vault/vault.ts";
import type { ErrorCode } from "../../util/errors.ts";
import type { FrontContext } from "../http/context.ts";
import type { Req, Res } from "../http/http.ts";
import { type ReadHeaders, readHeaders } from "../http/read-headers.ts";
import { sendError } from "../http/reply.ts";
import { guarded } from "../later/failure.ts";
import { Waiting } from "../later/waiting.ts";
import { HEAD } from "../status/meter.ts";

/**
 * Looks a key up whose record was not in memory, for the `reads`th time. Where memory is so short that
 * reading it beforehand does not help, the last one waits for the disk.
 */
export function findPatiently(vault: Vault, key: KeyBytes, reads: number): Found {
  return reads >= COLD_READS_MAX ? vault.find(key) : vault.findResident(key);
}

/** Answers a read whose record is in memory. */
export type AnswerRead = (res: Res, found: Found, headers: ReadHeaders) => void;

/** A GET or HEAD of a key whose record is not in memory, or whose value has just ended. */
export class ColdRead {
  private readonly context: FrontContext;
  private readonly res: Res;
  private readonly key: KeyBytes;
  private readonly headers: ReadHeaders;
  private readonly answer: AnswerRead;
  private readonly waiting: Waiting;
  private readonly startMs = performance.now();
  private readonly verb: number;
  private reads = 0;

  private constructor(context: FrontContext, res: Res, req: Req, verb: number, answer: AnswerRead) {
    const { bytes, length } = context.key;
    this.context = context;
    this.res = res;
    this.verb = verb;
    this.key = { bytes: bytes.slice(0, length), length };
    this.headers = readHeaders(req, verb === HEAD);
    this.answer = answer;
    this.waiting = new Waiting(context, res, verb, () => {});
  }

  /** Takes over a request whose key (in `context.key`) the vault has just called "cold" or "ended". */
  static begin(
    context: FrontContext,
    res: Res,
    req: Req,
    verb: number,
    state: Found["state"],
    answer: AnswerRead,
  ): void {
    const read = new ColdRead(context, res, req, verb, answer);
    read.waiting.begin();
    read.wait(state);
  }

  private wait(state: Found["state"]): void {
    const { vault } = this.context;
    if (state === "cold") vault.warm(this.again);
    else if (this.context.cluster !== null) setImmediate(this.again);
    else if (!vault.end(this.key, this.ended)) this.refuse("overloaded", "");
  }

  private readonly ended: WriteDone = ({ error, detail }) => {
    if (error === null) this.again();
    else this.refuse(error, detail);
  };

  private readonly refuse = (code: ErrorCode, detail: string): void => {
    const { context, res, verb } = this;
    this.waiting.resume(() =>
      context.meter.count(verb, sendError(res, code, { detail, head: verb === HEAD })),
    );
  };

  private readonly again = (): void => {
    if (this.waiting.isOpen) guarded(this.context, this.look, this.refuse);
  };

  private readonly look = (): void => {
    const { vault, meter } = this.context;
    const found = findPatiently(vault, this.key, ++this.reads);
    // On a node of a cluster one replica is asked: by its clock.
    if (found.state === "ended" && this.context.cluster !== null) found.state = "absent";
    if (found.state === "cold" || found.state === "ended") {
      this.wait(found.state);
      return;
    }
    meter.readTook(performance.now() - this.startMs);
    this.waiting.resume(() => this.answer(this.res, found, this.headers));
  };
}
