/**
 * Several builds of minivault, each with the Node.js that it is for: `bench:peers --builds` measures them beside each other, since what a newer
 * Node.js or uWebSockets.js costs shows only there.
 */
import { mkdirSync } from "node:fs";
import path from "node:path";
import { type Contender, fill, startMinivault } from "./contenders.ts";
import type { BenchOptions } from "./options.ts";
import { run } from "./processes.ts";

/** A built file and the Node.js executable to run it with. */
export interface Build {
  node: string;
  program: string;
}

/** Reads NODE:FILE,NODE:FILE…; the first is what the others are compared with. */
export function parseBuilds(text: string): Build[] {
  const builds = text.split(",").map((word) => {
    const [node, program, ...rest] = word.split(":");
    if (!node || !program || rest.length > 0) throw new Error(`"${word}" is not NODE:FILE`);
    return { node: path.resolve(node), program: path.resolve(program) };
  });
  if (builds.length < 2) throw new Error("--builds takes two or more, comma-separated");
  return builds;
}

/** What a build says of itself: "Node 24.1.0, uWebSockets.js 20.56.0". */
async function nameOf({ node, program }: Build): Promise<string> {
  const version = await run(node, [program, "-version"]);
  const match = /(Node [\d.]+), [^,]+, ([^)]+)\)/.exec(version);
  if (match === null) throw new Error(`${program} is not a build that names its uWebSockets.js: ${version}`);
  return `${match[1]}, ${match[2]}`;
}

/** Starts all of them, each on a directory of its own that is filled with values of that size. */
export async function startBuilds(
  builds: readonly Build[],
  options: BenchOptions,
  folder: string,
  valueBytes: number,
): Promise<{ name: string; server: Contender }[]> {
  const started: { name: string; server: Contender }[] = [];
  for (const [number, build] of builds.entries()) {
    const own = path.join(folder, `build-${number}`);
    mkdirSync(own);
    const server = await startMinivault({ ...options, program: build.program }, own, build.node);
    await fill(server.port, valueBytes);
    started.push({ name: await nameOf(build), server });
  }
  return started;
}
