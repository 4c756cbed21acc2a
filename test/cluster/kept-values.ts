/** Values with headers that are kept, written and read over real clusters. */
import assert from "node:assert/strict";
import { setTimeout as sleep } from "node:timers/promises";
import { call, type Reply } from "../rest/client.ts";
import { patiently } from "./patience.ts";
import type { Cluster, Worker } from "./workers.ts";

const WAIT_MS_MAX = 120_000;
export const META = { "x-meta-colour": "blue", "cache-control": "max-age=5", "content-encoding": "gzip" };
export const SIZES = { small: 200, large: 2_500_000 };

export function bodyOf(name: string, bytes: number): Buffer {
  return Buffer.from(
    Array.from({ length: bytes }, (_, i) => (i * 31 + name.length * 7 + name.charCodeAt(0)) & 0xff),
  );
}

/** Asks until the answer is right. */
export async function until(what: string, ask: () => Promise<boolean>): Promise<void> {
  for (const deadline = performance.now() + WAIT_MS_MAX; !(await ask().catch(() => false)); await sleep(50))
    assert.ok(performance.now() < deadline, what);
}

export function isWhole(reply: Reply, name: string, bytes: number): boolean {
  if (reply.status !== 200) return false;
  assert.ok(reply.body.equals(bodyOf(name, bytes)), `the bytes of ${name}`);
  for (const [header, value] of Object.entries(META))
    assert.equal(reply.headers[header], value, `${header} of ${name}`);
  return true;
}

export async function put(worker: Worker, name: string, bytes: number): Promise<void> {
  const headers = { ...META, "content-type": "text/plain" };
  // One of the nodes may be down, and the others busy.
  const reply = await patiently(worker.port, "PUT", `/${name}`, bodyOf(name, bytes), headers);
  assert.ok(reply.status === 200 || reply.status === 201, `PUT of ${name}: ${reply.status} ${reply.text}`);
}

/** Each of these workers comes to have each of these values itself. */
export async function untilHeld(
  workers: readonly Worker[],
  names: readonly [string, number][],
): Promise<void> {
  for (const worker of workers)
    for (const [name, bytes] of names)
      await until(`worker ${worker.number} has ${name}`, async () => {
        const path = `/${name}?consistency=one`;
        return isWhole(await call(worker.port, "GET", path), name, bytes);
      });
}

export async function layoutOf(
  cluster: Cluster,
): Promise<{ features?: number; epoch: number; nodes: { url: string }[] }> {
  return (await call(cluster.masterPort, "GET", "/layout")).json().layout;
}

export async function untilMoved(cluster: Cluster, members: number): Promise<void> {
  await until(`the layout has ${members} nodes and nothing moves`, async () => {
    const { layout, move } = (await call(cluster.masterPort, "GET", "/layout")).json();
    return move === null && layout.nodes.length === members;
  });
}
