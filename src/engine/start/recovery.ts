/**
 * Reading a shard's slabs back into its index at start. FORMAT.md, "Reading it back", has the rules.
 */
import fs from "node:fs";
import path from "node:path";
import { FIRST_UNIT, TYPE_FORGOTTEN } from "../../format/offsets.ts";
import { tableType, tableUnit } from "../../format/slab.ts";
import type { ListedSlab, LogPlace } from "../../format/slab-list.ts";
import { ExpectedSlabs } from "../directory/expected-slabs.ts";
import { LIST_NAMES, type ReadList } from "../list/copies.ts";
import type { Log } from "../log/log.ts";
import type { OpenSlab } from "../open/appender.ts";
import { FIGURE } from "../slabs/figures.ts";
import { isSpare, listSlabs, slabName, UNFINISHED } from "../slabs/files.ts";
import type { FileIo } from "../slabs/io.ts";
import { restoreSnapshot } from "../snapshot/snapshot-read.ts";
import { recoverPromises, type SlabRecords } from "../state/candidates.ts";
import type { State } from "../state/state.ts";
import { damaged, NOWHERE, type Reading, raiseDoubt, readBack } from "./read-back.ts";
import { rebuildIndex } from "./rebuild.ts";

/** Of the time that a start takes, about what goes to reading the slabs; the rest is for the index. */
const READING_SHARE = 0.25;

/** Called now and then with what is done and what there is to do, in bytes of slab files. */
export type Progress = (doneBytes: number, totalBytes: number) => void;

/** What a start has found in a shard's directory. */
export interface Recovered {
  /** The slab to go on appending to; null: a new one must be made. */
  open: OpenSlab | null;
  /** The slabs that there must be from now on. */
  listed: ListedSlab[];
  /** Up to where slabs may have been lost that nobody can name. */
  doubt: LogPlace;
  /** Deletes from before here may have been forgotten without the list having said so. */
  forgotten: LogPlace;
}

/** Reads all slabs of a shard, or the snapshot of its index. */
export function recoverShard(
  state: State,
  log: Log,
  io: FileIo,
  read: ReadList,
  progress: Progress,
): Recovered {
  const { store, directory, dataDirectory } = state;
  for (const name of fs.readdirSync(directory))
    if (name.endsWith(UNFINISHED) && !isSpare(name)) io.unlink(path.join(directory, name));
  const list = believedList(state, read);
  const expected = new ExpectedSlabs(dataDirectory, store, state.shard, list, listSlabs(directory));
  for (const sequence of expected.leftovers) io.unlink(path.join(directory, slabName(sequence)));
  const restored = restoreSnapshot(state, io, expected);
  if (restored !== null) {
    state.clock.observe(restored.clockHigh, restored.clockLow);
    for (const { sequence, unit } of restored.promises) {
      const map = state.lookup.maps.bySequence(sequence);
      if (map === null) throw new Error(`slab ${sequence} cannot be mapped`);
      if (state.lookup.check(map, unit)) state.replication.restore(map, unit);
      // Somebody was promised something, and nobody knows what.
      else damaged(state, sequence, `the promise or floor at unit ${unit} is damaged`, unit + 1);
    }
    // The list of that stop says what was forgotten.
    return { open: restored.open, listed: restored.listed, doubt: NOWHERE, forgotten: NOWHERE };
  }
  let open: OpenSlab | null = null;
  let endUnit = FIRST_UNIT;
  const records: SlabRecords[] = [];
  const listed: ListedSlab[] = [];
  const { sequences } = expected;
  const total = sequences.length * store.slabBytes;
  const { doubt = NOWHERE, settled = NOWHERE } = list.content ?? {};
  if (doubt.sequence > 0) raiseDoubt(state, doubt, settled);
  const reading: Reading = { state, log, io, expected, settled };
  for (const sequence of sequences) {
    const found = readBack(reading, sequence);
    records.push(found.records);
    endUnit = found.records.endUnit;
    listed.push(found.listed);
    if (sequence === sequences[sequences.length - 1]) open = found.open;
    progress((total * records.length * READING_SHARE) / sequences.length, total);
  }
  rebuildIndex(state, records, (share) =>
    progress(total * (READING_SHARE + (1 - READING_SHARE) * share), total),
  );
  recoverPromises(state, records);
  const forgotten = lastForgotten(records, list);
  if (!isListLost(state, list)) return { open, listed, doubt, forgotten };
  // What was in other slabs than these nobody knows.
  const lost: LogPlace = { sequence: sequences.at(-1) ?? 1, unit: endUnit };
  raiseDoubt(state, lost, NOWHERE);
  return { open, listed, doubt: lost, forgotten };
}

/**
 * The last record with which a delete was forgotten that the list may not know of, as it is behind what was
 * written when the list was. A list that was written when the last slab began may also lack what was still on
 * its way in the one before.
 */
function lastForgotten(slabs: readonly SlabRecords[], { content }: ReadList): LogPlace {
  const last = slabs.at(-1)?.map.sequence;
  const writtenAt = content?.slabs.find(({ sequence }) => sequence === last)?.endUnit ?? FIRST_UNIT;
  for (const { map, table } of slabs.slice(writtenAt > FIRST_UNIT ? -1 : -2).reverse()) {
    const from = map.sequence === last ? writtenAt : FIRST_UNIT;
    for (let at = table.length - 1; at >= 0 && tableUnit(table[at]) >= from; at -= 3)
      if (tableType(table[at]) === TYPE_FORGOTTEN)
        return { sequence: map.sequence, unit: tableUnit(table[at]) };
  }
  return NOWHERE;
}

/** The list, unless a start has not kept it. Says what is wrong with it. */
function believedList(state: State, read: ReadList): ReadList {
  const { store, warn, shard: number } = state;
  if (store.lists === "interrupted" && read.content !== null) {
    warn(
      `an older program has used this directory since the slabs of shard ${number} were listed: they are listed anew, and a slab that is missing or old is not noticed this time`,
    );
    return { ...read, content: null, note: null };
  }
  if (store.outdated)
    warn(
      `STORE is older than the list of slabs of shard ${number}: it was put back from a copy; if other files were, too, run minivault verify`,
    );
  if (store.complete && read.content !== null)
    read.problems.forEach((problem, copy) => {
      if (problem === null) return;
      warn(
        `${LIST_NAMES[copy]} of shard ${number}, a list of its slabs, is written anew from its other copy: ${problem}`,
      );
    });
  if (isListLost(state, read)) {
    state.figures[FIGURE.damaged]++;
    state.figures[FIGURE.missingSlabs]++;
    warn(
      `nobody knows which slabs shard ${number} must have: both copies of its list are gone. Unless the index snapshot of the last stop is there, what is not in the slabs that are left answers 500; restore the directory from a copy, or write the keys again`,
    );
  }
  return read;
}

function isListLost({ store }: State, { content }: ReadList): boolean {
  return content === null && store.complete && store.lists !== "interrupted";
}
