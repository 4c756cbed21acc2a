/** Keys and values: looked at, edited over the version that was shown, created, deleted, uploaded by drop. */
import { useEffect, useRef, useState } from "preact/hooks";
import { ask, bytesText, pathOf, Refused, refusalOf } from "./api.ts";
import { Changes } from "./changes.tsx";

/** More is not shown, but can be fetched. */
const TEXT_BYTES_MAX = 1024 * 1024;
const PICTURE_BYTES_MAX = 16 * 1024 * 1024;
const PAGE_KEYS = 200;

interface Value {
  key: string;
  etag: string;
  type: string;
  bytes: number;
  /** Of a text that is small enough. */
  text: string | null;
  /** Of a picture. */
  picture: string | null;
}

const isText = (type: string) =>
  /^(?:text\/|application\/(?:json|xml|x-ndjson|javascript)|[^;]*\+(?:json|xml))/.test(type);
const isPicture = (type: string) => /^image\/(?:png|jpeg|gif|webp|avif|bmp)/.test(type);

/** Asks how large it is before anything of it is fetched. Throws Refused. */
async function read(key: string): Promise<Value> {
  const head = await ask(pathOf(key), { method: "HEAD" });
  if (!head.ok)
    throw new Refused(head.status, head.status === 404 ? "There is no such key." : `status ${head.status}`);
  const type = head.headers.get("Content-Type") ?? "";
  const bytes = Number(head.headers.get("Content-Length") ?? 0);
  const value: Value = { key, etag: head.headers.get("ETag") ?? "", type, bytes, text: null, picture: null };
  const wanted = (isText(type) && bytes <= TEXT_BYTES_MAX) || (isPicture(type) && bytes <= PICTURE_BYTES_MAX);
  if (!wanted) return value;
  const answer = await ask(pathOf(key), { headers: { "If-Match": value.etag } });
  if (answer.status === 412) return read(key);
  if (!answer.ok) throw await refusalOf(answer);
  const blob = await answer.blob();
  if (isPicture(type)) return { ...value, picture: URL.createObjectURL(blob) };
  const content = new Uint8Array(await blob.arrayBuffer());
  try {
    return { ...value, text: new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(content) };
  } catch {
    // Bytes that are no UTF-8 would not be the same when they are saved again.
    return value;
  }
}

function KeyForm({ onOpen, onNew }: { onOpen: (key: string) => void; onNew: (key: string) => void }) {
  const [key, setKey] = useState("");
  return (
    <form
      class="row"
      onSubmit={(event) => {
        event.preventDefault();
        if (key !== "") onOpen(key);
      }}
    >
      <label>
        Key{" "}
        <input
          value={key}
          onInput={(event) => setKey(event.currentTarget.value)}
          autocomplete="off"
          spellcheck={false}
        />
      </label>
      <button type="submit">Open</button>
      <button type="button" onClick={() => key !== "" && onNew(key)}>
        New
      </button>
    </form>
  );
}

interface Page {
  prefixes: string[];
  keys: { key: string; bytes: number; type: string }[];
  cursor: string | null;
}

/** The keys below a prefix, a page at a time. */
function Browser({
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
  const [page, setPage] = useState<Page>({ prefixes: [], keys: [], cursor: null });
  const [problem, setProblem] = useState<string | null>(null);
  const [hasLists, setLists] = useState(true);
  // What was asked for last is shown, whatever comes in last.
  const asked = useRef(0);
  const load = async (cursor: string | null, before: Page): Promise<void> => {
    const number = ++asked.current;
    const more = cursor === null ? "" : `&cursor=${encodeURIComponent(cursor)}`;
    const answer = await ask(`${pathOf(prefix)}?delimiter=%2F&limit=${PAGE_KEYS}${more}&list`);
    if (number !== asked.current) return;
    if (!answer.ok) {
      // A node that knows no lists takes it for a bad request.
      setLists(answer.status !== 400);
      setProblem((await refusalOf(answer)).message);
      return;
    }
    const { prefixes, keys, cursor: next } = await answer.json();
    if (number !== asked.current) return;
    setProblem(null);
    setPage({ prefixes: [...before.prefixes, ...prefixes], keys: [...before.keys, ...keys], cursor: next });
  };
  useEffect(() => {
    void load(null, { prefixes: [], keys: [], cursor: null });
  }, [prefix, turn]);
  useEffect(() => {
    // Who has gone on to more is not thrown back.
    if (news > 0 && page.keys.length + page.prefixes.length <= PAGE_KEYS)
      void load(null, { prefixes: [], keys: [], cursor: null });
  }, [news]);
  if (!hasLists) return null;
  const parts = prefix.split("/").slice(0, -1);
  const inside = (name: string) => name.slice(prefix.length);
  return (
    <div>
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
      {problem !== null && <p class="bad">{problem}</p>}
      <ul class="keys">
        {page.prefixes.map((name) => (
          <li key={name}>
            <button type="button" class="plain" onClick={() => onPrefix(name)}>
              {inside(name)}
            </button>
          </li>
        ))}
        {page.keys.map(({ key, bytes, type }) => (
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
      {page.keys.length + page.prefixes.length === 0 && problem === null && (
        <p class="faint">Nothing here.</p>
      )}
      {page.cursor !== null && (
        <p>
          The list is cut here.{" "}
          <button type="button" onClick={() => void load(page.cursor, page)}>
            More
          </button>
        </p>
      )}
    </div>
  );
}

function Editor({
  value,
  onSaved,
  onGone,
  onReload,
}: {
  value: Value;
  onSaved: () => void;
  onGone: () => void;
  onReload: () => void;
}) {
  const [text, setText] = useState(value.text ?? "");
  const [type, setType] = useState(value.type);
  const [said, setSaid] = useState<{ text: string; isBad: boolean } | null>(null);
  const [isSure, setSure] = useState(false);
  const isNew = value.etag === "";
  const condition: Record<string, string> = isNew ? { "If-None-Match": "*" } : { "If-Match": value.etag };
  const send = async (method: "PUT" | "DELETE"): Promise<void> => {
    const answer =
      method === "PUT"
        ? await ask(pathOf(value.key), {
            method,
            headers: { ...condition, "Content-Type": type },
            body: text,
          })
        : await ask(pathOf(value.key), { method, headers: condition });
    if (answer.status === 412)
      setSaid({
        text: "Somebody has changed it meanwhile, so nothing was done. Load it anew to see what it is now.",
        isBad: true,
      });
    else if (!answer.ok) setSaid({ text: (await refusalOf(answer)).message, isBad: true });
    else if (method === "DELETE") onGone();
    else {
      setSaid({ text: "Saved.", isBad: false });
      onSaved();
    }
  };
  const isEditable = isNew || value.text !== null;
  return (
    <section aria-labelledby="value">
      <h3 id="value">{value.key}</h3>
      {!isNew && (
        <p class="faint">
          {value.type}, {bytesText(value.bytes)}, version {value.etag}
        </p>
      )}
      {value.picture !== null && <img src={value.picture} alt={`the value of ${value.key}`} />}
      {!isEditable && value.picture === null && (
        <p>
          Not shown here: it is {bytesText(value.bytes)} of {value.type}.{" "}
          <code>curl {location.origin + pathOf(value.key)} -o file</code>
        </p>
      )}
      {isEditable && (
        <>
          {isNew && (
            <label>
              Type <input value={type} onInput={(event) => setType(event.currentTarget.value)} />
            </label>
          )}
          <label>
            Value
            <textarea
              rows={12}
              value={text}
              spellcheck={false}
              onInput={(event) => setText(event.currentTarget.value)}
            />
          </label>
        </>
      )}
      <div class="row">
        {isEditable && (
          <button type="button" onClick={() => void send("PUT")}>
            {isNew ? "Create" : "Save"}
          </button>
        )}
        <button type="button" onClick={onReload}>
          Load anew
        </button>
        {!isNew && (
          <button
            type="button"
            class={isSure ? "danger" : ""}
            onClick={() => (isSure ? void send("DELETE") : setSure(true))}
          >
            {isSure ? "Delete it, surely" : "Delete"}
          </button>
        )}
      </div>
      <p role="status" class={said?.isBad ? "bad" : "good"}>
        {said?.text}
      </p>
    </section>
  );
}

export function Keys() {
  const [prefix, setPrefix] = useState("");
  const [turn, setTurn] = useState(0);
  const [news, setNews] = useState(0);
  const [value, setValue] = useState<Value | null>(null);
  const [said, setSaid] = useState<string | null>(null);
  const [shown, setShown] = useState(0);
  const open = async (key: string): Promise<void> => {
    setSaid(null);
    try {
      const fresh = await read(key);
      if (value?.picture) URL.revokeObjectURL(value.picture);
      setValue(fresh);
      setShown(shown + 1);
    } catch (error) {
      setValue(null);
      setSaid((error as Error).message);
    }
  };
  const upload = async (files: FileList): Promise<void> => {
    for (const file of files) {
      setSaid(`Sending ${file.name}, ${bytesText(file.size)} ...`);
      const headers = { "Content-Type": file.type || "application/octet-stream", "If-None-Match": "*" };
      const answer = await ask(pathOf(prefix + file.name), { method: "PUT", headers, body: file });
      if (answer.status === 412) setSaid(`${prefix}${file.name} is there already; delete it first.`);
      else setSaid(answer.ok ? `${prefix}${file.name} is stored.` : (await refusalOf(answer)).message);
      if (!answer.ok) return;
    }
    setTurn(turn + 1);
  };
  return (
    <section
      aria-labelledby="keys"
      onDragOver={(event) => event.preventDefault()}
      onDrop={(event) => {
        event.preventDefault();
        if (event.dataTransfer !== null) void upload(event.dataTransfer.files);
      }}
    >
      <h2 id="keys">Keys</h2>
      <p class="row">
        <label>
          Upload to “{prefix}”{" "}
          <input
            type="file"
            multiple
            onChange={(event) => event.currentTarget.files && void upload(event.currentTarget.files)}
          />
        </label>
        <span class="faint">or drop files here</span>
      </p>
      <KeyForm
        onOpen={(key) => void open(key)}
        onNew={(key) => {
          setSaid(null);
          setValue({ key, etag: "", type: "text/plain", bytes: 0, text: "", picture: null });
          setShown(shown + 1);
        }}
      />
      <p role="status">{said}</p>
      <div class="columns">
        <div>
          <Browser
            prefix={prefix}
            turn={turn}
            news={news}
            onPrefix={setPrefix}
            onOpen={(key) => void open(key)}
          />
          <Changes prefix={prefix} onChange={() => setNews(news + 1)} />
        </div>
        {value !== null && (
          <Editor
            key={shown}
            value={value}
            onSaved={() => {
              setTurn(turn + 1);
              void open(value.key);
            }}
            onReload={() => void open(value.key)}
            onGone={() => {
              setSaid(`${value.key} is deleted.`);
              setValue(null);
              setTurn(turn + 1);
            }}
          />
        )}
      </div>
    </section>
  );
}
