/** The short form of test/storm/chaos.test.ts, and the judge's own test. */
import assert from "node:assert/strict";
import { after, test } from "node:test";
import { randomSeed } from "../random.ts";
import type { Recorded } from "../sim/linearizability.ts";
import { assertRight, chaosRun, lineOf, takenBack } from "./chaos.ts";
import { type Cluster, startCluster } from "./workers.ts";

const RUNS = 3;
const RUN_MS = 2000;
const OPERATIONS_MIN = 50;

let cluster: Cluster | null = null;
after(() => cluster?.dispose());

test("chaos: with nodes killed and paused, links cut, late and stalled, histories are linearizable, nothing acknowledged is lost, nothing deleted comes back", async (t) => {
  const first = randomSeed(t);
  cluster = await startCluster({ workers: 3 });
  let done = 0;
  for (let run = 0; run < RUNS; run++) {
    const result = await chaosRun(cluster, { seed: first + run, ms: RUN_MS, withoutMaster: run === 1 });
    console.log(`# ${lineOf(result)}`);
    assertRight(result);
    done += result.done;
  }
  assert.ok(done > OPERATIONS_MIN, `${done} operations were done`);
});

test("chaos: a final read that shows less than what was acknowledged is found", () => {
  const at = (id: number, kind: Recorded["kind"], details: Partial<Recorded> = {}): Recorded => ({
    ...{ id, kind, called: 10 * id, answered: 10 * id + 5, outcome: "done", value: 0 },
    ...{ expected: 0, rewritten: Infinity, existed: null, ...details },
  });
  const put = at(1, "put");
  const second = at(2, "put");
  const unknownDelete = at(2, "delete", { outcome: "unknown", answered: Infinity });
  const read = (value: number) => at(9, "get", { value });
  assert.equal(takenBack([put, second, read(2)], read(2)), null);
  assert.equal(takenBack([put, second, read(1)], read(1))?.id, 2);
  assert.equal(takenBack([put, read(0)], read(0))?.id, 1);
  assert.equal(takenBack([put, unknownDelete, read(0)], read(0)), null);
  assert.equal(takenBack([put, at(2, "delete"), read(1)], read(1))?.kind, "delete");
  assert.equal(takenBack([put, at(2, "delete"), read(0)], read(0)), null);
  assert.equal(takenBack([at(2, "put", { called: 12 }), put, read(1)], read(1)), null, "they overlapped");
});
