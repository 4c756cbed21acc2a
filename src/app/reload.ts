/**
 * Files that the command line names are read again: all at SIGHUP, tokens and certificate also when they
 * change. Each is taken as a whole or not at all: what is wrong with one is logged, and what was in force
 * stays.
 */
import { keepSlots, type TokenRecord } from "../auth/token-file.ts";
import { readClusterKeys, readKey, readTlsCa, readTokens, secretWarnings } from "../config/access.ts";
import type { Config } from "../config/config.ts";
import { CertificateWatch } from "../platform/certificate-watch.ts";
import { watchFiles } from "../platform/file-watch.ts";
import type { Logger } from "../platform/log.ts";
import { assertBriefRead } from "../util/brief-read.ts";

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
  /** Takes other tokens of clients. */
  renewTokens(tokens: readonly TokenRecord[]): void;
  /** Opens the audit file again. */
  reopenAudit(): void;
}

/** Reads files again for as long as a node runs. Nothing here throws. */
export class FileReload {
  private readonly config: Config;
  private readonly target: Reloadable;
  private readonly log: Logger;
  private key: string | null;
  private clusterKeys: string;
  private tokens: readonly TokenRecord[];
  private readonly endWatch: () => void;
  private readonly certificate: CertificateWatch | null;
  private readonly report: (refused: number) => void;
  /** Files that could not be taken when they were read last. */
  private readonly refused = new Set<string>();

  /** @param report told how many files are not in force as they are */
  constructor(config: Config, target: Reloadable, log: Logger, report: (refused: number) => void = () => {}) {
    this.report = report;
    this.config = config;
    this.target = target;
    this.log = log;
    this.key = config.auth?.key ?? null;
    this.clusterKeys = config.clusterKeys.join("\n");
    this.tokens = config.auth?.tokens ?? [];
    const { tls, files } = config;
    const watched = [
      ...(files.tokens === null ? [] : [files.tokens]),
      ...(tls === null ? [] : [tls.certificate, tls.key]),
    ];
    const certificate = { file: tls?.certificate ?? "", authorities: config.tlsCa, url: config.publicUrl };
    this.certificate = tls === null ? null : new CertificateWatch(certificate, (text) => log.warn(text));
    this.endWatch = watchFiles(watched, (file) => this.changed(file));
  }

  /** SIGHUP: reads all of them, and logs which and what came of it. */
  all(): void {
    const { tls, files } = this.config;
    const read: string[] = [];
    const attempt = (some: readonly string[] | null, take: (file: string) => string): void => {
      if (some === null) return;
      try {
        read.push(`${some.join(", ")} (${this.take(some, () => take(some[0]))})`);
      } catch (error) {
        this.log.error(`SIGHUP: ${(error as Error).message}; nothing has changed`);
      }
    };
    const only = (file: string | null): string[] | null => (file === null ? null : [file]);
    attempt(tls === null ? null : certificateFiles(tls), () => this.takeCertificate());
    attempt(only(files.auth), (file) => this.takeKey(file));
    attempt(only(files.clusterKey), (file) => this.takeClusterKeys(file));
    attempt(only(files.tokens), (file) => this.takeTokens(file));
    attempt(only(files.tlsCa), (tlsCa) =>
      readTlsCa({ tlsCa }) === this.config.tlsCa ? UNCHANGED : "changed, in force after a restart",
    );
    this.target.reopenAudit();
    for (const warning of secretWarnings([tls?.key])) this.log.warn(warning);
    this.log.info(
      read.length === 0 ? "SIGHUP: there is no file to read again" : `SIGHUP: read again: ${read.join("; ")}`,
    );
  }

  close(): void {
    this.certificate?.close();
    this.endWatch();
  }

  /** Takes what these files hold now, and counts whether they could be taken. Nothing here waits for one. */
  private take(files: readonly string[], how: () => string): string {
    const named = files.join(", ");
    try {
      for (const file of files) assertBriefRead(file);
      const outcome = how();
      this.refused.delete(named);
      return outcome;
    } catch (error) {
      this.refused.add(named);
      throw error;
    } finally {
      this.report(this.refused.size);
    }
  }

  private changed(file: string): void {
    const { tls, files } = this.config;
    const isTokens = file === files.tokens;
    const together = isTokens || tls === null ? [file] : certificateFiles(tls);
    try {
      const outcome = this.take(together, () => (isTokens ? this.takeTokens(file) : this.takeCertificate()));
      if (outcome !== UNCHANGED) this.log.info(`${file} has changed: ${outcome}`);
    } catch (error) {
      this.log.error(`${file} has changed, but ${(error as Error).message}; what was in force stays`);
    }
  }

  private takeCertificate(): string {
    const isOther = this.target.renewCertificate();
    this.certificate?.look();
    return isOther ? "in force for new connections" : UNCHANGED;
  }

  private takeKey(file: string): string {
    const fresh = readKey(file);
    if (fresh === this.key) return UNCHANGED;
    if (!this.target.renewKey(fresh)) return SHARED_KEY;
    this.key = fresh;
    return "in force";
  }

  private takeClusterKeys(file: string): string {
    const fresh = readClusterKeys({ clusterKeyFile: file }, null);
    if (fresh.join("\n") === this.clusterKeys) return UNCHANGED;
    this.target.renewClusterKeys(fresh);
    this.clusterKeys = fresh.join("\n");
    return fresh.length === 1 ? "in force" : "in force: the first key signs, both are accepted";
  }

  private takeTokens(file: string): string {
    const fresh = keepSlots(readTokens(file), this.tokens);
    if (JSON.stringify(fresh) === JSON.stringify(this.tokens)) return UNCHANGED;
    this.target.renewTokens(fresh);
    this.tokens = fresh;
    return `in force, ${fresh.length} tokens`;
  }
}

/** Both are taken at once, whichever has changed. */
function certificateFiles({ certificate, key }: NonNullable<Config["tls"]>): string[] {
  return [certificate, key];
}

const UNCHANGED = "unchanged";
const SHARED_KEY =
  "changed, NOT in force: the nodes of a cluster sign with it, so stop them all, and start them with the new one; with -cluster-key-file each has a key of its own";
