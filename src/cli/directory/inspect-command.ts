/**
 * `minivault inspect FILE`: prints what is in one file of a data directory, damaged or not.
 */
import { existsSync, statSync } from "node:fs";
import { UsageError } from "../../config/values.ts";
import { type Item, inspectFile } from "../../engine/check/inspect.ts";
import { UNIT_BYTES } from "../../format/offsets.ts";
import { loadHash } from "../../util/hash.ts";
import type { Subcommand } from "../subcommand/subcommand.ts";

export const INSPECT: Subcommand = {
  name: "inspect",
  operands: "FILE",
  summary: "Prints what is in a slab, a run of keys, a snapshot, STORE, BACKUP, CLUSTER or CATALOG.",
  more: `Of a slab: its header, each record (byte, type, key, lengths, ballot, operation, checksum good or bad, a manifest's chunks), table and footer.
Checksums of records are judged with the STORE file two folders up. Nothing is changed and no lock is taken: a slab that a node is writing may end in
half a record.

Exit status: 0 sound; 1 something is damaged; 2 used wrongly, or no file of minivault.`,
  operandsMin: 1,
  operandsMax: 1,
  flags: [],
  switches: { json: "print one JSON object a line" },
  async run({ operands: [file], switches }, terminal) {
    if (!existsSync(file) || !statSync(file).isFile()) throw new UsageError(`${file} is no file`);
    await loadHash();
    let status = 0;
    const items = inspectFile(file);
    for (let step = items.next(); ; step = items.next()) {
      if (step.done === true) {
        if (!step.value) throw new UsageError(`${file} is no file of minivault`);
        return status;
      }
      if (step.value.problem !== undefined) status = 1;
      terminal.out(`${switches.has("json") ? JSON.stringify(step.value) : lineOf(step.value)}\n`);
    }
  },
};

function lineOf({ what, offset, problem, text, manifest, ...members }: Item): string {
  const where = offset === undefined ? "" : `${String(offset).padStart(8)}  `;
  const rest = Object.entries(members).map(([name, value]) => `${name} ${JSON.stringify(value)}`);
  if (text !== undefined) rest.push(String(text));
  if (problem !== undefined) rest.push(`DAMAGED: ${problem}`);
  const { chunks = [] } = (manifest ?? {}) as {
    chunks?: { sequence: number; unit: number; bytes: number }[];
  };
  const lines = chunks.map(
    (chunk, i) =>
      `            chunk ${i}: slab ${chunk.sequence}, byte ${chunk.unit * UNIT_BYTES}, ${chunk.bytes} bytes`,
  );
  return [`${where}${what.padEnd(9)} ${rest.join(", ")}`, ...lines].join("\n");
}
