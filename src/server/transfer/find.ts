/**
 * Looking a key up in this node's vault, for those who can wait: for the disk, or until an end is noted; and
 * opening its value, wherever in a cluster that is.
 */
import type { ClusterAccess, Consistency, ReadAnswer } from "../../cluster/node/access.ts";
import { isInline, isRemote } from "../../cluster/wire/values.ts";
import type { KeyBytes, WriteResult } from "../../shards/arena/write.ts";
import type { Found, ValueReader } from "../../shards/vault/vault.ts";
import { sameBytes } from "../../util/bytes.ts";
import { VaultError } from "../../util/errors.ts";
import type { FrontContext } from "../http/context.ts";
import { KnownValue } from "../reads/cluster-reads.ts";
import { findPatiently } from "../reads/cold-reads.ts";
import { LOOKS_MAX, OUT_OF_REACH, openRemote } from "../reads/remote-reader.ts";

/** What of a value is to be read: the bytes `start` to `end`. */
export interface Range {
  start: number;
  end: number;
}

/** That part of it, open. Whoever has it reads it or closes it. */
export interface OpenValue extends Range {
  reader: ValueReader;
}

/**
 * Opens the value of a key; null: it is absent.
 * @param judge says what is to be read of it, and what else is to be known of it. Where a value cannot be had
 * any more it is asked again, of what is there then
 * @throws VaultError, or what `judge` throws
 */
export async function openValue<Judged extends Range>(
  context: Pick<FrontContext, "vault" | "cluster" | "log">,
  key: Uint8Array,
  judge: (found: Found) => Judged,
  consistency?: Consistency,
): Promise<(Judged & OpenValue) | null> {
  const { cluster, log } = context;
  // What it reads stays mapped from now on, whatever becomes of the key.
  const open = (found: Found): Judged & OpenValue => ({ ...judge(found), reader: found.open() });
  if (cluster === null)
    return findInVault(context, key, (found) => {
      demandSound(found);
      return found.state === "absent" ? null : open(found);
    });
  for (let looks = 0; looks < LOOKS_MAX; looks++) {
    const answer = await findInCluster(cluster, key, consistency);
    if (answer.state === "absent") return null;
    const { value, ballot } = answer;
    const known = new KnownValue(value, ballot);
    if (isInline(value)) return open(known);
    if (isRemote(value) && !cluster.isHere(value)) {
      const judged = judge(known);
      const reader = await openRemote({ cluster, log }, key, value, known, judged);
      if (reader !== null) return { ...judged, reader };
      continue;
    }
    const opened = await findInVault(context, key, (found) =>
      found.state === "found" && sameBytes(found.etag, known.etag) ? open(found) : null,
    );
    if (opened !== null) return opened;
  }
  throw new VaultError("unavailable", OUT_OF_REACH);
}

/** @throws VaultError("corrupt") */
export function demandSound({ state }: Found): void {
  if (state !== "found" && state !== "absent") throw new VaultError("corrupt");
}

/** @throws VaultError("no_quorum") */
export async function findInCluster(
  cluster: ClusterAccess,
  key: Uint8Array,
  consistency: Consistency = cluster.consistency,
): Promise<Exclude<ReadAnswer, { state: "unavailable" }>> {
  const answer = await new Promise<ReadAnswer>((resolve) => cluster.read(key, consistency, resolve));
  if (answer.state === "unavailable") throw new VaultError("no_quorum");
  return answer;
}

/**
 * Lets `use` see what the vault has, once it is in memory: it is valid during that call. In a cluster a value
 * whose end has come is shown all the same: whether it has ended says the cluster.
 * @throws VaultError
 */
export async function findInVault<Result>(
  { vault, cluster }: Pick<FrontContext, "vault" | "cluster">,
  key: Uint8Array,
  use: (found: Found) => Result,
): Promise<Result> {
  const name = { bytes: key, length: key.length };
  for (let reads = 1; ; reads++) {
    const found = findPatiently(vault, name, reads);
    if (found.state === "ended" && cluster !== null) found.state = "found";
    if (found.state === "ended") await noteEnd(vault, name);
    else if (found.state !== "cold") return use(found);
    else await new Promise<void>((resolve) => vault.warm(resolve));
  }
}

/** Has it written down that a value has ended. */
async function noteEnd(vault: FrontContext["vault"], key: KeyBytes): Promise<void> {
  const { error, detail } = await new Promise<Pick<WriteResult, "error" | "detail">>((resolve) => {
    const isTaken = vault.end(key, ({ error, detail }) => resolve({ error, detail }));
    if (!isTaken) resolve({ error: "overloaded", detail: "" });
  });
  if (error !== null) throw new VaultError(error, detail);
}

/** Waits until a piece can be read without waiting for the disk, or another node. */
export async function pieceReady(
  reader: { ready?(offset: number, then: () => void): boolean },
  offset: number,
): Promise<void> {
  while (reader.ready !== undefined) {
    let isReady = true;
    await new Promise<void>((resolve) => {
      isReady = reader.ready?.(offset, resolve) !== false;
      if (isReady) resolve();
    });
    if (isReady) return;
  }
}
