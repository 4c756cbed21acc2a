/** Figures of the process, under the names that Prometheus' own clients give them. */
import { readdirSync, readFileSync } from "node:fs";
import type { Figure, Metric } from "./figure.ts";

/** Read once for all figures of a scrape, or of a document. */
export interface ProcessFigures {
  memory: NodeJS.MemoryUsage;
  cpu: NodeJS.CpuUsage;
}

let memory = process.memoryUsage();

/** Where the memory cannot be asked for, since /proc takes a descriptor and none is free: what it was. */
export function readProcess(): ProcessFigures {
  try {
    memory = process.memoryUsage();
  } catch {}
  return { memory, cpu: process.cpuUsage() };
}

const MICROS_PER_SECOND = 1e6;
const MS_PER_SECOND = 1000;

/**
 * When the process began, in seconds since 1970. Each thread would find another fraction of a millisecond,
 * which looks like a restart: the main one tells the others.
 */
export const processStart = { seconds: (Date.now() - process.uptime() * MS_PER_SECOND) / MS_PER_SECOND };

/** Nothing where the system has no /proc. */
function openDescriptors(): readonly { value: number }[] {
  try {
    return [{ value: readdirSync("/proc/self/fd").length }];
  } catch {
    return [];
  }
}

function maxDescriptors(): readonly { value: number }[] {
  try {
    const match = /^Max open files\s+(\d+)/m.exec(readFileSync("/proc/self/limits", "latin1"));
    return match === null ? [] : [{ value: Number(match[1]) }];
  } catch {
    return [];
  }
}

const gauge = (
  name: string,
  help: string,
  samples: (from: ProcessFigures) => ReturnType<NonNullable<Metric<unknown>["samples"]>>,
): Metric<ProcessFigures> => ({ name, kind: "gauge", help, samples });

export const PROCESS_FIGURES: readonly Figure<ProcessFigures>[] = [
  {
    stats: "memory.rss",
    value: ({ memory }) => memory.rss,
    metric: gauge("process_resident_memory_bytes", "Resident memory.", ({ memory }) => memory.rss),
  },
  {
    stats: "memory.heapTotal",
    value: ({ memory }) => memory.heapTotal,
    metric: gauge("nodejs_heap_size_total_bytes", "Heap of the front.", ({ memory }) => memory.heapTotal),
  },
  {
    stats: "memory.heapUsed",
    value: ({ memory }) => memory.heapUsed,
    metric: gauge("nodejs_heap_size_used_bytes", "Heap in use.", ({ memory }) => memory.heapUsed),
  },
  {
    stats: "memory.external",
    value: ({ memory }) => memory.external,
    metric: gauge(
      "nodejs_external_memory_bytes",
      "Memory outside the heap.",
      ({ memory }) => memory.external,
    ),
  },
  {
    stats: "memory.arrayBuffers",
    value: ({ memory }) => memory.arrayBuffers,
    metric: gauge("nodejs_array_buffers_bytes", "Memory of buffers.", ({ memory }) => memory.arrayBuffers),
  },
  {
    metric: {
      name: "process_cpu_seconds_total",
      kind: "counter",
      help: "Processor time of all threads, of the program and of the kernel for it.",
      samples: ({ cpu }) => (cpu.user + cpu.system) / MICROS_PER_SECOND,
    },
  },
  {
    metric: gauge(
      "process_start_time_seconds",
      "When the process began, in seconds since 1970.",
      () => processStart.seconds,
    ),
  },
  { metric: gauge("process_open_fds", "Open descriptors.", openDescriptors) },
  { metric: gauge("process_max_fds", "Descriptors that may be open.", maxDescriptors) },
];
