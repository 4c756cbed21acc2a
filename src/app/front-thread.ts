/**
 * What runs in a front thread beside the main one: a front on the shared port, until it is told to stop.
 * app/fronts.ts starts it.
 */
import { isMainThread, parentPort, workerData } from "node:worker_threads";
import { createFront } from "../server/front.ts";
import type { FrontLog } from "../server/http/context.ts";
import { openFrontVault } from "../shards/vault/open.ts";
import { FRONT_THREAD, type FrontMessage, type FrontTask, type Renewal, STOP } from "./fronts.ts";

/** Whether this is such a thread. */
export function isFrontThread(): boolean {
  return !isMainThread && (workerData as FrontTask | null)?.role === FRONT_THREAD;
}

function say(message: FrontMessage): void {
  parentPort?.postMessage(message);
}

async function run(task: FrontTask): Promise<void> {
  const { seat, meters, config, port, version } = task;
  const log: FrontLog = {
    info: (fields, message) => say({ kind: "log", level: "info", fields, message }),
    error: (fields, message) => say({ kind: "log", level: "error", fields, message }),
  };
  const vault = await openFrontVault(seat, (message) =>
    say({ kind: "log", level: "warn", fields: {}, message }),
  );
  const front = await createFront({
    vault,
    ...config,
    publicUrl: () => config.publicUrl,
    port,
    role: "worker",
    version,
    meters: { memories: meters, own: seat.front },
    sharesPort: true,
    patient: vault.patient,
    log,
  });
  parentPort?.on("message", async (message: typeof STOP | Renewal) => {
    if (message !== STOP) {
      if (message.key !== null) front.renewKey(message.key);
      try {
        front.renewCertificate();
      } catch (error) {
        log.error({ front: seat.front }, `SIGHUP: ${(error as Error).message}`);
      }
      return;
    }
    await front.close();
    await vault.close();
    process.exit(0);
  });
  say({ kind: "listening" });
}

if (isFrontThread())
  run(workerData as FrontTask).catch((error: Error) => say({ kind: "failed", reason: error.message }));
