/**
 * `minivault verify DIR`: reads a data directory that no node runs on, and names what is damaged.
 */

import { existsSync, statSync } from "node:fs";
import { readClusterFile } from "../../cluster/layout/cluster-file.ts";
import { UsageError } from "../../config/values.ts";
import type { Damage } from "../../engine/check/findings.ts";
import { verifyDirectory } from "../../engine/check/verify.ts";
import { lockDirectory } from "../../engine/directory/lock.ts";
import { demandForms } from "../../platform/private-directory.ts";
import { demandDescriptors } from "../../platform/system-error.ts";
import { loadHash } from "../../util/hash.ts";
import type { Subcommand, Terminal } from "../subcommand/subcommand.ts";

/** Progress is written this often: drawn over on a terminal, as lines elsewhere. */
const DRAW_MS = 200;
const LINE_MS = 5000;

export const VERIFY: Subcommand = {
  name: "verify",
  operands: "DIR",
  summary: "Reads a data directory and names what is damaged.",
  more: `No node may run on the directory, and none can start meanwhile. Nothing is written to it. Every record is read, those that count no more included; a line for each damage says
file, byte, what is there, its key where that is known, and what is wrong. A torn tail that the next start cuts off is no damage.
A backup is read like a data directory.

Exit status: 0 sound; 1 damaged, or the directory is in use; 2 used wrongly, or no directory of minivault.`,
  operandsMin: 1,
  operandsMax: 1,
  flags: [],
  switches: {},
  async run({ operands: [directory] }, terminal) {
    if (!existsSync(directory) || !statSync(directory).isDirectory())
      throw new UsageError(`${directory} is no directory`);
    if (!existsSync(`${directory}/STORE`) && !existsSync(`${directory}/shard-000`))
      throw new UsageError(
        `${directory} is no data directory of minivault: it has neither STORE nor shard-000`,
      );
    await loadHash();
    const lock = await lockDirectory(directory, { readOnly: true });
    try {
      demandForms(directory);
      return await verify(directory, terminal);
    } finally {
      await lock.release();
    }
  },
};

async function verify(directory: string, terminal: Terminal): Promise<number> {
  const startMs = performance.now();
  let shownMs = startMs;
  let drawn = false;
  const clear = (): void => {
    if (drawn) terminal.err("\r\u001b[K");
    drawn = false;
  };
  const say = (line: string): void => {
    clear();
    terminal.out(`${line}\n`);
  };
  const summary = await verifyDirectory(directory, {
    damage: (damage) => say(`damaged: ${damageLine(damage)}`),
    note: (text) => say(`note: ${text}`),
    progress(done, total) {
      const now = performance.now();
      if (now - shownMs < (terminal.isTerminal ? DRAW_MS : LINE_MS)) return;
      shownMs = now;
      const text = `${Math.floor((done / total) * 100)} % of ${megabytes(total)} read`;
      if (terminal.isTerminal) terminal.err(`\r\u001b[K${text}`);
      else terminal.err(`${text}\n`);
      drawn = terminal.isTerminal;
    },
  });
  clear();
  if (summary === null) throw new UsageError(`${directory} is no data directory of minivault`);
  const text = clusterTrouble(directory);
  if (text !== null)
    say(
      `damaged: ${damageLine({ file: "CLUSTER", offset: null, kind: "what it knows of its cluster", key: null, text })}`,
    );
  const { shards, slabs, records, bytes, manifests, chunks, keys, tombstones } = summary;
  const damage = summary.damage + (text === null ? 0 : 1);
  const index = keys === null ? "index not checked" : `${keys} keys and ${tombstones} tombstones`;
  const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
  terminal.out(
    `${damage === 0 ? "sound" : `damaged in ${damage} ${damage === 1 ? "place" : "places"}`}: ${shards} shards, ${slabs} slabs, ${records} records, ${manifests} large values of ${chunks} chunks, ${index}; ${megabytes(bytes)} read in ${seconds} s\n`,
  );
  return damage === 0 ? 0 : 1;
}

/** Why a start would refuse what the node has kept of its cluster; null: it would not. */
function clusterTrouble(directory: string): string | null {
  try {
    readClusterFile(directory);
    return null;
  } catch (error) {
    demandDescriptors(error);
    return (error as Error).message;
  }
}

function damageLine({ file, offset, kind, key, text }: Damage): string {
  const where = offset === null ? file : `${file}, byte ${offset}`;
  return `${where}: ${kind}${key === null ? "" : ` of key ${key}`}: ${text.replace(/\p{Cc}+/gu, " ")}`;
}

function megabytes(bytes: number): string {
  return `${(bytes / 2 ** 20).toFixed(1)} MiB`;
}
