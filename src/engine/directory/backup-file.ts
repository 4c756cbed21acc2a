/**
 * The file BACKUP: what a copy of a data directory is, in place of STORE, so that nothing starts on it.
 * FORMAT.md has its members.
 */
import fs from "node:fs";
import path from "node:path";
import { readIfAny, readSealed, writeSealed } from "../../util/sealed-file.ts";
import { identityOf, readStoreFile, type StoreIdentity } from "./store-file.ts";
import { demandKnown, type StoreText } from "./store-text.ts";

const NAME = "BACKUP";
/** Says that a directory is being filled. */
export const UNFINISHED_BACKUP = `${NAME}.new`;
/** What stands in it where a restore fills the directory; a backup leaves it empty. */
const RESTORE = "minivault restore\n";
const FORMAT = "minivault-backup";
const VERSION = 1;

/** What a copy says of itself. */
export interface BackupFacts {
  store: StoreText;
  /** Milliseconds since 1970. */
  began: number;
  ended: number;
}

/** What fills a directory. */
export type FilledBy = "backup" | "restore";

/** Says that a directory is being filled; `writeBackupFile`, or who restores, takes that away. */
export function beginBackupFile(directory: string, by: FilledBy): void {
  const text = by === "restore" ? RESTORE : "";
  fs.writeFileSync(path.join(directory, UNFINISHED_BACKUP), text, { mode: 0o600, flag: "wx", flush: true });
}

/** What fills a directory, or was ended while it did; null: nothing. */
export function unfinishedBy(directory: string): FilledBy | null {
  const text = readIfAny(path.join(directory, UNFINISHED_BACKUP));
  if (text === null) return null;
  return text === RESTORE ? "restore" : "backup";
}

/** Declares a copy finished; all else in it must be durable. */
export function writeBackupFile(directory: string, { store, began, ended }: BackupFacts): void {
  const document = { format: FORMAT, version: VERSION, store, began, ended };
  // At no moment it is neither a copy nor one that is not finished.
  writeSealed(path.join(directory, NAME), document, true);
}

/**
 * What a copy is of. Null: it is none.
 * @throws Error with a sentence for a person: it is not finished, damaged, or another release's
 */
export function readBackupFile(directory: string): BackupFacts | null {
  const file = path.join(directory, NAME);
  const members = readSealed(file, FORMAT, VERSION);
  if (members === null) {
    const by = unfinishedBy(directory);
    if (by === null) return null;
    throw unfinished(directory, by);
  }
  const { store, began, ended } = members as unknown as BackupFacts;
  if (typeof store !== "object" || store === null) throw new Error(`${file} does not say what it is of`);
  demandKnown(store, directory);
  return { store, began, ended };
}

/** Why a directory is no copy, and what to do. */
export function noBackup(directory: string): string {
  return `${directory} is no backup of minivault: there is no file ${NAME} in it; of a cluster's backup name the folder of one node`;
}

/** What slabs in a directory are read with: of a store, or of a copy of one. Null: it is neither. */
export function readStoreOrBackup(directory: string): StoreIdentity | null {
  const own = readStoreFile(directory);
  if (own !== null) return own;
  const copy = readBackupFile(directory);
  return copy === null ? null : identityOf(copy.store);
}

/**
 * Nothing may start on a copy: the store that it is of may be running.
 * @throws Error that says how to go on
 */
export function demandNoBackup(directory: string): void {
  const isThere = (name: string): boolean => fs.existsSync(path.join(directory, name));
  if (isThere("STORE")) return;
  const by = unfinishedBy(directory);
  if (!isThere(NAME)) {
    if (by === null) return;
    throw unfinished(directory, by);
  }
  throw new Error(
    `${directory} is a backup, and nothing starts on one: minivault restore ${directory} DIR makes a data directory of it`,
  );
}

function unfinished(directory: string, by: FilledBy): Error {
  const again = by === "restore" ? `minivault restore COPY ${directory}` : `the backup into ${directory}`;
  const what =
    by === "restore"
      ? `a restore into ${directory} has not finished`
      : `${directory} is a backup that was not finished`;
  return new Error(`${what}: wait for it, or run ${again} again, which removes what is there`);
}
