/** A response with more to do at two moments of its answer, whoever answers, and whenever. */

import { NOTHING } from "../../util/bytes.ts";
import type { Res, Text } from "../http/http.ts";

export interface Hooks {
  /** The status is written: more headers may follow it. */
  afterStatus?(status: Text): void;
  /** What is written as a header's value. */
  header?(name: Text, value: Text): Text;
  /** The headers are complete but for more of ours; this whole body comes next. */
  beforeBody?(body: Text): void;
  /** The client has gone before the answer was complete. */
  aborted?(): void;
}

/** The number at the start of a status line. */
export function statusOf(line: Text): number {
  if (typeof line === "string") return Number.parseInt(line, 10);
  const bytes = line instanceof ArrayBuffer ? new Uint8Array(line) : line;
  return Number.parseInt(String.fromCharCode(bytes[0], bytes[1], bytes[2]), 10);
}

export class HookedRes implements Res {
  private readonly res: Res;
  private readonly hooks: Hooks;
  private isBodyTold = false;

  constructor(res: Res, hooks: Hooks) {
    this.res = res;
    this.hooks = hooks;
  }

  writeStatus(status: Text): Res {
    this.res.writeStatus(status);
    this.hooks.afterStatus?.(status);
    return this;
  }

  writeHeader(name: Text, value: Text): Res {
    this.res.writeHeader(name, this.hooks.header?.(name, value) ?? value);
    return this;
  }

  beforeBody(body: Text): void {
    if (this.isBodyTold) return;
    this.isBodyTold = true;
    this.hooks.beforeBody?.(body);
    this.res.beforeBody?.(body);
  }

  end(body?: Text, closeConnection?: boolean): Res {
    this.beforeBody(body ?? NOTHING);
    this.res.end(body, closeConnection);
    return this;
  }

  endWithoutBody(): Res {
    this.res.endWithoutBody();
    return this;
  }

  tryEnd(piece: Uint8Array, totalBytes: number): [boolean, boolean] {
    return this.res.tryEnd(piece, totalBytes);
  }

  write(piece: Text): boolean {
    return this.res.write(piece);
  }

  getWriteOffset(): number {
    return this.res.getWriteOffset();
  }

  onWritable(handler: (bodyOffset: number) => boolean): Res {
    this.res.onWritable(handler);
    return this;
  }

  onAborted(handler: () => void): Res {
    const { aborted } = this.hooks;
    const both = (): void => {
      aborted?.();
      handler();
    };
    this.res.onAborted(aborted === undefined ? handler : both);
    return this;
  }

  onData(handler: (chunk: ArrayBuffer, last: boolean) => void): Res {
    this.res.onData(handler);
    return this;
  }

  cork(write: () => void): Res {
    this.res.cork(write);
    return this;
  }

  pause(): void {
    this.res.pause();
  }

  resume(): void {
    this.res.resume();
  }

  getRemoteAddressAsText(): ArrayBuffer {
    return this.res.getRemoteAddressAsText();
  }

  close(): Res {
    this.res.close();
    return this;
  }
}
