/** An etcd of Debian's package, for tests: its own process, folder and ports; and links to it that can be cut. */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import net from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort } from "../../native-bench/processes.ts";
import { call } from "../rest/client.ts";
import { removeFolder, temporaryFolder } from "../rest/server.ts";

const START_MS_MAX = 120_000;

/** Tests that need one are skipped where it is missing. */
export const withoutEtcd =
  spawnSync("etcd", ["--version"]).status === 0
    ? {}
    : { skip: "etcd (Debian: etcd-server) is not installed" };

export interface Etcd {
  readonly port: number;
  /** One call of its JSON gateway. */
  // biome-ignore lint/suspicious/noExplicitAny: documents of any form
  ask(method: string, body: object, headers?: Record<string, string>): Promise<any>;
  stop(): Promise<void>;
}

export async function startEtcd(...flags: string[]): Promise<Etcd> {
  const folder = temporaryFolder();
  const [port, peerPort] = [await freePort(), await freePort()];
  const [url, peerUrl] = [`http://127.0.0.1:${port}`, `http://127.0.0.1:${peerPort}`];
  const child = spawn(
    "etcd",
    [
      ...["--data-dir", folder, "--log-level", "error", "--unsafe-no-fsync"],
      ...["--listen-client-urls", url, "--advertise-client-urls", url],
      ...["--listen-peer-urls", peerUrl, "--initial-advertise-peer-urls", peerUrl],
      ...["--initial-cluster", `default=${peerUrl}`],
      ...flags,
    ],
    { stdio: "ignore" },
  );
  const kill = () => child.kill("SIGKILL");
  process.once("exit", kill);
  const ended = new Promise((resolve) => child.once("exit", resolve));
  const ask: Etcd["ask"] = async (method, body, headers = {}) =>
    (await call(port, "POST", `/v3/${method}`, { body: JSON.stringify(body), headers })).json();
  const deadline = performance.now() + START_MS_MAX;
  for (;;) {
    const status = await ask("kv/range", { key: "YQ==" }).then(
      (answer) => answer.header !== undefined,
      () => false,
    );
    if (status) break;
    if (child.exitCode !== null || performance.now() > deadline) throw new Error("etcd does not start");
    await sleep(50);
  }
  return {
    port,
    ask,
    async stop() {
      kill();
      await ended;
      process.off("exit", kill);
      removeFolder(folder);
    },
  };
}

/** Every value that a key ever had, oldest first; null: it was deleted. */
export async function historyOf(etcd: Etcd, key: string): Promise<(string | null)[]> {
  const name = Buffer.from(key).toString("base64");
  const { header } = await etcd.ask("kv/range", { key: name });
  const history: (string | null)[] = [];
  for (let revision = 2; revision <= Number(header.revision); revision++) {
    const { kvs = [] } = await etcd.ask("kv/range", { key: name, revision: String(revision) });
    const [kept] = kvs;
    const isNew =
      kept === undefined
        ? history.length > 0 && history.at(-1) !== null
        : Number(kept.mod_revision) === revision;
    if (isNew) history.push(kept === undefined ? null : Buffer.from(kept.value, "base64").toString());
  }
  return history;
}

/** A sealed document of minivault. */
// biome-ignore lint/suspicious/noExplicitAny: documents of any form
export function documentOf(value: string): any {
  return JSON.parse(value.split("\n")[0]);
}

/** A layout as a short text that tells two of one epoch apart. */
export function digestOf(layout: object): string {
  return createHash("sha256").update(JSON.stringify(layout)).digest("hex").slice(0, 16);
}

/** A link to a port that can be cut: what is sent then goes nowhere, and nobody is told. */
export interface Link {
  readonly port: number;
  cut(): void;
  heal(): void;
  close(): void;
}

export async function createLink(target: number): Promise<Link> {
  let isCut = false;
  const sockets = new Set<net.Socket>();
  const server = net.createServer((near) => {
    const far = net.connect(target, "127.0.0.1");
    for (const [socket, other] of [
      [near, far],
      [far, near],
    ]) {
      sockets.add(socket);
      socket.on("data", (piece) => void (isCut || other.write(piece)));
      socket.on("error", () => other.destroy());
      socket.on("close", () => {
        sockets.delete(socket);
        other.destroy();
      });
    }
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return {
    port: (server.address() as net.AddressInfo).port,
    cut() {
      isCut = true;
    },
    heal() {
      isCut = false;
      // What was lost on the way is not made up for: connections of that time are of no use.
      for (const socket of sockets) socket.destroy();
    },
    close() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
