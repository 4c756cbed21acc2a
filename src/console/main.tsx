/** The page: what the node is, and, with a token where one is needed, all that it may show. */
import { render } from "preact";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import "uplot/dist/uPlot.min.css";
import "./style.css";
import { setToken, token as storedToken } from "./api.ts";
import { Keys } from "./keys.tsx";
import { Peers, Workers } from "./nodes.tsx";
import { Overview, useNode } from "./overview.tsx";
import { LeaveDialog, leave } from "./parts/unsaved.tsx";

function Token({ value, onChange }: { value: string; onChange: (token: string) => void }) {
  const [text, setText] = useState(value);
  useEffect(() => setText(value), [value]);
  return (
    <form
      class="row"
      onSubmit={(event) => {
        event.preventDefault();
        onChange(text.trim());
      }}
    >
      <label>
        Token{" "}
        <input
          type="password"
          value={text}
          autocomplete="off"
          onInput={(event) => setText(event.currentTarget.value)}
        />
      </label>
      <button type="submit">Use</button>
      {value !== "" && (
        <button type="button" onClick={() => onChange("")}>
          Forget
        </button>
      )}
    </form>
  );
}

function Page() {
  const [token, setShown] = useState(storedToken());
  const seen = useNode(token);
  const { health, stats, problem } = seen;
  // Figures come every two seconds; what may be thousands of keys is not drawn anew for them.
  const keys = useMemo(() => <Keys key={token} />, [token]);
  // Who edits a value keeps it while the node does not answer.
  const isWorker = useRef(false);
  if (health !== null) isWorker.current = health.role !== "master";
  const isWell = health?.status === "healthy";
  return (
    <>
      <header>
        <h1>minivault</h1>
        <p role="status" class={isWell ? "good" : "bad"}>
          {health === null ? "no answer" : `${health.role} ${health.version}: ${health.status}`}
        </p>
        <Token
          value={token}
          onChange={(fresh) => {
            const use = (): void => {
              setToken(fresh);
              setShown(fresh);
            };
            if (fresh === token) use();
            else leave(use);
          }}
        />
      </header>
      <main>
        {health?.reason !== undefined && <p class="bad">{health.reason}</p>}
        {problem !== null && <p class="faint">{problem}</p>}
        <Overview seen={seen} />
        {health?.role === "master" ? <Workers token={token} /> : <Peers stats={stats} />}
        {isWorker.current && keys}
        <p class="faint">
          <a href="/_openapi.json">The API, as OpenAPI</a>
        </p>
      </main>
      <LeaveDialog />
    </>
  );
}

render(<Page />, document.getElementById("page") as HTMLElement);
