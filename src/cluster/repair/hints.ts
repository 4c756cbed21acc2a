/**
 * Hints: what other nodes have missed. A record was decided by a majority and some replica did not hold it;
 * its key and ballot wait here, a queue for each node, until that node is up, and then the record is sent to
 * it at its same ballot. The value is not kept: it is read from a replica that holds it when it is sent, or
 * the newer record that has taken its place.
 *
 * A hint never counts toward a majority, and losing one loses nothing: anti-entropy finds what is missing. So
 * the queues are bounded (what does not fit is dropped and counted), and their files are written in the
 * background without a sync.
 */
import { mkdirSync, readdirSync, rmSync } from "node:fs";
import path from "node:path";
import type { Ballot } from "../../format/record.ts";
import { sentenceOf } from "../../platform/system-error.ts";
import { readBounded } from "../../util/bounded-file.ts";
import { hash32 } from "../../util/hash.ts";
import type { ClusterKey } from "../register/ports.ts";
import { HINT_FILE_BYTES_MAX, HintQueue, type HintQueueSetup, RETRY_MS } from "./hint-queue.ts";

/** Between two appends to the files. */
const WRITE_MS = 200;
export interface HintsSetup extends HintQueueSetup {
  /** The data directory. */
  directory: string;
}

export interface HintCounts {
  waiting: number;
  sent: number;
  dropped: number;
}

export class Hints {
  private readonly setup: HintsSetup;
  private readonly folder: string;
  private readonly queues = new Map<string, HintQueue>();
  private readonly timers: NodeJS.Timeout[];

  /** Reads the files of the data directory. `loadHash` must have finished. */
  constructor(setup: HintsSetup) {
    this.setup = setup;
    this.folder = path.join(setup.directory, "hints");
    this.load();
    this.timers = [
      setInterval(() => this.flush(), WRITE_MS),
      setInterval(() => {
        for (const queue of this.queues.values()) queue.pump();
      }, RETRY_MS),
    ];
    for (const timer of this.timers) timer.unref();
  }

  /** Remembers that a node misses a record. */
  add(node: string, key: ClusterKey, ballot: Ballot): void {
    this.queueOf(node).add(key.bytes, ballot, true);
  }

  counts(node: string): HintCounts {
    const queue = this.queues.get(node);
    return {
      waiting: queue?.waiting ?? 0,
      sent: queue?.sent ?? 0,
      dropped: queue?.dropped ?? 0,
    };
  }

  /** Forgets the hints of nodes that are not of the layout any more. */
  keepOnly(nodes: ReadonlySet<string>): void {
    for (const [node, queue] of this.queues)
      if (!nodes.has(node)) {
        queue.clear();
        this.queues.delete(node);
      }
  }

  /** What waits is on disk when it resolves. */
  async close(): Promise<void> {
    for (const timer of this.timers) clearInterval(timer);
    await Promise.all(
      [...this.queues.values()].map(async (queue) => {
        queue.stop();
        await queue.settled();
        queue.flush();
        await queue.settled();
      }),
    );
  }

  private flush(): void {
    for (const queue of this.queues.values()) queue.flush();
  }

  private queueOf(node: string): HintQueue {
    let queue = this.queues.get(node);
    if (queue === undefined) {
      const name = hash32(Buffer.from(node), 0).toString(16).padStart(8, "0");
      queue = new HintQueue(node, path.join(this.folder, name), this.setup);
      this.queues.set(node, queue);
    }
    return queue;
  }

  private load(): void {
    let names: string[] = [];
    try {
      mkdirSync(this.folder, { recursive: true, mode: 0o700 });
      names = readdirSync(this.folder);
    } catch (error) {
      this.setup.warn(`${this.folder} could not be read: ${sentenceOf(error as Error)}`);
    }
    for (const name of names) {
      try {
        this.loadFile(path.join(this.folder, name));
      } catch (error) {
        this.setup.warn(`hints in ${this.folder}/${name} could not be read: ${sentenceOf(error as Error)}`);
      }
    }
  }

  private loadFile(file: string): void {
    const bytes = file.endsWith(".new") ? null : readBounded(file, HINT_FILE_BYTES_MAX);
    const end = bytes?.indexOf(10) ?? -1;
    if (bytes === null || end < 0) rmSync(file, { force: true });
    else this.queueOf(bytes.toString("utf8", 0, end)).load(bytes.subarray(end + 1));
  }
}
