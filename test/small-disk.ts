/**
 * A small file system of its own for tests of a full disk: a tmpfs in a mount namespace of a child process, reached through /proc. It needs no
 * rights where unprivileged user namespaces are allowed, and goes away with this process, whatever happens to it.
 */
import { spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

export interface SmallDisk {
  readonly path: string;
  /** Takes the space that is left, to the last block, as another program would. */
  fill(): void;
  /** Gives back what `fill` took. */
  release(): void;
  remove(): Promise<void>;
}

/** Makes one of `bytes`; answers a sentence where this machine does not allow it. */
export async function smallDisk(bytes: number): Promise<SmallDisk | string> {
  if (process.platform !== "linux") return "needs mount namespaces, which only Linux has";
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "minivault-test-"));
  const flags = process.getuid?.() === 0 ? "-m" : "-Urm";
  // cat ends with its standard input, so with this process.
  const script = `mount -t tmpfs -o size=${bytes},mode=700 none "${folder}" && echo mounted && exec cat`;
  const child = spawn("unshare", [flags, "sh", "-c", script], { stdio: ["pipe", "pipe", "pipe"] });
  let errors = "";
  child.stderr.on("data", (piece) => {
    errors += piece;
  });
  const ended = new Promise<void>((resolve) => {
    child.once("close", () => resolve());
    child.once("error", (error) => {
      errors += error.message;
      resolve();
    });
  });
  const mounted = new Promise<boolean>((resolve) => {
    child.stdout.once("data", () => resolve(true));
    ended.then(() => resolve(false));
  });
  const remove = async (): Promise<void> => {
    child.kill("SIGKILL");
    await ended;
    fs.rmdirSync(folder);
  };
  if (!(await mounted)) {
    await remove();
    return `a tmpfs in a mount namespace is not allowed here: ${errors.trim()}`;
  }
  const root = `/proc/${child.pid}/root${folder}`;
  const filler = path.join(root, "filler");
  return {
    path: root,
    fill() {
      const fd = fs.openSync(filler, "a");
      try {
        for (let size = 1024 * 1024; size >= 1; size >>>= 1)
          try {
            for (;;) fs.writeSync(fd, Buffer.alloc(size, 1));
          } catch (error) {
            if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
          }
      } finally {
        fs.closeSync(fd);
      }
    },
    release: () => fs.rmSync(filler, { force: true }),
    remove,
  };
}
