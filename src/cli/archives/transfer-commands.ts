/** `minivault export` and `import`: all keys with a prefix as an archive, out of a node and into one. */
import { nodeUrl, UsageError } from "../../config/values.ts";
import { CLIENT_FLAGS, CLIENT_OPTIONS, clientOf } from "../client/node-client.ts";
import { lastLine } from "../client/node-lines.ts";
import { archiveCopies } from "../directory/merge-copies.ts";
import { Migration, type Moved } from "../migrate/migration.ts";
import { MiniKeyValue } from "../migrate/minikeyvalue.ts";
import { shown } from "../subcommand/shown.ts";
import {
  JSON_SWITCH,
  optionOf,
  type Subcommand,
  type Terminal,
  type Words,
} from "../subcommand/subcommand.ts";
import { counting, fileBody, sizeOf } from "../subcommand/transfer.ts";
import { exportTo } from "./export-file.ts";
import { copiesIn } from "./manifest.ts";

const STATUSES = "Exit status: 0 done; 1 refused, broken off, or no node can be reached; 2 used wrongly.";

export const EXPORT: Subcommand = {
  name: "export",
  operands: "FILE|-",
  summary: "Saves all keys with a prefix, and their values, as a tar.",
  more: `Each value is a file, with its key, version, type and metadata beside it; tar -t reads it. It is no snapshot: each value is as it was when its turn came.
An export that was broken off goes on where it was when it is run again with the same FILE, which has the name FILE.part until it is whole.

  minivault export all.tar
  minivault export -prefix photos/ - | ssh elsewhere 'cat > photos.tar'
  minivault export -copy /backup/monday all.tar

With -copy no node is asked: it is what backups hold together, of each key the newest version.

${STATUSES}`,
  operandsMin: 1,
  operandsMax: 1,
  flags: ["consistency", ...CLIENT_FLAGS],
  switches: JSON_SWITCH,
  options: {
    prefix: { value: "prefix", text: "only keys that begin with it (default: all)" },
    copy: {
      value: "dir",
      text: "a backup, or a cluster's with its manifest, in place of a node; may be repeated",
    },
    ...CLIENT_OPTIONS,
  },
  run: exportAll,
};

export const IMPORT: Subcommand = {
  name: "import",
  operands: "[FILE|-]",
  summary: "Stores what an archive holds, of export or any tar of files, or another program's store.",
  more: `What is there already stays (-mode create), is replaced (replace), or is replaced where the archive has a newer version (newer). An import that was
broken off is run again: with create and newer it passes over what it has stored before.

  minivault import all.tar
  tar -c photos | minivault import - -mode replace

With -from-minikeyvalue there is no archive: all that a minikeyvalue master lists is copied, many values at once, and checked by their Content-Md5. The volumes must be reachable
under the names that the master sends its clients to. Run again, it goes on with what is not there yet.

  minivault import -from-minikeyvalue http://mkv:3000 -prefix photos/

${STATUSES}`,
  operandsMin: 0,
  operandsMax: 1,
  flags: CLIENT_FLAGS,
  switches: JSON_SWITCH,
  options: {
    mode: { value: "mode", text: "create, replace or newer (default create)" },
    "from-minikeyvalue": { value: "url", text: "a minikeyvalue master, in place of an archive" },
    prefix: { value: "prefix", text: "of its keys only those that begin with it (default: all)" },
    ...CLIENT_OPTIONS,
  },
  run: importAll,
};

async function exportAll(words: Words, terminal: Terminal): Promise<number> {
  const [file] = words.operands;
  const copies = words.options.copy ?? [];
  if (copies.length > 0) return exportCopies(copies, file, words, terminal);
  const query = new URLSearchParams({ prefix: optionOf(words, "prefix") ?? "" });
  const consistency = words.values.consistency as string | undefined;
  if (consistency !== undefined) query.set("consistency", consistency);
  const { keys, bytes, resumed } = await exportTo(clientOf(words), query, file, terminal);
  if (words.switches.has("json")) terminal.out(`${JSON.stringify({ file, keys, bytes, resumed })}\n`);
  else if (file !== "-") terminal.out(`saved ${keys} keys, ${sizeOf(bytes)}, in ${file}\n`);
  return 0;
}

async function exportCopies(
  directories: readonly string[],
  file: string,
  words: Words,
  terminal: Terminal,
): Promise<number> {
  const found = directories.map((directory) => ({ directory, ...copiesIn(directory) }));
  const copies = found.flatMap(({ folders }) => folders);
  const { keys, damaged } = await archiveCopies(copies, optionOf(words, "prefix") ?? "", file, terminal);
  if (words.switches.has("json")) terminal.out(`${JSON.stringify({ file, keys, damaged })}\n`);
  else if (file !== "-") terminal.out(`saved ${keys} keys of ${copies.length} copies in ${file}\n`);
  if (damaged > 0)
    terminal.err(
      `${damaged} records could not be read: other copies' versions are taken, if there are any\n`,
    );
  const lacking = found.filter(({ isEnough }) => !isEnough).map(({ directory }) => directory);
  for (const directory of lacking)
    terminal.err(
      `${directory} lacks too many nodes: writes that were acknowledged before the backup may be in none of its copies\n`,
    );
  return damaged === 0 && lacking.length === 0 ? 0 : 1;
}

/** What the last line of an import says. */
interface Imported {
  success: boolean;
  entries: number;
  stored: number;
  kept: number;
  refused: number;
  error?: string;
  refusals?: { key: string; error: string }[];
}

async function importAll(words: Words, terminal: Terminal): Promise<number> {
  const [file] = words.operands;
  const mode = optionOf(words, "mode") ?? "create";
  if (!["create", "replace", "newer"].includes(mode))
    throw new UsageError(`-mode is create, replace or newer, not ${mode}`);
  if (optionOf(words, "from-minikeyvalue") !== undefined) return migrate(words, mode, terminal);
  if (file === undefined) throw new UsageError("name the archive, or - for standard input");
  if (optionOf(words, "prefix") !== undefined)
    throw new UsageError("-prefix is for -from-minikeyvalue; of an archive all is stored");
  const advice = `; tar -c ${file} makes an archive of it`;
  const { stream, totalBytes } = fileBody(file, file, terminal, advice);
  const headers: Record<string, string> = { "Content-Type": "application/x-tar" };
  if (totalBytes !== null) headers["Content-Length"] = String(totalBytes);
  try {
    const answer = await clientOf(words).ask("PUT", `/_import?mode=${mode}`, {
      headers,
      body: stream,
      takesLines: true,
    });
    const last = await lastLine<Imported>(answer);
    if (words.switches.has("json")) terminal.out(`${JSON.stringify(last)}\n`);
    else {
      const { stored, kept, refused } = last;
      terminal.out(`stored ${stored} keys, kept ${kept} as they were, refused ${refused}\n`);
    }
    for (const { key, error } of last.refusals ?? []) terminal.err(`${shown(`${key}: ${error}`)}\n`);
    if (!last.success) terminal.err(`minivault import: ${last.error}\n`);
    return last.success ? 0 : 1;
  } finally {
    stream.destroy();
  }
}

/** Copies another program's store. */
async function migrate(words: Words, mode: string, terminal: Terminal): Promise<number> {
  if (words.operands.length > 0) throw new UsageError("-from-minikeyvalue takes the place of an archive");
  if (mode === "newer") throw new UsageError("minikeyvalue knows no versions: -mode is create or replace");
  const source = new MiniKeyValue(sourceUrl(optionOf(words, "from-minikeyvalue") as string));
  const progress = counting(terminal, "copying", "keys");
  let moved: Moved;
  try {
    const migration = new Migration(source, clientOf(words), mode === "replace", progress);
    moved = await migration.run(optionOf(words, "prefix") ?? "");
  } finally {
    progress.stop();
    source.close();
  }
  const { stored, bytes, kept, gone, refused, refusals } = moved;
  if (words.switches.has("json")) terminal.out(`${JSON.stringify(moved)}\n`);
  else
    terminal.out(
      `stored ${stored} keys, ${sizeOf(bytes)}, kept ${kept} as they were, refused ${refused}; ${gone} were deleted meanwhile\n`,
    );
  for (const { key, error } of refusals) terminal.err(`${shown(`${key}: ${error}`)}\n`);
  return refused === 0 ? 0 : 1;
}

function sourceUrl(text: string): string {
  try {
    return nodeUrl(text, "http");
  } catch (error) {
    throw new UsageError(`-from-minikeyvalue: ${(error as Error).message}`);
  }
}
