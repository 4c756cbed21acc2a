/**
 * Memory of another process, from Linux' /proc.
 *
 * RSS has three parts. RssFile is mapped files: minivault maps its slabs, so every page of them that was read lately counts there, but it
 * is page cache, which the kernel takes back whenever somebody else needs memory. What a process keeps for itself is RssAnon (heap,
 * buffers) and RssShmem (shared memory). The limits of the tests are on those two; the figures are all printed.
 */
import fs from "node:fs";

export interface ProcessMemory {
  rss: number;
  anon: number;
  file: number;
  shmem: number;
  /** anon + shmem */
  own: number;
}

export const hasProc = fs.existsSync("/proc/self/status");

/** In bytes. Linux only. */
export function processMemory(pid: number): ProcessMemory {
  const status = fs.readFileSync(`/proc/${pid}/status`, "utf8");
  const figure = (name: string) =>
    Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(status)?.[1] ?? Number.NaN) * 1024;
  const [rss, anon, file, shmem] = ["VmRSS", "RssAnon", "RssFile", "RssShmem"].map(figure);
  return { rss, anon, file, shmem, own: anon + shmem };
}

/** Samples the memory until `stop`, and keeps each figure's highest value. */
export function watchMemory(pid: number, everyMs = 20): { start: ProcessMemory; stop(): ProcessMemory } {
  const start = processMemory(pid);
  const peak = { ...start };
  const look = () => {
    let now: ProcessMemory;
    try {
      now = processMemory(pid);
    } catch (error) {
      // A command may have ended before whoever waits for it stops the watch.
      if (["ENOENT", "ESRCH"].includes((error as NodeJS.ErrnoException).code ?? "")) return;
      throw error;
    }
    // What has ended and was not waited for yet has no memory.
    if (Number.isNaN(now.own)) return;
    for (const name of Object.keys(peak) as (keyof ProcessMemory)[])
      peak[name] = Math.max(peak[name], now[name]);
  };
  const timer = setInterval(look, everyMs);
  return {
    start,
    stop() {
      clearInterval(timer);
      look();
      return peak;
    },
  };
}

/** One line with all figures, in MiB. */
export function memoryLine(start: ProcessMemory, peak: ProcessMemory): string {
  const mib = (bytes: number) => Math.round(bytes / 2 ** 20);
  return (["own", "anon", "shmem", "file", "rss"] as const)
    .map((name) => `${name} ${mib(start[name])} -> ${mib(peak[name])} (+${mib(peak[name] - start[name])})`)
    .join(", ");
}

/** Ticks a second of the times in /proc, on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;

/** Processor time that a process has taken so far, over all its threads, in milliseconds. Linux only. */
export function processorMs(pid: number): number {
  // The name, in parentheses, may hold spaces; user and system time are fields 14 and 15.
  const fields = fs.readFileSync(`/proc/${pid}/stat`, "utf8").split(") ")[1].split(" ");
  return ((Number(fields[11]) + Number(fields[12])) * 1000) / TICKS_PER_SECOND;
}

/** Files that this process, and one that it starts, may open. Node raises its own limit to the hard one. */
export function filesMax(): number {
  const line = /^Max open files\s+\S+\s+(\S+)/m.exec(fs.readFileSync("/proc/self/limits", "utf8"));
  return line?.[1] === "unlimited" ? Number.POSITIVE_INFINITY : Number(line?.[1]);
}
