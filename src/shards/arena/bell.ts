/**
 * Wakes a thread that sleeps until others have written something, and costs them a word to look at while it
 * does not: the sleeper sets the word, looks once more, and sleeps; whoever has written and finds the word
 * set resets it and sends a message.
 */
import { MessageChannel, type MessagePort } from "node:worker_threads";
import { Flag } from "./arena.ts";

/** One of the two ends, to be transferred with its port. */
export interface BellEnd {
  /** Int32: 1 while the sleeper sleeps; of all ends of a bell together. */
  word: SharedArrayBuffer;
  port: MessagePort;
}

/** A bell with so many ropes: who rings, and who hears them all. */
export function createBell(ropes: number): { ropes: BellEnd[]; heard: BellEnd[] } {
  const word = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
  const channels = Array.from({ length: ropes }, () => new MessageChannel());
  return {
    ropes: channels.map(({ port1: port }) => ({ word, port })),
    heard: channels.map(({ port2: port }) => ({ word, port })),
  };
}

export class Rope {
  private readonly flag: Flag;
  private readonly port: MessagePort;

  constructor({ word, port }: BellEnd) {
    this.flag = new Flag(word, 0);
    this.port = port;
  }

  /** To be called after what was written can be seen. */
  ring(): void {
    if (this.flag.reset()) this.port.postMessage(null);
  }

  close(): void {
    this.port.close();
  }
}

export class Bell {
  private readonly flag: Flag;
  private readonly ports: readonly MessagePort[];

  /** @param ends of all ropes, which have one word */
  constructor(ends: readonly BellEnd[], onRing: () => void) {
    this.flag = new Flag(ends[0].word, 0);
    this.ports = ends.map(({ port }) => port);
    for (const port of this.ports) port.on("message", onRing);
  }

  /** From now on the first one to write rings. What was written before is to be looked for after this. */
  listen(): void {
    this.flag.set();
  }

  /** Nobody needs to ring; one that does so all the same is late. */
  ignore(): void {
    this.flag.reset();
  }

  close(): void {
    for (const port of this.ports) port.close();
  }
}
