/**
 * A thread that does one job. The only importer of Piscina: one pool of exactly one thread each.
 */
import type { Transferable } from "node:worker_threads";
import Piscina from "piscina";
import { poolOptions } from "./spawn.ts";

export class OwnThread<Task, Answer> {
  private readonly pool: Piscina<Task, Answer>;

  /**
   * @param handler the source file whose default export takes the tasks
   * @param onError an error that no task was running to hear of
   */
  constructor(handler: string, onError: (error: Error) => void) {
    this.pool = new Piscina<Task, Answer>({
      ...poolOptions(handler),
      minThreads: 1,
      maxThreads: 1,
      concurrentTasksPerWorker: 1,
      // The default parks an idle thread in Atomics.wait, which would freeze what it does by itself.
      atomics: "disabled",
      recordTiming: false,
    });
    this.pool.on("error", onError);
  }

  run(task: Task, transferList: readonly Transferable[] = []): Promise<Answer> {
    return this.pool.run(task, { transferList: [...transferList] });
  }

  async destroy(): Promise<void> {
    await this.pool.destroy();
  }
}
