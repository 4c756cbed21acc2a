/** Places as text: what clients are given, and what they come back with. */
import type { StoreIdentity } from "../../engine/directory/store-file.ts";
import { isTold } from "../../engine/feed/log-changes.ts";
import { decodePlace, encodePlace, type ShardPlace } from "../../engine/feed/place.ts";
import { Starts } from "../../engine/feed/starts.ts";
import { FIGURE } from "../../engine/slabs/figures.ts";
import type { ShardMemory } from "../../engine/state/memory.ts";
import { VaultError } from "../../util/errors.ts";
import type { Recent } from "./recent.ts";

/** Places that were given and can be found in memory again. */
const KNOWN_MAX = 1024;

export interface PlacesSetup {
  dataDirectory: string;
  store: StoreIdentity;
  memories: readonly ShardMemory[];
  readOnly: boolean;
  warn: (message: string) => void;
}

export class Places {
  private readonly setup: PlacesSetup;
  private readonly id0: number;
  private readonly starts: Starts;
  /** The number of the change in memory that comes after it. */
  private readonly known = new Map<string, number>();
  private head: { places: readonly ShardPlace[]; text: string } | null = null;

  /** The shards must be open. */
  constructor(setup: PlacesSetup) {
    const { dataDirectory, store, memories, readOnly, warn } = setup;
    this.setup = setup;
    this.id0 = new DataView(store.id.buffer, store.id.byteOffset, 4).getInt32(0, true);
    const ends = memories.map(({ figures }) => new Float64Array(figures)[FIGURE.openedEnd]);
    this.starts = new Starts(dataDirectory, store, ends, readOnly, warn);
  }

  textOf(shards: readonly ShardPlace[]): string {
    const { incarnation } = this.setup.store;
    return encodePlace(this.id0, { incarnation, ms: Date.now(), shards });
  }

  /** The place of the head, the same text as long as it is the same place. */
  ofHead({ places, head }: Recent): string {
    if (this.head?.places !== places) {
      this.head = { places, text: this.textOf(places) };
      this.known.set(this.head.text, head);
      if (this.known.size > KNOWN_MAX) this.known.delete(this.known.keys().next().value as string);
    }
    return this.head.text;
  }

  /** The number in memory of the change after a place; -1: it is not known there. */
  numberAt(text: string): number {
    return this.known.get(text) ?? -1;
  }

  /** What was in memory is forgotten. */
  forget(): void {
    this.known.clear();
    this.head = null;
  }

  /**
   * The place in a text.
   * @throws VaultError when it is none, or changes cannot be told from there on
   */
  read(text: string): readonly ShardPlace[] {
    const { memories, store } = this.setup;
    const place = decodePlace(text, this.id0, store.shards);
    if (place === null) throw new VaultError("bad_request", "this is no place that a feed of changes gave");
    if (place === "foreign" || !this.starts.isGood(place) || !isTold(place.shards, memories))
      throw new VaultError("place_too_old");
    return place.shards;
  }
}
