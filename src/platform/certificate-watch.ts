/**
 * What other nodes and clients will find wrong with the own certificate, found out here first: it has
 * expired, or will soon, is not for the name under which this node is known, or not from an authority that
 * the nodes trust. Looked at when it is read, and again and again, as time passes.
 */
import { X509Certificate } from "node:crypto";
import { isIP } from "node:net";
import { assertBriefRead, readBriefly } from "../util/brief-read.ts";

const LOOK_MS = 60_000;
/** An end is soon when so much is left, and less than so much of its life, as some live for a day. */
const SOON_MS = 14 * 24 * 3600_000;
const SOON_SHARE = 1 / 4;
const CERTIFICATE_SYNTAX = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----/g;

export interface CertificateSetup {
  /** The file that the server shows, in PEM, its own certificate first. */
  file: string;
  /** Authorities that nodes trust, in PEM; null: those of Node.js, of which nothing is judged here. */
  authorities: string | null;
  /** The public URL; null: not known. */
  url: string | null;
}

/** What is wrong with the certificate now, for a person; null: nothing that can be told from here. */
export function certificateProblem(setup: CertificateSetup, nowMillis: number): string | null {
  const { file, authorities, url } = setup;
  let chain: X509Certificate[];
  try {
    assertBriefRead(file);
    chain = certificatesOf(readBriefly(file).toString("utf8"));
  } catch (error) {
    return `the certificate in ${file} cannot be read: ${(error as Error).message}`;
  }
  const [own] = chain;
  if (own === undefined) return `there is no certificate in ${file}`;
  const [fromMillis, toMillis] = [Date.parse(own.validFrom), Date.parse(own.validTo)];
  if (toMillis <= nowMillis)
    return `the certificate in ${file} has expired on ${own.validTo}: other nodes and clients refuse it`;
  if (fromMillis > nowMillis)
    return `the certificate in ${file} is not valid before ${own.validFrom}: other nodes and clients refuse it`;
  const host = url === null ? null : new URL(url).hostname.replace(/^\[(.*)\]$/, "$1");
  if (host !== null && (isIP(host) === 0 ? own.checkHost(host) : own.checkIP(host)) === undefined)
    return `the certificate in ${file} is not for ${host}, by which this node is known (-public-url): other nodes refuse it`;
  if (authorities !== null && !isFrom(chain, certificatesOf(authorities)))
    return `the certificate in ${file} is from none of the authorities of -tls-ca: nodes that trust only those refuse it`;
  const leftMs = toMillis - nowMillis;
  const isSoon = leftMs < SOON_MS && leftMs < (toMillis - fromMillis) * SOON_SHARE;
  return isSoon ? `the certificate in ${file} expires on ${own.validTo}` : null;
}

function certificatesOf(pem: string): X509Certificate[] {
  return (pem.match(CERTIFICATE_SYNTAX) ?? []).map((text) => new X509Certificate(text));
}

/** Whether the first of a chain comes from one of the authorities, by way of the others. */
function isFrom(chain: readonly X509Certificate[], authorities: readonly X509Certificate[]): boolean {
  let link = chain[0];
  for (let steps = 0; steps <= chain.length; steps++) {
    const issued = (by: X509Certificate) => link.checkIssued(by) && link.verify(by.publicKey);
    if (authorities.some((one) => one.fingerprint256 === link.fingerprint256 || issued(one))) return true;
    const next = chain.find((one) => one.fingerprint256 !== link.fingerprint256 && issued(one));
    if (next === undefined) return false;
    link = next;
  }
  return false;
}

/** Says what is wrong, once until it changes. */
export class CertificateWatch {
  problem: string | null = null;
  private readonly setup: CertificateSetup;
  private readonly warn: (sentence: string) => void;
  private readonly timer: NodeJS.Timeout;

  constructor(setup: CertificateSetup, warn: (sentence: string) => void) {
    this.setup = setup;
    this.warn = warn;
    this.timer = setInterval(() => this.look(), LOOK_MS);
    this.timer.unref();
    this.look();
  }

  look(): void {
    const problem = certificateProblem(this.setup, Date.now());
    if (problem !== null && problem !== this.problem) this.warn(problem);
    this.problem = problem;
  }

  close(): void {
    clearInterval(this.timer);
  }
}
