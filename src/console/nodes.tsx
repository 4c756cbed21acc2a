/** The nodes of a cluster: as a worker sees the others, or as the master sees all, with a move's progress. */
import { useEffect, useState } from "preact/hooks";
import { askDocument, bytesText } from "./api.ts";
import type { Seen } from "./overview.tsx";

const ASK_MS = 2000;

function State({ state }: { state: string }) {
  return <span class={state === "up" ? "good" : state === "suspect" ? "fair" : "bad"}>{state}</span>;
}

/** As a worker sees them. */
export function Peers({ stats }: { stats: Seen["stats"] }) {
  const cluster = stats?.cluster;
  if (cluster === undefined) return null;
  return (
    <section aria-labelledby="peers">
      <h2 id="peers">Other nodes</h2>
      <div class="wide">
        <table>
          <thead>
            <tr>
              <th>URL</th>
              <th>region</th>
              <th>state</th>
              <th>round trip</th>
              <th>writes kept for it</th>
              <th>clock</th>
            </tr>
          </thead>
          <tbody>
            {cluster.peers.map(
              // biome-ignore lint/suspicious/noExplicitAny: a row of /_stats
              (peer: any) => (
                <tr key={peer.url}>
                  <td>{peer.url}</td>
                  <td>{peer.region}</td>
                  <td>
                    <State state={peer.state} />
                  </td>
                  <td>{peer.roundTripMs} ms</td>
                  <td>{peer.hints.waiting}</td>
                  <td>{peer.clock === null ? "unknown" : `${peer.clock.skewMs} ms`}</td>
                </tr>
              ),
            )}
          </tbody>
        </table>
      </div>
    </section>
  );
}

/** As the master sees them. */
export function Workers({ token }: { token: string }) {
  // biome-ignore lint/suspicious/noExplicitAny: the documents of a master
  const [seen, setSeen] = useState<{ nodes: any[]; move: any; problem: string | null }>({
    nodes: [],
    move: null,
    problem: null,
  });
  useEffect(() => {
    let isOver = false;
    let timer: ReturnType<typeof setTimeout>;
    const look = async (): Promise<void> => {
      try {
        const { nodes } = await askDocument("/nodes");
        const { move } = await askDocument("/layout");
        if (!isOver) setSeen({ nodes, move, problem: null });
      } catch (error) {
        if (!isOver) setSeen({ nodes: [], move: null, problem: (error as Error).message });
      }
      if (!isOver) timer = setTimeout(look, ASK_MS);
    };
    void look();
    return () => {
      isOver = true;
      clearTimeout(timer);
    };
  }, [token]);
  const { nodes, move, problem } = seen;
  return (
    <section aria-labelledby="workers">
      <h2 id="workers">Workers</h2>
      {problem !== null && <p class="bad">{problem}</p>}
      {move !== null && (
        <p>
          <label>
            Moving to layout {move.epoch}: <progress max={move.total} value={move.done} /> {move.done} of{" "}
            {move.total}
          </label>
        </p>
      )}
      <div class="wide">
        <table>
          <thead>
            <tr>
              <th>URL</th>
              <th>region</th>
              <th>state</th>
              <th>layout</th>
              <th>copies</th>
              <th>keys</th>
              <th>bytes</th>
              <th>votes</th>
            </tr>
          </thead>
          <tbody>
            {nodes.map((node) => (
              <tr key={node.url}>
                <td>{node.url}</td>
                <td>{node.region}</td>
                <td>
                  <State state={node.state} />
                </td>
                <td>{node.member ?? "-"}</td>
                <td>{node.copies}</td>
                <td>{node.load?.keys ?? "-"}</td>
                <td>{typeof node.load?.bytes === "number" ? bytesText(node.load.bytes) : "-"}</td>
                <td>{node.voting ? "yes" : "no"}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
