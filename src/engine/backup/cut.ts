/** What a shard consists of at one moment, told by its own thread. */
import type { SlabListContent } from "../../format/slab-list.ts";
import { failed, type Outcome } from "../../rules/write.ts";
import type { Shard } from "../shard/shard.ts";

export interface ShardCut {
  shard: number;
  /** Its slabs; the open one ends where all that was answered is synced. */
  list: SlabListContent;
  /** Sequence of the open slab; 0: there is none, as the disk had no room for it. */
  open: number;
  /** Sequences of slabs that are missing or damaged. */
  damaged: number[];
}

/**
 * What a shard consists of now, with all that was answered synced. No slab of it is dropped until
 * `Shard.releaseSlabs`, unless the disk gets full. What the answer says otherwise is why it cannot be told.
 */
export function cutShard(shard: Shard): ShardCut | Outcome {
  const { state, log } = shard;
  shard.commit();
  if (log.writesStopped || !log.syncNow()) return log.stoppedOutcome;
  if (log.room.isFull) return failed("disk_full");
  shard.holdSlabs();
  const { appender, list } = log;
  const damaged = [...state.slabs.all()].filter((slab) => slab.damaged).map((slab) => slab.sequence);
  const open = appender.file.isOpen ? appender.sequence : 0;
  return { shard: state.shard, list: list.asOf(appender.end), open, damaged };
}
