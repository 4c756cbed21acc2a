import type { KeyBytes } from "../../shards/arena/write.ts";
import { hashKey } from "../../util/hash.ts";
import type { ClusterKey } from "../register/ports.ts";

/** A key with what the cluster needs to know of it. `bytes` must not change any more. */
export function clusterKey(bytes: Uint8Array): ClusterKey {
  return { bytes, hashA: hashKey(bytes, bytes.length, 0) };
}

/** The same key as the vault takes it. */
export function keyBytes({ bytes }: ClusterKey): KeyBytes {
  return { bytes, length: bytes.length };
}
