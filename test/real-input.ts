/**
 * Real input: stores every file below node_modules and one of 1 GiB with `curl -T`, and 10,000 JSON documents; kills the
 * server by kill -9, starts it again, and compares every value by its hash. Prints counts and seconds; exit status 1 when anything differs.
 *
 *   node --import tsx test/real-input.ts [--small]
 *
 * --small: one package's files, 64 MiB, 500 documents.
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { Random } from "./random.ts";
import { call, closeConnections, contentStream, digest, inParallel, pathOf, sha256 } from "./rest/client.ts";
import { REPOSITORY, removeFolder, type Server, startServer, temporaryFolder } from "./rest/server.ts";

const MIB = 1024 * 1024;
const PARALLEL = 8;

export interface RealInputFigures {
  files: number;
  fileBytes: number;
  largeBytes: number;
  documents: number;
  storeFilesSeconds: number;
  storeLargeSeconds: number;
  storeDocumentsSeconds: number;
  restartMs: number;
  compareSeconds: number;
  compared: number;
  wrong: string[];
}

interface Expected {
  key: string;
  bytes: number;
  sha256: string;
}

/** Runs it all. `say` gets a line per step. */
export async function realInput(
  small: boolean,
  seed: number,
  say: (line: string) => void,
): Promise<RealInputFigures> {
  const folder = temporaryFolder();
  let server: Server | null = null;
  try {
    server = await startServer({ data: path.join(folder, "data") });
    const expected: Expected[] = [];
    const figures = { documents: small ? 500 : 10_000, largeBytes: (small ? 64 : 1024) * MIB };

    const modules = path.join(REPOSITORY, "node_modules");
    const files = filesBelow(small ? path.join(modules, "piscina") : modules);
    const uploads = await Promise.all(
      files.map(async (file) => ({ file, url: server?.url + pathOf(path.relative(REPOSITORY, file)) })),
    );
    const storeFilesSeconds = await seconds(() => curlUploads(folder, uploads));
    for (const file of files) {
      expected.push({ key: pathOf(path.relative(REPOSITORY, file)), ...(await hashFile(file)) });
    }
    const fileBytes = expected.reduce((sum, { bytes }) => sum + bytes, 0);
    say(`${files.length} files, ${mib(fileBytes)} MiB, by curl -T: ${storeFilesSeconds.toFixed(1)} s`);

    const large = path.join(folder, "large");
    const hash = createHash("sha256");
    await writeStream(large, seed, figures.largeBytes, hash);
    const storeLargeSeconds = await seconds(() =>
      curlUploads(folder, [{ file: large, url: `${server?.url}/large` }]),
    );
    fs.rmSync(large);
    expected.push({ key: "/large", bytes: figures.largeBytes, sha256: hash.digest("hex") });
    say(`one file of ${mib(figures.largeBytes)} MiB by curl -T: ${storeLargeSeconds.toFixed(1)} s`);

    const { port } = server;
    const random = new Random(seed);
    const documents = Array.from(
      { length: figures.documents },
      (_, index) => `{"value":${documentText(random, index, 3)}}`,
    );
    const storeDocumentsSeconds = await seconds(() =>
      inParallel(documents.length, 32, async (index) => {
        const headers = { "Content-Type": "application/json" };
        const reply = await call(port, "POST", `/documents/${index}`, { body: documents[index], headers });
        if (reply.status !== 201) throw new Error(`document ${index}: ${reply.status} ${reply.text}`);
      }),
    );
    documents.forEach((text, index) => {
      expected.push({ key: `/documents/${index}`, bytes: Buffer.byteLength(text), sha256: sha256(text) });
    });
    say(`${documents.length} JSON documents: ${storeDocumentsSeconds.toFixed(1)} s`);

    await server.kill("SIGKILL");
    await server.restart();
    const restartMs = Math.round(server.startMs);
    say(`kill -9 and restart: ${restartMs} ms until /health answers 200`);

    const wrong: string[] = [];
    const { port: newPort } = server;
    const compareSeconds = await seconds(() =>
      inParallel(expected.length, PARALLEL, async (index) => {
        const { key, bytes, sha256: wanted } = expected[index];
        const read = await digest(newPort, "GET", key);
        if (read.status !== 200 || read.bytes !== bytes || read.sha256 !== wanted)
          wrong.push(`${key}: ${read.status}, ${read.bytes} bytes`);
      }),
    );
    const { keys } = (await call(newPort, "GET", "/health")).json();
    if (keys !== expected.length) wrong.push(`/health counts ${keys} keys instead of ${expected.length}`);
    say(`${expected.length} values compared: ${compareSeconds.toFixed(1)} s, ${wrong.length} wrong`);
    return {
      files: files.length,
      fileBytes,
      ...figures,
      storeFilesSeconds,
      storeLargeSeconds,
      storeDocumentsSeconds,
      restartMs,
      compareSeconds,
      compared: expected.length,
      wrong,
    };
  } finally {
    closeConnections();
    await server?.dispose();
    removeFolder(folder);
  }
}

function mib(bytes: number): number {
  return Math.round(bytes / MIB);
}

async function seconds(work: () => Promise<void>): Promise<number> {
  const begun = performance.now();
  await work();
  return (performance.now() - begun) / 1000;
}

function filesBelow(folder: string): string[] {
  return fs
    .readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name));
}

async function hashFile(file: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash("sha256");
  let bytes = 0;
  for await (const piece of fs.createReadStream(file)) {
    hash.update(piece as Buffer);
    bytes += (piece as Buffer).length;
  }
  return { bytes, sha256: hash.digest("hex") };
}

async function writeStream(
  file: string,
  seed: number,
  bytes: number,
  hash: ReturnType<typeof createHash>,
): Promise<void> {
  const handle = await fs.promises.open(file, "w");
  try {
    for await (const piece of contentStream(seed, bytes, hash)) await handle.write(piece as Buffer);
  } finally {
    await handle.close();
  }
}

/** `curl -T file url` for each, in one process with some connections. Throws when one is not answered by 201. */
async function curlUploads(folder: string, uploads: { file: string; url: string }[]): Promise<void> {
  const config = path.join(folder, "curl.config");
  const quoted = (text: string) => `"${text.replaceAll(/[\\"]/g, "\\$&")}"`;
  const lines = uploads.flatMap(({ file, url }) => [
    `upload-file = ${quoted(file)}`,
    `url = ${quoted(url)}`,
    "output = /dev/null",
  ]);
  fs.writeFileSync(config, `${lines.join("\n")}\n`);
  const words = [
    "-q",
    "-sS",
    "-g",
    "--noproxy",
    "*",
    "-Z",
    "--parallel-max",
    String(PARALLEL),
    "-w",
    "%{http_code} %{url}\n",
    "-K",
    config,
  ];
  const child = spawn("curl", words, { stdio: ["ignore", "pipe", "pipe"] });
  let output = "";
  let errors = "";
  // Also the progress, which curl shows for parallel transfers however quiet it is told to be.
  child.stderr.on("data", (piece) => {
    errors += piece;
  });
  child.stdout.on("data", (piece) => {
    output += piece;
  });
  const status = await new Promise((resolve, reject) => child.on("error", reject).on("close", resolve));
  const answers = output.trim().split("\n");
  const failed = answers.filter((line) => !line.startsWith("201 "));
  if (status !== 0 || failed.length > 0 || answers.length !== uploads.length) {
    throw new Error(
      `curl ended with ${status}; ${answers.length} of ${uploads.length} answers, ${failed.length} not 201: ${failed.slice(0, 5).join(", ")}\n${errors}`,
    );
  }
}

/** JSON with what goes wrong when a document is parsed and written again: large numbers, key order, escapes, blanks. */
function documentText(random: Random, index: number, depth: number): string {
  const blank = () => ["", "", " ", "\n  ", "\t"][random.below(5)];
  const scalars = [
    () => `${random.word()}`,
    () => `${random.below(1e9)}${random.below(1e9)}${random.below(1e9)}`,
    () => `-0.${random.below(1e9)}e-${random.below(300)}`,
    () =>
      `"document ${index} \\u00e9 é ✓ \\ud83d\\ude00 \\"quoted\\" \\/ ${random.bytes(random.below(200)).toString("base64")}"`,
    () => ["null", "true", "false", '""', "[]", "{}", "0", "-0"][random.below(8)],
  ];
  if (depth === 0) return scalars[random.below(scalars.length)]();
  const parts = Array.from({ length: 1 + random.below(5) }, () => documentText(random, index, depth - 1));
  if (random.below(3) === 0) return `[${blank()}${parts.join(`${blank()},${blank()}`)}${blank()}]`;
  const members = parts.map(
    (part, number) => `"${["z", "a", "10", "2", "é"][number]}"${blank()}:${blank()}${part}`,
  );
  return `{${blank()}${members.join(`${blank()},${blank()}`)}${blank()}}`;
}

async function main(): Promise<void> {
  const seed = Number(process.env.SEED ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`SEED=${seed}`);
  const begun = performance.now();
  const { wrong } = await realInput(process.argv.includes("--small"), seed, (line) => console.log(line));
  for (const line of wrong.slice(0, 20)) console.log(`wrong: ${line}`);
  console.log(
    `${wrong.length === 0 ? "everything reads back equal" : "FAILED"}; ${((performance.now() - begun) / 1000).toFixed(1)} s in all`,
  );
  process.exitCode = wrong.length === 0 ? 0 : 1;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) void main();
