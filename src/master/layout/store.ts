/** Where a master keeps its state: its own disk, or a registry that it shares with others (master/etcd). */
import { LivesFile, type LivesPlace } from "../../cluster/identity/lives-place.ts";
import { type MasterState, readState, writeState } from "./state.ts";

export interface MasterStore {
  /** For messages. */
  readonly name: string;
  /** Of the workers' lives. */
  readonly lives: LivesPlace;
  /** What is kept; null: nothing yet. Throws an Error with a sentence for a person. */
  read(): MasterState | null;
  /**
   * Puts the state in its place. Nothing of it is told before `settled` says so. Throws when it cannot be
   * kept, and then nothing has changed.
   */
  save(state: MasterState): void;
  /**
   * When all that was saved so far is durable: null: it is. Rejects with NotKept where it is not, and whoever
   * saved it is to be forgotten with all that it has decided.
   */
  settled(): Promise<void> | null;
}

/** The file MASTER: what is saved is durable at once. */
export class FileStore implements MasterStore {
  readonly name: string;
  readonly lives: LivesPlace;

  /** @param folder is locked by who calls */
  constructor(folder: string) {
    this.name = folder;
    this.lives = new LivesFile(folder);
  }

  read(): MasterState | null {
    return readState(this.name);
  }

  save(state: MasterState): void {
    writeState(this.name, state);
  }

  settled(): null {
    return null;
  }
}
