/**
 * The time, the timers and the random numbers of simulated processes, in place of those of Node.js: shipped code runs unchanged while a
 * simulation is installed, and all that happens follows from the seed.
 *
 * One event runs at a time, and all that it has set free (promises) before the next one. Each belongs to a process: what a process left
 * behind when it ended never runs, and while it is paused its events wait.
 */

import { Random } from "../../random.ts";
import { EventQueue, type SimEvent } from "../events.ts";

/** What the clocks show at the start of a history. */
export const BIRTH_MS = 1_700_000_000_000;
/** An event takes so long at least: time goes on also where nothing waits. */
const EVENT_MS = 0.001;
/** Other work of the test's own process gets its turn after so many events. */
const EVENTS_PER_TURN = 4096;

/** A simulated process. */
export class SimProcess {
  alive = true;
  /** Its events wait until then. */
  pausedUntilMs = 0;
  readonly name: string;
  /** The clock of its machine. */
  readonly machine: Machine;

  constructor(name: string, machine: Machine) {
    this.name = name;
    this.machine = machine;
  }
}

/** What outlives a process. */
export interface Machine {
  /** How far its wall clock is ahead. */
  clockOffsetMs: number;
}

/** Something that is going to happen. */
export interface Handle {
  event: SimEvent;
}

interface Timer {
  handle: Handle;
  ref(): Timer;
  unref(): Timer;
  hasRef(): boolean;
}

type Callback = (...words: unknown[]) => void;

export class Simulation {
  readonly queue = new EventQueue();
  readonly random: Random;
  current: SimProcess;
  /** Of the history itself: its clock is right, and it never ends. */
  readonly observer = new SimProcess("observer", { clockOffsetMs: 0 });
  /** Events that have run. */
  events = 0;
  /** A digest of what has run when, to compare two runs of one seed. */
  digest = 0;
  private restore: (() => void)[] = [];

  constructor(seed: number) {
    this.random = new Random(seed);
    this.current = this.observer;
  }

  get now(): number {
    return this.queue.now;
  }

  /** 0 ≤ x < 1. */
  chance(): number {
    return (this.random.word() >>> 0) / 0x1_0000_0000;
  }

  below(bound: number): number {
    return this.random.below(bound);
  }

  /** Runs something as that process after a time, if it has not ended by then. Promises that it sets free are its work, too. */
  after(process: SimProcess, ms: number, run: () => void): Handle {
    const attempt = (): void => {
      if (!process.alive) return;
      if (process.pausedUntilMs > this.now) {
        handle.event = this.queue.at(process.pausedUntilMs, attempt);
        return;
      }
      this.current = process;
      run();
    };
    const handle = { event: this.queue.after(Math.max(EVENT_MS, ms), attempt) };
    return handle;
  }

  cancel({ event }: Handle): void {
    this.queue.cancel(event);
  }

  /** Lets events run until `isOver` says so. Rejects with what an event throws. */
  run(isOver: () => boolean): Promise<void> {
    const { setImmediate: breathe } = real;
    return new Promise((resolve, reject) => {
      const step = (): void => {
        try {
          this.current = this.observer;
          if (isOver() || !this.queue.step()) {
            this.current = this.observer;
            resolve();
            return;
          }
          this.digest = (Math.imul(this.digest, 31) + Math.round(this.now * 1000)) | 0;
        } catch (error) {
          reject(error);
          return;
        }
        this.events++;
        if (this.events % EVENTS_PER_TURN === 0) breathe(step);
        // A tick that was asked for by the last of the promises' work comes once all of that is done.
        else queueMicrotask(() => process.nextTick(step));
      };
      breathe(step);
    });
  }

  /** Takes the place of the timers, clocks and random numbers of this process. */
  install(): void {
    const { random } = this;
    const timers = require("node:timers/promises");
    const crypto = require("node:crypto");
    this.replace(globalThis, "setTimeout", (run: Callback, ms = 0, ...words: unknown[]) =>
      this.timer(ms, () => run(...words)),
    );
    this.replace(globalThis, "setImmediate", (run: Callback, ...words: unknown[]) =>
      this.timer(0, () => run(...words)),
    );
    this.replace(globalThis, "setInterval", (run: Callback, ms = 0, ...words: unknown[]) => {
      const again = (): void => {
        timer.handle = this.after(owner, ms, again);
        run(...words);
      };
      const owner = this.current;
      const timer = this.timer(ms, again);
      return timer;
    });
    const clear = (timer: Timer | undefined): void => {
      if (timer?.handle !== undefined) this.cancel(timer.handle);
    };
    for (const name of ["clearTimeout", "clearImmediate", "clearInterval"])
      this.replace(globalThis, name, clear);
    this.replace(performance, "now", () => this.now);
    this.replace(Date, "now", () => Math.floor(BIRTH_MS + this.now + this.current.machine.clockOffsetMs));
    this.replace(Math, "random", () => this.chance());
    this.replace(crypto, "randomBytes", (count: number) => random.bytes(count));
    this.replace(timers, "setTimeout", (ms: number, value: unknown) => {
      return new Promise((resolve) => this.timer(ms, () => resolve(value)));
    });
  }

  /** Puts a function in the place of another until the end of the simulation. */
  replace(owner: object, name: string, value: unknown): void {
    const before = Object.getOwnPropertyDescriptor(owner, name);
    Object.defineProperty(owner, name, { value, configurable: true, writable: true, enumerable: true });
    this.restore.push(() => {
      if (before === undefined) delete (owner as Record<string, unknown>)[name];
      else Object.defineProperty(owner, name, before);
    });
  }

  uninstall(): void {
    for (const restore of this.restore.reverse()) restore();
    this.restore = [];
  }

  private timer(ms: number, run: () => void): Timer {
    const timer: Timer = {
      handle: this.after(this.current, Number(ms), run),
      ref: () => timer,
      unref: () => timer,
      hasRef: () => true,
    };
    return timer;
  }
}

const real = { setImmediate };
