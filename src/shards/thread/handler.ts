/**
 * The shard thread: owns some shards and works on one batch at a time. Between batches it does the shards'
 * idle work in small steps.
 */
import { existsSync } from "node:fs";
import type { MessagePort } from "node:worker_threads";
import { shardDirectory } from "../../engine/directory/store-file.ts";
import { WATCH_MS } from "../../engine/list/directory-watch.ts";
import { failed, type Outcome, type ShardWrite } from "../../engine/shard/operations.ts";
import { dropPartition, dropTombstone, prepare, raiseFloor } from "../../engine/shard/replica.ts";
import { Shard } from "../../engine/shard/shard.ts";
import { UploadWriter } from "../../engine/shard/uploads.ts";
import { nodeIo } from "../../engine/slabs/io.ts";
import { loadAddon, setAddonDirectory } from "../../platform/addon.ts";
import { writeProblem } from "../../platform/private-directory.ts";
import { sentenceOf } from "../../platform/system-error.ts";
import { loadHash } from "../../util/hash.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import { BUFFERS, Flag, FRONT_BUSY, FRONT_SLEEPS, THREAD_SLEEPS } from "../arena/arena.ts";
import { BatchBuffer } from "../arena/buffer.ts";
import {
  emptyOperation,
  OP_DROP_PARTITION,
  OP_DROP_TOMBSTONE,
  OP_PREPARE,
  OP_RAISE_FLOOR,
  OP_SETTLE_LOSS,
  OP_UPLOAD_ABORT,
  OP_UPLOAD_BEGIN,
  OP_UPLOAD_COMMIT,
  OP_UPLOAD_PART,
  OP_WRITE,
  type Operation,
} from "../arena/operation.ts";
import { Patience } from "../arena/patience.ts";
import type { OpenTask, Task, TaskAnswer } from "./messages.ts";

/**
 * Bytes an idle step may move when nobody waits, and the least where somebody may; with many writes it moves
 * more.
 */
const IDLE_STEP_BYTES = 256 * 1024;
const BUSY_STEP_BYTES = 32 * 1024;
/** How long batches may follow each other before the event loop gets a turn. */
const SERVE_MS = 4;
/**
 * How long to look for the next batch before sleeping; a client on the same machine takes about 120 µs to
 * send its next write.
 */
const LOOK_MS_MAX = 0.2;
/** Between two looks at the clock. */
const LOOKS = 32;
/** How long after the last batch a shard counts as being at rest. */
const REST_MS = 50;
/**
 * How fast a thread's shards are scrubbed when nobody waits, and how much slower where somebody may. Records
 * of 100 bytes cost 4.7 ms of processor a MiB, so 1.9 % of a core; larger ones a tenth of it. And what is
 * read once is the first that Linux drops from its page cache: so little of it does not push out what is in
 * use.
 */
const SCRUB_BYTES_PER_SECOND = 4 * 1024 * 1024;
const SCRUB_BUSY_FACTOR = 10;
const SCRUB_MS_MIN = 50;
/** How often it is asked whether a pass is due. */
const SCRUB_IDLE_MS = 60_000;
/** How often slabs that were cut are looked for. */
const LOOK_MS = 1000;

interface Upload {
  shard: Shard;
  writer: UploadWriter;
}

/** The arena of one front, and where it hears of answers. */
interface Inlet {
  buffers: BatchBuffer[];
  next: number;
  /** This thread sleeps. */
  threadFlag: Flag;
  /** The front sleeps; it has a lot to do. */
  frontFlag: Flag;
  busyFlag: Flag;
  answers: MessagePort;
}

/** A buffer that is being worked on. */
interface Batch {
  inlet: Inlet;
  buffer: BatchBuffer;
  count: number;
  positions: number[];
  outcomes: Outcome[];
}

const shards = new Map<number, Shard>();
const uploads = new Map<number, Upload>();
/** One for each front. */
let inlets: Inlet[] = [];
let serving = false;
/** For the next batch. */
let patience = new Patience(0);
let warnings: string[] = [];
let idleQueued = false;
let batchesSinceIdle = 0;
let restTimer: NodeJS.Timeout | undefined;
let scrubTimer: NodeJS.Timeout | undefined;
let watchTimer: NodeJS.Timeout | undefined;
let lookTimer: NodeJS.Timeout | undefined;
let batchesSinceScrub = 0;
let scrubTurn = 0;
const operation = emptyOperation();
const DONE: Outcome = {
  error: null,
  detail: "",
  created: false,
  deleted: false,
  ballot: null,
  register: null,
};
const NO_BALLOT = failed("internal", "an operation of replication without a ballot");

export default async function handle(task: Task): Promise<TaskAnswer> {
  try {
    if (task.kind === "open") await open(task);
    else await close();
  } catch (error) {
    // On its way to the other thread an error keeps its message and nothing else.
    throw new Error(sentenceOf(error as Error), { cause: error });
  }
  const answer = { warnings };
  warnings = [];
  return answer;
}

async function open(task: OpenTask): Promise<void> {
  if (task.addonDirectory !== null) setAddonDirectory(task.addonDirectory);
  // Where it cannot be loaded, the start fails with the reason, and not the first write.
  loadAddon("mmap");
  loadAddon("guard");
  await loadHash();
  patience = new Patience(task.channels.every(({ arena }) => arena.patient) ? LOOK_MS_MAX : 0);
  patience.begin(false);
  inlets = task.channels.map(({ arena, answers }) => {
    const threadFlag = new Flag(arena, THREAD_SLEEPS);
    threadFlag.set();
    const buffers = Array.from({ length: BUFFERS }, (_, number) => new BatchBuffer(arena, number));
    // What it throws ends the thread, and the node with it.
    answers.on("message", () => {
      void serve().then(() => {
        if (warnings.length > 0) inlets[0].answers.postMessage(warnings.splice(0));
      });
    });
    return {
      buffers,
      next: 0,
      threadFlag,
      frontFlag: new Flag(arena, FRONT_SLEEPS),
      busyFlag: new Flag(arena, FRONT_BUSY),
      answers,
    };
  });
  const progress = new Float64Array(task.progress);
  const { dataDirectory, store, sync, readOnly } = task;
  for (const { shard, memory } of task.shards) {
    const before = progress[0];
    const setup = {
      dataDirectory,
      shard,
      store,
      sync,
      memory,
      now: Date.now,
      warn: (message: string) => void warnings.push(message),
    };
    const told = (done: number, total: number): void => {
      progress[0] = before + done;
      progress[1] = before + total;
    };
    const isReadOnly = readOnly || shardProblem(dataDirectory, shard) !== null;
    const opened = isReadOnly ? Shard.openReadOnly(setup, told) : Shard.open({ ...setup, io: nodeIo }, told);
    shards.set(shard, opened);
  }
  queueIdle();
  scrubTimer = setTimeout(scrub, SCRUB_MS_MIN);
  scrubTimer.unref();
  watchTimer = setInterval(watch, WATCH_MS);
  watchTimer.unref();
  lookTimer = setInterval(look, LOOK_MS);
  lookTimer.unref();
}

/**
 * Looks whether the data directory is still there, and whether other shards on its disk have no room: then
 * those at rest compact, too.
 */
function watch(): void {
  for (const shard of shards.values()) {
    shard.watch();
    if (shard.isPressed) queueIdle();
  }
  if (warnings.length > 0) inlets[0].answers.postMessage(warnings.splice(0));
}

/**
 * Why a shard that is there cannot be written, such as a disk of its own that is mounted read-only; null: it
 * can.
 */
function shardProblem(dataDirectory: string, shard: number): string | null {
  const directory = shardDirectory(dataDirectory, shard);
  const problem = existsSync(directory) ? writeProblem(directory) : null;
  if (problem !== null) warnings.push(`shard ${shard} serves reads only until a restart: ${problem}`);
  return problem;
}

/** Takes batch after batch until there is none. */
async function serve(): Promise<void> {
  // Whoever serves already looks at all arenas again before it ends.
  if (serving) return;
  serving = true;
  try {
    for (;;) {
      const until = performance.now() + SERVE_MS;
      while (performance.now() < until) if (!serveOnce()) return;
      // Sealing, compaction and timers need their turn of the event loop.
      await new Promise((resolve) => setImmediate(resolve));
    }
  } finally {
    serving = false;
  }
}

/**
 * Runs the next batch of every front as one. False: there is none, and whoever brings one wakes this thread.
 */
function serveOnce(): boolean {
  const batches: Batch[] = [];
  for (const inlet of inlets) {
    const buffer = inlet.buffers[inlet.next];
    const count = buffer.close();
    if (count === 0) continue;
    inlet.next = (inlet.next + 1) % BUFFERS;
    batches.push({ inlet, buffer, count, positions: new Array(count), outcomes: new Array(count) });
  }
  if (batches.length > 0) {
    patience.end();
    runBatches(batches);
    patience.begin(inlets.some(({ busyFlag }) => busyFlag.isSet));
    return true;
  }
  while (patience.lasts) for (let look = 0; look < LOOKS; look++) if (hasPending()) return true;
  for (const { threadFlag } of inlets) threadFlag.set();
  // Something may have come just before the flag was seen; if the front has reset it, it wakes this thread.
  let more = false;
  for (const { buffers, next, threadFlag } of inlets)
    if (buffers[next].pending && threadFlag.reset()) more = true;
  return more;
}

function hasPending(): boolean {
  for (let i = 0; i < inlets.length; i++) if (inlets[i].buffers[inlets[i].next].pending) return true;
  return false;
}

/** One commit for all: a sync serves the writes of every front. */
function runBatches(batches: readonly Batch[]): void {
  const touched = new Set<Shard>();
  for (const { buffer, count, positions, outcomes } of batches) {
    let position = 0;
    for (let i = 0; i < count; i++) {
      positions[i] = position;
      position = buffer.read(position, operation);
      const shard = shards.get(operation.shard) as Shard;
      touched.add(shard);
      outcomes[i] = run(shard, operation);
    }
  }
  for (const shard of touched) shard.commit();
  for (const { buffer, positions, outcomes } of batches) retryDeletes(buffer, positions, outcomes);
  for (const { inlet, buffer, count, positions, outcomes } of batches) {
    for (let i = 0; i < count; i++) buffer.answer(positions[i], outcomes[i]);
    buffer.finish();
    if (inlet.frontFlag.reset()) inlet.answers.postMessage(null);
  }
  batchesSinceIdle++;
  batchesSinceScrub++;
  queueIdle();
}

/** The write that met the end of the disk has failed its whole batch; for deletes there is the reserve. */
function retryDeletes(buffer: BatchBuffer, positions: readonly number[], outcomes: Outcome[]): void {
  const touched = new Set<Shard>();
  for (const [i, { error }] of outcomes.entries()) {
    if (error !== "disk_full") continue;
    buffer.read(positions[i], operation);
    if (operation.op !== OP_WRITE || operation.verb !== "delete") continue;
    const shard = shards.get(operation.shard) as Shard;
    touched.add(shard);
    outcomes[i] = run(shard, operation);
  }
  for (const shard of touched) shard.commit();
}

function run(shard: Shard, o: Operation): Outcome {
  switch (o.op) {
    case OP_UPLOAD_BEGIN:
      // It begins when it is longer than that.
      uploads.set(o.upload, { shard, writer: new UploadWriter(shard, kept(o), CHUNK_BYTES + 1) });
      return DONE;
    case OP_UPLOAD_PART:
      return uploads.get(o.upload)?.writer.part(o.body) ?? DONE;
    case OP_UPLOAD_COMMIT: {
      const upload = uploads.get(o.upload);
      if (upload === undefined) return failed("internal", "the upload is not known");
      uploads.delete(o.upload);
      const failure = upload.writer.part(o.body);
      // The ballot of an accept is chosen when all replicas have the value.
      if (failure === null) return upload.writer.finish(o.ballot ?? undefined);
      upload.writer.end();
      return failure;
    }
    case OP_UPLOAD_ABORT:
      uploads.get(o.upload)?.writer.end();
      uploads.delete(o.upload);
      return DONE;
    case OP_PREPARE:
      return o.ballot === null ? NO_BALLOT : prepare(shard, o, o.ballot, o.repair);
    case OP_RAISE_FLOOR:
      return o.ballot === null ? NO_BALLOT : raiseFloor(shard, o.operationLow, o.ballot);
    case OP_DROP_TOMBSTONE:
      return o.ballot === null ? NO_BALLOT : dropTombstone(shard, o, o.ballot);
    case OP_SETTLE_LOSS:
      return shard.settleLoss();
    case OP_DROP_PARTITION:
      return dropPartition(shard, o.operationLow, o.operationHigh);
    default:
      return shard.apply(writeOf(o), o.body);
  }
}

const write: ShardWrite = {
  verb: "put",
  key: new Uint8Array(0),
  hashA: 0,
  hashB: 0,
  json: false,
  contentType: new Uint8Array(0),
  ifMatch: "",
  ifNoneMatch: "",
  operationLow: 0,
  operationHigh: 0,
  ballot: undefined,
  repair: false,
};

function text(bytes: Uint8Array): string {
  return bytes.length === 0 ? "" : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString();
}

function writeOf(o: Operation): ShardWrite {
  write.verb = o.verb;
  write.key = o.key;
  write.hashA = o.hashA;
  write.hashB = o.hashB;
  write.json = o.json;
  write.contentType = o.contentType;
  write.ifMatch = text(o.ifMatch);
  write.ifNoneMatch = text(o.ifNoneMatch);
  write.operationLow = o.operationLow;
  write.operationHigh = o.operationHigh;
  write.ballot = o.ballot ?? undefined;
  write.repair = o.repair;
  return write;
}

/** A copy that outlives the batch. */
function kept(o: Operation): ShardWrite {
  return { ...writeOf(o), key: o.key.slice(), contentType: o.contentType.slice() };
}

function queueIdle(): void {
  if (idleQueued) return;
  idleQueued = true;
  setImmediate(idle);
}

function idle(): void {
  idleQueued = false;
  const bytes = batchesSinceIdle > 0 ? BUSY_STEP_BYTES : IDLE_STEP_BYTES;
  batchesSinceIdle = 0;
  let more = false;
  for (const shard of shards.values()) if (shard.idle(bytes)) more = true;
  if (more) queueIdle();
  else {
    restTimer ??= setTimeout(rest, REST_MS);
    restTimer.refresh();
  }
}

function rest(): void {
  restTimer = undefined;
  if (batchesSinceIdle > 0) return;
  let waiting = false;
  for (const shard of shards.values()) {
    shard.mark();
    if (shard.waiting) waiting = true;
  }
  if (waiting) queueIdle();
}

/** Looks after the slabs of all shards. */
function look(): void {
  for (const shard of shards.values()) if (shard.look()) queueIdle();
  if (warnings.length > 0) inlets[0].answers.postMessage(warnings.splice(0));
}

/** Checks a little of one shard, then waits as long as that much may take. */
function scrub(): void {
  const isBusy = batchesSinceScrub > 0;
  batchesSinceScrub = 0;
  let bytes = 0;
  const hasWaiting = hasPending();
  if (!hasWaiting) {
    const all = [...shards.values()];
    for (let i = 0; i < all.length && bytes === 0; i++) bytes = all[scrubTurn++ % all.length].scrub.step();
    if (warnings.length > 0) inlets[0].answers.postMessage(warnings.splice(0));
  }
  const pauseMs = Math.max(SCRUB_MS_MIN, (bytes / SCRUB_BYTES_PER_SECOND) * 1000);
  const isOver = bytes === 0 && !hasWaiting;
  scrubTimer = setTimeout(scrub, isOver ? SCRUB_IDLE_MS : isBusy ? pauseMs * SCRUB_BUSY_FACTOR : pauseMs);
  scrubTimer.unref();
}

async function close(): Promise<void> {
  clearTimeout(scrubTimer);
  clearInterval(watchTimer);
  clearInterval(lookTimer);
  for (const { answers } of inlets) answers.close();
  clearTimeout(restTimer);
  for (const { writer } of uploads.values()) writer.end();
  uploads.clear();
  await Promise.all([...shards.values()].map((shard) => shard.close()));
  shards.clear();
}
