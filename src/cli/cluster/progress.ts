/** Watching a change of the layout from the command line: how far it is, until it is over. */
import { setTimeout as sleep } from "node:timers/promises";
import type { Terminal } from "../subcommand/subcommand.ts";
import type { LayoutAnswer, Master } from "./master-client.ts";

const WATCH_MS = 500;
/** A master that does not answer for so long is given up. */
const WATCH_SILENCE_MS = 30_000;
/** Progress is written as lines, where it cannot be drawn over, this often. */
const LINE_MS = 2000;

/** Asks again and again until it is over; answers what was said last. */
export async function watch(
  master: Master,
  first: LayoutAnswer,
  terminal: Terminal,
  { isOver, text }: { isOver: (answer: LayoutAnswer) => boolean; text: (answer: LayoutAnswer) => string },
): Promise<LayoutAnswer> {
  const show = progressLine(terminal);
  let answer = first;
  let heardMs = performance.now();
  while (!isOver(answer)) {
    show(text(answer), false);
    await sleep(WATCH_MS);
    try {
      answer = await master.ask<LayoutAnswer>("GET", "/layout");
      heardMs = performance.now();
    } catch (error) {
      if (performance.now() - heardMs > WATCH_SILENCE_MS) throw error;
      show(`${(error as Error).message}; trying again`, false);
    }
  }
  show("", true);
  return answer;
}

/** How far a move is. */
export function moveText(move: NonNullable<LayoutAnswer["move"]>): string {
  const percent = move.total === 0 ? 100 : Math.floor((move.done / move.total) * 100);
  const slow = move.workers.filter((worker) => worker.done < worker.total);
  const names = slow.length > 3 ? `${slow.length} workers` : slow.map((worker) => worker.url).join(", ");
  const rest = names === "" ? "" : `; waiting for ${names}`;
  return `epoch ${move.epoch}: ${move.done} of ${move.total} copies of partitions synchronised (${percent} %)${rest}`;
}

/** Draws over itself on a terminal; elsewhere a line when something has changed. */
function progressLine({ err, isTerminal }: Terminal): (text: string, isLast: boolean) => void {
  let shown = "";
  let shownMs = Number.NEGATIVE_INFINITY;
  return (text, isLast) => {
    if (isTerminal) {
      err(`\r\u001b[K${text}`);
      return;
    }
    if (isLast || text === shown || performance.now() - shownMs < LINE_MS) return;
    shown = text;
    shownMs = performance.now();
    err(`${text}\n`);
  };
}
