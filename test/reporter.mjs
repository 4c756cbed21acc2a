/**
 * TAP, and before its counts once more what failed: of some thousand results the end is what people, and what keeps
 * only the end of a log, see.
 */
import { tap } from "node:test/reporters";
import { inspect } from "node:util";

/** Lines of one failure that are repeated at the end; all of them stand where it failed. */
const LINES_MAX = 60;

const comments = (text) =>
  text
    .split("\n")
    .map((line) => `# ${line}\n`)
    .join("");

function failureText({ name, file, details }) {
  const { cause, message } = details.error;
  const lines = `${cause instanceof Error ? inspect(cause) : (cause ?? message)}`.split("\n");
  return comments(
    [`failed: ${name} (${file})`, ...lines.slice(0, LINES_MAX).map((line) => `  ${line}`)].join("\n"),
  );
}

async function* noting(source, failures) {
  for await (const event of source) {
    // Of a test that failed by what is within it, that is enough.
    if (event.type === "test:fail" && event.data.details.error.failureType !== "subtestsFailed")
      failures.push(event.data);
    yield event;
  }
}

/** The reporter: `source` are the events of Node's runner. */
export default async function* report(source) {
  const failures = [];
  for await (const text of tap(noting(source, failures))) {
    if (text.startsWith("# tests ")) for (const failure of failures) yield failureText(failure);
    yield text;
  }
}
