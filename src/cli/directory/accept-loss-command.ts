/**
 * `minivault accept-loss DIR`: lets a node that is alone go on without slabs that are lost for good.
 */
import { readClusterFile } from "../../cluster/layout/cluster-file.ts";
import { acceptLoss, type ShardLoss, surveyLoss } from "../../engine/check/accept-loss.ts";
import { lockDirectory } from "../../engine/directory/lock.ts";
import { openDataDirectory } from "../../platform/private-directory.ts";
import { sentenceOf } from "../../platform/system-error.ts";
import { loadHash } from "../../util/hash.ts";
import type { Subcommand, Terminal } from "../subcommand/subcommand.ts";
import { demandStore } from "./demand-store.ts";

const WORD = "accept";
const CONSEQUENCE =
  "What is left will count as if it were all: keys whose newest record was lost show an older value or a deleted key again, or are absent.";

export const ACCEPT_LOSS: Subcommand = {
  name: "accept-loss",
  operands: "DIR",
  summary: "Lets a single node go on without slabs that are lost for good.",
  more: `A node that misses a slab, or has an old or cut one, answers 500 for what may have been in it, until the right file is back or the key is
written again. Where the file will not come back: this command says what is lost and, once that is accepted, takes it off the lists of slabs.
${CONSEQUENCE} Take a copy of the directory first: there is no way back.

No node may run on the directory, and it must not belong to a cluster of several nodes, where a node gets what it lost from the others by itself.

Exit status: 0 nothing is lost, or the loss is accepted; 1 not accepted, or it failed; 2 used wrongly, or no directory of minivault.`,
  operandsMin: 1,
  operandsMax: 1,
  flags: [],
  switches: { yes: "accept without being asked, for scripts" },
  async run({ operands: [directory], switches }, terminal) {
    const warn = (message: string): void => terminal.err(`${message}\n`);
    await loadHash();
    demandStore(directory);
    // As a node would: what is written here has to be its user's.
    openDataDirectory(directory, warn);
    const lock = await lockDirectory(directory, { warn });
    try {
      demandAlone(directory);
      return await settle(directory, switches.has("yes"), terminal);
    } catch (error) {
      throw new Error(sentenceOf(error as Error), { cause: error });
    } finally {
      await lock.release();
    }
  },
};

/** What a replica lost it has to get from the others: it must not call that absent, nor vote without it. */
function demandAlone(directory: string): void {
  const others = readClusterFile(directory)?.layout?.nodes.length ?? 0;
  if (others > 1)
    throw new Error(
      `${directory} belongs to a cluster of ${others} nodes: start this one, it takes what it lost from the others and does not vote before`,
    );
}

async function settle(directory: string, isAgreed: boolean, terminal: Terminal): Promise<number> {
  const losses = surveyLoss(directory) ?? [];
  if (losses.length === 0) {
    terminal.out("nothing is lost: there is nothing to accept\n");
    return 0;
  }
  for (const loss of losses) terminal.out(linesOf(loss));
  terminal.out(`${CONSEQUENCE}\n`);
  if (!isAgreed) {
    const answer = await terminal.ask?.(`Type ${WORD} to go on: `);
    if (answer?.trim() !== WORD) {
      const hint = answer === undefined ? "; there is nobody to ask here, -yes accepts it" : "";
      terminal.err(`not accepted, and nothing has changed${hint}\n`);
      return 1;
    }
  }
  await acceptLoss(directory, losses, () => {});
  terminal.out("accepted: the next start serves what is left, without 500 for what is lost\n");
  return 0;
}

function linesOf({ shard, findings, slabs, keys }: ShardLoss): string {
  const where = slabs.length === 0 ? "" : ` (slabs ${slabs.join(", ")})`;
  const what =
    keys === null
      ? "nobody knows which keys, or how many, had their newest record in what is lost"
      : `${keys} keys had their newest record in what is lost`;
  return [...findings, `shard ${shard}${where}: ${what}`].map((line) => `${line}\n`).join("");
}
