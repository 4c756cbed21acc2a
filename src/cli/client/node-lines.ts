/** Answers in lines of JSON: how far something is, and at the end what became of it. */
import type { Answer } from "./node-client.ts";

/**
 * Reads such an answer.
 * @throws Error when it was cut
 */
export async function* linesOf<Line>({ body }: Answer): AsyncGenerator<Line> {
  let rest = "";
  body.setEncoding("utf8");
  for await (const piece of body) {
    const lines = (rest + piece).split("\n");
    rest = lines.pop() as string;
    for (const line of lines) if (line !== "") yield JSON.parse(line) as Line;
  }
  if (rest.trim() !== "") yield JSON.parse(rest) as Line;
}

/** The last line, which says whether it was a success. */
export async function lastLine<Line extends { success?: boolean }>(
  answer: Answer,
  each: (line: Line) => void = () => {},
): Promise<Line> {
  let last: Line | null = null;
  for await (const line of linesOf<Line>(answer)) {
    each(line);
    last = line;
  }
  if (last?.success === undefined) throw new Error("the answer was cut: whether it was done is not known");
  return last;
}
