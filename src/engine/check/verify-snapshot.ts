/** Verifying the index snapshot, and by it the slabs: it knows how they were at the last stop. */

import fs from "node:fs";
import { OTHER_FORM, type SnapshotIdentity, STALE_SNAPSHOT } from "../../format/snapshot/index-snapshot.ts";
import { demandDescriptors } from "../../platform/system-error.ts";
import type { ExpectedSlabs } from "../directory/expected-slabs.ts";
import { SNAPSHOT_NAME, snapshotProblem } from "../snapshot/snapshot-read.ts";
import { misfitsBySnapshot } from "../snapshot/snapshot-slabs.ts";
import type { Findings } from "./findings.ts";

/** Checks the snapshot of a shard, if there is one. */
export function checkSnapshot(findings: Findings, expected: ExpectedSlabs): void {
  const { store, shard } = findings;
  const file = findings.file(SNAPSHOT_NAME);
  if (!fs.existsSync(file)) return;
  const { slabBytes, id: storeId, incarnation } = store;
  const identity = { shard, slabBytes, storeId, incarnation };
  const problem = snapshotProblem(file, identity);
  // Left by a start that ended early, or by another release; the next start removes it.
  if (problem === STALE_SNAPSHOT || problem === OTHER_FORM)
    findings.note(file, `${problem}, and is not used`);
  else if (problem !== null)
    findings.damage(
      file,
      null,
      "index snapshot",
      null,
      `${problem}; the next start reads the slabs in its place`,
    );
  else if (findings.isReadable) checkBySnapshot(findings, file, identity, expected);
}

function checkBySnapshot(
  findings: Findings,
  file: string,
  identity: SnapshotIdentity,
  expected: ExpectedSlabs,
): void {
  const { directory, store, shard } = findings;
  let misfits: ReadonlyMap<number, string> | null;
  try {
    misfits = misfitsBySnapshot(file, { directory, store, shard }, identity, expected.sequences);
  } catch (error) {
    demandDescriptors(error);
    // A slab that cannot be read, or is foreign, was named.
    return;
  }
  if (misfits === null) {
    findings.note(file, "there are slabs that it does not name, so it is not used");
    return;
  }
  for (const [sequence, text] of misfits)
    if (!findings.named.has(sequence)) findings.damage(findings.slabFile(sequence), null, "slab", null, text);
}
