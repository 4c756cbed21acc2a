/** Which partitions are asked for together when digests are compared. */
import { digestPartitionsMax } from "../wire/repair-wire.ts";

/** What lies between two partitions is told, too: beyond so much another question is cheaper. */
const GAP_MAX = 64;

/** The same of so many partitions, which are in order, those together of which one answer can tell. */
export function digestWindows(some: readonly number[], partitions: number): number[][] {
  const windows: number[][] = [];
  const most = digestPartitionsMax(partitions);
  let before = Number.NEGATIVE_INFINITY;
  for (const partition of some) {
    const last = windows.at(-1);
    if (last !== undefined && partition < last[0] + most && partition - before <= GAP_MAX)
      last.push(partition);
    else windows.push([partition]);
    before = partition;
  }
  return windows;
}
