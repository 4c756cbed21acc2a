/** Options of `npm run soak`. */
import path from "node:path";
import { parseArgs } from "node:util";

export const HELP = `npm run soak -- [options]
  --minutes N       how long (60, or MINUTES)
  --seed N          of what is drawn (any, or SEED)
  --every SECONDS   between two looks at the nodes (10)
  --results FOLDER  for samples, charts and logs (dist/soak)
  --write           write docs/soak.md and docs/soak
  --page FOLDER     run nothing: write them from the results of an earlier run`;

export interface Options {
  minutes: number;
  seed: number;
  everySeconds: number;
  results: string;
  write: boolean;
  page: string | null;
}

/** null: help is asked for. Throws what is wrong with them. */
export function readOptions(): Options | null {
  const text = { type: "string" } as const;
  const flag = { type: "boolean", default: false } as const;
  const { values } = parseArgs({
    options: { minutes: text, seed: text, every: text, results: text, write: flag, page: text, help: flag },
  });
  if (values.help) return null;
  const number = (word: string, least: number): number => {
    if (!(Number(word) >= least)) throw new Error(`${word} is not a number from ${least} on`);
    return Number(word);
  };
  return {
    minutes: number(values.minutes ?? process.env.MINUTES ?? "60", 0.2),
    seed: number(values.seed ?? process.env.SEED ?? String(Math.floor(Math.random() * 2 ** 31)), 0),
    everySeconds: number(values.every ?? "10", 1),
    results: path.resolve(values.results ?? "dist/soak"),
    write: values.write === true,
    page: values.page === undefined ? null : path.resolve(values.page),
  };
}
