/** Verifying the list of a shard's slabs, and by it which slabs there are. */
import path from "node:path";
import { ExpectedSlabs } from "../directory/expected-slabs.ts";
import { LIST_NAMES, readSlabList } from "../list/copies.ts";
import type { Findings } from "./findings.ts";

/** Checks the two copies of the list of slabs, and names the slabs that are missing. */
export function checkList(findings: Findings, present: readonly number[]): ExpectedSlabs {
  const { root, directory, store, shard, report } = findings;
  const read = readSlabList(directory, { shard, storeId: store.slabId });
  const interrupted = store.lists === "interrupted";
  const files = LIST_NAMES.map((name) => findings.file(name));
  if (read.content === null) {
    if (store.complete && !interrupted)
      for (const [copy, file] of files.entries())
        findings.damage(
          file,
          null,
          "list of slabs",
          null,
          `${read.problems[copy]}, and so is its other copy`,
        );
    else report.note(`the slabs of shard ${shard} are not listed yet: that one is missing cannot be noticed`);
  } else if (interrupted)
    report.note(
      `an older program has used the directory since the slabs of shard ${shard} were listed: that one is missing cannot be noticed`,
    );
  else {
    if (read.content.incarnation > store.incarnation)
      findings.damage(
        path.join(root, "STORE"),
        null,
        "store",
        null,
        `it is an older copy: start ${read.content.incarnation} has listed the slabs of shard ${shard}, and it knows of ${store.incarnation}`,
      );
    for (const [copy, problem] of read.problems.entries())
      if (problem !== null)
        findings.note(files[copy], `${problem}; the other copy is good, and the next start writes it anew`);
  }
  const believed = interrupted ? { content: null, note: null } : read;
  const expected = new ExpectedSlabs(root, store, shard, believed, present);
  for (const sequence of expected.missing) {
    findings.named.add(sequence);
    findings.damage(findings.slabFile(sequence), null, "slab", null, "the file is missing");
  }
  for (const sequence of expected.leftovers)
    findings.note(findings.slabFile(sequence), "it was dropped; the next start removes it");
  const { doubt } = read.content ?? { doubt: { sequence: 0 } };
  if (doubt.sequence > 0)
    findings.damage(
      files[0],
      null,
      "list of slabs",
      null,
      "both copies were lost once: nobody knows whether slabs were, too",
    );
  return expected;
}
