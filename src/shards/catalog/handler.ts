/**
 * The catalog thread: opens the catalog once the shards are open, answers the fronts, closes it.
 */
import type { MessagePort } from "node:worker_threads";
import { Catalog } from "../../engine/catalog/catalog.ts";
import { FIGURE } from "../../engine/slabs/figures.ts";
import { nodeIo } from "../../engine/slabs/io.ts";
import { loadAddon, setAddonDirectory } from "../../platform/addon.ts";
import { sentenceOf } from "../../platform/system-error.ts";
import { SteadyClock } from "../../util/clock.ts";
import { loadHash } from "../../util/hash.ts";
import { Bell } from "../arena/bell.ts";
import { FeedService } from "../feed/service.ts";
import { Entries } from "./entries.ts";
import type {
  Asked,
  CatalogAnswer,
  CatalogOpenTask,
  CatalogPrepareTask,
  CatalogTask,
  Told,
} from "./messages.ts";
import { CatalogService } from "./service.ts";

interface Opened {
  service: CatalogService;
  feed: FeedService;
  bell: Bell;
  channels: readonly MessagePort[];
}

/** The thread's only state: what it closes when it is told to. */
let opened: Opened | null = null;

/** Piscina's task handler. */
export default async function handle(task: CatalogTask): Promise<null> {
  try {
    if (task.kind === "prepare-catalog") await prepare(task);
    else if (task.kind === "open-catalog") opened = open(task);
    else await close();
  } catch (error) {
    // On its way to the other thread an error keeps its message and nothing else.
    throw new Error(sentenceOf(error as Error), { cause: error });
  }
  return null;
}

async function prepare({ addonDirectory }: CatalogPrepareTask): Promise<void> {
  if (addonDirectory !== null) setAddonDirectory(addonDirectory);
  loadAddon("mmap");
  loadAddon("guard");
  await loadHash();
}

function open(task: CatalogOpenTask): Opened {
  const { dataDirectory, store, memories, reader, readOnly, channels, figures } = task;
  const bell = new Bell(task.bell, () => feed.rung());
  const tell = (port: MessagePort, told: Told, transfer: ArrayBuffer[] = []): void =>
    port.postMessage(told, transfer);
  const warn = (warning: string): void => tell(channels[0], { warning });
  const held = memories.map((memory) => memory.held[reader]);
  const catalog = new Catalog({ dataDirectory, store, memories, held, io: nodeIo, readOnly, warn });
  const clock = new SteadyClock();
  for (const memory of memories) clock.observe(new Float64Array(memory.figures)[FIGURE.clockMillis]);
  const service = new CatalogService(catalog, store, new Float64Array(figures), clock, warn);
  const feed = new FeedService({
    ...{ dataDirectory, store, memories, readOnly, warn },
    lookups: catalog.logs.lookups,
    bell,
    entries: new Entries(catalog.logs.lookups, store, clock),
    tell: (front, told) => tell(channels[front], { feed: told }),
  });
  for (const [front, port] of channels.entries())
    port.on("message", (asked: Asked) => {
      if ("feed" in asked) feed.take(front, asked.feed);
      else
        void service
          .answer(asked.question)
          .then((answer) => tell(port, { id: asked.id, answer }, memoryOf(answer)));
    });
  return { service, feed, bell, channels };
}

/** What an answer carries, to be handed over rather than copied. */
function memoryOf(answer: CatalogAnswer): ArrayBuffer[] {
  if (answer.kind === "held") return [answer.entries.buffer as ArrayBuffer];
  if (answer.kind !== "list") return [];
  return [answer.keys, answer.prefixes].map(({ buffer }) => buffer as ArrayBuffer);
}

async function close(): Promise<void> {
  if (opened === null) return;
  const { service, feed, bell, channels } = opened;
  opened = null;
  feed.close();
  bell.close();
  await service.close();
  for (const port of channels) port.close();
}
