/**
 * `minivault backup DIRECTORY`: has a node, or all nodes of a cluster, copy their data while they serve. What
 * was made stands in a manifest.
 */
import fs from "node:fs";
import path from "node:path";
import { UsageError } from "../../config/values.ts";
import type { BackupSummary } from "../../engine/backup/write-backup.ts";
import { CLIENT_FLAGS, CLIENT_OPTIONS, clientOf } from "../client/node-client.ts";
import { lastLine } from "../client/node-lines.ts";
import { type LayoutAnswer, masterOf, type Node } from "../cluster/master-client.ts";
import { JSON_SWITCH, type Subcommand, type Terminal, type Words } from "../subcommand/subcommand.ts";
import { counting, sizeOf } from "../subcommand/transfer.ts";
import { MANIFEST, writeManifest } from "./manifest.ts";

export const BACKUP: Subcommand = {
  name: "backup",
  operands: "DIRECTORY",
  summary: "Has a node, or each node of a cluster (-master), copy its data while it serves.",
  more: `The copies are made where the nodes are: a node's in DIRECTORY, those of a cluster in a folder each below DIRECTORY, which has to be there on
every machine. DIRECTORY/${MANIFEST} on this one then says what was made. Copy all of it to another place.

  minivault backup /backup/monday
  minivault backup -master http://master:3000 /backup/monday
  minivault export -copy /backup/monday all.tar     (all that the copies hold together; then minivault import)
  minivault restore /backup/monday /var/lib/data    (the copy of a single node)

A backup that was killed is made again with the same DIRECTORY: what the first one has left is removed, and nothing reads it before.

A cluster's backup is enough when fewer nodes are missing in it than a majority of a key's copies has; a warning names those that are.

Exit status: 0 done, and enough; 1 refused, failed, or not enough; 2 used wrongly.`,
  operandsMin: 1,
  operandsMax: 1,
  flags: ["master", ...CLIENT_FLAGS],
  switches: JSON_SWITCH,
  options: CLIENT_OPTIONS,
  run: backup,
};

/** What a node says of its copy. */
interface Made extends BackupSummary {
  success: boolean;
  error?: string;
  /** Of lines before the last. */
  doneSlabs?: number;
}

/** Of a node in the manifest: its copy, or why there is none. */
type OfNode = { url: string; voting: boolean } & (({ folder: string } & Partial<Made>) | { error: string });

async function backup(words: Words, terminal: Terminal): Promise<number> {
  const directory = path.resolve(words.operands[0]);
  if (words.values.master !== undefined) return backupAll(words, terminal, directory);
  const made = await copyNode(words, directory, counting(terminal, "copying", "slabs").at);
  if (words.switches.has("json")) terminal.out(`${JSON.stringify(made)}\n`);
  else terminal.out(`copied ${made.slabs} slabs, ${sizeOf(made.bytes)}, to ${made.directory}\n`);
  for (const problem of made.problems) terminal.err(`${problem}\n`);
  return 0;
}

/** @throws Error why there is no copy */
async function copyNode(
  words: Words,
  directory: string,
  report: (done: number, total: number) => void,
): Promise<Made> {
  const target = `/_admin/backup?directory=${encodeURIComponent(directory)}`;
  const headers = { "Content-Length": "0" };
  const answer = await clientOf(words).ask("POST", target, { headers, takesLines: true });
  const last = await lastLine<Made>(answer, ({ doneSlabs, slabs }) => {
    if (doneSlabs !== undefined) report(doneSlabs, slabs);
  });
  if (!last.success) throw new Error(last.error ?? "the node says that it failed");
  return last;
}

async function backupAll(words: Words, terminal: Terminal, directory: string): Promise<number> {
  const master = masterOf(words);
  const { nodes } = await master.ask<{ nodes: Node[] }>("GET", "/nodes");
  const { layout } = await master.ask<LayoutAnswer>("GET", "/layout");
  const members = nodes.filter(({ member }) => member !== null);
  if (members.length === 0) throw new UsageError("the cluster has no members yet: there is nothing to copy");
  fs.mkdirSync(directory, { recursive: true, mode: 0o700 });
  if (fs.existsSync(path.join(directory, MANIFEST)))
    throw new Error(`${directory} has a ${MANIFEST} already: name another folder`);
  const began = Date.now();
  const shown = counting(terminal, "copying", "slabs");
  const sums = members.map(() => ({ done: 0, total: 0 }));
  const copies = await Promise.all(
    members.map(async ({ url, voting }, index): Promise<OfNode> => {
      const folder = folderOf(url);
      const own: Words = { ...words, options: { ...words.options, url: [url] } };
      try {
        const made = await copyNode(own, path.join(directory, folder), (done, total) => {
          sums[index] = { done, total };
          const all = (of: "done" | "total") => sums.reduce((sum, one) => sum + one[of], 0);
          shown.at(all("done"), all("total"));
        });
        return { url, voting, folder, ...made };
      } catch (error) {
        return { url, voting, error: (error as Error).message };
      }
    }),
  );
  shown.stop();
  const majority = Math.floor((layout?.replicas ?? 1) / 2) + 1;
  const missing = copies.filter((copy) => copy.error !== undefined || !copy.voting);
  const isEnough = missing.length < majority;
  const manifest = {
    ...{ format: "minivault-backup-manifest", version: 1, began, ended: Date.now() },
    ...{ epoch: layout?.epoch ?? 0, replicas: layout?.replicas ?? 0, isEnough, nodes: copies },
  };
  // With none there is nothing to name, and the same folder can be taken again.
  if (copies.some((copy) => "folder" in copy)) writeManifest(directory, manifest);
  tell(copies, words, terminal, { directory, isEnough, manifest });
  return isEnough ? 0 : 1;
}

function tell(
  copies: readonly OfNode[],
  words: Words,
  terminal: Terminal,
  { directory, isEnough, manifest }: { directory: string; isEnough: boolean; manifest: object },
): void {
  for (const copy of copies) {
    if ("folder" in copy)
      for (const problem of copy.problems ?? []) terminal.err(`${copy.url}: ${problem}\n`);
    else terminal.err(`${copy.url} is not in the backup: ${copy.error}\n`);
    if (!copy.voting) terminal.err(`${copy.url} does not vote: its data is not complete\n`);
  }
  const made = copies.filter((copy) => "folder" in copy).length;
  if (words.switches.has("json")) terminal.out(`${JSON.stringify(manifest)}\n`);
  else terminal.out(`copied ${made} of ${copies.length} nodes to ${directory}\n`);
  if (!isEnough)
    terminal.err("too many nodes are missing: writes that were acknowledged may be in none of the copies\n");
}

/** A name for a node's folder, another one for each. */
function folderOf(url: string): string {
  return url.replace(/^https?:\/\//, "").replace(/[^\w.-]+/g, "-");
}
