/**
 * `minivault abandon-move` and `minivault recover`: the ways out of a move that cannot end, and of a cluster
 * that has lost a majority for good. The master decides; what is asked for carries the epoch that was seen.
 */

import { notLostText } from "../../cluster/layout/recovery.ts";
import type { Subcommand, Terminal, Words } from "../subcommand/subcommand.ts";
import { type LayoutAnswer, MASTER_FLAGS, masterOf, type Node, STATUSES } from "./master-client.ts";
import { moveText, watch } from "./progress.ts";

export const ABANDON_MOVE: Subcommand = {
  name: "abandon-move",
  operands: "",
  summary: "Gives up the move that is under way, or changes that wait; nothing is lost.",
  more: `The layout from before the move is in force again. A worker that was joining has to be started with an empty data directory to join again.
Where nothing moves, the changes that wait for their turn are given up. A move for another -region or -replicas is not begun again
before the worker, or the master, is started anew; a dead worker that was to be removed stays until it was up again, or is removed by hand.
A move that waits for a dead worker is given up by itself after -remove-after.

${STATUSES}`,
  operandsMin: 0,
  operandsMax: 0,
  ...MASTER_FLAGS,
  switches: {},
  run: abandonMove,
};

export const RECOVER: Subcommand = {
  name: "recover",
  operands: "",
  summary: "Goes on with the workers that are left when a majority is gone for good.",
  more: `Says what may be lost, and wants it typed. The workers that are down are given up: their data does not come back into the cluster, and
they can join again only with an empty data directory. Refused while every partition has a majority of its copies: then remove does it without loss.
A cluster of -volumes without a master needs one first: start it, and the workers that are left with -master.

${STATUSES}`,
  operandsMin: 0,
  operandsMax: 0,
  ...MASTER_FLAGS,
  switches: { yes: "accept without being asked, for scripts" },
  run: recover,
};

async function abandonMove(words: Words, terminal: Terminal): Promise<number> {
  const master = masterOf(words);
  const before = await master.ask<LayoutAnswer>("GET", "/layout");
  const { move, waiting, epoch } = before;
  if (move === null && waiting.length === 0) throw new Error("nothing is moving");
  const after = await master.ask<LayoutAnswer>("POST", "/layout", { abandon: epoch });
  const changes = `${waiting.length} change${waiting.length === 1 ? "" : "s"}`;
  const rest =
    waiting.length === 0
      ? ""
      : `; ${changes} waited for its end and go${waiting.length === 1 ? "es" : ""} on`;
  terminal.out(
    move === null
      ? `${changes} that waited ${waiting.length === 1 ? "is" : "are"} given up; the layout of epoch ${epoch} stays in force\n`
      : `the move of epoch ${epoch} is given up; the layout from before it is in force as epoch ${after.epoch}${rest}\n`,
  );
  return 0;
}

async function recover(words: Words, terminal: Terminal): Promise<number> {
  const master = masterOf(words);
  const before = await master.ask<LayoutAnswer>("GET", "/layout");
  const { absence, layout, epoch } = before;
  if (layout === null) throw new Error("the cluster has no layout yet");
  if (absence.stuck === 0) throw new Error(notLostText(absence.unheard ?? []));
  const { nodes } = await master.ask<{ nodes: Node[] }>("GET", "/nodes");
  terminal.out(describe(before, nodes));
  if (!words.switches.has("yes")) {
    const wanted = `recover ${epoch}`;
    const typed = await terminal.ask?.(`Type ${wanted} to go on: `);
    if (typed?.trim() !== wanted) {
      const hint = typed === undefined ? "; there is nobody to ask here, -yes accepts it" : "";
      throw new Error(`nothing was accepted, and nothing has changed${hint}`);
    }
  }
  const first = await master.ask<LayoutAnswer>("POST", "/layout", {
    recover: epoch,
    without: absence.missing,
  });
  const last = await watch(master, first, terminal, {
    isOver: ({ move }) => move === null,
    text: ({ move }) => (move === null ? "" : moveText(move)),
  });
  const left = last.layout?.nodes.map(({ url }) => url) ?? [];
  terminal.out(`the cluster goes on as epoch ${last.epoch} with ${left.join(", ")}\n`);
  return 0;
}

/** What is gone, and what that means, for a person who has to decide. */
function describe({ absence, epoch, layout }: LayoutAnswer, nodes: readonly Node[]): string {
  const { missing, idle, losses } = absence;
  const heardOf = (url: string): string => {
    const silentMs = nodes.find((node) => node.url === url)?.silentMs ?? null;
    return silentMs === null
      ? "not heard of since this master started"
      : `silent for ${Math.floor(silentMs / 1000)} s`;
  };
  const lines = [
    `Layout of epoch ${epoch}. Given up, with all that only they have:`,
    ...missing.map((url) => `  ${url}  ${heardOf(url)}`),
    ...(missing.length === 0 ? ["  nobody"] : []),
    ...(idle.length === 0
      ? []
      : [
          "Taken as they are, though they lost data and found too few others to synchronise from:",
          ...idle.map((url) => `  ${url}`),
        ]),
    "What may be lost:",
    `  everything in ${losses.gone} of ${layout?.partitions.toLocaleString("en-US")} partitions: no copy of them is left`,
    `  in ${losses.doubtful} of them the newest writes: what had not reached those that are left; older values, or nothing, take their place`,
    "A worker that is only cut off, or can be started again with its data, must not be given up: bring it back, and nothing is lost.",
  ];
  return `${lines.join("\n")}\n`;
}
