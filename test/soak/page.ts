/** docs/soak.md and its charts, made of what a soak has written down. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { type Machine, machineLine, ROOT } from "../../native-bench/machine.ts";
import { byteSize, shortNumber } from "../../native-bench/statistics.ts";
import { drawChart } from "../../native-bench/svg.ts";
import { type FigureName, type Sample, samplesOf } from "./samples.ts";
import { judge, type Row, VERDICT_MINUTES_MIN } from "./verdict.ts";

export const SAMPLES_FILE = "samples.csv";
export const RUN_FILE = "run.json";
const PAGE = path.join(ROOT, "docs/soak.md");
const CHARTS = path.join(ROOT, "docs/soak");
const WRONG_SHOWN_MAX = 20;
const MIB = 2 ** 20;

/** What a soak tells of itself beside its samples. */
export interface Run {
  machine: Machine;
  seed: number;
  minutes: number;
  everySeconds: number;
  flags: string[];
  /** How many there are of each kind. */
  clients: Record<"small" | "large" | "objects" | "watchers" | "followers", number>;
  answers: number;
  /** Name → how often. */
  did: Record<string, number>;
  faults: Record<string, number>;
  /** What was read, or answered, and should not have been; all of it. */
  wrong: string[];
  /** What the final look came to, a line each. */
  checks: string[];
}

interface Drawn {
  file: string;
  title: string;
  label: string;
  figure: FigureName;
  scale: number;
  logarithmic?: boolean;
}

const CHARTS_DRAWN: readonly Drawn[] = [
  { file: "memory.svg", title: "Resident memory", label: "MiB", figure: "rssBytes", scale: MIB },
  {
    file: "own.svg",
    title: "Memory of its own, without mapped files",
    label: "MiB",
    figure: "ownBytes",
    scale: MIB,
  },
  {
    file: "heap.svg",
    title: "JavaScript heap of the main thread",
    label: "MiB",
    figure: "heapBytes",
    scale: MIB,
  },
  {
    file: "descriptors.svg",
    title: "Open descriptors",
    label: "descriptors",
    figure: "descriptors",
    scale: 1,
  },
  { file: "disk.svg", title: "Data directory", label: "MiB on the disk", figure: "diskBytes", scale: MIB },
  ...(["get", "put"] as const).map((verb) => ({
    file: `${verb}-p99.svg`,
    title: `p99 of ${verb.toUpperCase()}s of small values`,
    label: "ms",
    figure: `${verb}P99Ms` as const,
    scale: 1,
    logarithmic: true,
  })),
];

const nameOf = (node: number): string => (node === 0 ? "worker 0, never killed" : `worker ${node}`);

function chartOf(samples: readonly Sample[], { title, label, figure, scale, logarithmic }: Drawn): string {
  const nodes = [...new Set(samples.map(({ node }) => node))].sort((a, b) => a - b);
  return drawChart({
    title,
    subtitle: "three workers under everything at once, with faults",
    x: { label: "minutes" },
    y: { label, ...(logarithmic ? { logarithmic } : {}) },
    series: nodes.map((node) => ({
      name: nameOf(node),
      points: samples
        .filter((sample) => sample.node === node)
        .map((sample) => [sample.seconds / 60, sample[figure] / scale] as const),
    })),
    marks: false,
  });
}

const UNITS: Partial<Record<FigureName, string>> = {
  rssBytes: "resident memory",
  ownBytes: "memory of its own (anonymous and shared)",
  heapBytes: "JavaScript heap",
  descriptors: "descriptors",
  diskBytes: "data directory",
};

function amount(figure: FigureName, value: number): string {
  if (!Number.isFinite(value)) return "–";
  const sign = value < 0 ? "−" : "";
  const most = Math.abs(value);
  return sign + (figure.endsWith("Bytes") ? byteSize(Math.round(most)) : shortNumber(most));
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [line(head), line(head.map(() => "---")), ...rows.map(line)].join("\n");
}

/** Kind → how often, over all nodes and times. */
function errorsOf(samples: readonly Sample[]): [string, number][] {
  const sums = new Map<string, number>();
  for (const { errors } of samples)
    for (const [kind, count] of Object.entries(errors)) sums.set(kind, (sums.get(kind) ?? 0) + count);
  return [...sums].sort(([, a], [, b]) => b - a);
}

/** In one line. */
export function verdictOf(run: Run, rows: readonly Row[]): string {
  const right = run.wrong.length === 0 ? "nothing wrong was read" : `${run.wrong.length} answers were wrong`;
  if (run.minutes < VERDICT_MINUTES_MIN)
    return `${right}; ${run.minutes} minutes are too short to tell whether anything grows (at least ${VERDICT_MINUTES_MIN})`;
  const growing = rows.filter(({ isFlat }) => !isFlat);
  const names = growing.map(({ figure, node }) => `${UNITS[figure]} of ${nameOf(node).split(",")[0]}`);
  return growing.length === 0
    ? `${right}; memory, descriptors and disk are flat`
    : `${right}; not flat: ${names.join(", ")}`;
}

/** The page as text. */
export function pageOf(run: Run, samples: readonly Sample[]): string {
  const rows = judge(samples);
  const { clients } = run;
  const counts = (some: Record<string, number>): string =>
    Object.entries(some)
      .map(([name, count]) => `${shortNumber(count)} ${name}`)
      .join(", ");
  const errors = errorsOf(samples);
  const parts = [
    "# A soak",
    "Everything at once on a master and three workers, with faults: what was acknowledged has to be read, and what a node holds must not grow. This page is made by `npm run soak -- --write`, or from the results of an earlier run by `npm run soak -- --page FOLDER`; its figures are those of that run.",
    `**${run.minutes} minutes, ${run.machine.time.slice(0, 10)}: ${verdictOf(run, rows)}.**`,
    `${machineLine(run.machine)}. Seed ${run.seed}. Workers with ${run.flags.map((flag) => `\`${flag}\``).join(", ")}.`,
    "## What runs",
    [
      `- ${clients.small} clients with keys of their own, some 250 each: GET, PUT, POST, DELETE, ends of life of 0.5 to 20 s, counters by \`PATCH\` with an \`Idempotency-Key\`, batches, lists with values, deletes by prefix; ${clients.large} clients with values of 1 to 6 MiB; ${clients.objects} by S3, with objects up to 200 KB and uploads in two parts. Each sends one request after the other to any worker that seems well.`,
      `- ${clients.watchers} watchers that come and go, ${clients.followers} followers that keep a copy by \`?changes\`; a backup of some worker from time to time, removed again.`,
      "- One fault at a time, the next one when all are well again: `kill -9` of worker 1 or 2, down for 1 to 12 s; SIGSTOP of any worker for 0.5 to 8 s; the master killed, down for 1 to 12 s. Worker 0 is never killed: its memory is the sum of all.",
      "- Keys are written by one client each, which knows what may be in them: what was acknowledged, or a write that nobody answered, each at most once. All bytes are compared. At the end every client reads everything at every worker, every follower's copy is compared with the list, and `minivault verify` reads the three data directories.",
    ].join("\n"),
    `${shortNumber(run.answers)} answers (with ${counts(run.did)}); faults: ${counts(run.faults)}.`,
    "## What was found",
    run.checks.map((check) => `- ${check}`).join("\n"),
    ...(run.wrong.length === 0
      ? []
      : [
          `Wrong, ${run.wrong.length} in all:`,
          `\`\`\`\n${run.wrong.slice(0, WRONG_SHOWN_MAX).join("\n")}\n\`\`\``,
        ]),
    `Refused, cut off or not answered in time while something was down, by kind: ${errors.length === 0 ? "none" : errors.map(([kind, count]) => `${kind} ${shortNumber(count)}`).join(", ")}.`,
    "## What grows",
    `Looked at every ${run.everySeconds} s. Growth is the slope over the second half (the median of the slopes between all pairs of samples) times its length; flat is at most 5 % of the median, or a floor for small figures. Memory and descriptors are judged at the worker that is never killed. Resident memory is not judged: mapped data files count there, which are page cache, so it follows the disk.`,
    table(
      ["figure", "node", "median", "growth over the second half", "flat is at most", "flat"],
      rows.map(({ figure, node, median, growth, growthMax, isFlat }) => [
        ...[UNITS[figure] ?? figure, `worker ${node}`, amount(figure, median)],
        ...[amount(figure, growth), growthMax === null ? "–" : amount(figure, growthMax)],
        growthMax === null
          ? "not judged"
          : run.minutes < VERDICT_MINUTES_MIN
            ? "too short to tell"
            : isFlat
              ? "yes"
              : "NO",
      ]),
    ),
    ...CHARTS_DRAWN.map(({ file, title }) => `![${title}](soak/${file})`),
    "All samples: [samples.csv](soak/samples.csv).",
  ];
  return `${parts.join("\n\n")}\n`;
}

export function readRun(folder: string): { run: Run; samples: Sample[] } {
  return {
    run: JSON.parse(readFileSync(path.join(folder, RUN_FILE), "utf8")) as Run,
    samples: samplesOf(readFileSync(path.join(folder, SAMPLES_FILE), "utf8")),
  };
}

/** The charts of a run into a folder. */
export function writeCharts(samples: readonly Sample[], folder: string): void {
  mkdirSync(folder, { recursive: true });
  for (const drawn of CHARTS_DRAWN) writeFileSync(path.join(folder, drawn.file), chartOf(samples, drawn));
}

/** docs/soak.md and docs/soak, from a folder of results. */
export function writePage(folder: string): void {
  const { run, samples } = readRun(folder);
  writeCharts(samples, CHARTS);
  for (const file of [SAMPLES_FILE, RUN_FILE])
    writeFileSync(path.join(CHARTS, file), readFileSync(path.join(folder, file)));
  writeFileSync(PAGE, pageOf(run, samples));
}
