/**
 * What runs in a front thread beside the main one: a front on the shared port, until it is told to stop.
 * app/fronts.ts starts it.
 */
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { AuditFile } from "../server/access/audit.ts";
import { createFront } from "../server/front.ts";
import type { FrontLog } from "../server/http/context.ts";
import { openFrontVault } from "../shards/vault/open.ts";
import { FRONT_THREAD, type FrontMessage, type FrontTask, type Renewal, STOP } from "./fronts.ts";
import { type BackupNews, RemoteBackups } from "./remote-backup.ts";

/** Whether this is such a thread. */
function isFrontThread(): boolean {
  return !isMainThread && (workerData as FrontTask | null)?.role === FRONT_THREAD;
}

function say(message: FrontMessage): void {
  parentPort?.postMessage(message);
}

async function run(task: FrontTask): Promise<void> {
  const { seat, shared, config } = task;
  const { meters, rates, access, port, version } = shared;
  const log: FrontLog = {
    info: (fields, message) => say({ kind: "log", level: "info", fields, message }),
    error: (fields, message) => say({ kind: "log", level: "error", fields, message }),
  };
  const vault = await openFrontVault(seat, (message) =>
    say({ kind: "log", level: "warn", fields: {}, message }),
  );
  const audit = config.audit === null ? null : new AuditFile(config.audit, log);
  const backups = new RemoteBackups(say);
  const front = await createFront({
    vault,
    ...config,
    audit,
    auth: access,
    rates,
    publicUrl: () => config.publicUrl,
    port,
    role: "worker",
    version,
    meters: { memories: meters, own: seat.front },
    sharesPort: true,
    patient: vault.patient,
    backup: backups.run,
    log,
  });
  const renewCertificate = (): void => {
    try {
      front.renewCertificate();
    } catch (error) {
      log.error({ front: seat.front }, (error as Error).message);
    }
  };
  parentPort?.on("message", async (message: typeof STOP | Renewal | BackupNews) => {
    if (message !== STOP) {
      if ("backup" in message) {
        backups.hear(message);
        return;
      }
      if (message.tokens !== undefined) front.renewTokens(message.tokens);
      if (message.audit === true) audit?.reopen();
      if (message.certificate === true) renewCertificate();
      return;
    }
    await front.close();
    await vault.close();
    audit?.close();
    process.exit(0);
  });
  say({ kind: "listening" });
}

if (isFrontThread())
  run(workerData as FrontTask).catch((error: Error) => say({ kind: "failed", reason: error.message }));
