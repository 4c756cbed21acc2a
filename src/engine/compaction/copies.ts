/**
 * Copying records to the end of the log. Of a value whose life is over only that is copied; it is synced
 * before it counts, since nothing undoes it. A copy keeps its ballot and gets a checksum of its own, so who
 * copies checks the record first: else what has rotted since it was last looked at would pass for good from
 * then on. It is published at once, unsynced: until the source slab is dropped a crash only loses the copy.
 */
import { endAt } from "../../format/end.ts";
import { endedTrailer } from "../../format/fields/end.ts";
import { copyUnits } from "../../format/fields/origin.ts";
import { TYPE_CHUNK, TYPE_ENDED, UNIT_BYTES } from "../../format/offsets.ts";
import {
  emptyHead,
  isExtended,
  keyOf,
  originOf,
  readHead,
  recordUnits,
  trailerOf,
  typeOf,
} from "../../format/record.ts";
import { isIndexed, isTold, isValue } from "../../format/record-types.ts";
import { hasEnded } from "../../rules/expiry.ts";
import { NOTHING } from "../../util/bytes.ts";
import type { Log } from "../log/log.ts";
import type { SlabMap } from "../slabs/maps.ts";
import type { State } from "../state/state.ts";

/** A copy that is staged, in units. `ended`: it says that its value has ended. */
interface StagedCopy {
  type: number;
  hashA: number;
  hashB: number;
  from: number;
  to: number;
  units: number;
  ended: boolean;
}

export class Copies {
  private readonly state: State;
  private readonly log: Log;
  /**
   * The shard's missing pages when the step began: what was checked since then is what was copied, as long as
   * there are no more.
   */
  private missing = 0;
  /** Staged, and not published yet; all from one slab. */
  private readonly staged: StagedCopy[] = [];
  private readonly head = emptyHead();

  constructor(state: State, log: Log) {
    this.state = state;
    this.log = log;
  }

  /** To be called before the records of a step are checked. */
  begin(): void {
    this.missing = this.state.lookup.missingPages;
  }

  /** Stages a copy of a record that was checked; answers its size in bytes. */
  copy(map: SlabMap, unit: number, hashA: number, hashB: number): number {
    const { appender } = this.log;
    const { state } = this;
    const type = typeOf(map, unit);
    const outranked = isIndexed(type) && state.replication.promiseAt(map, unit, hashA, hashB) !== null;
    const fresh = isIndexed(type) && state.isFresh(map, unit, map.slot, unit);
    const ended = !outranked && this.isOver(map, unit, type);
    if (ended) this.appendEnded(map, unit, hashA, hashB, fresh);
    else {
      const origin = this.originFor(map, unit, type);
      this.makeRoom(map, copyUnits(map, unit, origin));
      appender.appendCopy(map, unit, hashA, hashB, outranked, fresh, origin);
    }
    const { lastUnit: to, lastUnits: units } = appender;
    if (fresh) state.noteFresh({ slot: map.slot, unit }, appender.sequence, to);
    if (type !== TYPE_CHUNK) this.staged.push({ type, hashA, hashB, from: unit, to, units, ended });
    return units * UNIT_BYTES;
  }

  private makeRoom(map: SlabMap, units: number): void {
    if (this.log.appender.hasRoom(units)) return;
    this.publish(map);
    this.log.makeRoomToMove(units);
  }

  private isOver(map: SlabMap, unit: number, type: number): boolean {
    if (!isExtended(map, unit) || !isValue(type)) return false;
    const end = endAt(map, unit);
    return end !== 0 && hasEnded(end, this.state.ends.markable);
  }

  /** It is news, not a copy: so it has no origin. */
  private appendEnded(map: SlabMap, unit: number, hashA: number, hashB: number, fresh: boolean): void {
    const { head } = this;
    const key = keyOf(map, unit);
    const trailer = endedTrailer(trailerOf(map, unit));
    this.makeRoom(map, recordUnits(key.length, 0, 0, trailer.length));
    readHead(map, unit, head);
    head.type = TYPE_ENDED;
    head.json = head.outranked = false;
    head.fresh = fresh;
    this.log.appender.append(head, key, NOTHING, hashA, hashB, 0, [], trailer);
  }

  /**
   * The origin that a copy of a record has to be given; 0: it has one, or gets none, as nobody who follows
   * the log asks for it, or there is no room.
   */
  originFor(map: SlabMap, unit: number, type: number): number {
    const { state, log } = this;
    if (!isTold(type) || !state.keepsOrigins || log.room.isFull || originOf(map, unit) !== 0) return 0;
    return map.sequence;
  }

  /** Writes the copies that are staged and points the index to them. `map`: the slab that they are from. */
  publish(map: SlabMap): void {
    const { appender } = this.log;
    this.write();
    if (this.staged.some(({ ended }) => ended) && !this.log.syncNow())
      throw new Error("what has ended cannot be written");
    const { slot } = appender;
    for (const { type, hashA, hashB, from, to, units, ended } of this.staged) {
      const place = { slot, unit: to };
      if (ended) this.state.moveEnded(hashA, hashB, { slot: map.slot, unit: from }, place, units);
      else this.state.move(type, hashA, hashB, map, from, place, units);
    }
    this.staged.length = 0;
    this.state.publishedUpTo(appender.sequence, appender.endUnit);
  }

  /**
   * Writes what is staged in the log.
   * @throws what the disk says, or that a page went missing under this step: copies may hold zeros
   */
  write(): void {
    if (this.state.lookup.missingPages !== this.missing)
      throw new Error("a page that was to be moved cannot be read");
    this.log.appender.flush();
    this.log.appender.settle();
  }

  /** After a failure: what is staged is taken back by its caller. */
  forget(): void {
    this.staged.length = 0;
  }
}
