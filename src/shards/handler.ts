/**
 * The shard thread: owns some shards and works on one task at a time. Between tasks it does the shards' idle work in small steps.
 */
import type { MessagePort } from "node:worker_threads";
import { nodeIo } from "../engine/io.ts";
import { failed, type Outcome, type ShardWrite } from "../engine/operations.ts";
import { Shard } from "../engine/shard.ts";
import { UploadWriter } from "../engine/uploads.ts";
import { loadAddon, setAddonDirectory } from "../util/addon.ts";
import { loadHash } from "../util/hash.ts";
import {
  BatchBuffer,
  BUFFERS,
  emptyOperation,
  IdleFlag,
  OP_PREPARE,
  OP_UPLOAD_ABORT,
  OP_UPLOAD_BEGIN,
  OP_UPLOAD_COMMIT,
  OP_UPLOAD_PART,
  OP_WRITE,
  type Operation,
} from "./batch.ts";
import type { OpenTask, Task, TaskAnswer } from "./messages.ts";

/** Bytes an idle step may move when nobody waits, and the least where somebody may; with many writes it moves more. */
const IDLE_STEP_BYTES = 256 * 1024;
const BUSY_STEP_BYTES = 32 * 1024;
/** How long batches may follow each other before the event loop gets a turn. */
const SERVE_MS = 4;
/** How long after the last batch a shard counts as being at rest. */
const REST_MS = 50;

interface Upload {
  shard: Shard;
  writer: UploadWriter;
}

const shards = new Map<number, Shard>();
const uploads = new Map<number, Upload>();
let buffers: BatchBuffer[] = [];
let next = 0;
let idleFlag: IdleFlag;
let answers: MessagePort;
let warnings: string[] = [];
let idleQueued = false;
let batchesSinceIdle = 0;
let restTimer: NodeJS.Timeout | undefined;
const operation = emptyOperation();
const DONE: Outcome = { error: null, detail: "", created: false, deleted: false, ballot: null };

export default async function handle(task: Task): Promise<TaskAnswer> {
  if (task.kind === "serve") await serve();
  else if (task.kind === "open") await open(task);
  else await close();
  const answer = { warnings };
  warnings = [];
  return answer;
}

async function open(task: OpenTask): Promise<void> {
  if (task.addonDirectory !== null) setAddonDirectory(task.addonDirectory);
  // Where it cannot be loaded, the start fails with the reason, and not the first write.
  loadAddon("mmap");
  await loadHash();
  buffers = Array.from({ length: BUFFERS }, (_, number) => new BatchBuffer(task.arena, number));
  idleFlag = new IdleFlag(task.arena);
  idleFlag.set();
  answers = task.answers;
  const progress = new Float64Array(task.progress);
  const { dataDirectory, store, sync } = task;
  for (const { shard, memory } of task.shards) {
    const before = progress[0];
    const opened = Shard.open(
      {
        dataDirectory,
        shard,
        store,
        sync,
        memory,
        io: nodeIo,
        now: Date.now,
        warn: (message) => warnings.push(message),
      },
      (done, total) => {
        progress[0] = before + done;
        progress[1] = before + total;
      },
    );
    shards.set(shard, opened);
  }
  queueIdle();
}

/** Takes batch after batch until there is none. */
async function serve(): Promise<void> {
  for (;;) {
    const until = performance.now() + SERVE_MS;
    while (performance.now() < until) {
      const count = buffers[next].close();
      if (count > 0) {
        runBatch(buffers[next], count);
        next = (next + 1) % BUFFERS;
        continue;
      }
      idleFlag.set();
      // Something may have come just before the flag was seen; if the front has reset it, it sends another task.
      if (!buffers[next].pending || !idleFlag.reset()) return;
    }
    // Sealing, compaction and timers need their turn of the event loop.
    await new Promise((resolve) => setImmediate(resolve));
  }
}

function runBatch(buffer: BatchBuffer, count: number): void {
  const outcomes: Outcome[] = new Array(count);
  const positions: number[] = new Array(count);
  const touched = new Set<Shard>();
  let position = 0;
  for (let i = 0; i < count; i++) {
    positions[i] = position;
    position = buffer.read(position, operation);
    const shard = shards.get(operation.shard) as Shard;
    touched.add(shard);
    outcomes[i] = run(shard, operation);
  }
  for (const shard of touched) shard.commit();
  retryDeletes(buffer, positions, outcomes);
  for (let i = 0; i < count; i++) buffer.answer(positions[i], outcomes[i]);
  buffer.finish();
  answers.postMessage(null);
  batchesSinceIdle++;
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
      uploads.set(o.upload, { shard, writer: new UploadWriter(shard, kept(o)) });
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
      return o.ballot === null
        ? failed("internal", "a prepare without a ballot")
        : shard.prepare(writeOf(o), o.ballot);
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

async function close(): Promise<void> {
  answers.close();
  clearTimeout(restTimer);
  for (const { writer } of uploads.values()) writer.end();
  uploads.clear();
  await Promise.all([...shards.values()].map((shard) => shard.close()));
  shards.clear();
}
