/** The front of S3 beside a node's own (`-s3-port`), as one with it to who stops and renews fronts. */
import type { ClusterAccess } from "../cluster/node/access.ts";
import type { Config } from "../config/config.ts";
import type { Logger } from "../platform/log.ts";
import { createS3Front } from "../s3/front.ts";
import type { Audit } from "../server/access/audit.ts";
import type { ClientAccess } from "../server/access/gate.ts";
import type { Front } from "../server/front.ts";
import { Connections, connectionsMax } from "../server/http/connections.ts";
import { Meter } from "../server/status/meter.ts";
import { REFUSING_CONNECTIONS } from "../server/status/stats.ts";
import type { LocalVault } from "../shards/vault/local-vault.ts";

/** What it has in common with the other fronts. */
export interface S3Shared {
  access: ClientAccess | null;
  rates: ArrayBufferLike;
  audit: Audit | null;
  /** Of all fronts; the last one is its own. */
  meters: readonly ArrayBufferLike[];
  cluster: () => ClusterAccess | null;
  publicUrl: () => string | null;
}

/** Meters that it needs beside those of the other fronts. */
export function s3Meters({ s3Port }: Config): number {
  return s3Port === null ? 0 : 1;
}

/** A node's front with that of S3 beside it, where there is one. */
export async function withS3Front(
  front: Front,
  config: Config,
  vault: LocalVault,
  shared: S3Shared,
  log: Logger,
): Promise<Front> {
  const { s3Port, host, tls, maxValueBytes, cors } = config;
  if (s3Port === null || shared.access === null) return front;
  const meters = shared.meters.map((memory) => new Meter(memory));
  const meter = meters[meters.length - 1];
  const counts = {
    ...{
      own: meter.connections,
      all: meters.map(({ connections }) => connections),
      refusedMs: meter.refusedMs,
    },
  };
  const s3 = await createS3Front({
    ...{ vault, host, port: s3Port, auth: shared.access, rates: shared.rates, audit: shared.audit, tls },
    ...{ cluster: shared.cluster, maxValueBytes, cors, publicUrl: shared.publicUrl, meter, log },
    connections: new Connections(counts, connectionsMax(), (connections) =>
      log.error({ connections }, REFUSING_CONNECTIONS),
    ),
  });
  log.info({ port: s3.port, host }, `S3 on port ${s3.port}`);
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
