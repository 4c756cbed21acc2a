/**
 * Where the time goes in JavaScript: self time by function, for each thread, from the CPU profiles that `npm run bench -- --profile FOLDER`
 * leaves. The front's system calls and uWS' own work run outside of JavaScript, between callbacks, and count as idle here: for those,
 * `perf record -e cpu-clock -g` with node's --perf-basic-prof.
 *
 *   node --import tsx native-bench/profile.ts FOLDER [COUNT]
 *
 * Names in the minified bundle say little: build one without minify and pass it as --program.
 */
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { percent } from "./statistics.ts";

export interface Profile {
  nodes: { id: number; callFrame: { functionName: string; url: string; lineNumber: number } }[];
  samples: number[];
  timeDeltas: number[];
}

export interface SelfTime {
  name: string;
  /** Of the time that the thread was busy. */
  share: number;
}

const NOT_BUSY = new Set(["(idle)", "(program)", "(root)"]);

/** Self time of each function, longest first, and the share of all time that the thread was in JavaScript or what it calls. */
export function selfTimes(profile: Profile): { busy: number; functions: SelfTime[] } {
  const names = new Map(
    profile.nodes.map(({ id, callFrame }) => {
      const { functionName, url, lineNumber } = callFrame;
      const place = url === "" ? "" : ` ${path.basename(url)}:${lineNumber + 1}`;
      return [id, (functionName === "" ? "(anonymous)" : functionName) + place];
    }),
  );
  const times = new Map<string, number>();
  let all = 0;
  profile.samples.forEach((id, index) => {
    const name = names.get(id) ?? "?";
    const took = profile.timeDeltas[index];
    all += took;
    times.set(name, (times.get(name) ?? 0) + took);
  });
  const busy = [...times].reduce((sum, [name, took]) => (NOT_BUSY.has(name) ? sum : sum + took), 0);
  const functions = [...times]
    .filter(([name]) => !NOT_BUSY.has(name))
    .sort((a, b) => b[1] - a[1])
    .map(([name, took]) => ({ name, share: took / busy }));
  return { busy: busy / all, functions };
}

function main(): void {
  const [folder, count = "20"] = process.argv.slice(2);
  if (folder === undefined) throw new Error("which folder?");
  for (const file of readdirSync(folder).sort()) {
    if (!file.endsWith(".cpuprofile")) continue;
    const { busy, functions } = selfTimes(
      JSON.parse(readFileSync(path.join(folder, file), "utf8")) as Profile,
    );
    console.log(`\n${file}: ${percent(busy)} in JavaScript`);
    for (const { name, share } of functions.slice(0, Number(count)))
      console.log(`${percent(share).padStart(6)}  ${name}`);
  }
}

if (require.main === module) main();
