/**
 * More front threads (`-fronts`): threads beside the main one that listen on the same port, read the same
 * index and maps, and have a way of their own to each shard thread. The kernel deals connections out among
 * them. On a node of a cluster they have a port of their own, since other nodes must reach the main thread,
 * and are coordinators of their own (cluster/fronts). This file starts and ends them; app/front-thread.ts is
 * what runs in them.
 */
import path from "node:path";
import { Worker } from "node:worker_threads";
import type { TokenRecord } from "../auth/token-file.ts";
import type { FrontDesk } from "../cluster/fronts/front-desk.ts";
import type { FrontWord, Home, HomeNews } from "../cluster/fronts/messages.ts";
import type { Config } from "../config/config.ts";
import type { Logger } from "../platform/log.ts";
import type { ClientAccess } from "../server/access/gate.ts";
import { METER_BYTES } from "../server/status/meter.ts";
import { programThreadOf } from "../shards/thread/spawn.ts";
import type { FrontSeat, LocalVault } from "../shards/vault/local-vault.ts";
import { type BackupRequest, makeFor } from "./remote-backup.ts";
import type { S3Place } from "./s3-front.ts";

/** Longest that a front thread may take to start. */
const START_MS_MAX = 20_000;

/** What a front thread is told. */
export interface FrontTask {
  seat: FrontSeat;
  shared: SharedAmongFronts;
  config: Pick<
    Config,
    "host" | "tls" | "maxValueBytes" | "cors" | "publicUrl" | "metrics" | "compat" | "audit"
  >;
  /** On a node of a cluster: what its coordinator is made of; null: the node is alone. */
  cluster: FrontCluster | null;
}

/** What a front needs of a node of a cluster. */
export interface FrontCluster {
  home: Home;
  homeAddress: string | undefined;
  settings: Pick<Config, "region" | "consistency" | "clusterKeys" | "tlsCa" | "tls" | "peerAddress">;
}

/** What all fronts of a node have in common. */
export interface SharedAmongFronts {
  /** Memory of the meters. */
  meters: SharedArrayBuffer[];
  /** Memory in which tokens' rates are counted. */
  rates: SharedArrayBuffer;
  access: ClientAccess | null;
  port: number;
  /** Where S3 is; null: nowhere. */
  s3: S3Place | null;
  version: string;
  /** When the process began, in seconds since 1970. */
  startedSeconds: number;
}

/** From a front thread. */
export type FrontMessage =
  | { kind: "listening" }
  | { kind: "failed"; reason: string }
  | BackupRequest
  | { kind: "cluster"; word: FrontWord }
  | { kind: "log"; level: "info" | "warn" | "error"; fields: object; message: string };

/** To a front thread: stop in order. It ends when it has. */
export const STOP = "stop";
/** To a front thread: what is to be taken anew. */
export interface Renewal {
  certificate?: true;
  audit?: true;
  tokens?: readonly TokenRecord[];
  clusterKeys?: readonly string[];
}
/** To a front thread of a node of a cluster. */
export interface ClusterNews {
  home: HomeNews;
}

/** Memory for the meters of so many fronts. */
export function createMeters(fronts: number): SharedArrayBuffer[] {
  return Array.from({ length: fronts }, () => new SharedArrayBuffer(METER_BYTES));
}

export interface FrontThreads {
  /** Lets them take something anew. They log what becomes of it. */
  renew(renewal: Renewal): void;
  /** Lets them finish what is under way, and ends them. */
  stop(): Promise<void>;
}

/**
 * Starts a thread for each of the vault's other seats. Rejects when one cannot listen; `fatal` is called when
 * one dies later.
 */
export async function startFrontThreads(
  vault: LocalVault,
  config: Config,
  shared: SharedAmongFronts,
  cluster: { desk: FrontDesk; front: FrontCluster } | null,
  log: Logger,
  fatal: (error: Error) => void,
): Promise<FrontThreads> {
  const { host, tls, maxValueBytes, cors, publicUrl, metrics, compat, audit } = config;
  let stopping = false;
  const workers = vault.seats.map((seat) => {
    const task: FrontTask = {
      seat,
      shared,
      config: { host, tls, maxValueBytes, cors, publicUrl, metrics, compat, audit },
      cluster: cluster?.front ?? null,
    };
    const [file, options] = programThreadOf(path.join(__dirname, "front-thread.ts"));
    const worker = new Worker(file, {
      ...options,
      workerData: task,
      transferList: [...seat.channels.map((channel) => channel.port), seat.catalogPort],
    });
    worker.on("error", fatal);
    worker.on("exit", (status) => {
      if (!stopping) fatal(new Error(`a front thread ended with ${status}`));
    });
    return worker;
  });
  await Promise.all(
    workers.map(
      (worker) =>
        new Promise<void>((resolve, reject) => {
          const timer = setTimeout(
            () => reject(new Error(`a front thread did not start in ${START_MS_MAX} ms`)),
            START_MS_MAX,
          );
          worker.on("message", (message: FrontMessage) => {
            if (message.kind === "log") log[message.level](message.fields, message.message);
            else if (message.kind === "backup")
              void makeFor(vault.backups, message, (news) => worker.postMessage(news));
            else if (message.kind === "cluster")
              cluster?.desk.hear(message.word, (home) => worker.postMessage({ home } satisfies ClusterNews));
            else if (message.kind === "listening") resolve();
            else reject(new Error(message.reason));
            if (message.kind === "listening" || message.kind === "failed") clearTimeout(timer);
          });
        }),
    ),
  );
  for (const worker of workers)
    cluster?.desk.join((home) => worker.postMessage({ home } satisfies ClusterNews));
  return {
    renew(renewal) {
      for (const worker of workers) worker.postMessage(renewal);
    },
    async stop() {
      stopping = true;
      const ends = workers.map((worker) => new Promise((resolve) => worker.once("exit", resolve)));
      for (const worker of workers) worker.postMessage(STOP);
      await Promise.all(ends);
    },
  };
}
