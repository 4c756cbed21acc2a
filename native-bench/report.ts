/** Tables for a terminal and for Markdown, and the files below docs/bench. */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { type Machine, machineLine, ROOT } from "./machine.ts";

export interface Table {
  title: string;
  columns: readonly string[];
  rows: readonly (readonly string[])[];
}

export const BENCH_FOLDER = path.join(ROOT, "docs/bench");

/** A table as aligned text; the first column to the left, the others to the right. */
export function textTable({ title, columns, rows }: Table): string {
  const widths = columns.map((name, column) =>
    Math.max(name.length, ...rows.map((row) => row[column].length)),
  );
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[column])))
      .join("  ")
      .trimEnd();
  return [title, line(columns), line(widths.map((width) => "-".repeat(width))), ...rows.map(line)].join("\n");
}

export function markdownTable({ title, columns, rows }: Table): string {
  const line = (cells: readonly string[]) => `| ${cells.join(" | ")} |`;
  const rule = columns.map((_, column) => (column === 0 ? "---" : "---:"));
  return [`### ${title}`, "", line(columns), line(rule), ...rows.map(line)].join("\n");
}

export interface Report {
  /** File name without extension. */
  name: string;
  title: string;
  machine: Machine;
  /** Sentences that a reader of the figures needs. */
  notes: readonly string[];
  tables: readonly Table[];
  /** Everything measured, for machines. */
  data: unknown;
}

export function printReport({ title, machine, notes, tables }: Report): void {
  console.log([title, machineLine(machine), ...notes].join("\n"));
  for (const table of tables) console.log(`\n${textTable(table)}`);
}

/** Writes docs/bench/<name>.json and .md. Answers their paths. */
export function writeReport(report: Report): string[] {
  const { name, title, machine, notes, tables, data } = report;
  mkdirSync(BENCH_FOLDER, { recursive: true });
  const json = path.join(BENCH_FOLDER, `${name}.json`);
  const markdown = path.join(BENCH_FOLDER, `${name}.md`);
  writeFileSync(json, `${JSON.stringify({ title, machine, notes, tables, data }, null, 2)}\n`);
  const parts = [
    `# ${title}`,
    `Measured ${machine.time} on: ${machineLine(machine)}.`,
    notes.map((note) => `- ${note}`).join("\n"),
    ...tables.map(markdownTable),
  ];
  writeFileSync(markdown, `${parts.join("\n\n")}\n`);
  return [json, markdown];
}

/**
 * Runs a benchmark as a program: prints its report, writes it where that is asked for, and ends the process.
 * A run with failures is not written, and ends with status 1.
 * @param alsoWrite what is made of it beside; answers paths
 */
export function runBench<Options extends { write: boolean }>(
  options: Options,
  bench: (options: Options) => Promise<Report & { failures?: number }>,
  alsoWrite: () => string[] = () => [],
): void {
  const run = async (): Promise<void> => {
    const { failures = 0, ...report } = await bench(options);
    printReport(report);
    if (failures > 0) {
      console.error(
        `\nFAILED: ${failures} request(s) were not answered as they should be: nothing is written`,
      );
      process.exit(1);
    }
    if (options.write) console.log(`\nwritten: ${[...writeReport(report), ...alsoWrite()].join(", ")}`);
  };
  run().then(
    () => process.exit(process.exitCode ?? 0),
    (error) => {
      console.error(error);
      process.exit(1);
    },
  );
}
