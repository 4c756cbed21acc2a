/**
 * SIGHUP: the files that the command line names are read again. Each is taken as a whole or not at all: what
 * is wrong with one is logged, and what was in force stays.
 */
import { readKey, readTlsCa, secretWarnings } from "../config/access.ts";
import type { Config } from "../config/config.ts";
import type { Logger } from "../platform/log.ts";

export interface Reloadable {
  /** Reads the certificate again; false: it has not changed. Throws a sentence. */
  renewCertificate(): boolean;
  /** Takes another key for clients; null: this node cannot change it while it runs. */
  renewKey: ((key: string) => void) | null;
}

/** Reads the files again, and logs which and what came of it. Never throws. */
export function reloadFiles(
  config: Config,
  key: string | null,
  target: Reloadable,
  log: Logger,
): string | null {
  const { tls, files } = config;
  let current = key;
  const read: string[] = [];
  const attempt = (file: string, take: () => string): void => {
    try {
      read.push(`${file} (${take()})`);
    } catch (error) {
      log.error(`SIGHUP: ${(error as Error).message}; nothing has changed`);
    }
  };
  if (tls !== null)
    attempt(`${tls.certificate}, ${tls.key}`, () =>
      target.renewCertificate() ? "in force for new connections" : "unchanged",
    );
  if (files.auth !== null) {
    const file = files.auth;
    attempt(file, () => {
      const fresh = readKey(file);
      if (fresh === current) return "unchanged";
      if (target.renewKey === null)
        return "changed, NOT in force: the nodes of a cluster share the key, so stop them all, and start them with the new one";
      target.renewKey(fresh);
      current = fresh;
      return "in force";
    });
  }
  if (files.tlsCa !== null) {
    const tlsCa = files.tlsCa;
    attempt(tlsCa, () =>
      readTlsCa({ tlsCa }) === config.tlsCa ? "unchanged" : "changed, in force after a restart",
    );
  }
  for (const warning of secretWarnings([files.auth, tls?.key])) log.warn(warning);
  log.info(
    read.length === 0 ? "SIGHUP: there is no file to read again" : `SIGHUP: read again: ${read.join("; ")}`,
  );
  return current;
}
