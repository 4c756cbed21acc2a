/**
 * A worker: opens its store, serves it, and stops in order.
 */
import path from "node:path";
import type { Config } from "./cli/config.ts";
import { createFront } from "./server/front.ts";
import { openVault } from "./shards/local-vault.ts";
import { setAddonDirectory } from "./util/addon.ts";
import { buildInfo } from "./util/build-info.ts";
import type { Logger } from "./util/log.ts";

/** Something that runs until it is stopped. */
export interface Running {
  stop(): Promise<void>;
}

/** Progress of a long start is reported this often. */
const PROGRESS_MS = 1000;

/** Starts a worker. Rejects with a sentence for a person when it cannot. */
export async function startWorker(
  config: Config,
  log: Logger,
  fatal: (error: Error) => void,
): Promise<Running> {
  const started = performance.now();
  setAddonDirectory(path.join(config.dataDirectory, ".addons"));
  if (config.masters.length > 0 || config.volumes.length > 0)
    log.warn(
      "this release does not replicate yet: the node serves its own data only, -master and -volumes have no effect",
    );
  let reported = started;
  const vault = await openVault({
    dataDirectory: config.dataDirectory,
    sync: config.sync,
    threads: config.threads,
    warn: (message) => log.warn(message),
    fatal,
    progress(doneBytes, totalBytes) {
      if (totalBytes === 0 || performance.now() - reported < PROGRESS_MS) return;
      reported = performance.now();
      log.info(
        { percent: Math.floor((doneBytes / totalBytes) * 100), totalMiB: Math.round(totalBytes / 2 ** 20) },
        "reading the slabs back",
      );
    },
  });
  try {
    const front = await createFront({
      vault,
      host: config.host,
      port: config.port,
      auth: config.auth,
      tls: config.tls,
      maxValueBytes: config.maxValueBytes,
      role: "worker",
      version: buildInfo.version,
      log,
    });
    const keys = vault.stats().shards.reduce((sum, shard) => sum + shard.keys, 0);
    const url = config.publicUrl ?? `${config.tls === null ? "http" : "https"}://localhost:${front.port}`;
    log.info(
      {
        url,
        port: front.port,
        host: config.host,
        data: config.dataDirectory,
        region: config.region,
        sync: config.sync,
        shards: vault.store.shards,
        keys,
        startMs: Math.round(performance.now() - started),
      },
      `listening on ${config.host}:${front.port}`,
    );
    return {
      async stop() {
        await front.close();
        await vault.close();
      },
    };
  } catch (error) {
    await vault.close();
    throw error;
  }
}
