/** What is put and deleted below a prefix, as it happens. */
import { useEffect, useRef, useState } from "preact/hooks";
import { ask, pathOf } from "./api.ts";

/** So many are shown, the latest first. */
const SHOWN_MAX = 20;
/** When the stream has broken off, it is asked for again after so long. */
const RETRY_MS = 2000;
/** What comes within this time is told at once, however much it is. */
const TOGETHER_MS = 300;

interface Change {
  event: string;
  key: string;
  etag: string;
}

/** One stream, until it ends; answers whether it may be asked for again. */
async function read(
  prefix: string,
  place: { id: string },
  signal: AbortSignal,
  take: (change: Change) => void,
): Promise<boolean> {
  const headers: Record<string, string> = place.id === "" ? {} : { "Last-Event-ID": place.id };
  const answer = await ask(`${pathOf(prefix)}?watch`, { headers, signal });
  if (answer.status === 410) place.id = "";
  // Who may not watch, or a node that cannot: there is nothing to show.
  if (!answer.ok || answer.body === null)
    return answer.status === 410 || answer.status >= 502 || answer.status === 503;
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (let piece = await reader.read(); !piece.done; piece = await reader.read()) {
    const blocks = (rest + piece.value).split("\n\n");
    rest = blocks.pop() as string;
    for (const block of blocks) {
      const fields = Object.fromEntries(block.split("\n").map((line) => line.split(/: ?(.*)/s)));
      if (fields.id !== undefined) place.id = fields.id;
      if (["put", "delete", "expire"].includes(fields.event))
        take({ event: fields.event, ...JSON.parse(fields.data) });
    }
  }
  return true;
}

export function Changes({ prefix, onChange }: { prefix: string; onChange: () => void }) {
  const [changes, setChanges] = useState<Change[]>([]);
  const told = useRef(onChange);
  told.current = onChange;
  useEffect(() => {
    setChanges([]);
    const stop = new AbortController();
    const place = { id: "" };
    let latest: Change[] = [];
    let timer = 0;
    const tell = (): void => {
      const news = latest;
      latest = [];
      timer = 0;
      setChanges((before) => [...news, ...before].slice(0, SHOWN_MAX));
      told.current();
    };
    const take = (change: Change): void => {
      latest = [change, ...latest].slice(0, SHOWN_MAX);
      if (timer === 0) timer = window.setTimeout(tell, TOGETHER_MS);
    };
    const follow = async (): Promise<void> => {
      const again = await read(prefix, place, stop.signal, take).catch(() => true);
      if (again && !stop.signal.aborted) window.setTimeout(follow, RETRY_MS);
    };
    void follow();
    return () => {
      stop.abort();
      clearTimeout(timer);
    };
  }, [prefix]);
  if (changes.length === 0) return null;
  return (
    <section aria-labelledby="changes">
      <h3 id="changes">Changes as they happen</h3>
      <ul class="changes" aria-live="polite">
        {changes.map(({ event, key, etag }) => (
          <li key={`${event} ${key} ${etag}`}>
            {event} {key} <span class="faint">{etag}</span>
          </li>
        ))}
      </ul>
    </section>
  );
}
