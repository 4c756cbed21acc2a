/** An archive of what backups hold, as a file. */
import { headOf } from "../../archive/member.ts";
import { ArchiveWriter } from "../../archive/tar-writer.ts";
import { loadHash } from "../../util/hash.ts";
import { PartFile } from "../subcommand/part-file.ts";
import type { Terminal } from "../subcommand/subcommand.ts";
import { type TakePiece, targetFile, writeInto } from "../subcommand/target-file.ts";
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
  const write = (take: TakePiece): Promise<unknown> =>
    Promise.all([
      fill().catch((error: Error) => {
        archive.destroy(error);
        throw error;
      }),
      drain(archive, take),
    ]);
  try {
    const target = file === "-" ? null : targetFile(file);
    if (target === null) await writeInto(file, terminal, write);
    else await saveWhole(target, write);
    return { keys, damaged: copies.damaged };
  } finally {
    shown.stop();
  }
}

async function drain(archive: ArchiveWriter, take: TakePiece): Promise<void> {
  for await (const piece of archive.pieces()) await take(piece);
}

/** Its keys are in no order, so nothing goes on with a part of it, whose name is no export's. */
async function saveWhole(target: string, write: (take: TakePiece) => Promise<unknown>): Promise<void> {
  const part = await PartFile.open(`${target}.copy.part`);
  try {
    part.truncate(0);
    await write(async (piece) => part.append(piece));
    await part.finish(target);
  } catch (error) {
    part.truncate(0);
    throw error;
  } finally {
    part.close();
  }
}
