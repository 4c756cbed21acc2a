/**
 * The table in docs/benchmarks.md, made from docs/bench/peers.json between two markers, so that its figures are those that were measured.
 *
 *   node --import tsx native-bench/page.ts       fills it again
 */
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { type Machine, machineLine, ROOT } from "./machine.ts";
import { BENCH_FOLDER, markdownTable, type Table } from "./report.ts";

const BEGIN = "<!-- bench:peers -->";
const END = "<!-- /bench:peers -->";
const PAGE = path.join(ROOT, "docs/benchmarks.md");

export interface Written {
  machine: Machine;
  notes: string[];
  tables: Table[];
}

/** What stands between the markers. */
export function benchBlock({ machine, notes, tables }: Written, hasChart: boolean): string {
  const parts = [
    `Measured by \`npm run bench:peers\`, ${machine.time.slice(0, 10)}: ${machineLine(machine)}. ${notes.map((note) => `${note[0].toUpperCase()}${note.slice(1)}.`).join(" ")}`,
    ...tables.map((table) => markdownTable(table).split("\n").slice(2).join("\n")),
  ];
  if (hasChart) parts.push("![Throughput by connections](bench/throughput.svg)");
  return `${BEGIN}\n${parts.join("\n\n")}\n${END}`;
}

/** The text with its block replaced. Throws when the markers are not there. */
export function withBlock(text: string, block: string): string {
  const from = text.indexOf(BEGIN);
  const to = text.indexOf(END);
  if (from < 0 || to < from) throw new Error(`docs/benchmarks.md has no ${BEGIN} … ${END}`);
  return text.slice(0, from) + block + text.slice(to + END.length);
}

/** docs/benchmarks.md as the written measurements make it; null when there are none. */
export function expectedPage(): { now: string; expected: string } | null {
  const file = path.join(BENCH_FOLDER, "peers.json");
  if (!existsSync(file)) return null;
  const now = readFileSync(PAGE, "utf8");
  const written = JSON.parse(readFileSync(file, "utf8")) as Written;
  return {
    now,
    expected: withBlock(now, benchBlock(written, existsSync(path.join(BENCH_FOLDER, "throughput.svg")))),
  };
}

/** Fills docs/benchmarks.md; does nothing when there are no measurements. */
export function fillPage(): void {
  const text = expectedPage();
  if (text !== null && text.now !== text.expected) writeFileSync(PAGE, text.expected);
}

if (require.main === module) fillPage();
