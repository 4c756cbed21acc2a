/**
 * A leader's state in etcd. What is saved while a write is under way goes with the next one, as it is then.
 *
 * Every write is one transaction that compares the revision of the leader's key (that of this term), and of
 * each key that it replaces (that of the last write): so it takes effect once, in this term and on top of
 * what this master knows, or not at all. A write whose answer was lost is sent again; where the first one has
 * taken effect, the second finds its very bytes, which no other write has: each has its number in the term.
 *
 * Where a write has failed, or may have, the term is over: whoever leads next begins with what etcd has.
 */
import { setTimeout as sleep } from "node:timers/promises";
import {
  LIVES_FORMAT,
  LIVES_VERSION,
  type LivesDocument,
  type LivesPlace,
} from "../../cluster/identity/lives-place.ts";
import { type MasterState, NotKept, stateDocument, stateFrom } from "../layout/state.ts";
import type { MasterStore } from "../layout/store.ts";
import type { Won } from "./campaign.ts";
import { type Comparison, type Gateway, type Kept, Unreached } from "./gateway.ts";
import { decodeValue, encodeValue, type Keys } from "./keys.ts";

/** Between two tries of a write whose answer was lost. */
const AGAIN_MS = 200;
/** Every write stays in etcd's history until that is compacted, so marks go seldom. */
const MARKS_PACE_MS = 60_000;

type Part = "state" | "lives";

/** What one transaction takes along. */
interface Batch {
  documents: Map<Part, object>;
  done: Promise<void>;
  kept: () => void;
  lost: (error: NotKept) => void;
}

export interface EtcdStoreSetup {
  gateway: Gateway;
  keys: Keys;
  /** The registry, for messages. */
  name: string;
  won: Won;
  /** A state is there now, with that cluster; null: it has none yet. */
  onKept: (cluster: string | null) => void;
  /** In tests; left out: AGAIN_MS. */
  againMs?: number;
}

export class EtcdStore implements MasterStore {
  readonly name: string;
  readonly lives: LivesPlace;
  private readonly setup: EtcdStoreSetup;
  private readonly revisions: Record<Part, string>;
  private readonly begun: { state: MasterState | null; lives: Record<string, unknown> | null };
  private current: Batch | null = null;
  private next: Batch | null = null;
  private written = 0;

  /** Throws an Error with a sentence for a person where etcd has what is none of it. */
  constructor(setup: EtcdStoreSetup) {
    const { state, lives } = setup.won;
    this.setup = setup;
    this.name = setup.name;
    this.revisions = { state: state?.modRevision ?? "0", lives: lives?.modRevision ?? "0" };
    this.begun = { state: readKept(setup.keys, state), lives: this.readLives(lives) };
    this.lives = {
      name: `${setup.name} (lives)`,
      paceMs: MARKS_PACE_MS,
      read: () => this.begun.lives,
      write: (document) => this.add("lives", document),
      writeSoon: (document) => this.writeSoon(document),
    };
  }

  read(): MasterState | null {
    return this.begun.state;
  }

  save(state: MasterState): void {
    this.add("state", stateDocument(state));
  }

  settled(): Promise<void> | null {
    return (this.next ?? this.current)?.done ?? null;
  }

  /** Takes over what a master had on its own disk. Rejects with NotKept. */
  async takeOver(state: MasterState, lives: LivesDocument | null): Promise<void> {
    this.begun.state = state;
    this.save(state);
    if (lives !== null) {
      this.begun.lives = { ...lives };
      this.add("lives", lives);
    }
    await this.settled();
  }

  private readLives(kept: Kept | null): Record<string, unknown> | null {
    if (kept === null) return null;
    const { lives: key } = this.setup.keys;
    const members = decodeValue(key, kept.value);
    if (members.format !== LIVES_FORMAT || members.version !== LIVES_VERSION)
      throw new Error(`what etcd has under ${key} is of another release, or nothing of minivault`);
    return members;
  }

  private async writeSoon(document: LivesDocument): Promise<boolean> {
    // The next leader hears them anew.
    if (this.setup.won.term.isOver) return true;
    this.add("lives", document);
    await this.settled();
    return true;
  }

  private add(part: Part, document: object): void {
    const { reason } = this.setup.won.term;
    if (reason !== null) throw new NotKept(notLeading(reason));
    this.next ??= createBatch();
    this.next.documents.set(part, document);
    if (this.current === null) void this.work();
  }

  /** Writes what waits, one transaction after the other. */
  private async work(): Promise<void> {
    while (this.next !== null) {
      const batch = this.next;
      [this.current, this.next] = [batch, null];
      try {
        await this.write(batch);
        batch.kept();
      } catch (error) {
        this.setup.won.term.end(`a change could not be put in etcd: ${(error as Error).message}`);
        const { reason } = this.setup.won.term;
        batch.lost(new NotKept(inDoubt(reason ?? "")));
        (this.next as Batch | null)?.lost(new NotKept(notLeading(reason ?? "")));
        this.next = null;
      }
      this.current = null;
    }
  }

  private async write({ documents }: Batch): Promise<void> {
    const { gateway, keys, won } = this.setup;
    this.written++;
    const written = `${won.term.revision}.${this.written}`;
    const parts = [...documents.keys()];
    const values = parts.map((part) => encodeValue({ ...documents.get(part), written }));
    const compare: Comparison[] = [
      { key: keys.leader, target: "CREATE", revision: won.term.revision },
      ...parts.map((part) => ({ key: keys[part], target: "MOD" as const, revision: this.revisions[part] })),
    ];
    const puts = parts.map((part, index) => ({ put: keys[part], value: values[index] }));
    const reads = parts.map((part) => ({ range: keys[part] }));
    while (!won.term.isOver) {
      try {
        const { succeeded, revision, found } = await gateway.transact(compare, puts, reads);
        if (!succeeded && !values.every((value, index) => found[index]?.value.equals(value)))
          throw new Error("another master leads by now, or somebody else has written there");
        for (const [index, part] of parts.entries())
          this.revisions[part] = succeeded ? revision : (found[index] as Kept).modRevision;
        // It is kept, but only who leads may say so.
        if (won.term.isOver) break;
        const state = documents.get("state") as MasterState | undefined;
        if (state !== undefined) this.setup.onKept(state.layout?.cluster ?? null);
        return;
      } catch (error) {
        if (!(error instanceof Unreached)) throw error;
        await sleep(this.setup.againMs ?? AGAIN_MS);
      }
    }
    throw new Error(won.term.reason ?? "");
  }
}

/** The state under its key; null: none. Throws an Error with a sentence for a person. */
export function readKept({ state: key }: Keys, kept: Kept | null): MasterState | null {
  return kept === null ? null : stateFrom(`what etcd has under ${key}`, decodeValue(key, kept.value));
}

function notLeading(reason: string): string {
  return `this master does not lead any more, so nothing of this has happened: ${reason}`;
}

function inDoubt(reason: string): string {
  return `this master does not lead any more, and whether this has happened is to be asked of the one that does: ${reason}`;
}

function createBatch(): Batch {
  let kept = () => {};
  let lost: Batch["lost"] = () => {};
  const done = new Promise<void>((resolve, reject) => {
    kept = resolve;
    lost = reject;
  });
  // Nobody may be waiting for it.
  done.catch(() => {});
  return { documents: new Map(), done, kept, lost };
}
