/** Server-sent events out of the bytes of a stream (HTML standard, "Server-sent events"). */

export interface ServerEvent {
  event: string;
  data: string;
  /** The last one that came, also with an earlier event. */
  id: string | null;
}

/**
 * The events of a stream, until it ends.
 * @param heard called with each piece, whatever is in it
 */
export async function* eventsOf(
  stream: ReadableStream<Uint8Array>,
  heard: () => void = () => {},
): AsyncGenerator<ServerEvent, void, void> {
  const reader = stream.getReader();
  const decoder = new TextDecoder();
  let text = "";
  let id: string | null = null;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      heard();
      text += decoder.decode(value, { stream: true });
      for (let end = endOf(text); end !== null; end = endOf(text)) {
        const event = parse(text.slice(0, end.at), id);
        text = text.slice(end.after);
        id = event.id;
        // Without data it is none; its id counts all the same.
        if (event.data !== null) yield { ...event, data: event.data };
      }
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** Where the first block ends; null: it is not all there. */
function endOf(text: string): { at: number; after: number } | null {
  const match = /\r?\n\r?\n/.exec(text);
  return match === null ? null : { at: match.index, after: match.index + match[0].length };
}

function parse(
  block: string,
  before: string | null,
): { event: string; data: string | null; id: string | null } {
  let event = "message";
  let id = before;
  const data: string[] = [];
  for (const line of block.split(/\r?\n/)) {
    const colon = line.indexOf(":");
    const name = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (name === "event") event = value;
    else if (name === "data") data.push(value);
    else if (name === "id") id = value;
  }
  return { event, data: data.length === 0 ? null : data.join("\n"), id };
}
