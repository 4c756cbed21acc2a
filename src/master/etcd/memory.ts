/**
 * What a master that shares its registry keeps on its own disk: which cluster it has seen there (the file
 * REGISTRY), so that it forms no second one where the prefix is empty one day, and joins no other; and what
 * it had of its own before it shared one (MASTER and LIVES), which goes to etcd once.
 */
import fs from "node:fs";
import path from "node:path";
import {
  LIVES_FORMAT,
  LIVES_NAME,
  LIVES_VERSION,
  type LivesDocument,
} from "../../cluster/identity/lives-place.ts";
import { isForeign } from "../../cluster/layout/layout.ts";
import { readSealed, writeSealed } from "../../util/sealed-file.ts";
import { type MasterState, readState, STATE_NAME } from "../layout/state.ts";

const NAME = "REGISTRY";
const FORMAT = "minivault-registry";
const VERSION = 1;
/** What a file is called that has gone to etcd. */
const TAKEN = ".taken-over";

/** The registry is not this master's: it must not lead there. */
export class WrongRegistry extends Error {}

export class RegistryMemory {
  private readonly folder: string;
  private readonly name: string;
  /** The cluster that it belongs to; null: none yet. */
  cluster: string | null = null;

  /** @param name of the registry. Throws an Error with a sentence for a person */
  constructor(folder: string, name: string) {
    this.folder = folder;
    this.name = name;
    const members = readSealed(path.join(folder, NAME), FORMAT, VERSION);
    if (typeof members?.cluster === "string") this.cluster = members.cluster;
  }

  /** What this master had of its own; null: nothing. Throws an Error with a sentence for a person. */
  own(): { state: MasterState; lives: LivesDocument | null } | null {
    const state = readState(this.folder);
    if (state === null) return null;
    const lives = readSealed(path.join(this.folder, LIVES_NAME), LIVES_FORMAT, LIVES_VERSION);
    return { state, lives: lives as LivesDocument | null };
  }

  /**
   * Looks at what etcd has, and remembers its cluster.
   * @throws WrongRegistry where that is another one's, or older than what this master had of its own
   */
  check(state: MasterState | null): void {
    const there = state?.layout?.cluster ?? null;
    this.demandSame(this.cluster, there);
    const own = this.own();
    this.demandSame(own?.state.layout?.cluster, there ?? this.cluster);
    if (state === null) return;
    if ((own?.state.layout?.epoch ?? 0) > (state.layout?.epoch ?? 0))
      throw new WrongRegistry(
        `${path.join(this.folder, STATE_NAME)} has a newer layout (epoch ${own?.state.layout?.epoch}) than ${this.name} (${state.layout?.epoch ?? 0}): the master that led is to be the first that gets -registry; delete the keys under the prefix while no master runs, start that one, then the others`,
      );
    this.remember(there);
    if (own !== null) this.putAside();
  }

  /** From now on this master belongs to the cluster. */
  remember(cluster: string | null): void {
    if (cluster === null || cluster === this.cluster) return;
    writeSealed(path.join(this.folder, NAME), { format: FORMAT, version: VERSION, ...{ cluster } });
    this.cluster = cluster;
  }

  /** What this master had of its own is in etcd. */
  putAside(): void {
    for (const name of [LIVES_NAME, STATE_NAME]) {
      const file = path.join(this.folder, name);
      if (fs.existsSync(file)) fs.renameSync(file, file + TAKEN);
    }
  }

  private demandSame(own: string | null | undefined, there: string | null): void {
    if (isForeign(own, there))
      throw new WrongRegistry(
        `${this.name} holds the cluster ${there}, but this master (${this.folder}) belongs to ${own}: each cluster has a prefix of its own; a master that is to change over needs an empty -data directory`,
      );
  }
}
