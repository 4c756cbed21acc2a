/**
 * Looking a key up in this node's vault, for those who can wait: for the disk, or until an end is noted; and
 * opening its value, wherever in a cluster that is.
 */
import type { ClusterAccess, Consistency, ReadAnswer } from "../../cluster/node/access.ts";
import { type InlineValue, isInline, isRemote, type RemoteValue } from "../../cluster/wire/values.ts";
import type { Ballot } from "../../format/record.ts";
import { etagOf, etagText } from "../../format/version.ts";
import type { KeyBytes, WriteResult } from "../../shards/arena/write.ts";
import type { Found } from "../../shards/vault/vault.ts";
import { VaultError } from "../../util/errors.ts";
import type { FrontContext } from "../http/context.ts";
import { findPatiently } from "../reads/cold-reads.ts";

/** A value that is replaced just when it is opened is looked up again so many times. */
const REPLACED_MAX = 5;

/** How a value is opened, by where it is. */
export interface Openers<Opened> {
  /** In the vault of this node; null: it is absent. */
  here(found: Found): Opened | null;
  /** It has come with the answer of the cluster. */
  inline(value: InlineValue, ballot: Ballot): Opened;
  remote(cluster: ClusterAccess, value: RemoteValue, ballot: Ballot): Opened;
}

/**
 * Opens the value of a key; null: it is absent.
 * @throws VaultError
 */
export async function openValue<Opened>(
  context: Pick<FrontContext, "vault" | "cluster">,
  key: Uint8Array,
  openers: Openers<Opened>,
  consistency?: Consistency,
): Promise<Opened | null> {
  const { cluster } = context;
  if (cluster === null) return findInVault(context, key, openers.here);
  for (let tries = 0; tries < REPLACED_MAX; tries++) {
    const answer = await findInCluster(cluster, key, consistency);
    if (answer.state === "absent") return null;
    const { value, ballot } = answer;
    if (isInline(value)) return openers.inline(value, ballot);
    if (isRemote(value) && !cluster.isHere(value)) return openers.remote(cluster, value, ballot);
    const etag = etagText(ballot);
    const opened = await findInVault(context, key, (found) =>
      found.state === "found" && etagOf(found.etag) === etag ? openers.here(found) : null,
    );
    if (opened !== null) return opened;
  }
  throw new VaultError("unavailable", "the value was replaced again and again while it was read; try again");
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
