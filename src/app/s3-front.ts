/** A front of S3 beside each of a node's own (`-s3-port`), as one with it to who stops and renews fronts. */
import type { ClusterAccess } from "../cluster/node/access.ts";
import type { Config } from "../config/config.ts";
import { createS3Front } from "../s3/front.ts";
import { createS3Memory, type S3Memory } from "../s3/store/s3-memory.ts";
import type { Audit } from "../server/access/audit.ts";
import type { ClientAccess } from "../server/access/gate.ts";
import { connectionsOf, type Front } from "../server/front.ts";
import type { FrontLog } from "../server/http/context.ts";
import { reservePort } from "../server/http/http.ts";
import { Meter } from "../server/status/meter.ts";
import type { LocalVault } from "../shards/vault/local-vault.ts";

/** Where the fronts of S3 listen, and what they have in common; it goes to the other threads. */
export interface S3Place {
  port: number;
  memory: S3Memory;
  /** How many there are: one for each of the node's fronts. */
  fronts: number;
}

/** What one of them has in common with its thread's own front. */
export interface S3Shared {
  /** Which of the node's fronts it belongs to; 0 is the main thread's. */
  front: number;
  access: ClientAccess | null;
  rates: ArrayBufferLike;
  audit: Audit | null;
  /** Of all fronts; those of S3 come last. */
  meters: readonly ArrayBufferLike[];
  cluster: () => ClusterAccess | null;
  publicUrl: () => string | null;
}

/** Meters that they need beside those of the other fronts. */
export function s3Meters({ s3Port, fronts }: Config): number {
  return s3Port === null ? 0 : fronts;
}

/** Where S3 is to be; null: nowhere. Rejects when the port is taken. */
export async function s3PlaceOf({ s3Port, host, fronts }: Config): Promise<S3Place | null> {
  if (s3Port === null) return null;
  const port = fronts > 1 ? await reservePort(host, s3Port) : s3Port;
  return { port, memory: createS3Memory(), fronts };
}

/** A thread's front with that of S3 beside it, where there is one. */
export async function withS3Front(
  front: Front,
  place: S3Place | null,
  config: Pick<Config, "host" | "tls" | "maxValueBytes" | "cors">,
  vault: LocalVault,
  shared: S3Shared,
  log: FrontLog,
): Promise<Front> {
  if (place === null || shared.access === null) return front;
  const { host, tls, maxValueBytes, cors } = config;
  const meters = shared.meters.map((memory) => new Meter(memory));
  const meter = meters[meters.length - place.fronts + shared.front];
  const s3 = await createS3Front({
    ...{ vault, host, ...place, auth: shared.access, rates: shared.rates, audit: shared.audit, tls },
    ...{ cluster: shared.cluster, maxValueBytes, cors, publicUrl: shared.publicUrl, meter, log },
    connections: connectionsOf(meter, meters, log),
  });
  if (shared.front === 0) log.info({ port: s3.port, host }, `S3 on port ${s3.port}`);
  return {
    port: front.port,
    renewCertificate() {
      const isNew = front.renewCertificate();
      s3.renewCertificate();
      return isNew;
    },
    renewTokens(tokens) {
      front.renewTokens(tokens);
      s3.renewTokens(tokens);
    },
    async close(deadlineMs) {
      await Promise.all([front.close(deadlineMs), s3.close(deadlineMs)]);
    },
  };
}
