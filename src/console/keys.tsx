/** Keys: walked as a tree, opened by name, created, uploaded by drop. */
import { useEffect, useRef, useState } from "preact/hooks";
import { ask, bytesText, pathOf, refusalOf } from "./api.ts";
import { Browser } from "./browser.tsx";
import { Changes } from "./changes.tsx";
import { Editor } from "./editor.tsx";
import { leave } from "./parts/unsaved.tsx";
import { newValue, readValue, type Value } from "./values.ts";

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

/** Stores a file where nothing is; answers what is in the way, or null. */
async function send(key: string, file: File): Promise<string | null> {
  const headers = { "Content-Type": file.type || "application/octet-stream", "If-None-Match": "*" };
  try {
    const answer = await ask(pathOf(key), { method: "PUT", headers, body: file });
    if (answer.status === 412) return `${key} is there already; delete it first.`;
    return answer.ok ? null : (await refusalOf(answer)).message;
  } catch (error) {
    return `${key} may not be stored: ${(error as Error).message}.`;
  }
}

export function Keys() {
  const [prefix, setPrefix] = useState("");
  const [turn, setTurn] = useState(0);
  const [news, setNews] = useState(0);
  const [value, setValue] = useState<Value | null>(null);
  const [said, setSaid] = useState<string | null>(null);
  const [shown, setShown] = useState(0);
  // What was asked for last is shown, whatever comes in last.
  const asked = useRef(0);
  const show = (fresh: Value | null, words: string | null): void =>
    leave(() => {
      setValue(fresh);
      setShown((number) => number + 1);
      setSaid(words);
    });
  const open = async (key: string): Promise<void> => {
    const number = ++asked.current;
    setSaid(null);
    const [fresh, words] = await readValue(key).then(
      (found) => [found, null] as const,
      (error: Error) => [null, error.message] as const,
    );
    if (number === asked.current) show(fresh, words);
  };
  const listAnew = () => setTurn((number) => number + 1);
  // A file that misses the place would be shown in place of the page.
  useEffect(() => {
    const stay = (event: Event) => event.preventDefault();
    for (const name of ["dragover", "drop"]) addEventListener(name, stay);
    return () => {
      for (const name of ["dragover", "drop"]) removeEventListener(name, stay);
    };
  }, []);
  const upload = async (files: Iterable<File>): Promise<void> => {
    const stored: string[] = [];
    for (const file of files) {
      setSaid(`Sending ${file.name}, ${bytesText(file.size)} ...`);
      const problem = await send(prefix + file.name, file);
      if (problem !== null) {
        setSaid([...stored.map((name) => `${name} is stored.`), problem].join(" "));
        break;
      }
      stored.push(prefix + file.name);
      setSaid(stored.length === 1 ? `${stored[0]} is stored.` : `${stored.length} files are stored.`);
    }
    if (stored.length > 0) listAnew();
  };
  return (
    <section
      aria-labelledby="keys"
      onDrop={(event) => {
        if (event.dataTransfer !== null) void upload([...event.dataTransfer.files]);
      }}
    >
      <h2 id="keys">Keys</h2>
      <p class="row">
        <label>
          Upload to {prefix === "" ? "the top" : `“${prefix}”`}{" "}
          <input
            type="file"
            multiple
            onChange={(event) => {
              const input = event.currentTarget;
              void upload([...(input.files ?? [])]);
              // The same file again is another upload.
              input.value = "";
            }}
          />
        </label>
        <span class="faint">or drop files here</span>
      </p>
      <KeyForm
        onOpen={(key) => void open(key)}
        onNew={(key) => {
          asked.current++;
          show(newValue(key), null);
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
          <Changes prefix={prefix} onChange={() => setNews((number) => number + 1)} />
        </div>
        {value !== null && (
          <Editor
            key={shown}
            value={value}
            onChanged={(changed) => {
              listAnew();
              setValue((now) => (now?.key === changed.key ? changed : now));
            }}
            onReload={() => void open(value.key)}
            onGone={() => {
              show(null, `${value.key} is deleted.`);
              listAnew();
            }}
          />
        )}
      </div>
    </section>
  );
}
