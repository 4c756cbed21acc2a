/** One process' share of the long form: histories of the seeds from FIRST on, sent to the parent. */
import { loadHash } from "../../../src/util/hash.ts";
import { GIVEN_UP } from "./faults.ts";
import { type Outcome, runHistory } from "./history.ts";

/** One history of so many has a move that is given up when most have finished it. */
const GIVEN_UP_EACH = 4;

async function main(): Promise<void> {
  await loadHash();
  const [first, count] = process.argv.slice(2).map(Number);
  const outcomes: Outcome[] = [];
  for (let seed = first; seed < first + count; seed++)
    outcomes.push(await runHistory(seed, seed % GIVEN_UP_EACH === 0 ? [GIVEN_UP] : []));
  process.send?.(outcomes);
}

void main();
