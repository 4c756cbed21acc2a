/** What compacting a slab would cost and give, for the choice that choose.ts makes. */
import { endAt } from "../../format/end.ts";
import { recentAt } from "../../format/fields/recent.ts";
import { TYPE_CHUNK, TYPE_ENDED, TYPE_FORGOTTEN, UNIT_BYTES } from "../../format/offsets.ts";
import { ballotAt, unitsAt } from "../../format/record.ts";
import { isAbsence, isIndexed } from "../../format/record-types.ts";
import { decodeFooter, tableType, tableUnit, tableWords, tailBytes } from "../../format/slab.ts";
import { isLive } from "../../rules/recent.ts";
import type { Log } from "../log/log.ts";
import { FIGURE } from "../slabs/figures.ts";
import type { SlabMap } from "../slabs/maps.ts";
import type { Slab } from "../slabs/table.ts";
import type { State } from "../state/state.ts";
import type { Circumstances, SlabState } from "./choose.ts";
import { type Chunks, placeOfManifest } from "./chunks.ts";

/** Records that are looked at to estimate how much of the oldest slab is tombstones. */
const SAMPLE_RECORDS = 2048;

export class Appraisal {
  private readonly state: State;
  private readonly log: Log;
  private readonly chunks: Chunks;
  private readonly now: () => number;
  private readonly historyMs: number;

  /**
   * @param now wall clock in milliseconds since 1970
   * @param historyMs how long deletes are told to who follows the log
   */
  constructor(state: State, log: Log, chunks: Chunks, now: () => number, historyMs: number) {
    this.state = state;
    this.log = log;
    this.chunks = chunks;
    this.now = now;
    this.historyMs = historyMs;
  }

  /** How things are now. `pressed`: the disk gives nothing more. */
  circumstances(pressed: boolean): Circumstances<Slab> {
    const { figures, store } = this.state;
    const { room, succession } = this.log;
    const { slabBytes, chunkBytes } = store;
    const absences = figures[FIGURE.tombstones] + figures[FIGURE.forgotten];
    // In a cluster a tombstone goes when all replicas have it: what is then left of it is a forgotten record.
    const tombstones = figures[FIGURE.replicated] === 0 ? absences : figures[FIGURE.forgotten];
    return {
      slabBytes,
      full: room.isFull,
      pressed,
      roomBytes: room.allocatedBytes(chunkBytes),
      spareBytes: succession.spare.room(chunkBytes),
      entries: figures[FIGURE.keys] + absences,
      tombstones,
      tombstoneBytes: absences === 0 ? 0 : (figures[FIGURE.absenceBytes] / absences) * tombstones,
      stateOf: (slab) => this.stateOf(slab),
      isOutlived: (slab) => this.isOutlived(slab),
      measure: (slab, oldest) => this.measure(slab, oldest),
    };
  }

  private stateOf({ sequence, sealed, uploads, damaged }: Slab): SlabState {
    const { appender, succession } = this.log;
    const { figures } = this.state;
    // A copy would look newer than records that damage took, so what is in doubt stays where it is.
    if (uploads > 0 || damaged || sequence <= figures[FIGURE.doubtSequence]) return "kept";
    if (sequence === appender.sequence) return "open";
    return sealed || succession.sealing.holds(sequence) ? "ready" : "kept";
  }

  /**
   * Bytes that compacting a slab would write: what lives in it, new manifests for its chunks, and a place for
   * each in the next table.
   */
  private measure(slab: Slab, oldest: boolean): number {
    const map = this.state.lookup.maps.bySequence(slab.sequence);
    const table = map === null ? null : this.tableOf(slab.sequence, map);
    if (map === null || table === null) return slab.liveBytes;
    const records = table.length / 3;
    let bytes = Math.max(0, slab.liveBytes);
    const manifests = new Set<number>();
    for (let at = 0; at < table.length; at += 3) {
      if (tableType(table[at + 2]) !== TYPE_CHUNK) continue;
      const owner = this.chunks.ownerOf(map, tableUnit(table[at + 2]), table[at], table[at + 1]);
      if (owner === null || owner === "damaged") continue;
      const place = placeOfManifest(owner.manifest);
      if (manifests.has(place)) continue;
      manifests.add(place);
      bytes += unitsAt(owner.manifest.map, owner.manifest.unit) * UNIT_BYTES;
    }
    this.chunks.forget();
    if (oldest) bytes -= this.droppableShare(map, table) * bytes;
    return bytes + tailBytes(Math.ceil((records * bytes) / Math.max(slab.storedBytes, bytes, 1)));
  }

  /** About what part of the live bytes of the oldest slab are records that need not be copied. */
  private droppableShare(map: SlabMap, table: Int32Array): number {
    const { index } = this.state;
    const records = table.length / 3;
    const step = Math.max(1, Math.floor(records / SAMPLE_RECORDS));
    let live = 0;
    let droppable = 0;
    for (let record = 0; record + 1 < records; record += step) {
      const at = record * 3;
      const unit = tableUnit(table[at + 2]);
      const type = tableType(table[at + 2]);
      if (!isIndexed(type) || !index.holds(table[at], table[at + 1], map.slot, unit)) {
        if (type !== TYPE_CHUNK) continue;
        if (this.chunks.ownerOf(map, unit, table[at], table[at + 1]) === null) continue;
      }
      const units = tableUnit(table[at + 5]) - unit;
      live += units;
      if (this.isDroppable(type, map, unit)) droppable += units;
    }
    this.chunks.forget();
    return live === 0 ? 0 : droppable / live;
  }

  /** Whether a record need not be copied from the oldest slab. */
  isDroppable(type: number, map: SlabMap, unit: number): boolean {
    if (type === TYPE_FORGOTTEN) return true;
    const isMark = isAbsence(type) && this.state.figures[FIGURE.replicated] === 0;
    if (!isMark || this.remembers(map, unit)) return false;
    return this.historyMs === 0 || this.log.room.isPressed || this.isPast(map, unit, type);
  }

  /** Whether a write that comes again may be known by this record only. */
  private remembers(map: SlabMap, unit: number): boolean {
    const recent = recentAt(map, unit);
    return recent !== null && isLive(recent, this.now());
  }

  /**
   * Whether a delete, or an end, need not be told any more. One from the future was made by a clock that was
   * wrong.
   */
  private isPast(map: SlabMap, unit: number, type: number): boolean {
    const { clockHigh, clockLow } = ballotAt(map, unit);
    const atMs = Math.max(clockMs(clockHigh, clockLow), type === TYPE_ENDED ? endAt(map, unit) : 0);
    return Math.abs(this.now() - atMs) > this.historyMs;
  }

  /** Whether all deletes of a slab are so old that they need not be told any more. */
  private isOutlived({ sequence }: Slab): boolean {
    if (this.historyMs === 0) return true;
    const map = this.state.lookup.maps.bySequence(sequence);
    const footer = map === null ? null : decodeFooter(map.bytes, sequence);
    if (map === null || footer === null) return false;
    const ageMs = this.now() - clockMs(footer.clockHigh, footer.clockLow);
    if (ageMs > this.historyMs) return true;
    return ageMs < -this.historyMs && this.droppableShare(map, tableWords(map.bytes, footer)) > 0;
  }

  tableOf(sequence: number, map: SlabMap): Int32Array | null {
    return tableOf(this.log, sequence, map);
  }
}

/** The time in a ballot's clock, in milliseconds since 1970. */
function clockMs(high: number, low: number): number {
  return high * 0x10000 + (low >>> 16);
}

/**
 * The table of a slab, from its end, or from memory where a full disk has no room for it. Null: it cannot be
 * read. What is staged must have been flushed.
 */
export function tableOf({ appender, succession }: Log, sequence: number, map: SlabMap): Int32Array | null {
  if (sequence === appender.sequence) return Int32Array.from(appender.openSlab().table);
  const kept = succession.sealing.tableOf(sequence);
  if (kept !== null) return kept;
  const footer = decodeFooter(map.bytes, sequence);
  return footer === null ? null : tableWords(map.bytes, footer);
}
