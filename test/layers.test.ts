/**
 * The shape of the source, as docs/architecture.md has it: imports point one way, nothing goes in circles, a folder is a sitting, and each
 * third-party API has one door. The lists of exceptions may only shrink.
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { test } from "node:test";

const ROOT = path.join(__dirname, "..");
const SOURCE = path.join(ROOT, "src");

/** From the top down: a folder may import itself and what stands after it. "" is src itself. */
const LAYERS = [
  ...[
    "",
    "app",
    "cli",
    "cli/archives",
    "cli/migrate",
    "cli/lock",
    "cli/client",
    "cli/cluster",
    "cli/directory",
    "cli/subcommand",
    "master",
    "master/steward",
    "master/presence",
    "master/etcd",
    "master/layout",
    "master/registry",
    "config",
  ],
  ...[
    "s3",
    "s3/buckets",
    "s3/multipart",
    "s3/objects",
    "s3/exchange",
    "s3/store",
    "s3/hashing",
    "s3/checksum",
    "s3/signature",
    "s3/protocol",
  ],
  ...[
    "server",
    "server/unstorage",
    "server/mkv",
    "server/raw",
    "server/openapi",
    "server/operations",
    "server/batch",
    "server/feed",
    "server/admin",
    "server/transfer",
    "server/list",
    "server/console",
    "server/patch",
    "server/lines",
    "server/peers",
    "server/writes",
    "server/once",
    "server/reads",
    "server/later",
    "server/access",
    "server/uws",
    "server/http",
    "server/status",
    "server/describe",
  ],
  ...[
    "cluster/fronts",
    "cluster/node",
    "cluster/upload",
    "cluster/feed",
    "cluster/list",
    "cluster/service",
    "cluster/repair",
    "cluster/sync",
    "cluster/membership",
    "cluster/replica",
  ],
  ...[
    "cluster/coordinator",
    "cluster/coordinator/doubt",
    "cluster/peers",
    "cluster/link",
    "cluster/wire",
    "cluster/register",
    "cluster/clock",
    "cluster/identity",
    "cluster/layout",
  ],
  ...[
    "shards/vault",
    "shards/backup",
    "shards/housekeeping",
    "shards/upload",
    "shards/catalog",
    "shards/feed",
    "shards/thread",
    "shards/arena",
  ],
  ...[
    "engine/check",
    "engine/check/catalog",
    "engine/check/words",
    "engine/feed",
    "engine/catalog",
    "engine/catalog/runs",
    "engine/backup",
    "engine/shard",
    "engine/batch",
    "engine/compaction",
    "engine/start",
    "engine/snapshot",
    "engine/log",
    "engine/open",
    "engine/reserve",
    "engine/figures",
  ],
  ...["engine/state", "engine/ends", "engine/index", "engine/directory", "engine/list", "engine/slabs"],
  ...[
    "rules",
    "rules/patch",
    "archive",
    "value",
    "format/keys",
    "format/fields",
    "format/snapshot",
    "format",
    "auth",
    "platform",
    "util/gathering",
    "util",
  ],
  ...["client/keyv", "client/unstorage", "client", "client/batch", "client/options", "client/transport"],
  ...["console", "console/parts"],
];

const FOLDER_LINES_MAX = 1300;
const FILE_LINES_MAX = 400;
const LONG_FILE_LINES = 300;
/** So many may be longer than that. This may only shrink. */
const LONG_FILES_MAX = 5;
const FUNCTION_LINES_MAX = 70;
const COMMENT_COLUMNS_MAX = 110;

/** What is not as it should be yet. These lists may only shrink: a name that is not needed any more fails, too. */
const UPWARD_IMPORTS: readonly string[] = [];
const FILES_IN_CIRCLES: readonly string[] = [];
const LARGE_FOLDERS: readonly string[] = [];
const LARGE_FILES: readonly string[] = [];
const LONG_FUNCTIONS: readonly string[] = [];

const files = readdirSync(SOURCE, { recursive: true })
  .map(String)
  .filter((file) => file.endsWith(".ts"))
  .sort();
const texts = new Map(files.map((file) => [file, readFileSync(path.join(SOURCE, file), "utf8")]));

/** Types count: who needs to know a shape needs to know whose it is. */
function importsOf(file: string): string[] {
  const matches = (texts.get(file) as string).matchAll(/(?:from|import|require\()\s*"([^"]+)"/g);
  return [...matches].map((match) => match[1]);
}

function relativeImportsOf(file: string): string[] {
  const folder = path.dirname(path.join(SOURCE, file));
  return importsOf(file)
    .filter((target) => target.startsWith("."))
    .map((target) => path.relative(SOURCE, path.join(folder, target)));
}

function folderOf(file: string): string {
  return path.dirname(file) === "." ? "" : path.dirname(file);
}

function linesOf(file: string): number {
  return (texts.get(file) as string).split("\n").length - 1;
}

test("layers: imports point one way", () => {
  const wrong: string[] = [];
  for (const file of files) {
    const level = LAYERS.indexOf(folderOf(file));
    assert.ok(level >= 0, `src/${file} is in no known layer`);
    for (const target of relativeImportsOf(file))
      if (LAYERS.indexOf(folderOf(target)) < level) wrong.push(`${file} imports ${target}`);
  }
  assert.deepEqual(wrong, UPWARD_IMPORTS);
});

test("layers: no file knows itself by way of others", () => {
  const reach = new Map<string, Set<string>>();
  for (const file of files) {
    const seen = new Set<string>();
    const open = relativeImportsOf(file);
    for (let next = open.pop(); next !== undefined; next = open.pop()) {
      if (seen.has(next)) continue;
      seen.add(next);
      open.push(...relativeImportsOf(next));
    }
    reach.set(file, seen);
  }
  const inCircles = files.filter((file) => reach.get(file)?.has(file));
  assert.deepEqual(inCircles, FILES_IN_CIRCLES);
});

test("layers: a folder is a sitting, a file a few screens", () => {
  const folders = new Map<string, number>();
  for (const file of files) folders.set(folderOf(file), (folders.get(folderOf(file)) ?? 0) + linesOf(file));
  const large = [...folders].filter(([, lines]) => lines > FOLDER_LINES_MAX).map(([folder]) => folder);
  assert.deepEqual(large.sort(), LARGE_FOLDERS);
  assert.deepEqual(
    files.filter((file) => linesOf(file) > FILE_LINES_MAX),
    LARGE_FILES,
  );
  const long = files.filter((file) => linesOf(file) > LONG_FILE_LINES);
  assert.ok(long.length <= LONG_FILES_MAX, `above ${LONG_FILE_LINES} lines: ${long.join(", ")}`);
});

test("layers: functions fit on a screen", () => {
  const long: string[] = [];
  for (const file of files) {
    // The formatter gives a function's closing brace the indentation of its first line.
    const starts: { indent: number; line: number; name: string }[] = [];
    (texts.get(file) as string).split("\n").forEach((text, line) => {
      const indent = text.search(/\S/);
      const head =
        /^\s*(?:export )?(?:default )?(?:private |protected |public |static |override |async |get |set )*(?:function\*? )?#?(\w+)(?:<.*>)?\(/.exec(
          text,
        );
      if (
        head !== null &&
        !/[;,]$/.test(text) &&
        !/^(?:if|for|while|switch|return|catch|test|super)$/.test(head[1])
      )
        starts.push({ indent, line, name: head[1] });
      if (/^\s*\}$/.test(text)) {
        const at = starts.findLastIndex((start) => start.indent === indent);
        if (at < 0) return;
        const [start] = starts.splice(at);
        if (line - start.line + 1 > FUNCTION_LINES_MAX) long.push(`${file}: ${start.name}`);
      }
    });
  }
  assert.deepEqual(long.sort(), LONG_FUNCTIONS);
});

test("layers: comments stay within the formatter's width and name files that exist", () => {
  const wide: string[] = [];
  const unknown: string[] = [];
  const isKnown = (name: string): boolean =>
    files.some((file) => `/${file}`.endsWith(`/${name}`)) || existsSync(path.join(ROOT, name));
  for (const file of files) {
    for (const [index, line] of (texts.get(file) as string).split("\n").entries()) {
      const comment = /^\s*(?:\/\/|\/?\*).*/.exec(line)?.[0] ?? / \/\/ .*$/.exec(line)?.[0];
      if (comment === undefined) continue;
      const isDrawing = /[│┌└┐┘├┤┬┴►◄─▲▼]|\S {2,}\S|-{20}/.test(comment);
      if (line.length > COMMENT_COLUMNS_MAX && !isDrawing) wide.push(`${file}:${index + 1}`);
      for (const [name] of comment.matchAll(/(?<![\w./-])[\w/-]+\.ts\b/g)) {
        if (!isKnown(name)) unknown.push(`${file}:${index + 1} names ${name}`);
      }
    }
  }
  assert.deepEqual(unknown, []);
  assert.deepEqual(wide, []);
});

test("layers: each room has a README, which names files that exist", () => {
  const rooms = new Set(files.map(folderOf).filter((folder) => folder !== ""));
  const without = [...rooms].filter((room) => !existsSync(path.join(SOURCE, room, "README.md")));
  assert.deepEqual(without, []);
  const unknown: string[] = [];
  for (const room of rooms) {
    const page = path.join(SOURCE, room, "README.md");
    for (const [, name] of readFileSync(page, "utf8").matchAll(/`([\w./-]+\.ts)`/g)) {
      const isThere = [path.join(SOURCE, room), SOURCE, ROOT].some((from) =>
        existsSync(path.join(from, name)),
      );
      if (!isThere) unknown.push(`src/${room}/README.md names ${name}`);
    }
  }
  assert.deepEqual(unknown, []);
});

test("layers: each third-party package has one door", () => {
  const doors: Record<string, string[]> = {};
  // A file may name a package twice: its types, and where it is loaded.
  for (const file of files)
    for (const target of new Set(importsOf(file)))
      if (!target.startsWith(".") && !target.startsWith("node:"))
        doors[target] = [...(doors[target] ?? []), file];
  for (const [name, users] of Object.entries(doors)) {
    // Types of uWS are also named where the addon is loaded.
    const allowed = name === "uWebSockets.js" ? 2 : 1;
    assert.ok(users.length <= allowed, `${name} is imported by ${users.join(", ")}`);
  }
});
