/**
 * What runs in a front thread beside the main one: a front on the shared port, until it is told to stop.
 * app/fronts.ts starts it.
 */
import { parentPort, workerData } from "node:worker_threads";
import { KeyRing } from "../auth/keys.ts";
import { RequestSigner } from "../auth/signature.ts";
import { FrontNode } from "../cluster/fronts/front-node.ts";
import { PeerTls } from "../cluster/link/peer-tls.ts";
import { AuditFile } from "../server/access/audit.ts";
import { createFront, type FrontOptions } from "../server/front.ts";
import type { FrontLog } from "../server/http/context.ts";
import { processStart } from "../server/status/process-figures.ts";
import type { LocalVault } from "../shards/vault/local-vault.ts";
import { openFrontVault } from "../shards/vault/open.ts";
import {
  type ClusterNews,
  type FrontCluster,
  type FrontMessage,
  type FrontTask,
  type Renewal,
  STOP,
} from "./fronts.ts";
import { type BackupNews, RemoteBackups } from "./remote-backup.ts";
import { withS3Front } from "./s3-front.ts";

function say(message: FrontMessage): void {
  parentPort?.postMessage(message);
}

function warn(message: string): void {
  say({ kind: "log", level: "warn", fields: {}, message });
}

/** What makes the thread a coordinator of its node's cluster. */
class ThreadCluster {
  readonly ring: KeyRing | null;
  readonly tls: PeerTls;
  readonly front: FrontNode;

  constructor({ home, homeAddress, settings }: FrontCluster, front: number, vault: LocalVault) {
    const { region, consistency, clusterKeys, tlsCa, tls, peerAddress } = settings;
    this.ring = clusterKeys.length === 0 ? null : new KeyRing(clusterKeys);
    this.tls = new PeerTls(tlsCa, tls);
    this.front = new FrontNode({
      ...{ home, homeAddress, front, region, consistency, vault },
      signer: this.ring === null ? null : new RequestSigner(this.ring),
      tls: this.tls,
      localAddress: peerAddress ?? undefined,
      say: (word) => say({ kind: "cluster", word }),
      warn,
    });
  }

  /** What its HTTP front is made of. */
  get options(): Pick<FrontOptions, "cluster" | "nodes" | "clusterFacts"> {
    const { front } = this;
    return { cluster: () => front.node, nodes: () => front.nodesUp, clusterFacts: () => front.facts() };
  }
}

async function run(task: FrontTask): Promise<void> {
  const { seat, shared, config } = task;
  const { meters, rates, access, port, s3, version } = shared;
  processStart.seconds = shared.startedSeconds;
  const log: FrontLog = {
    info: (fields, message) => say({ kind: "log", level: "info", fields, message }),
    error: (fields, message) => say({ kind: "log", level: "error", fields, message }),
  };
  const vault = await openFrontVault(seat, warn);
  const cluster = task.cluster === null ? null : new ThreadCluster(task.cluster, seat.front, vault);
  const audit = config.audit === null ? null : new AuditFile(config.audit, log);
  const backups = new RemoteBackups(say);
  const publicUrl = (): string | null => cluster?.front.url ?? config.publicUrl;
  const ownFront = await createFront({
    vault,
    ...config,
    audit,
    auth: access,
    rates,
    publicUrl,
    ...(cluster === null ? {} : cluster.options),
    port,
    role: "worker",
    version,
    meters: { memories: meters, own: seat.front },
    sharesPort: true,
    patient: vault.patient,
    backup: backups.run,
    log,
  });
  const ofNode = { front: seat.front, cluster: () => cluster?.front.node ?? null, publicUrl };
  const ofFronts = { access, rates, audit, meters, ...ofNode };
  const front = await withS3Front(ownFront, s3, config, vault, ofFronts, log);
  const renewCertificate = (): void => {
    try {
      cluster?.tls.renew();
      front.renewCertificate();
    } catch (error) {
      log.error({ front: seat.front }, (error as Error).message);
    }
  };
  parentPort?.on("message", async (message: typeof STOP | Renewal | BackupNews | ClusterNews) => {
    if (message !== STOP) {
      if ("backup" in message) {
        backups.hear(message);
        return;
      }
      if ("home" in message) {
        cluster?.front.hear(message.home);
        return;
      }
      if (message.clusterKeys !== undefined) cluster?.ring?.renew(message.clusterKeys);
      if (message.tokens !== undefined) front.renewTokens(message.tokens);
      if (message.audit === true) audit?.reopen();
      if (message.certificate === true) renewCertificate();
      return;
    }
    await front.close();
    await cluster?.front.close();
    await vault.close();
    audit?.close();
    process.exit(0);
  });
  say({ kind: "listening" });
}

run(workerData as FrontTask).catch((error: Error) => say({ kind: "failed", reason: error.message }));
