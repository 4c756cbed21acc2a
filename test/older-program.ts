/** The program as it was at an earlier commit, for tests that two releases get on with each other. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { REPOSITORY, temporaryFolder } from "./rest/server.ts";

/** The last commit that knows neither format 2 of a record nor feature levels. */
export const BEFORE_FIELDS = "bc820032c321bf2cb1fed55c34deac0577eff22b";
/** The last commit of feature level 5: what races, it orders in another way than later ones. */
export const BEFORE_VERSIONS = "32695abf151b0c7de8d2a53eeb3ee2b3255b2d57";
/** The last commit of feature level 6: its conditional writes may build on what is not decided. */
export const BEFORE_DECIDED = "025c24c4aea2f8cd68c70790f061e491e5760988";

/** Why it cannot be built here, or null: a copy of the sources has no history. */
export function withoutHistory(commit: string): string | null {
  try {
    execFileSync("git", ["cat-file", "-e", `${commit}^{commit}`], { cwd: REPOSITORY, stdio: "ignore" });
    return null;
  } catch {
    return `commit ${commit.slice(0, 7)} is not here: this is no full clone`;
  }
}

/** Builds it in a temporary folder with the packages that are installed; answers the program's file. */
export function olderProgram(commit: string): string {
  const folder = temporaryFolder();
  const sources = execFileSync("git", ["archive", commit], { cwd: REPOSITORY, maxBuffer: 2 ** 28 });
  execFileSync("tar", ["-x", "-C", folder], { input: sources });
  fs.symlinkSync(path.join(REPOSITORY, "node_modules"), path.join(folder, "node_modules"));
  const env = { ...process.env, BUILD_COMMIT: commit.slice(0, 7) };
  execFileSync(process.execPath, [path.join(folder, "esbuild.config.mjs")], {
    cwd: folder,
    env,
    stdio: "pipe",
  });
  return path.join(folder, "dist/minivault.js");
}
