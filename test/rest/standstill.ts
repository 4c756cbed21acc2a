/** What processes and their connections are doing while something that should move does not. Linux only. */
import { execFileSync } from "node:child_process";
import fs from "node:fs";

const LOOK_MS = 200;

/** Looks at `progress` until `stop`; when it has not changed for `quietMs`, notes once what the processes do. */
export function watchStandstill(
  progress: () => number,
  pids: readonly number[],
  quietMs: number,
): { stop(): string } {
  let last = progress();
  let sinceMs = performance.now();
  let found = "";
  const timer = setInterval(() => {
    if (progress() !== last) {
      last = progress();
      sinceMs = performance.now();
    } else if (found === "" && performance.now() - sinceMs > quietMs)
      found = [`nothing has come for ${quietMs} ms at ${last}`, ...pids.map(threadsOf), sockets()].join("\n");
  }, LOOK_MS);
  timer.unref();
  return {
    stop() {
      clearInterval(timer);
      return found;
    },
  };
}

function textAt(file: string): string {
  try {
    return fs.readFileSync(file, "utf8").trim();
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? "";
  }
}

/** Of each thread its state, the place in the kernel where it waits, and its processor time in ticks. */
function threadsOf(pid: number): string {
  const folder = `/proc/${pid}/task`;
  const threads = fs.existsSync(folder) ? fs.readdirSync(folder) : [];
  const lines = threads.map((thread) => {
    const [state, , , , , , , , , , , user, system] = textAt(`${folder}/${thread}/stat`)
      .replace(/^.*\) /, "")
      .split(" ");
    const stack = textAt(`${folder}/${thread}/stack`).replace(/\s+/g, " ");
    return `  ${thread} ${state} ${user}+${system} ${textAt(`${folder}/${thread}/wchan`)} ${stack}`;
  });
  return [`process ${pid}`, ...lines].join("\n");
}

function sockets(): string {
  try {
    return execFileSync("ss", ["-tinmo"], { encoding: "utf8" });
  } catch {
    return textAt("/proc/net/tcp");
  }
}
