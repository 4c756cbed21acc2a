/** Looking a key up in this node's vault, for those who can wait: for the disk, or until an end is noted. */
import type { KeyBytes, WriteResult } from "../../shards/arena/write.ts";
import type { Found } from "../../shards/vault/vault.ts";
import { VaultError } from "../../util/errors.ts";
import type { FrontContext } from "../http/context.ts";
import { findPatiently } from "../reads/cold-reads.ts";

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
