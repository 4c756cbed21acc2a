/** `minivault restore COPY DIR`: a data directory of its own from a backup. */
import { existsSync } from "node:fs";
import path from "node:path";
import { UsageError } from "../../config/values.ts";
import { restoreBackup } from "../../engine/backup/restore.ts";
import { noBackup } from "../../engine/directory/backup-file.ts";
import { sentenceOf } from "../../platform/system-error.ts";
import { loadHash } from "../../util/hash.ts";
import { JSON_SWITCH, type Subcommand } from "../subcommand/subcommand.ts";
import { counting } from "../subcommand/transfer.ts";

const SIGNALS = ["SIGINT", "SIGTERM"] as const;

export const RESTORE: Subcommand = {
  name: "restore",
  operands: "COPY DIR",
  summary: "Makes a data directory of a backup.",
  more: `COPY is what a backup of a node has made (POST /_admin/backup); it stays as it is. DIR is new or empty. What is in it afterwards is a store of
its own: it has all keys, versions and ends of the copy, and another identity, so that in a cluster it never votes in the old one's place. Start a
node on it, or export its keys into a cluster. minivault verify COPY tells beforehand whether the copy is sound. A restore that was killed is run again
with the same DIR: it removes what the earlier one has left there, and nothing starts on that before.

Exit status: 0 restored; 1 it could not be, and DIR is as it was; 2 used wrongly, or no backup.`,
  operandsMin: 2,
  operandsMax: 2,
  flags: [],
  switches: {
    incomplete: "also restore a copy that lacks slabs, or parts of some: what was in them answers 500",
    ...JSON_SWITCH,
  },
  async run({ operands: [copy, directory], switches }, terminal) {
    if (!existsSync(path.join(copy, "BACKUP")) && !existsSync(path.join(copy, "BACKUP.new")))
      throw new UsageError(noBackup(copy));
    await loadHash();
    const shown = counting(terminal, "restoring", "files");
    let isGivenUp = false;
    const interrupt = (): void => {
      isGivenUp = true;
    };
    for (const signal of SIGNALS) process.once(signal, interrupt);
    try {
      const restored = await restoreBackup(copy, directory, {
        incomplete: switches.has("incomplete"),
        isGivenUp: () => isGivenUp,
        report: shown.at,
      });
      shown.stop();
      const taken = new Date(restored.began).toISOString();
      if (switches.has("json")) terminal.out(`${JSON.stringify({ ...restored, taken })}\n`);
      else
        terminal.out(
          `restored ${restored.slabs} slabs, as they were at ${taken}, to ${restored.directory}\n`,
        );
      for (const name of restored.missing) terminal.err(`${name} is missing, cut or damaged in ${copy}\n`);
      return 0;
    } catch (error) {
      throw new Error(sentenceOf(error as Error), { cause: error });
    } finally {
      for (const signal of SIGNALS) process.off(signal, interrupt);
      shown.stop();
    }
  },
};
