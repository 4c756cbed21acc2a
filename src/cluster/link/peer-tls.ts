/**
 * What this node trusts and shows when it connects to other nodes by TLS. Where -tls-ca says whose
 * certificates count between nodes, it shows its own, so that they can refuse a stranger in the handshake.
 */
import { X509Certificate } from "node:crypto";
import { readAgain } from "../../util/brief-read.ts";

/** Extended key usages, by their numbers in RFC 5280. */
const CLIENT_USAGE = "1.3.6.1.5.5.7.3.2";
const ANY_USAGE = "2.5.29.37.0";

export class PeerTls {
  /** Certificates (PEM) of the authorities to trust; undefined: those that Node.js trusts. */
  readonly ca: string | undefined;
  /** The own certificate with its chain, and its key (PEM); null: none is shown. */
  own: { readonly cert: string; readonly key: string } | null = null;
  /** Why none is shown though there is one, for a person; null: that is not so. */
  problem: string | null = null;
  private readonly files: { certificate: string; key: string } | null;

  /** @param files of the own certificate, in PEM; null: there is none */
  constructor(ca: string | null, files: { certificate: string; key: string } | null) {
    this.ca = ca ?? undefined;
    this.files = ca === null ? null : files;
    this.renew();
  }

  /** Reads the files again: connections from now on show what they hold. Throws when they cannot be read. */
  renew(): void {
    if (this.files === null) return;
    const cert = readAgain(this.files.certificate).toString("utf8");
    const key = readAgain(this.files.key).toString("utf8");
    this.own = mayBeShown(cert) ? { cert, key } : null;
    this.problem =
      this.own === null
        ? `${this.files.certificate} is not for those who connect (its extended key usage lacks clientAuth): it is not shown to other nodes`
        : null;
  }
}

/** Whether a certificate may be shown by who connects: many authorities give out some that may not. */
function mayBeShown(pem: string): boolean {
  const usages = new X509Certificate(pem).keyUsage as string[] | undefined;
  return usages === undefined || usages.includes(CLIENT_USAGE) || usages.includes(ANY_USAGE);
}

/** What connects with TLS is made of this. */
interface Shown {
  ca?: string;
  cert?: string;
  key?: string;
}

/** Answers what was made of the certificate that counts now: anew when that is another one. */
export function madeOf<Made>(tls: PeerTls | undefined, make: (shown: Shown) => Made): () => Made {
  const makeNow = () => make({ ...(tls?.ca === undefined ? {} : { ca: tls.ca }), ...(tls?.own ?? {}) });
  let own = tls?.own;
  let made = makeNow();
  return () => {
    if (tls?.own !== own) {
      own = tls?.own;
      made = makeNow();
    }
    return made;
  };
}
