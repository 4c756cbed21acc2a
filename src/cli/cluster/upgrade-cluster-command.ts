/** `minivault upgrade-cluster`: raises what the members of a cluster may ask of each other. */

import type { Subcommand } from "../subcommand/subcommand.ts";
import { type LayoutAnswer, MASTER_FLAGS, masterOf } from "./master-client.ts";

export const UPGRADE_CLUSTER: Subcommand = {
  name: "upgrade-cluster",
  operands: "",
  summary: "Lets a cluster use what all of its members can do now.",
  more: `After the last worker and master were started with a newer release, and each data directory was upgraded (minivault upgrade): until then the cluster
does nothing that an older release does not know, and answers 501 upgrade_first to it. There is no way back: older releases take no part from then on.
Refused while a member is away, or cannot do it; the answer names it.

Exit status: 0 the cluster has this release's feature level; 1 refused, or the master cannot be reached; 2 used wrongly.`,
  operandsMin: 0,
  operandsMax: 0,
  ...MASTER_FLAGS,
  switches: {},
  async run(words, terminal) {
    const master = masterOf(words);
    const { epoch } = await master.ask<LayoutAnswer>("GET", "/layout");
    const { layout } = await master.ask<LayoutAnswer>("POST", "/layout", { upgrade: epoch });
    terminal.out(`the cluster has feature level ${layout?.features ?? 1} as epoch ${layout?.epoch ?? 0}\n`);
    return 0;
  },
};
