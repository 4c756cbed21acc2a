/**
 * The reference of the HTTP API, docs/api-reference.html: one page made of the tables of src/server/operations and src/master/operations.ts,
 * with nothing from other hosts and no program in it.
 *
 *   npm run docs:api        writes it
 */
import fs from "node:fs";
import path from "node:path";
import { masterOperations } from "../../src/master/operations.ts";
import { HEADERS, type HeaderName } from "../../src/server/describe/headers.ts";
import { type Content, GROUPS, type Operation } from "../../src/server/describe/operation.ts";
import { type Schema, Shape } from "../../src/server/describe/schema.ts";
import { DESCRIPTION } from "../../src/server/openapi/text.ts";
import { workerOperations } from "../../src/server/operations/worker.ts";
import { ERRORS } from "../../src/util/errors.ts";

export const REFERENCE = path.join(__dirname, "../../docs/api-reference.html");

const STYLE = `
:root { color-scheme: light dark; --line: #8884; --dim: #777; --mark: #0a6; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 0 auto; padding: 1rem; }
code, pre { font: 0.875em/1.45 ui-monospace, monospace; }
pre { overflow-x: auto; padding: 0.75rem; border: 1px solid var(--line); border-radius: 4px; }
h2 { margin-top: 3rem; border-bottom: 1px solid var(--line); }
h3 { margin-top: 2.25rem; }
h3 code { color: var(--mark); font-size: 1em; }
table { border-collapse: collapse; width: 100%; margin: 0.75rem 0; }
th, td { text-align: left; vertical-align: top; padding: 0.25rem 0.75rem 0.25rem 0; border-top: 1px solid var(--line); }
th { font-weight: 600; color: var(--dim); border-top: 0; }
nav ul { columns: 18rem; padding-left: 1.25rem; }
.needs { color: var(--dim); }
`;

function escaped(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}

/** What the tables use of Markdown: code and bold. */
function inline(text: string): string {
  return escaped(text)
    .replaceAll(/`([^`]+)`/g, "<code>$1</code>")
    .replaceAll(/\*\*([^*]+)\*\*/g, "<strong>$1</strong>");
}

function blocks(text: string): string {
  return text
    .trim()
    .split("\n\n")
    .map((block) =>
      block.startsWith("- ")
        ? `<ul>${block
            .split("\n")
            .map((line) => `<li>${inline(line.slice(2))}</li>`)
            .join("\n")}</ul>`
        : `<p>${inline(block)}</p>`,
    )
    .join("\n");
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return "";
  const cells = (row: readonly string[], tag: string) =>
    row.map((cell) => `<${tag}>${cell}</${tag}>`).join("");
  return `<table><tr>${cells(head, "th")}</tr>\n${rows.map((row) => `<tr>${cells(row, "td")}</tr>`).join("\n")}</table>`;
}

class Page {
  private readonly shapes = new Map<string, Schema>();

  /** A schema in a few words; those with names stand at the end of the page. */
  private words(schema: Schema): string {
    if (schema instanceof Shape) {
      this.note(schema);
      return `<a href="#shape-${schema.name}">${schema.name}</a>`;
    }
    this.note(schema);
    const { anyOf, oneOf, items, type, enum: values, const: value } = schema;
    const some = (anyOf ?? oneOf) as readonly Schema[] | undefined;
    const literals = value === undefined ? (values as readonly unknown[] | undefined) : [value];
    if (some !== undefined) return some.map((one) => this.words(one)).join(" or ");
    if (literals !== undefined)
      return literals.map((one) => `<code>${escaped(JSON.stringify(one))}</code>`).join(", ");
    if (type === undefined) return "any";
    return type === "array" && items !== undefined ? `array of ${this.words(items as Schema)}` : String(type);
  }

  /** Finds the shapes inside. */
  private note(value: unknown): void {
    if (value instanceof Shape) {
      if (this.shapes.has(value.name)) return;
      this.shapes.set(value.name, value.schema);
      this.note(value.schema);
    } else if (Array.isArray(value)) for (const one of value) this.note(one);
    else if (typeof value === "object" && value !== null)
      for (const one of Object.values(value)) this.note(one);
  }

  private content(content: Content | undefined): string {
    return Object.entries(content ?? {})
      .map(
        ([type, schema]) => `<code>${escaped(type)}</code>: ${type === "*/*" ? "bytes" : this.words(schema)}`,
      )
      .join("<br>");
  }

  private headers(names: readonly HeaderName[] = []): string {
    return names.map((name) => `<a href="#header-${name}"><code>${name}</code></a>`).join(", ");
  }

  operation(operation: Operation, prefix: string): string {
    const {
      id,
      form,
      methods,
      paths,
      summary,
      text,
      parameters = [],
      body,
      answers,
      errors,
      needs,
    } = operation;
    const form_ = form ?? `${methods.join(", ")} ${paths[0].replace(/\{(\w+)\}/g, "<$1>")}`;
    const others = paths.slice(1).map((one) => `<code>${escaped(one)}</code>`);
    const open = needs.includes("none");
    const byStatus = [...errors]
      .sort((a, b) => ERRORS[a].status - ERRORS[b].status)
      .map((code) => `<code>${code}</code> ${ERRORS[code].status}`);
    return [
      `<h3 id="${prefix}${id}"><code>${escaped(form_)}</code> ${inline(summary)}</h3>`,
      text === undefined ? "" : blocks(text),
      `<p class="needs">${open ? "Nobody needs a token." : `A token has to allow ${needs.map((need) => `<code>${need}</code>`).join(", ")}.`}${others.length === 0 ? "" : ` Also: ${others.join(", ")}.`}</p>`,
      table(
        ["parameter", "in", "what", ""],
        parameters
          .filter(({ in: place }) => place !== "path")
          .map(({ name, in: place, text: what, schema }) => [
            ...[`<code>${name}</code>`, place, this.words(schema), inline(what)],
          ]),
      ),
      body === undefined ? "" : table(["body", ""], [[this.content(body.content), inline(body.text)]]),
      table(
        ["status", "answer", "body", "headers"],
        Object.entries(answers).map(([status, { text: what, content, headers }]) => [
          ...[status, inline(what), this.content(content), this.headers(headers)],
        ]),
      ),
      byStatus.length === 0 ? "" : `<p>Errors: ${byStatus.join(", ")}.</p>`,
    ]
      .filter((part) => part !== "")
      .join("\n");
  }

  headerTable(): string {
    return table(
      ["header", ""],
      Object.entries(HEADERS).map(([name, { text }]) => [
        ...[`<code id="header-${name}">${name}</code>`, inline(text)],
      ]),
    );
  }

  shapeList(): string {
    // Meanwhile others are found inside.
    const plain = (_: string, value: unknown) => (value instanceof Shape ? { shape: value.name } : value);
    return [...this.shapes]
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([name, schema]) => {
        const text = JSON.stringify(schema, plain, 2);
        return `<h3 id="shape-${name}">${name}</h3>\n<pre>${escaped(text)}</pre>`;
      })
      .join("\n");
  }
}

/** The whole page. */
export function referencePage(): string {
  const page = new Page();
  const all = { metrics: true, console: true, backup: true };
  const parts = [
    ...[{ title: "Workers", prefix: "", operations: workerOperations(all) }],
    ...[{ title: "Masters", prefix: "master-", operations: masterOperations(all) }],
  ];
  const groups = parts.flatMap(({ title, prefix, operations }) =>
    Object.entries(GROUPS).flatMap(([group, text]) => {
      const rows = operations.filter((one) => one.group === group && Object.keys(one.answers).length > 0);
      return rows.length === 0 ? [] : [{ title: `${title}: ${group}`, text, prefix, rows }];
    }),
  );
  const links = groups.flatMap(({ prefix, rows }) =>
    rows.map(({ id, summary }) => `<li><a href="#${prefix}${id}">${inline(summary)}</a></li>`),
  );
  const sections = groups.map(({ title, text, prefix, rows }) =>
    [`<h2>${title}</h2>`, `<p>${text}</p>`, ...rows.map((row) => page.operation(row, prefix))].join("\n"),
  );
  const errors = Object.entries(ERRORS).map(([code, { status, retryable, message }]) => [
    ...[`<code>${code}</code>`, String(status), retryable ? "yes" : "no", inline(message)],
  ]);
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>minivault: reference of the HTTP API</title>
<style>${STYLE}</style>
</head>
<body>
<h1>minivault: reference of the HTTP API</h1>
<p>Made of the tables that the program's own <code>/_openapi.json</code> is made of (<code>npm run docs:api</code>). How to use it, with examples: <a href="api.md">api.md</a>.</p>
${blocks(DESCRIPTION)}
<nav><ul>
${links.join("\n")}
</ul></nav>
${sections.join("\n")}
<h2>Errors</h2>
<p>Every request can also end with <code>too_many_requests</code>, <code>internal</code>, and where a token is needed <code>unauthorized</code> and <code>forbidden</code>.</p>
${table(["code", "status", "the same may succeed later", ""], errors)}
<h2>Headers of answers</h2>
${page.headerTable()}
<h2>Shapes</h2>
<p>JSON Schema; <code>shape</code> names another one.</p>
${page.shapeList()}
</body>
</html>
`;
}

if (process.argv.includes("--write")) fs.writeFileSync(REFERENCE, referencePage());
