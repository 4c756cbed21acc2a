/** What a figure was measured on. A figure without it means nothing. */
import { execFileSync, spawnSync } from "node:child_process";
import os from "node:os";
import path from "node:path";

export const ROOT = path.join(__dirname, "..");
export const PROGRAM = path.join(ROOT, "dist/minivault.js");

export interface Machine {
  processor: string;
  cores: number;
  memoryGiB: number;
  kernel: string;
  node: string;
  /** Short hash; with "+" when the tree has changes. */
  commit: string;
  /** Load average of the last minute when the run began: what else the machine was doing. */
  load: number;
  time: string;
}

function git(...words: string[]): string {
  const { status, stdout } = spawnSync("git", words, { cwd: ROOT, encoding: "utf8" });
  return status === 0 ? stdout.trim() : "";
}

export function describeMachine(): Machine {
  const commit = git("rev-parse", "--short", "HEAD");
  const changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "native-bench") !== "";
  return {
    processor: os.cpus()[0]?.model ?? "unknown",
    cores: os.availableParallelism(),
    memoryGiB: Math.round(os.totalmem() / 2 ** 30),
    kernel: `${os.type()} ${os.release()} ${os.arch()}`,
    node: process.version,
    commit: commit === "" ? "unknown" : commit + (changed ? "+" : ""),
    load: Number(os.loadavg()[0].toFixed(2)),
    time: new Date().toISOString(),
  };
}

/** The machine in one line. */
export function machineLine(machine: Machine): string {
  const { processor, cores, memoryGiB, kernel, node, commit, load } = machine;
  return `${processor}, ${cores} cores, ${memoryGiB} GiB, ${kernel}, Node ${node}, commit ${commit}, load ${load} at the start`;
}

/** Whether a program can be found in PATH. */
export function isInstalled(program: string): boolean {
  try {
    execFileSync("sh", ["-c", `command -v ${program}`], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
