/** State, figures, and charts of a node: asked for every two seconds. */
import { useEffect, useState } from "preact/hooks";
import { askDocument, askText, bytesText, Refused } from "./api.ts";
import { Chart } from "./parts/chart.tsx";

const ASK_MS = 2000;
const KEPT_MAX = 300;

/** What is taken of /_metrics at one moment. */
interface Moment {
  seconds: number;
  answers: number;
  failures: number;
  reads: Map<number, number>;
  writes: Map<number, number>;
}

interface Point {
  seconds: number;
  answers: number;
  failures: number;
  readP99: number | null;
  writeP99: number | null;
}

function momentOf(text: string): Moment {
  const moment: Moment = {
    seconds: Date.now() / 1000,
    answers: 0,
    failures: 0,
    reads: new Map(),
    writes: new Map(),
  };
  for (const line of text.split("\n")) {
    const value = Number(line.slice(line.lastIndexOf(" ") + 1));
    const bucket = /^minivault_(read|write)_duration_seconds_bucket\{le="([^"]+)"\}/.exec(line);
    if (bucket !== null)
      (bucket[1] === "read" ? moment.reads : moment.writes).set(
        bucket[2] === "+Inf" ? Infinity : Number(bucket[2]),
        value,
      );
    else if (line.startsWith("minivault_requests_total{")) {
      moment.answers += value;
      if (line.includes('outcome="5xx"')) moment.failures += value;
    }
  }
  return moment;
}

/** The bound below which 99 of 100 lie of what came between two moments, in milliseconds; null: nothing came. */
function percentile(before: Map<number, number>, now: Map<number, number>): number | null {
  const bounds = [...now.keys()].sort((a, b) => a - b);
  const since = (bound: number) => (now.get(bound) ?? 0) - (before.get(bound) ?? 0);
  const all = since(Number.POSITIVE_INFINITY);
  if (all <= 0) return null;
  const found = bounds.find((bound) => since(bound) >= all * 0.99) ?? Number.POSITIVE_INFINITY;
  return found === Number.POSITIVE_INFINITY ? null : found * 1000;
}

// biome-ignore lint/suspicious/noExplicitAny: the documents of /health and /_stats
type Document = any;

export interface Seen {
  health: Document | null;
  stats: Document | null;
  points: readonly Point[];
  /** Why nothing is known, or not all; null: all is. */
  problem: string | null;
}

/** Follows the node for as long as the page is shown. */
export function useNode(token: string): Seen {
  const [seen, setSeen] = useState<Seen>({ health: null, stats: null, points: [], problem: null });
  useEffect(() => {
    let isOver = false;
    let before: Moment | null = null;
    let points: Point[] = [];
    let timer: ReturnType<typeof setTimeout>;
    const look = async (): Promise<void> => {
      let health: Document | null = null;
      let stats: Document | null = null;
      let problem: string | null = null;
      try {
        health = await askDocument("/health");
        if (health.role !== "master") {
          stats = await askDocument("/_stats");
          const now = momentOf(await askText("/_metrics"));
          const step = before === null ? 0 : now.seconds - before.seconds;
          if (before !== null && step > 0 && now.answers >= before.answers)
            points = [
              ...points.slice(-KEPT_MAX),
              {
                seconds: now.seconds,
                answers: Math.round((now.answers - before.answers) / step),
                failures: Math.round((now.failures - before.failures) / step),
                readP99: percentile(before.reads, now.reads),
                writeP99: percentile(before.writes, now.writes),
              },
            ];
          before = now;
        }
      } catch (error) {
        problem =
          error instanceof Refused
            ? `figures: ${error.message} (a token that allows "metrics" sees them)`
            : "the node does not answer";
        if (!(error instanceof Refused)) health = null;
      }
      if (isOver) return;
      setSeen({ health, stats, points, problem });
      timer = setTimeout(look, ASK_MS);
    };
    void look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [token]);
  return seen;
}

function Figure({ name, value }: { name: string; value: string | number }) {
  return (
    <div class="figure">
      <dt>{name}</dt>
      <dd>{value}</dd>
    </div>
  );
}

export function Overview({ seen }: { seen: Seen }) {
  const { stats, points } = seen;
  if (stats === null) return null;
  const seconds = points.map((point) => point.seconds);
  const hours = Math.floor(stats.uptimeSeconds / 3600);
  const minutes = Math.floor((stats.uptimeSeconds % 3600) / 60);
  return (
    <section aria-labelledby="figures">
      <h2 id="figures">Figures</h2>
      <dl class="figures">
        <Figure name="keys" value={stats.keys.toLocaleString()} />
        <Figure name="live" value={bytesText(stats.liveBytes)} />
        <Figure name="stored" value={bytesText(stats.storedBytes)} />
        <Figure name="index" value={bytesText(stats.indexBytes)} />
        <Figure name="memory" value={bytesText(stats.memory.rss)} />
        <Figure name="connections" value={stats.queues.connections} />
        <Figure name="writes waiting" value={stats.queues.writes} />
        <Figure name="up for" value={`${hours} h ${minutes} min`} />
      </dl>
      <div class="charts">
        <Chart
          title="Answers a second"
          unit=""
          seconds={seconds}
          lines={[
            { name: "all", colour: "#2f6fde", values: points.map((point) => point.answers) },
            { name: "5xx", colour: "#c8332b", values: points.map((point) => point.failures) },
          ]}
        />
        <Chart
          title="99 of 100 are faster than"
          unit=" ms"
          seconds={seconds}
          lines={[
            { name: "reads", colour: "#2f6fde", values: points.map((point) => point.readP99) },
            { name: "writes", colour: "#c77d0a", values: points.map((point) => point.writeP99) },
          ]}
        />
      </div>
    </section>
  );
}
