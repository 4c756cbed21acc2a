/**
 * Copying records to the end of the log. A copy keeps its ballot and gets a checksum of its own, so who
 * copies checks the record first: else what has rotted since it was last looked at would pass for good from
 * then on. It is published at once, unsynced: until the source slab is dropped a crash only loses the copy.
 */

import { copyUnits } from "../../format/fields/origin.ts";
import { TYPE_CHUNK, UNIT_BYTES } from "../../format/offsets.ts";
import { isIndexed, isTold, originOf, typeOf } from "../../format/record.ts";
import type { Log } from "../log/log.ts";
import type { SlabMap } from "../slabs/maps.ts";
import type { State } from "../state/state.ts";

export class Copies {
  private readonly state: State;
  private readonly log: Log;
  /**
   * The shard's missing pages when the step began: what was checked since then is what was copied, as long as
   * there are no more.
   */
  private missing = 0;
  /** Staged, and not published yet; all from one slab. */
  private readonly staged: {
    type: number;
    hashA: number;
    hashB: number;
    from: number;
    to: number;
    units: number;
  }[] = [];

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
    const type = typeOf(map, unit);
    const origin = this.originFor(map, unit, type);
    const units = copyUnits(map, unit, origin);
    if (!appender.hasRoom(units)) {
      this.publish(map);
      this.log.makeRoomToMove(units);
    }
    const { state } = this;
    const outranked = isIndexed(type) && state.replication.promiseAt(map, unit, hashA, hashB) !== null;
    const fresh = isIndexed(type) && state.isFresh(map, unit, map.slot, unit);
    appender.appendCopy(map, unit, hashA, hashB, outranked, fresh, origin);
    if (fresh) state.noteFresh({ slot: map.slot, unit }, appender.sequence, appender.lastUnit);
    if (type !== TYPE_CHUNK)
      this.staged.push({ type, hashA, hashB, from: unit, to: appender.lastUnit, units: appender.lastUnits });
    return appender.lastUnits * UNIT_BYTES;
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
    for (const { type, hashA, hashB, from, to, units } of this.staged)
      this.state.move(type, hashA, hashB, map, from, { slot: appender.slot, unit: to }, units);
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
