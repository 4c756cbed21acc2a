/**
 * The audit file (`-audit`): a line of JSON for each write and each refusal, in the order in which they were
 * answered.
 *
 *   {"time":"…","token":"name"|null,"client":"10.0.0.7","method":"PUT","path":"/a/b","status":201}
 *
 * and `forwardedFor` where X-Forwarded-For was sent.
 *
 * What happens in one turn of the event loop is written at its end, with one call: a process that is killed
 * loses that much. Every write appends whole lines, so several threads, and what rotates logs, share the
 * file. What cannot be written is counted, said in the log, and noted in the file when it can be again; it
 * never keeps a request from its answer.
 */
import { closeSync, constants, openSync, writeSync } from "node:fs";
import { sentenceOf } from "../../platform/system-error.ts";
import type { FrontLog } from "../http/context.ts";

/** What is gathered before it is written at once. */
const GATHERED_CHARACTERS_MAX = 1024 * 1024;
/** Between two complaints in the log. */
const COMPLAINT_MS = 1000;
const LINE_FEED = 0x0a;
const { O_APPEND, O_CREAT, O_WRONLY, O_NONBLOCK } = constants;

/** Where a request comes from. */
export interface Sender {
  /** Address of the other end of the connection. */
  client: string;
  /** What X-Forwarded-For says: as true as whoever has sent it; empty: nothing. */
  forwardedFor: string;
}

export interface Audit {
  /**
   * @param token whose it was; null: nobody's
   * @param path as it was sent
   * @param status 0: the client had gone before its answer
   */
  note(token: string | null, sender: Sender, method: string, path: string, status: number): void;
}

export class AuditFile implements Audit {
  private readonly file: string;
  private readonly log: FrontLog;
  private fd: number;
  private text = "";
  private lines = 0;
  private lost = 0;
  /** A write took only a part of what it was given. */
  private torn = false;
  private complainedMs = Number.NEGATIVE_INFINITY;
  private isDue = false;

  /** @throws Error of the system when the file cannot be opened */
  constructor(file: string, log: FrontLog) {
    this.file = file;
    this.log = log;
    this.fd = openAudit(file);
  }

  note(
    token: string | null,
    { client, forwardedFor }: Sender,
    method: string,
    path: string,
    status: number,
  ): void {
    const forwarded = forwardedFor === "" ? {} : { forwardedFor };
    const time = new Date().toISOString();
    this.text += `${JSON.stringify({ time, token, client, ...forwarded, method, path, status })}\n`;
    this.lines++;
    if (this.text.length > GATHERED_CHARACTERS_MAX) this.flush();
    if (this.isDue) return;
    this.isDue = true;
    setImmediate(() => {
      this.isDue = false;
      this.flush();
    });
  }

  /** Opens the file again by its name: it may have been moved away. */
  reopen(): void {
    this.flush();
    try {
      const fresh = openAudit(this.file);
      closeSync(this.fd);
      this.fd = fresh;
    } catch (error) {
      this.complain(error);
    }
  }

  close(): void {
    this.flush();
    closeSync(this.fd);
  }

  private flush(): void {
    const { lines } = this;
    if (lines === 0) return;
    const missing =
      this.lost === 0 ? "" : `${JSON.stringify({ time: new Date().toISOString(), lost: this.lost })}\n`;
    const before = Buffer.from(`${this.torn ? "\n" : ""}${missing}`);
    const bytes = Buffer.concat([before, Buffer.from(this.text)]);
    this.text = "";
    this.lines = 0;
    let written = 0;
    try {
      while (written < bytes.length) written += writeSync(this.fd, bytes, written);
      this.lost = 0;
      this.torn = false;
    } catch (error) {
      // What came before it stopped is there, but for the line in which it did.
      if (written > 0) this.torn = bytes[written - 1] !== LINE_FEED;
      this.lost = written < before.length ? this.lost + lines : linesIn(bytes.subarray(written));
      this.complain(error);
    }
  }

  private complain(error: unknown): void {
    const nowMs = performance.now();
    if (nowMs - this.complainedMs < COMPLAINT_MS) return;
    this.complainedMs = nowMs;
    this.log.error(
      { file: this.file, lost: this.lost, reason: sentenceOf(error as Error) },
      "the audit file cannot be written",
    );
  }
}

function linesIn(bytes: Uint8Array): number {
  let count = 0;
  for (const byte of bytes) if (byte === LINE_FEED) count++;
  return count;
}

/** A pipe is not waited for: what nobody takes from it is lost. */
function openAudit(file: string): number {
  return openSync(file, O_WRONLY | O_APPEND | O_CREAT | O_NONBLOCK, 0o600);
}
