/** The keys below a prefix, a page at a time. */
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { ask, bytesText, pathOf, refusalOf } from "./api.ts";

const PAGE_KEYS = 200;
/** Who types is waited for. */
const TYPING_MS = 200;

interface Page {
  prefixes: string[];
  keys: { key: string; bytes: number; type: string }[];
  cursor: string | null;
}

const EMPTY: Page = { prefixes: [], keys: [], cursor: null };

function Path({ prefix, onPrefix }: { prefix: string; onPrefix: (prefix: string) => void }) {
  const parts = prefix.split("/").slice(0, -1);
  return (
    <nav aria-label="Prefix" class="row">
      <button type="button" class="plain" onClick={() => onPrefix("")}>
        all keys
      </button>
      {parts.map((part, index) => (
        <button
          type="button"
          class="plain"
          key={index}
          onClick={() => onPrefix(`${parts.slice(0, index + 1).join("/")}/`)}
        >
          {part}/
        </button>
      ))}
    </nav>
  );
}

function Rows({
  page: { prefixes, keys },
  prefix,
  onPrefix,
  onOpen,
}: {
  page: Page;
  prefix: string;
  onPrefix: (prefix: string) => void;
  onOpen: (key: string) => void;
}) {
  const inside = (name: string) => name.slice(prefix.length);
  return (
    <ul class="keys">
      {prefixes.map((name) => (
        <li key={name}>
          <button type="button" class="plain" onClick={() => onPrefix(name)}>
            {inside(name)}
          </button>
        </li>
      ))}
      {keys.map(({ key, bytes, type }) => (
        <li key={key}>
          <button type="button" class="plain" onClick={() => onOpen(key)}>
            {inside(key) || "(the prefix itself)"}
          </button>
          <span class="faint">
            {type}, {bytesText(bytes)}
          </span>
        </li>
      ))}
    </ul>
  );
}

export function Browser({
  prefix,
  turn,
  news,
  onPrefix,
  onOpen,
}: {
  prefix: string;
  turn: number;
  /** Rises when something below the prefix has changed. */
  news: number;
  onPrefix: (prefix: string) => void;
  onOpen: (key: string) => void;
}) {
  // null: nothing has come yet.
  const [page, setPage] = useState<Page | null>(null);
  const [problem, setProblem] = useState<string | null>(null);
  const [hasLists, setLists] = useState(true);
  /** What names begin with, behind the prefix. */
  const [begin, setBegin] = useState("");
  // What was asked for last is shown, whatever comes in last.
  const asked = useRef(0);
  const load = async (name: string, before: Page): Promise<void> => {
    const number = ++asked.current;
    const more = before.cursor === null ? "" : `&cursor=${encodeURIComponent(before.cursor)}`;
    try {
      const answer = await ask(`${pathOf(name)}?delimiter=%2F&limit=${PAGE_KEYS}${more}&list`);
      // A node that knows no lists takes it for a bad request.
      if (!answer.ok && number === asked.current) setLists(answer.status !== 400);
      if (!answer.ok) throw await refusalOf(answer);
      const { prefixes, keys, cursor } = await answer.json();
      if (number !== asked.current) return;
      setProblem(null);
      setPage({ prefixes: [...before.prefixes, ...prefixes], keys: [...before.keys, ...keys], cursor });
    } catch (error) {
      if (number === asked.current) setProblem((error as Error).message);
    }
  };
  useEffect(() => setBegin(""), [prefix]);
  useEffect(() => {
    const timer = setTimeout(() => void load(prefix + begin, EMPTY), begin === "" ? 0 : TYPING_MS);
    return () => clearTimeout(timer);
  }, [prefix, begin, turn]);
  const shown = page === null ? 0 : page.keys.length + page.prefixes.length;
  useEffect(() => {
    // Who has gone on to more is not thrown back.
    if (news > 0 && shown <= PAGE_KEYS) void load(prefix + begin, EMPTY);
  }, [news]);
  // Not drawn anew for each letter that is typed.
  const rows = useMemo(() => page && <Rows {...{ page, prefix, onPrefix, onOpen }} />, [page]);
  if (!hasLists) return null;
  return (
    <div>
      <Path prefix={prefix} onPrefix={onPrefix} />
      <label class="row">
        Begins with{" "}
        <input
          value={begin}
          onInput={(event) => setBegin(event.currentTarget.value)}
          autocomplete="off"
          spellcheck={false}
        />
      </label>
      {problem !== null && <p class="bad">{problem}</p>}
      {rows}
      {page !== null && shown === 0 && page.cursor === null && problem === null && (
        <p class="faint">Nothing here.</p>
      )}
      {page !== null && page.cursor !== null && (
        <p>
          The list is cut here.{" "}
          <button type="button" onClick={() => void load(prefix + begin, page)}>
            More
          </button>{" "}
          <span class="faint">{shown} are shown</span>
        </p>
      )}
    </div>
  );
}
