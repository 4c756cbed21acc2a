/** Scripted histories: simulated time, and reads through a node. */
import type { ReadResult } from "../../src/cluster/register/requests.ts";
import { KEY, type SimNode, type World } from "./cluster.ts";

/** Lets so much simulated time pass. */
export function runFor(world: World, ms: number): void {
  let over = false;
  world.queue.after(ms, () => {
    over = true;
  });
  while (!over) world.queue.step();
}

/** What a read through a node comes to within a second. */
export function readThrough(world: World, node: SimNode): ReadResult {
  let result: ReadResult | null = null;
  node.coordinator.read(KEY, (answer) => {
    result = answer;
  });
  runFor(world, 1000);
  if (result === null) throw new Error("a read was not answered");
  return result as ReadResult;
}
