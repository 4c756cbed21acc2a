/**
 * What runs in a hashing thread: sums up what a front puts into slots, a piece of each in turn, and sleeps
 * while there is nothing. It is ended from outside; it holds nothing that would have to be saved.
 */
import { createHash } from "node:crypto";
import { type MessagePort, parentPort, workerData } from "node:worker_threads";
import { type Checksum, createChecksum } from "../checksum/checksum.ts";
import {
  ABANDONED,
  ENDED,
  FREE,
  type HashedMessage,
  type HashThreadTask,
  NO_SLOT,
  SIGNAL_WORD,
  SlotMemory,
} from "./slots.ts";

/** So much of a body is summed up before it is the next one's turn. */
const TURN_BYTES = 256 * 1024;

/** The sums of one body, as far as they are. */
interface Summing {
  md5: Checksum | null;
  sha256: Checksum | null;
  checksum: Checksum | null;
  bytes: number;
}

function run({ words, bodies }: HashThreadTask, port: MessagePort): void {
  const memory = new SlotMemory(words, bodies);
  const under: (Summing | null)[] = Array.from({ length: memory.count }, () => null);
  const tell = (message: HashedMessage): void => port.postMessage(message);
  tell({ slot: NO_SLOT, sums: { md5: null, sha256: null, checksum: null } });
  for (;;) {
    const seen = Atomics.load(memory.words, SIGNAL_WORD);
    let isIdle = true;
    for (let slot = 0; slot < memory.count; slot++) if (step(memory, under, slot, tell)) isIdle = false;
    if (isIdle) Atomics.wait(memory.words, SIGNAL_WORD, seen);
  }
}

/** Does what there is to do for a slot now; false: nothing. */
function step(
  memory: SlotMemory,
  under: (Summing | null)[],
  slot: number,
  tell: (message: HashedMessage) => void,
): boolean {
  const state = memory.state(slot);
  if (state === FREE) return false;
  if (state === ABANDONED) {
    under[slot] = null;
    memory.setState(slot, FREE);
    return true;
  }
  const bytes = memory.bytes(slot);
  const summing = under[slot] ?? begin(memory, slot);
  under[slot] = summing;
  const end = Math.min(bytes, summing.bytes + TURN_BYTES);
  const isMoving = end > summing.bytes;
  if (isMoving) {
    const piece = memory.body(slot).subarray(summing.bytes, end);
    summing.md5?.update(piece);
    summing.sha256?.update(piece);
    summing.checksum?.update(piece);
    summing.bytes = end;
  }
  if (state !== ENDED || end < bytes) return isMoving;
  const { md5, sha256, checksum } = summing;
  under[slot] = null;
  memory.setState(slot, FREE);
  tell({
    slot,
    sums: {
      md5: md5?.digest() ?? null,
      sha256: sha256?.digest() ?? null,
      checksum: checksum?.digest() ?? null,
    },
  });
  return true;
}

function begin(memory: SlotMemory, slot: number): Summing {
  const { md5, sha256, checksum } = memory.wanted(slot);
  return {
    md5: md5 ? createHash("md5") : null,
    sha256: sha256 ? createHash("sha256") : null,
    checksum: checksum === null ? null : createChecksum(checksum),
    bytes: 0,
  };
}

if (parentPort !== null) run(workerData as HashThreadTask, parentPort);
