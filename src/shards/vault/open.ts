/**
 * Opening a vault: the data directory, its lock and its identity, the shard threads, and what the other front
 * threads need.
 */
import { availableParallelism } from "node:os";
import { clearStaging } from "../../engine/backup/write-backup.ts";
import { demandNoBackup } from "../../engine/directory/backup-file.ts";
import { lockDirectory } from "../../engine/directory/lock.ts";
import {
  completeStoreFile,
  openStoreFile,
  readStoreFile,
  type StoreBirth,
  type StoreIdentity,
} from "../../engine/directory/store-file.ts";
import type { SyncMode } from "../../engine/log/log.ts";
import { FIGURE } from "../../engine/slabs/figures.ts";
import { isDiskFull, nodeIo } from "../../engine/slabs/io.ts";
import { createPressureMemory, createShardMemory, type ShardMemory } from "../../engine/state/memory.ts";
import { addonDirectory, setAddonDirectory } from "../../platform/addon.ts";
import { openDataDirectory, writeProblem } from "../../platform/private-directory.ts";
import { isReadOnly, sentenceOf } from "../../platform/system-error.ts";
import { loadHash } from "../../util/hash.ts";
import { type BellEnd, createBell } from "../arena/bell.ts";
import { ShardQueue } from "../arena/queue.ts";
import { Backups } from "../backup/backups.ts";
import { CatalogClient } from "../catalog/client.ts";
import { CatalogThread } from "../catalog/thread.ts";
import { ShardThread } from "../thread/pool.ts";
import { type FrontSeat, LocalVault, markReplicated } from "./local-vault.ts";

/** How often progress is told. */
const PROGRESS_MS = 250;

export interface VaultConfig extends Omit<StoreBirth, "shards"> {
  dataDirectory: string;
  sync: SyncMode;
  /** How long deletes are told to who follows the changes; left out: no longer than the space is wanted. */
  historyMs?: number;
  threads: number;
  /** Front threads, this one included; 1 when left out. The others open theirs with `openFrontVault`. */
  fronts?: number;
  /**
   * The node is one of a cluster, known at the start already: no tombstone may go before `setReplicated`
   * could be called.
   */
  replicated?: boolean;
  warn: (message: string) => void;
  fatal: (error: Error) => void;
  /** Called about four times a second while slabs are read back. */
  progress?: (doneBytes: number, totalBytes: number) => void;
}

/** Opens (or makes) the data directory, locks it, starts the shard threads and reads the slabs back. */
export async function openVault(config: VaultConfig): Promise<LocalVault> {
  await loadHash();
  const { dataDirectory, warn } = config;
  demandNoBackup(dataDirectory);
  openDataDirectory(dataDirectory, warn);
  const lock = await lockDirectory(dataDirectory, { onLost: config.fatal, warn });
  try {
    return await openLocked(config, () => lock.release());
  } catch (error) {
    await lock.release();
    throw error;
  }
}

/** @param release gives the directory's lock back, when the vault is closed */
async function openLocked(config: VaultConfig, release: () => Promise<void>): Promise<LocalVault> {
  const { dataDirectory, fronts = 1, warn } = config;
  const { store, readOnly } = openStore(config);
  if (readOnly === null) clearStaging(dataDirectory);
  const pressure = createPressureMemory();
  // The catalog's thread reads, too.
  const memories = Array.from({ length: store.shards }, () => createShardMemory(fronts + 1, pressure));
  if (config.replicated === true) markReplicated(memories);
  const bell = createBell(Math.min(config.threads, store.shards));
  const threads = createThreads(config, store, readOnly !== null, memories, bell.ropes);
  const catalog = new CatalogThread({
    ...{ dataDirectory, store, memories, fronts, warn },
    bell: bell.heard,
    readOnly: readOnly !== null,
  });
  try {
    await readBack(threads, config.progress);
  } catch (error) {
    await catalog.close();
    throw error;
  }
  const areListed = memories.every(({ figures }) => new Float64Array(figures)[FIGURE.listKept] === 1);
  if (areListed && !store.complete && readOnly === null) completeStoreFile(nodeIo, dataDirectory);
  await catalog.open();
  const view = { dataDirectory, store, memories, readOnly, catalogFigures: catalog.figures };
  const seats: FrontSeat[] = Array.from({ length: fronts - 1 }, (_, index) => ({
    ...view,
    addonDirectory: addonDirectory(),
    front: index + 1,
    channels: threads.map((thread) => thread.others[index]),
    catalogPort: catalog.others[index],
  }));
  const backups = new Backups({ dataDirectory, store, threads, readOnly });
  return new LocalVault(
    { ...view, front: 0 },
    threads.map((thread) => thread.queue),
    catalog.client,
    async () => {
      await backups.close();
      await Promise.all(threads.map((thread) => thread.close()));
      await catalog.close();
      await release();
    },
    seats,
    backups,
  );
}

/** Deals the shards out among as many threads as are wished for and of use. */
function createThreads(
  config: VaultConfig,
  store: StoreIdentity,
  readOnly: boolean,
  memories: readonly ShardMemory[],
  ropes: readonly BellEnd[],
): ShardThread[] {
  const { fronts = 1 } = config;
  const threadCount = ropes.length;
  if (store.shards !== config.threads)
    config.warn(
      `this data directory has ${store.shards} shard(s), fixed when it was made: using ${threadCount} shard thread(s)`,
    );
  const patient = availableParallelism() >= fronts + threadCount;
  return ropes.map((follower, thread) => {
    const shards = memories
      .map((memory, shard) => ({ shard, memory }))
      .filter(({ shard }) => shard % threadCount === thread);
    return new ShardThread({ ...config, store, readOnly, shards, follower, fronts, patient });
  });
}

/** Lets all threads read their shards back; where one cannot, it ends them all. */
async function readBack(threads: readonly ShardThread[], progress: VaultConfig["progress"]): Promise<void> {
  const tell = (): void => {
    const parts = threads.map((thread) => thread.recovered);
    progress?.(
      parts.reduce((sum, part) => sum + part.doneBytes, 0),
      parts.reduce((sum, part) => sum + part.totalBytes, 0),
    );
  };
  const timer = progress === undefined ? undefined : setInterval(tell, PROGRESS_MS);
  try {
    await Promise.all(threads.map((thread) => thread.open()));
  } catch (error) {
    await Promise.allSettled(threads.map((thread) => thread.close()));
    throw error;
  } finally {
    clearInterval(timer);
  }
}

/**
 * The store's identity, raised for this start; or as it is, where nothing can be written: reads are then
 * served all the same.
 * @throws Error with a sentence for a person
 */
function openStore(config: VaultConfig): { store: StoreIdentity; readOnly: string | null } {
  const { dataDirectory, warn } = config;
  let error: unknown = null;
  let readOnly = writeProblem(dataDirectory);
  if (readOnly === null) {
    try {
      const store = openStoreFile(nodeIo, dataDirectory, { ...config, shards: config.threads });
      return { store, readOnly };
    } catch (failure) {
      if (!isReadOnly(failure) && !isDiskFull(failure)) throw failure;
      error = failure;
      readOnly = sentenceOf(failure as Error);
    }
  }
  const store = readStoreFile(dataDirectory);
  if (store === null)
    throw new Error(`no store can be made in ${readOnly}${error === null ? "" : ` (in ${dataDirectory})`}`);
  // What it promises to other nodes, it has to write down first.
  if (config.replicated === true)
    throw new Error(`a node of a cluster must be able to write to its data directory; ${readOnly}`);
  warn(
    `this node serves reads only until it is started with a data directory that it can write to: ${readOnly}`,
  );
  return { store, readOnly };
}

/** Opens the vault of another front thread. Closing it waits for its own writes only. */
export async function openFrontVault(seat: FrontSeat, warn: (message: string) => void): Promise<LocalVault> {
  if (seat.addonDirectory !== null) setAddonDirectory(seat.addonDirectory);
  await loadHash();
  const queues = seat.channels.map(({ arena, port }) => new ShardQueue(arena, port, warn));
  const catalog = new CatalogClient(seat.catalogPort, warn);
  return new LocalVault(
    seat,
    queues,
    catalog,
    async () => {
      catalog.close();
      await Promise.all(queues.map((queue) => queue.drain()));
      for (const queue of queues) queue.close();
    },
    [],
  );
}
