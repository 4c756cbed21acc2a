/** Values as S3 reads them: what is said of them at once, their bytes in pieces, wherever they are. */

import type { ClusterAccess } from "../../cluster/node/access.ts";
import type { RemoteValue } from "../../cluster/wire/values.ts";
import type { Ballot } from "../../format/record.ts";
import { etagOf } from "../../format/version.ts";
import type { FrontContext } from "../../server/http/context.ts";
import { KnownValue } from "../../server/reads/cluster-reads.ts";
import { RemoteReader } from "../../server/reads/remote-reader.ts";
import { findInCluster, findInVault, openValue } from "../../server/transfer/find.ts";
import type { Found, ValueReader } from "../../shards/vault/vault.ts";
import { VaultError } from "../../util/errors.ts";
import { s3Etag } from "../protocol/etag.ts";

/** What is known of a value. */
export interface ObjectFacts {
  contentType: string;
  /** What is kept with it. */
  trailer: Uint8Array;
  valueBytes: number;
  /** Version, with its quotes. */
  version: string;
  versionMs: number;
  /** As S3 has it, without quotes. */
  etag: string;
}

/** With its bytes. Whoever has one reads it or closes it. */
export interface OpenObject extends ObjectFacts {
  /** Bytes `start` to `end`; to be called once. */
  open(start: number, end: number): Promise<ValueReader>;
  close(): void;
}

function factsOf({ contentType, trailer, valueBytes, versionMs, etag }: Found): ObjectFacts {
  const version = etagOf(etag);
  return { contentType, trailer, valueBytes, version, versionMs, etag: s3Etag(trailer, version) };
}

/** What a key has; null: it is known to be absent. */
export async function factsAt(context: FrontContext, key: Uint8Array): Promise<ObjectFacts | null> {
  const { cluster } = context;
  if (cluster === null) return findInVault(context, key, (found) => (isThere(found) ? factsOf(found) : null));
  const answer = await findInCluster(cluster, key);
  return answer.state === "absent" ? null : factsOf(new KnownValue(answer.value, answer.ballot));
}

/** The same, to be read. */
export async function openObject(context: FrontContext, key: Uint8Array): Promise<OpenObject | null> {
  return openValue(context, key, {
    here: (found) => (isThere(found) ? opened(found) : null),
    inline: (value, ballot) => opened(new KnownValue(value, ballot)),
    remote: (cluster, value, ballot) => remote(cluster, key, value, ballot),
  });
}

function isThere(found: Found): boolean {
  if (found.state === "absent") return false;
  if (found.state !== "found") throw new VaultError("corrupt");
  return true;
}

function opened(found: Found): OpenObject {
  // From now on it stays mapped, whatever becomes of the key.
  const reader = found.open();
  const { contentType, trailer, valueBytes, version, versionMs, etag } = factsOf(found);
  const open = (): Promise<ValueReader> => Promise.resolve(reader);
  const close = (): void => reader.close();
  return { contentType, trailer, valueBytes, version, versionMs, etag, open, close };
}

function remote(cluster: ClusterAccess, key: Uint8Array, value: RemoteValue, ballot: Ballot): OpenObject {
  return {
    ...factsOf(new KnownValue(value, ballot)),
    async open(start, end) {
      return new RemoteReader(await cluster.open(key, value, start, end), value.valueBytes, start, end);
    },
    close: () => {},
  };
}
