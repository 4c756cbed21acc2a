/**
 * SIGHUP: the files that the command line names are read again. Each is taken as a whole or not at all: what
 * is wrong with one is logged, and what was in force stays.
 */
import { readClusterKeys, readKey, readTlsCa, secretWarnings } from "../config/access.ts";
import type { Config } from "../config/config.ts";
import type { Logger } from "../platform/log.ts";

export interface Reloadable {
  /** Reads the certificate again; false: it has not changed. Throws a sentence. */
  renewCertificate(): boolean;
  /**
   * Takes another key for clients. False: it is the nodes' key, too, and cannot be changed while this node is
   * one of a cluster.
   */
  renewKey(key: string): boolean;
  /** Takes other keys to sign with. */
  renewClusterKeys(keys: string[]): void;
}

const SHARED_KEY =
  "changed, NOT in force: the nodes of a cluster sign with it, so stop them all, and start them with the new one; with -cluster-key-file each has a key of its own";

/**
 * Answers a function that reads the files again, and logs which and what came of it. It never throws.
 */
export function createReload(config: Config, target: Reloadable, log: Logger): () => void {
  const { tls, files } = config;
  let key = config.auth?.key ?? null;
  let clusterKeys = config.clusterKeys.join("\n");
  return () => {
    const read: string[] = [];
    const attempt = (file: string, take: () => string): void => {
      try {
        read.push(`${file} (${take()})`);
      } catch (error) {
        log.error(`SIGHUP: ${(error as Error).message}; nothing has changed`);
      }
    };
    const { auth, clusterKey, tlsCa } = files;
    if (tls !== null)
      attempt(`${tls.certificate}, ${tls.key}`, () =>
        target.renewCertificate() ? "in force for new connections" : "unchanged",
      );
    if (auth !== null)
      attempt(auth, () => {
        const fresh = readKey(auth);
        if (fresh === key) return "unchanged";
        if (!target.renewKey(fresh)) return SHARED_KEY;
        key = fresh;
        return "in force";
      });
    if (clusterKey !== null)
      attempt(clusterKey, () => {
        const fresh = readClusterKeys({ clusterKeyFile: clusterKey }, null);
        if (fresh.join("\n") === clusterKeys) return "unchanged";
        target.renewClusterKeys(fresh);
        clusterKeys = fresh.join("\n");
        return fresh.length === 1 ? "in force" : "in force: the first key signs, both are accepted";
      });
    if (tlsCa !== null)
      attempt(tlsCa, () =>
        readTlsCa({ tlsCa }) === config.tlsCa ? "unchanged" : "changed, in force after a restart",
      );
    for (const warning of secretWarnings([auth, clusterKey, tls?.key])) log.warn(warning);
    log.info(
      read.length === 0 ? "SIGHUP: there is no file to read again" : `SIGHUP: read again: ${read.join("; ")}`,
    );
  };
}
