/** Values as S3 reads them: what is said of them at once, their bytes in pieces, wherever they are. */

import { etagOf } from "../../format/version.ts";
import type { FrontContext } from "../../server/http/context.ts";
import { KnownValue } from "../../server/reads/cluster-reads.ts";
import {
  demandSound,
  findInCluster,
  findInVault,
  type OpenValue,
  openValue,
  type Range,
} from "../../server/transfer/find.ts";
import type { Found } from "../../shards/vault/vault.ts";
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

/** With its bytes, or those of them that are to be read. */
export type OpenObject = ObjectFacts & OpenValue;

function factsOf({ contentType, trailer, valueBytes, versionMs, etag }: Found): ObjectFacts {
  const version = etagOf(etag);
  return { contentType, trailer, valueBytes, version, versionMs, etag: s3Etag(trailer, version) };
}

/** What a key has; null: it is known to be absent. */
export async function factsAt(context: FrontContext, key: Uint8Array): Promise<ObjectFacts | null> {
  const { cluster } = context;
  if (cluster === null)
    return findInVault(context, key, (found) => {
      demandSound(found);
      return found.state === "absent" ? null : factsOf(found);
    });
  const answer = await findInCluster(cluster, key);
  return answer.state === "absent" ? null : factsOf(new KnownValue(answer.value, answer.ballot));
}

/**
 * The same, to be read. Whoever has it reads it or closes its reader.
 * @param judge says which bytes of it; an object that is gone when it is to be read is judged anew, as it is
 * then
 */
export function openObject<Judged extends Range>(
  context: FrontContext,
  key: Uint8Array,
  judge: (facts: ObjectFacts) => Judged,
): Promise<(OpenObject & Judged) | null> {
  return openValue(context, key, (found) => {
    const facts = factsOf(found);
    return { ...facts, ...judge(facts) };
  });
}

/** All bytes. */
export function whole({ valueBytes }: ObjectFacts): Range {
  return { start: 0, end: valueBytes };
}
