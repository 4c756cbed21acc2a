/**
 * Backups that a front thread beside the main one is asked for: the main thread, which has the shard threads,
 * makes them.
 */
import type { BackupSummary, Backups, RunBackup } from "../shards/backup/backups.ts";
import { type ErrorCode, VaultError } from "../util/errors.ts";

/** From a front thread. */
export interface BackupRequest {
  kind: "backup";
  number: number;
  directory: string;
}

/** To a front thread: how far one is, or what became of it. */
export interface BackupNews {
  backup: number;
  progress?: [doneSlabs: number, slabs: number];
  summary?: BackupSummary;
  failure?: { code: ErrorCode; message: string };
}

/** Makes a backup for a front thread. */
export async function makeFor(
  backups: Backups | null,
  { number, directory }: BackupRequest,
  tell: (news: BackupNews) => void,
): Promise<void> {
  try {
    if (backups === null) throw new VaultError("internal");
    const summary = await backups.run(directory, (...progress) => tell({ backup: number, progress }));
    tell({ backup: number, summary });
  } catch (error) {
    const { code = "internal" } = error as Partial<VaultError>;
    tell({ backup: number, failure: { code, message: (error as Error).message } });
  }
}

/** The front thread's side. */
export class RemoteBackups {
  private readonly send: (request: BackupRequest) => void;
  private readonly waiting = new Map<number, (news: BackupNews) => void>();
  private next = 1;

  constructor(send: (request: BackupRequest) => void) {
    this.send = send;
  }

  readonly run: RunBackup = (directory, report) =>
    new Promise((resolve, reject) => {
      const number = this.next++;
      this.waiting.set(number, ({ progress, summary, failure }) => {
        if (progress !== undefined) report(...progress);
        else this.waiting.delete(number);
        if (summary !== undefined) resolve(summary);
        if (failure !== undefined) reject(new VaultError(failure.code, failure.message));
      });
      this.send({ kind: "backup", number, directory });
    });

  /** What the main thread says. */
  hear(news: BackupNews): void {
    this.waiting.get(news.backup)?.(news);
  }
}
