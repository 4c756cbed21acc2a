/**
 * A small file system of its own for tests of a full disk, in a mount namespace of a child process, reached through /proc. A tmpfs needs no
 * rights where unprivileged user namespaces are allowed; ext4 needs root and a loop device. It goes away with this process, whatever happens to it.
 */
import { execFileSync, spawn } from "node:child_process";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";

export interface SmallDisk {
  readonly path: string;
  /** Takes the space that is left, to the last block, as another program would. */
  fill(): void;
  /** Gives back what `fill` took. */
  release(): void;
  /** Takes all inodes that are left, and gives them back. */
  fillInodes(): void;
  releaseInodes(): void;
  /** Mounts it anew with other options: `ro`, `nr_inodes=60`. */
  remount(options: string): void;
  remove(): Promise<void>;
}

export type DiskKind = "tmpfs" | "ext4";

/** Makes one of `bytes`, with room for `inodes` files; answers a sentence where this machine does not allow it. */
export async function smallDisk(
  bytes: number,
  kind: DiskKind = "tmpfs",
  inodes?: number,
): Promise<SmallDisk | string> {
  if (process.platform !== "linux") return "needs mount namespaces, which only Linux has";
  const root = process.getuid?.() === 0;
  if (kind === "ext4" && !root) return "ext4 on a loop device needs root";
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "minivault-test-"));
  const disk = `${folder}.disk`;
  const limit = inodes === undefined ? "" : `,nr_inodes=${inodes}`;
  let mount = `mount -t tmpfs -o size=${bytes},mode=700${limit} none "${folder}"`;
  if (kind === "ext4")
    try {
      fs.writeFileSync(disk, "");
      fs.truncateSync(disk, bytes);
      const number = inodes === undefined ? [] : ["-N", String(inodes)];
      execFileSync("mkfs.ext4", ["-q", "-F", "-m", "0", ...number, disk], { stdio: "pipe" });
      // Without a name from now on: what is left of it goes with the loop device.
      mount = `mount -o loop "${disk}" "${folder}" && rm "${disk}"`;
    } catch (error) {
      fs.rmSync(disk, { force: true });
      fs.rmdirSync(folder);
      return `no ext4 here: ${(error as Error).message}`;
    }
  const flags = root ? "-m" : "-Urm";
  // cat ends with its standard input, so with this process.
  const script = `${mount} && echo mounted && exec cat`;
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
    fs.rmSync(disk, { force: true });
  };
  if (!(await mounted)) {
    await remove();
    return `${kind} in a mount namespace is not allowed here: ${errors.trim()}`;
  }
  const place = `/proc/${child.pid}/root${folder}`;
  const filler = path.join(place, "filler");
  const files = path.join(place, "files");
  return {
    path: place,
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
    fillInodes() {
      fs.mkdirSync(files, { recursive: true });
      try {
        for (;;) fs.closeSync(fs.openSync(path.join(files, String(fs.readdirSync(files).length)), "wx"));
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "ENOSPC") throw error;
      }
    },
    releaseInodes() {
      for (const name of fs.readdirSync(files)) fs.rmSync(path.join(files, name));
    },
    remount(options) {
      // With the child's own root: below a changed one (chroot) the folder has no such name for others.
      const inside = [
        "-t",
        String(child.pid),
        "-m",
        "--root",
        ...(root ? [] : ["-U", "--preserve-credentials"]),
      ];
      execFileSync("nsenter", [...inside, "mount", "-o", `remount,${options}`, folder]);
    },
    remove,
  };
}
