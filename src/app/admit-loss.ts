import type { Membership } from "../cluster/membership/membership.ts";
import type { Logger } from "../platform/log.ts";
import type { LocalVault } from "../shards/vault/local-vault.ts";

/**
 * Where slabs were lost, so were promises and records that this replica was counted for: it does not vote
 * before it has taken everything over from the others (cluster/sync/rejoin.ts). What is absent here is then
 * no doubt any more, but one of the things that it has to ask for.
 */
export function admitLoss(vault: LocalVault, membership: Membership, log: Logger): void {
  if (!vault.replica.hasLost || !membership.isMember) return;
  if (membership.voting)
    log.warn("slabs of this replica were lost: it does not vote until it has synchronised from the others");
  membership.setVoting(false);
  vault.replica.settleLoss((error) => {
    if (error !== null)
      log.warn({ reason: error }, "the loss could not be noted: synchronisation waits for the next start");
  });
}
