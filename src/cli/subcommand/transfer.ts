/** Bodies on their way: counted, checked against the length that was announced, and shown. */
import { createReadStream, fstatSync, openSync } from "node:fs";
import { Transform, type TransformCallback } from "node:stream";
import type { Terminal } from "./subcommand.ts";

/** What takes less is over before anybody looks. */
const SHOWN_FROM_BYTES = 8 * 1024 * 1024;
const DRAWN_PER_SECOND = 10;
const BAR_FROM_MS = 500;
/** Where it cannot be drawn over. */
const LINE_MS = 2000;

/**
 * Passes bytes on and shows how many have passed.
 * @param totalBytes the length that was announced, null where nobody knows it: other lengths are an error
 * @param cut the error's text when bytes are missing at the end, or too many
 */
export function counted(
  terminal: Terminal,
  name: string,
  totalBytes: number | null,
  cut: (bytes: number) => string,
): Transform {
  const progress = progressOf(terminal, name, totalBytes);
  let bytes = 0;
  return new Transform({
    transform(piece: Buffer, _encoding, done: TransformCallback) {
      bytes += piece.length;
      progress.at(bytes);
      if (totalBytes !== null && bytes > totalBytes) done(new Error(cut(bytes)));
      else done(null, piece);
    },
    flush(done: TransformCallback) {
      done(totalBytes !== null && bytes !== totalBytes ? new Error(cut(bytes)) : null);
    },
    destroy(error, done) {
      progress.stop();
      done(error);
    },
  });
}

/** A body that is a file. */
export interface FileBody {
  stream: Transform;
  /** Null: nobody knows. */
  totalBytes: number | null;
}

/**
 * A file, or standard input ("-"), as a body.
 * @param name what it is shown as
 * @param advice what else to do with a directory
 */
export function fileBody(file: string, name: string, terminal: Terminal, advice = ""): FileBody {
  const fd = file === "-" ? null : openSync(file, "r");
  const facts = fd === null ? null : fstatSync(fd);
  if (facts?.isDirectory()) throw new Error(`${file} is a directory${advice}`);
  // Files of the system, such as those of /proc, say that they are empty.
  const totalBytes = facts?.isFile() && facts.size > 0 ? facts.size : null;
  const stream = counted(terminal, name, totalBytes, () => `${file} has changed its size while it was sent`);
  const source = fd === null ? terminal.stdin() : createReadStream(file, { fd });
  source.on("error", (error: Error) => stream.destroy(error));
  source.pipe(stream);
  return { stream, totalBytes };
}

interface Progress {
  at(bytes: number): void;
  stop(): void;
}

function progressOf(terminal: Terminal, name: string, totalBytes: number | null): Progress {
  if (totalBytes !== null && totalBytes < SHOWN_FROM_BYTES) return { at() {}, stop() {} };
  if (!terminal.isTerminal) return linesOf(terminal, name, totalBytes);
  const startMs = performance.now();
  const rateOf = (bytes: number) => sizeOf(bytes / Math.max(0.001, (performance.now() - startMs) / 1000));
  const format = `${name} {bar} {percentage} % of {size}, {speed}, {eta_formatted} left`;
  const size = totalBytes === null ? "?" : sizeOf(totalBytes);
  const bar = barOf(format, totalBytes ?? 0, { size, speed: "" });
  return {
    at: (bytes) => bar.update(bytes, { speed: `${rateOf(bytes)}/s` }),
    stop: () => bar.stop(),
  };
}

function barOf(format: string, total: number, payload: object): import("cli-progress").SingleBar {
  // Only now: most commands, and all nodes, draw nothing.
  const { SingleBar } = require("cli-progress") as typeof import("cli-progress");
  const bar = new SingleBar({ format, fps: DRAWN_PER_SECOND, hideCursor: true, clearOnComplete: true });
  bar.start(total, 0, payload);
  return bar;
}

function linesOf({ err }: Terminal, name: string, totalBytes: number | null): Progress {
  let shownMs = performance.now();
  return {
    at(bytes) {
      if (performance.now() - shownMs < LINE_MS) return;
      shownMs = performance.now();
      const share = totalBytes === null ? "" : ` of ${sizeOf(totalBytes)}`;
      err(`${name}: ${sizeOf(bytes)}${share}\n`);
    },
    stop() {},
  };
}

export interface Counting {
  at(done: number, total: number): void;
  stop(): void;
}

/** Shows how many of something are done: a bar on a terminal, else a line now and then. */
export function counting(terminal: Terminal, name: string, unit: string): Counting {
  let shownMs = performance.now();
  const format = `${name} {bar} {value} of {total} ${unit}, {eta_formatted} left`;
  let bar: ReturnType<typeof barOf> | null = null;
  return {
    at(done, total) {
      if (bar !== null) {
        bar.setTotal(total);
        bar.update(done);
      } else if (performance.now() - shownMs >= (terminal.isTerminal ? BAR_FROM_MS : LINE_MS)) {
        shownMs = performance.now();
        if (terminal.isTerminal) bar = barOf(format, total, {});
        else terminal.err(`${name}: ${done}${total > done ? ` of ${total}` : ""} ${unit}\n`);
      }
    },
    stop: () => bar?.stop(),
  };
}

/** Bytes for a person, such as "1.5 MiB". */
export function sizeOf(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, bytes)) / 10)));
  const value = bytes / 1024 ** power;
  return `${power === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${units[power]}`;
}
