/**
 * Three servers of one kind on this machine's loopback: minivault with a master, etcd, and NATS JetStream with a bucket of three copies. Each answers with
 * its ports, those of the clients, once a write has been acknowledged.
 */
import { writeFileSync } from "node:fs";
import path from "node:path";
import { openNats } from "./nats-client.ts";
import { freePort, type Running, start, temporaryFolder } from "./processes.ts";
import { exchange } from "./raw-http.ts";

const NODES = 3;
const READY_MS_MAX = 120_000;
export const BUCKET = "bench";

export interface Three {
  readonly ports: readonly number[];
  readonly pids: readonly number[];
  stop(): Promise<void>;
}

function threeOf(ports: readonly number[], programs: readonly Running[], nodes: readonly Running[]): Three {
  return {
    ports,
    pids: nodes.map(({ child }) => child.pid as number),
    stop: async () => {
      await Promise.all(programs.map((program) => program.stop()));
    },
  };
}

/** Tries until it succeeds; throws what the last attempt threw, and what the programs have said. */
async function until(programs: readonly Running[], attempt: () => Promise<void>): Promise<void> {
  for (const end = Date.now() + READY_MS_MAX; ; ) {
    try {
      await attempt();
      return;
    } catch (error) {
      const hasEnded = programs.some(({ child }) => child.exitCode !== null);
      if (hasEnded || Date.now() > end)
        throw new Error(
          `three nodes do not serve: ${error}\n${programs.map((one) => one.output()).join("\n")}`,
        );
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const somePorts = (): Promise<number[]> => Promise.all(Array.from({ length: NODES }, freePort));

/** Three workers and a master; a write is acknowledged after fdatasync on a majority. */
export async function startThreeMinivault(program: string): Promise<Three> {
  const master = await freePort();
  const address = ["-host", "127.0.0.1"];
  const first = start(process.execPath, [
    ...[program, "-mode", "master", "-port", `${master}`, ...address, "-data", temporaryFolder()],
  ]);
  const ports = await somePorts();
  const nodes = ports.map((port) =>
    start(process.execPath, [
      ...[program, "-port", `${port}`, ...address, "-public-url", `http://127.0.0.1:${port}`],
      ...["-master", `http://127.0.0.1:${master}`, "-data", temporaryFolder(), "-sync", "always"],
    ]),
  );
  const programs = [first, ...nodes];
  await until(programs, async () => {
    const list = await (await fetch(`http://127.0.0.1:${master}/nodes`)).text();
    const missing = ports.filter((port) => !list.includes(`:${port}`));
    if (missing.length > 0) throw new Error(`the master does not know ${missing.join()}`);
    for (const port of ports) {
      const { status, body } = await exchange(port, "PUT", `/ready-${port}`, Buffer.from("v"));
      if (status !== 200 && status !== 201) throw new Error(`PUT answered ${status}: ${body}`);
    }
  });
  return threeOf(ports, programs, nodes);
}

/** Three members; etcd always syncs its log before it acknowledges. */
export async function startThreeEtcd(): Promise<Three> {
  const ports = await somePorts();
  const peers = await somePorts();
  const cluster = peers.map((port, number) => `n${number}=http://127.0.0.1:${port}`).join(",");
  const nodes = ports.map((port, number) => {
    const [client, peer] = [`http://127.0.0.1:${port}`, `http://127.0.0.1:${peers[number]}`];
    return start("etcd", [
      ...["--name", `n${number}`, "--data-dir", path.join(temporaryFolder(), "data"), "--logger", "zap"],
      ...["--listen-client-urls", client, "--advertise-client-urls", client, "--log-level", "error"],
      ...["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer],
      ...["--initial-cluster", cluster, "--quota-backend-bytes", String(8 * 2 ** 30)],
    ]);
  });
  await until(nodes, async () => {
    for (const port of ports) {
      const body = Buffer.from('{"key":"cmVhZHk=","value":"dg=="}');
      const { status } = await exchange(port, "POST", "/v3/kv/put", body, "application/json");
      if (status !== 200) throw new Error(`etcd answered ${status}`);
    }
  });
  return threeOf(ports, nodes, nodes);
}

/** Three servers with a bucket of three copies. NATS 2.9 has no sync before an acknowledgement: it syncs every two minutes. */
export async function startThreeNats(): Promise<Three> {
  const ports = await somePorts();
  const routes = await somePorts();
  const list = routes.map((port) => `"nats://127.0.0.1:${port}"`).join(", ");
  const nodes = ports.map((port, number) => {
    const folder = temporaryFolder();
    const file = path.join(folder, "nats.conf");
    writeFileSync(
      file,
      `server_name: n${number}
listen: 127.0.0.1:${port}
jetstream { store_dir: "${folder}/data" }
cluster { name: bench, listen: 127.0.0.1:${routes[number]}, routes: [${list}] }
`,
    );
    return start("nats-server", ["-c", file]);
  });
  const stream = {
    ...{ name: `KV_${BUCKET}`, subjects: [`$KV.${BUCKET}.>`], num_replicas: NODES, storage: "file" },
    ...{ retention: "limits", discard: "new", max_msgs_per_subject: 1, allow_direct: true },
    ...{
      max_msgs: -1,
      max_bytes: -1,
      max_age: 0,
      max_consumers: -1,
      deny_delete: true,
      allow_rollup_hdrs: true,
    },
  };
  await until(nodes, async () => {
    const client = await openNats(ports[0]);
    try {
      const body = Buffer.from(JSON.stringify(stream));
      const made = await client.ask(`$JS.API.STREAM.CREATE.KV_${BUCKET}`, body);
      if (made.includes('"error"')) throw new Error(made);
      const put = await client.ask(`$KV.${BUCKET}.ready`, Buffer.from("v"));
      if (!put.includes('"seq"')) throw new Error(put);
    } finally {
      client.close();
    }
  });
  return threeOf(ports, nodes, nodes);
}
