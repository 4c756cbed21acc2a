/**
 * `npm run bench:restart`: how long a node with many keys takes after kill -9 to its first right answer. Each round writes a few keys, kills the node, and
 * starts it again; the time goes from the start of the process to the answer to a GET of a key that was written just before the kill, and another one
 * drawn from all. Files are in the page cache, as after a crash of the program, not of the machine.
 */
import { mkdirSync } from "node:fs";
import path from "node:path";
import { parseArgs } from "node:util";
import { fillStore, keyName, valueText } from "../test/engine/fill.ts";
import { type Contender, fileSystemOf, startMinivault } from "./contenders.ts";
import { describeMachine } from "./machine.ts";
import { type BenchOptions, parseOptions, readOrExit, wholeNumber } from "./options.ts";
import { ensureProgram, temporaryFolder } from "./processes.ts";
import { exchange } from "./raw-http.ts";
import { type Report, runBench } from "./report.ts";
import { duration, median, percent, shortNumber, spread } from "./statistics.ts";

const HELP = `npm run bench:restart -- [options]
  --keys N          keys of the node (10000000)
  --rounds N        restarts (5)
  --program FILE    instead of dist/minivault.js
  --write           write docs/bench/restart.json and .md
  --tiny            shows that it works, not how fast it is`;

const VALUE_BYTES = 100;
const GOAL_S = 2;
const WRITES_BEFORE = 100;
const ANSWER_MS_MAX = 120_000;

interface Options {
  keys: number;
  rounds: number;
  program: string | null;
  write: boolean;
  tiny: boolean;
}

function readOptions(): Options | null {
  const text = { type: "string" } as const;
  const flag = { type: "boolean", default: false } as const;
  const { values } = parseArgs({
    options: { keys: text, rounds: text, program: text, write: flag, tiny: flag, help: flag },
  });
  if (values.help) return null;
  const tiny = values.tiny === true;
  return {
    keys: wholeNumber(values.keys ?? (tiny ? "5000" : "10000000")),
    rounds: wholeNumber(values.rounds ?? (tiny ? "1" : "5")),
    program: values.program === undefined ? null : path.resolve(values.program),
    write: values.write === true,
    tiny,
  };
}

/** Asks until the key is answered with its value. A wrong value, or 404, is an error at once: the node may say that it cannot serve, never that. */
async function awaitValue(port: number, key: string, value: string): Promise<void> {
  for (const end = Date.now() + ANSWER_MS_MAX; ; ) {
    const answer = await exchange(port, "GET", `/${key}`).catch(() => null);
    if (answer?.status === 200 && answer.body.toString() === value) return;
    if (answer !== null && answer.status !== 503)
      throw new Error(`GET /${key} is answered with ${answer.status} after the restart: ${answer.body}`);
    if (Date.now() > end) throw new Error(`GET /${key} is not answered after the restart`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

async function bench(options: Options): Promise<Report> {
  ensureProgram();
  const { keys, rounds, program, tiny } = options;
  const machine = describeMachine();
  if (!tiny) console.error(`about ${Math.ceil((keys * 12e-6 + rounds * 6) / 60)} minutes`);
  const folder = temporaryFolder();
  const data = path.join(folder, "data");
  mkdirSync(data, { recursive: true });
  const filling = performance.now();
  await fillStore(data, { keys, valueBytes: VALUE_BYTES });
  console.error(`${shortNumber(keys)} keys filled in ${duration((performance.now() - filling) / 1000)}`);
  const begin = (): Promise<Contender> =>
    startMinivault({ ...(parseOptions([]) as BenchOptions), program }, folder);
  let server = await begin();
  await awaitValue(server.port, keyName(0), valueText(0, VALUE_BYTES));
  const served: number[] = [];
  for (let round = 0; round < rounds; round++) {
    const last = `round-${round}`;
    for (let write = 0; write < WRITES_BEFORE; write++) {
      const { status } = await exchange(server.port, "PUT", `/${last}`, Buffer.from(`${write}`));
      if (status !== 200 && status !== 201) throw new Error(`PUT answered ${status}`);
    }
    process.kill(server.pid, "SIGKILL");
    await server.stop();
    const drawn = Math.floor(Math.random() * keys);
    const starting = performance.now();
    server = await begin();
    await awaitValue(server.port, last, `${WRITES_BEFORE - 1}`);
    await awaitValue(server.port, keyName(drawn), valueText(drawn, VALUE_BYTES));
    served.push((performance.now() - starting) / 1000);
    console.error(`served after ${duration(served[round])}`);
  }
  await server.stop();
  const figure = median(served);
  return {
    name: "restart",
    title: "Restart after kill -9",
    machine,
    notes: [
      `values of ${VALUE_BYTES} bytes on ${fileSystemOf(folder)}, in the page cache; -sync always; ${rounds} restart(s), median; ± is (highest − lowest) / median`,
      "from the start of the process to the right answer for the last key that was written, and for one drawn from all",
      ...(tiny ? ["TINY RUN: shows that the benchmark works; its figures mean nothing"] : []),
    ],
    tables: [
      {
        title: "Restart",
        columns: ["keys", "first right answer", "±", "goal", "reached"],
        rows: [
          [
            ...[shortNumber(keys), duration(figure), percent(spread(served))],
            ...[`≤ ${GOAL_S} s`, figure <= GOAL_S ? "yes" : "NO"],
          ],
        ],
      },
    ],
    data: { keys, served },
  };
}

runBench(readOrExit(readOptions, HELP), bench);
