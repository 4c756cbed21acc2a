/** One process' share of the long form: histories of the seeds from FIRST on, sent to the parent. */
import { loadHash } from "../../../src/util/hash.ts";
import { type Outcome, runHistory } from "./history.ts";

async function main(): Promise<void> {
  await loadHash();
  const [first, count] = process.argv.slice(2).map(Number);
  const outcomes: Outcome[] = [];
  for (let seed = first; seed < first + count; seed++) outcomes.push(await runHistory(seed));
  process.send?.(outcomes);
}

void main();
