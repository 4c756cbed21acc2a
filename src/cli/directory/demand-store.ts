import { existsSync } from "node:fs";
import path from "node:path";
import { UsageError } from "../../config/values.ts";
import { demandNoBackup } from "../../engine/directory/backup-file.ts";

/**
 * For commands that work on a data directory in place. `loadHash` must have finished.
 * @throws UsageError where there is none, or a backup
 */
export function demandStore(directory: string): void {
  try {
    demandNoBackup(directory);
  } catch (error) {
    throw new UsageError((error as Error).message);
  }
  if (!existsSync(path.join(directory, "STORE")))
    throw new UsageError(`${directory} is no data directory of minivault: it has no STORE`);
}
