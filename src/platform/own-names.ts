/**
 * Whether a URL leads to this machine's own port: for a node that was not told its name (-public-url), but
 * has to tell whether a request is meant for it. Addresses are compared with the machine's interfaces; a name
 * is looked up, later, and until then it is none of ours.
 */
import { lookup } from "node:dns";
import { isIP } from "node:net";
import { hostname, networkInterfaces } from "node:os";

/** How long what a name led to counts. */
const NAME_MS = 60_000;
const NAMES_MAX = 64;

/** Answers all addresses of a name; none: it has none. */
export type ResolveName = (name: string, done: (addresses: string[]) => void) => void;

const resolveBySystem: ResolveName = (name, done) => {
  lookup(name, { all: true }, (error, addresses) =>
    done(error === null ? addresses.map(({ address }) => address) : []),
  );
};

export class OwnNames {
  private readonly port: () => number;
  private readonly resolve: ResolveName;
  private readonly names = new Map<string, { isOwn: boolean; atMs: number }>();

  /** @param port on which this node listens */
  constructor(port: () => number, resolve: ResolveName = resolveBySystem) {
    this.port = port;
    this.resolve = resolve;
  }

  /** To be asked only for those who have the key: names are looked up for it. */
  has(url: string): boolean {
    if (!URL.canParse(url)) return false;
    const { protocol, port, hostname: host } = new URL(url);
    const asked = port === "" ? (protocol === "https:" ? 443 : 80) : Number(port);
    if (asked !== this.port()) return false;
    const name = (host.startsWith("[") ? host.slice(1, -1) : host).toLowerCase();
    if (isIP(name) !== 0) return isOwnAddress(name);
    return name === "localhost" || name === hostname().toLowerCase() || this.leadsHere(name);
  }

  private leadsHere(name: string): boolean {
    const known = this.names.get(name);
    const nowMs = performance.now();
    if (known !== undefined && nowMs - known.atMs < NAME_MS) return known.isOwn;
    if (known === undefined && this.names.size >= NAMES_MAX) this.names.clear();
    const entry = { isOwn: known?.isOwn ?? false, atMs: nowMs };
    this.names.set(name, entry);
    this.resolve(name, (addresses) => {
      entry.isOwn = addresses.some(isOwnAddress);
      // Names come and go with what they name: one that leads nowhere is asked for again at once.
      if (!entry.isOwn) entry.atMs = Number.NEGATIVE_INFINITY;
    });
    return entry.isOwn;
  }
}

function isOwnAddress(address: string): boolean {
  if (/^127\./.test(address) || address === "::1" || address === "0.0.0.0" || address === "::") return true;
  return Object.values(networkInterfaces()).some((all) => all?.some((own) => own.address === address));
}
