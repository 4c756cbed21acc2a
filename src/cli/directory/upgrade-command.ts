/** `minivault upgrade DIR`: raises the format of a data directory that no node runs on. */
import { lockDirectory } from "../../engine/directory/lock.ts";
import { upgradeStoreFile } from "../../engine/directory/store-file.ts";
import { nodeIo } from "../../engine/slabs/io.ts";
import { STORE_VERSION } from "../../format/offsets.ts";
import { loadHash } from "../../util/hash.ts";
import type { Subcommand } from "../subcommand/subcommand.ts";
import { demandStore } from "./demand-store.ts";

export const UPGRADE: Subcommand = {
  name: "upgrade",
  operands: "DIR",
  summary: "Raises the format of a data directory to this program's.",
  more: `No node may run on the directory, and none can start meanwhile. There is no way back: programs that do not know the new format refuse the directory from then on, so make a
copy first. It takes one small file and no time: what is there stays as it is and is read as before, what is written from then on has the new format, and compaction rewrites the rest as
it goes. Interrupted at any moment it is done or it is not, and can be run again. In a cluster: a node at a time.

Exit status: 0 the directory has this program's format; 1 it cannot be upgraded, or is in use; 2 used wrongly, or no directory of minivault.`,
  operandsMin: 1,
  operandsMax: 1,
  flags: [],
  switches: {},
  async run({ operands: [directory] }, terminal) {
    await loadHash();
    demandStore(directory);
    const lock = await lockDirectory(directory, { warn: (message) => terminal.err(`${message}\n`) });
    try {
      const before = upgradeStoreFile(nodeIo, directory);
      const had = before === STORE_VERSION ? "already" : `now, it had ${before}`;
      terminal.out(`${directory} has format version ${STORE_VERSION} ${had}\n`);
      return 0;
    } finally {
      await lock.release();
    }
  },
};
