/** An archive of what backups hold, as a file. */
import { createWriteStream, renameSync, rmSync } from "node:fs";
import { Readable, type Writable } from "node:stream";
import { pipeline } from "node:stream/promises";
import { headOf } from "../../archive/member.ts";
import { ArchiveWriter } from "../../archive/tar.ts";
import { loadHash } from "../../util/hash.ts";
import type { Terminal } from "../subcommand/subcommand.ts";
import { counting } from "../subcommand/transfer.ts";
import { Copies } from "./copies.ts";

/** Others, such as the progress, get their turn after so many values. */
const TURN_VALUES = 64;

/**
 * Writes the newest version of each key of some backups into an archive.
 * @param file "-": standard output
 * @returns how many keys
 * @throws Error when a record cannot be read: then there is no file
 */
export async function archiveCopies(
  directories: readonly string[],
  prefix: string,
  file: string,
  terminal: Terminal,
): Promise<{ keys: number; damaged: number }> {
  await loadHash();
  const copies = new Copies(directories, (message) => terminal.err(`${message}\n`));
  const archive = new ArchiveWriter();
  const shown = counting(terminal, "reading", "keys");
  let keys = 0;
  const fill = async (): Promise<void> => {
    for (const { value, bytes, pieces } of copies.values(Buffer.from(prefix))) {
      if (bytes !== null) await archive.put(headOf(value), bytes);
      else if (pieces !== null) await archive.putStream(headOf(value), pieces());
      shown.at(++keys, keys);
      if (keys % TURN_VALUES === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    archive.end();
  };
  const part = `${file}.part`;
  const target: Writable = file === "-" ? terminal.stdout() : createWriteStream(part, { mode: 0o600 });
  try {
    await Promise.all([
      fill().catch((error: Error) => {
        archive.destroy(error);
        throw error;
      }),
      pipeline(Readable.from(archive.pieces()), target),
    ]);
    if (file !== "-") renameSync(part, file);
    return { keys, damaged: copies.damaged };
  } catch (error) {
    if (file !== "-") rmSync(part, { force: true });
    throw error;
  } finally {
    shown.stop();
  }
}
