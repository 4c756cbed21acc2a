/** One request and its answer, which comes whole. */
import { ANSWER_HEADER } from "../../auth/answer.ts";

/** Largest answer that is taken into memory. */
const ANSWER_BYTES_MAX = 64 * 1024 * 1024;

export type Method = "GET" | "POST" | "PUT";

/** What becomes of an exchange: exactly one of `answered` and `failed` is called, later. */
export interface ExchangeHandler {
  /** It is being written to a connection now. */
  sent?(): void;
  answered(status: number, body: Buffer): void;
  failed(error: Error, sent: boolean): void;
}

/** A request that failed before its answer was complete. */
export class ExchangeError extends Error {
  /** false: the node surely saw nothing of it. */
  readonly sent: boolean;
  constructor(cause: Error, sent: boolean) {
    super(reasonOf(cause), { cause });
    this.sent = sent;
  }
}

export interface NodeAnswer {
  status: number;
  body: Buffer;
}

/** What went wrong, in a few words: connecting to several addresses fails with an error that has none. */
export function reasonOf(error: Error): string {
  if (error.message !== "") return error.message;
  const first = (error as AggregateError).errors?.[0] as Error | undefined;
  return first?.message ?? (error as NodeJS.ErrnoException).code ?? error.name;
}

/** As undici has them. */
type AnswerHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** What signs an answer; empty: nothing does. */
export function signatureOf(headers: AnswerHeaders): string {
  return String(headers[ANSWER_HEADER] ?? "");
}

/** What ends an exchange that is under way. */
interface Controller {
  abort(why: Error): void;
}

/** What Exchange tells: as ExchangeHandler, with the header that signs the answer. */
interface RawHandler {
  sent: (() => void) | undefined;
  answered(status: number, body: Buffer, header: string): void;
  failed(error: Error, sent: boolean): void;
}

/** One exchange, as undici calls it back (its DispatchHandler). */
export class Exchange {
  private readonly handler: RawHandler;
  private controller: Controller | null = null;
  private status = 0;
  private header = "";
  private pieces: Buffer[] = [];
  private bytes = 0;
  private over = false;

  constructor(handler: RawHandler) {
    this.handler = handler;
  }

  onRequestStart(controller: Controller): void {
    if (this.over) {
      controller.abort(new Error("cancelled"));
      return;
    }
    this.controller = controller;
    this.handler.sent?.();
  }

  onResponseStart(_controller: Controller, status: number, headers: AnswerHeaders): void {
    this.status = status;
    this.header = signatureOf(headers);
  }

  onResponseData(controller: Controller, piece: Buffer): void {
    this.pieces.push(piece);
    this.bytes += piece.length;
    if (this.bytes > ANSWER_BYTES_MAX) controller.abort(new Error("the answer is too long"));
  }

  onResponseEnd(): void {
    if (this.over) return;
    this.over = true;
    const body = this.pieces.length === 1 ? this.pieces[0] : Buffer.concat(this.pieces, this.bytes);
    this.handler.answered(this.status, body, this.header);
  }

  onResponseError(_controller: Controller, error: Error): void {
    this.fail(error);
  }

  /** Waits for a connection, or is on its way: it is over in any case. */
  cancel(why: Error): void {
    if (this.over) return;
    this.fail(why);
    this.controller?.abort(why);
  }

  private fail(error: Error): void {
    if (this.over) return;
    this.over = true;
    this.handler.failed(error, this.controller !== null);
  }
}
