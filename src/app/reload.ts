/**
 * Files that the command line names are read again: all at SIGHUP, tokens and certificate also when they
 * change. Each is taken as a whole or not at all: what is wrong with one is logged, and what was in force
 * stays.
 */
import { keepSlots, type TokenRecord } from "../auth/token-file.ts";
import { readClusterKeys, readKey, readTlsCa, readTokens, secretWarnings } from "../config/access.ts";
import type { Config } from "../config/config.ts";
import { CertificateWatch } from "../platform/certificate-watch.ts";
import type { Logger } from "../platform/log.ts";
import { watchFiles } from "./file-watch.ts";

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

  constructor(config: Config, target: Reloadable, log: Logger) {
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
    const attempt = (file: string | null, take: (file: string) => string): void => {
      if (file === null) return;
      try {
        read.push(`${file} (${take(file)})`);
      } catch (error) {
        this.log.error(`SIGHUP: ${(error as Error).message}; nothing has changed`);
      }
    };
    attempt(tls === null ? null : `${tls.certificate}, ${tls.key}`, () => this.takeCertificate());
    attempt(files.auth, (file) => this.takeKey(file));
    attempt(files.clusterKey, (file) => this.takeClusterKeys(file));
    attempt(files.tokens, (file) => this.takeTokens(file));
    attempt(files.tlsCa, (tlsCa) =>
      readTlsCa({ tlsCa }) === this.config.tlsCa ? "unchanged" : "changed, in force after a restart",
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

  private changed(file: string): void {
    const isTokens = file === this.config.files.tokens;
    try {
      const outcome = isTokens ? this.takeTokens(file) : this.takeCertificate();
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

const UNCHANGED = "unchanged";
const SHARED_KEY =
  "changed, NOT in force: the nodes of a cluster sign with it, so stop them all, and start them with the new one; with -cluster-key-file each has a key of its own";
