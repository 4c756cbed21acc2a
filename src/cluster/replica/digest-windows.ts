/** Which partitions are asked for together when digests are compared. */
import { DIGEST_PARTITIONS_MAX } from "../wire/repair-wire.ts";

/** The same partitions, which are in order, those together of which one answer can tell. */
export function digestWindows(partitions: readonly number[]): number[][] {
  const windows: number[][] = [];
  for (const partition of partitions) {
    const last = windows.at(-1);
    if (last !== undefined && partition < last[0] + DIGEST_PARTITIONS_MAX) last.push(partition);
    else windows.push([partition]);
  }
  return windows;
}
