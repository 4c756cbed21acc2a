/** One value: shown, edited over the version that was shown, given an end, deleted. */
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { bytesText, pathOf } from "./api.ts";
import { setUnsaved } from "./parts/unsaved.tsx";
import { Conflict, remove, saveText, setEnd, type Value } from "./values.ts";

const LIFE_FORM = "90, 5m, 12h or 30d";

function Facts({ value }: { value: Value }) {
  const { type, bytes, etag, endMs, kept } = value;
  return (
    <p class="faint">
      {type}, {bytesText(bytes)}, version {etag},{" "}
      {endMs === null ? "never ends" : `ends ${new Date(endMs).toLocaleString()}`}
      {Object.entries(kept).map(([name, text]) => (
        <span key={name}>
          <br />
          {name}: {text}
        </span>
      ))}
    </p>
  );
}

function EndForm({ value, onSet }: { value: Value; onSet: (ttl: string) => void }) {
  const [ttl, setTtl] = useState("");
  return (
    <form
      class="row"
      onSubmit={(event) => {
        event.preventDefault();
        onSet(ttl.trim());
      }}
    >
      <label>
        Ends after{" "}
        <input
          value={ttl}
          placeholder={value.endMs === null ? LIFE_FORM : "never"}
          size={14}
          autocomplete="off"
          onInput={(event) => setTtl(event.currentTarget.value)}
        />
      </label>
      <button type="submit">Set the end</button>
    </form>
  );
}

/** Its text, and of one that is new its type and end. */
function Fields(of: {
  isNew: boolean;
  text: string;
  type: string;
  ttl: string;
  onText: (text: string) => void;
  onType: (type: string) => void;
  onTtl: (ttl: string) => void;
}) {
  return (
    <>
      {of.isNew && (
        <div class="row">
          <label>
            Type <input value={of.type} onInput={(event) => of.onType(event.currentTarget.value)} />
          </label>
          <label>
            Ends after{" "}
            <input
              value={of.ttl}
              placeholder="never"
              title={`such as ${LIFE_FORM}`}
              size={14}
              onInput={(event) => of.onTtl(event.currentTarget.value)}
            />
          </label>
        </div>
      )}
      <label>
        Value
        <textarea
          rows={12}
          value={of.text}
          spellcheck={false}
          onInput={(event) => of.onText(event.currentTarget.value)}
        />
      </label>
    </>
  );
}

export function Editor({
  value,
  onChanged,
  onGone,
  onReload,
}: {
  value: Value;
  /** It is stored, and this is told of it now. */
  onChanged: (value: Value) => void;
  onGone: () => void;
  onReload: () => void;
}) {
  const [text, setText] = useState(value.text ?? "");
  const [type, setType] = useState(value.type);
  const [ttl, setTtl] = useState("");
  const [said, setSaid] = useState<{ text: string; isBad: boolean } | null>(null);
  const [isSure, setSure] = useState(false);
  const [isBusy, setBusy] = useState(false);
  const section = useRef<HTMLElement>(null);
  // Where it is below the list, on a narrow page, it would not be seen. At once: later it would take the focus
  // from who types already.
  useLayoutEffect(() => {
    section.current?.focus({ preventScroll: true });
    section.current?.scrollIntoView({ block: "nearest" });
    return () => {
      if (value.picture !== null) URL.revokeObjectURL(value.picture);
    };
  }, []);
  const isNew = value.etag === "";
  const isUnsaved = text !== (value.text ?? "") || (isNew && (type !== value.type || ttl !== ""));
  useLayoutEffect(() => setUnsaved(isUnsaved), [isUnsaved]);
  useLayoutEffect(() => () => setUnsaved(false), []);
  const attempt = async (act: () => Promise<void>): Promise<void> => {
    if (isBusy) return;
    setBusy(true);
    setSaid(null);
    try {
      await act();
    } catch (error) {
      const already = "There is such a key already, so nothing was done. Load it anew to see what it is.";
      const changed =
        "Somebody has changed it meanwhile, so nothing was done. Load it anew to see what it is now.";
      const conflict = isNew ? already : changed;
      setSaid({ text: error instanceof Conflict ? conflict : (error as Error).message, isBad: true });
    }
    setBusy(false);
  };
  const change = (make: () => Promise<Value>, done: string) =>
    void attempt(async () => {
      onChanged(await make());
      setSaid({ text: done, isBad: false });
    });
  const isEditable = isNew || value.text !== null;
  return (
    <section aria-labelledby="value" tabIndex={-1} ref={section}>
      <h3 id="value">{value.key}</h3>
      {!isNew && <Facts value={value} />}
      {value.picture !== null && <img src={value.picture} alt={`the value of ${value.key}`} />}
      {!isEditable && value.picture === null && (
        <p>
          Not shown here: it is {bytesText(value.bytes)} of {value.type}.{" "}
          <code>curl {location.origin + pathOf(value.key)} -o file</code>
        </p>
      )}
      {isEditable && (
        <Fields {...{ isNew, text, type, ttl, onText: setText, onType: setType, onTtl: setTtl }} />
      )}
      <div class="row">
        {isEditable && (
          <button
            type="button"
            onClick={() =>
              change(() => saveText(value, type, text, ttl.trim()), isNew ? "Created." : "Saved.")
            }
          >
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
            onBlur={() => setSure(false)}
            onClick={() =>
              isSure
                ? void attempt(async () => {
                    await remove(value);
                    setUnsaved(false);
                    onGone();
                  })
                : setSure(true)
            }
          >
            {isSure ? "Delete it, surely" : "Delete"}
          </button>
        )}
      </div>
      <p role="status" class={said?.isBad ? "bad" : "good"}>
        {said?.text}
      </p>
      {!isNew && (
        <EndForm
          value={value}
          onSet={(end) =>
            change(() => setEnd(value, end), end === "" ? "It never ends now." : "It ends then.")
          }
        />
      )}
    </section>
  );
}
