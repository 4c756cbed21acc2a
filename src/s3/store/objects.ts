/** Values as S3 reads them: what is said of them at once, their bytes in pieces, wherever they are. */

import type { ClusterAccess, ReadAnswer } from "../../cluster/node/access.ts";
import { isInline, isRemote, type RemoteValue } from "../../cluster/wire/values.ts";
import type { Ballot } from "../../format/record.ts";
import { etagOf } from "../../format/version.ts";
import type { FrontContext } from "../../server/http/context.ts";
import { KnownValue } from "../../server/reads/cluster-reads.ts";
import { RemoteReader } from "../../server/reads/remote-reader.ts";
import { findInVault } from "../../server/transfer/find.ts";
import type { Found, ValueReader } from "../../shards/vault/vault.ts";
import { VaultError } from "../../util/errors.ts";
import { s3Etag } from "../protocol/etag.ts";

/** A large value that is replaced just when it is read is looked up again so many times. */
const REPLACED_MAX = 5;

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
  const answer = await ask(cluster, key);
  return answer.state === "absent" ? null : factsOf(new KnownValue(answer.value, answer.ballot));
}

/** The same, to be read. */
export async function openObject(context: FrontContext, key: Uint8Array): Promise<OpenObject | null> {
  const { cluster } = context;
  if (cluster === null) return findInVault(context, key, (found) => (isThere(found) ? opened(found) : null));
  for (let tries = 0; tries < REPLACED_MAX; tries++) {
    const answer = await ask(cluster, key);
    if (answer.state === "absent") return null;
    const { value, ballot } = answer;
    const known = new KnownValue(value, ballot);
    if (isInline(value)) return opened(known);
    if (isRemote(value) && !cluster.isHere(value)) return remote(cluster, key, value, ballot);
    const version = etagOf(known.etag);
    const here = await findInVault(context, key, (found) =>
      found.state === "found" && etagOf(found.etag) === version ? opened(found) : null,
    );
    if (here !== null) return here;
  }
  throw new VaultError("unavailable", "The object was replaced again and again while it was read.");
}

function isThere(found: Found): boolean {
  if (found.state === "absent") return false;
  if (found.state !== "found") throw new VaultError("corrupt");
  return true;
}

async function ask(
  cluster: ClusterAccess,
  key: Uint8Array,
): Promise<Exclude<ReadAnswer, { state: "unavailable" }>> {
  const answer = await new Promise<ReadAnswer>((resolve) => cluster.read(key, cluster.consistency, resolve));
  if (answer.state === "unavailable") throw new VaultError("no_quorum");
  return answer;
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
