/**
 * Processor time that a process has used, by the kernel's account (Linux only). On a machine with other work, time per request says more
 * than requests per time: waiting for a core does not count.
 */
import { readdirSync, readFileSync } from "node:fs";

/** Seconds of processor time. */
export interface CpuTime {
  /** Of the main thread: the HTTP front. */
  front: number;
  /** Of all other threads: shards, and what Node runs besides. */
  others: number;
}

/** Reads what a process has used so far; null where the kernel does not say. */
export function cpuTimeOf(pid: number): CpuTime | null {
  const time: CpuTime = { front: 0, others: 0 };
  try {
    for (const thread of readdirSync(`/proc/${pid}/task`)) {
      const [nanoseconds] = readFileSync(`/proc/${pid}/task/${thread}/schedstat`, "utf8").split(" ");
      time[Number(thread) === pid ? "front" : "others"] += Number(nanoseconds) / 1e9;
    }
    return time;
  } catch {
    return null;
  }
}

/** Processor time for one of `requests`, between two readings; NaN where a reading is missing. */
export function cpuPerRequest(before: CpuTime | null, after: CpuTime | null, requests: number): CpuTime {
  if (before === null || after === null) return { front: Number.NaN, others: Number.NaN };
  return {
    front: (after.front - before.front) / requests,
    others: (after.others - before.others) / requests,
  };
}
