/**
 * The command line: flags in Go's and GNU's style, the environment, help. Never ends the process itself.
 */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import path from "node:path";
import { Command, CommanderError, Option } from "commander";
import { buildInfo } from "../util/build-info.ts";
import { VALUE_BYTES_DEFAULT } from "../util/limits.ts";
import type { Config } from "./config.ts";
import { integer, nodeUrl, nodeUrls, nonEmpty, oneOf, region, size } from "./values.ts";

export type Parsed =
  | { kind: "run"; config: Config }
  /** Text to print, and the exit status: 0 goes to standard output, 2 to standard error. */
  | { kind: "print"; text: string; status: number };

interface Flag {
  name: string;
  value: string;
  text: string;
  parse: (text: string) => unknown;
  preset?: unknown;
  presetText?: string;
}

export const THREADS_DEFAULT = Math.max(1, availableParallelism() - 1);

const FLAGS: readonly Flag[] = [
  {
    name: "mode",
    value: "worker|master",
    text: "what this node is",
    parse: oneOf("worker", "master"),
    preset: "worker",
  },
  {
    name: "port",
    value: "number",
    text: "port to listen on; 0: any free port, printed",
    parse: integer(0, 65_535),
    preset: 3000,
  },
  { name: "host", value: "address", text: "address to listen on", parse: nonEmpty, preset: "0.0.0.0" },
  {
    name: "public-url",
    value: "url",
    text: "how other nodes reach this one",
    parse: nodeUrl,
    presetText: "http://localhost:<port>",
  },
  { name: "master", value: "urls", text: "master, or several, comma-separated", parse: nodeUrls },
  { name: "volumes", value: "urls", text: "master: static workers; worker: static peers", parse: nodeUrls },
  {
    name: "data",
    value: "directory",
    text: "data directory, used by one process at a time",
    parse: nonEmpty,
    preset: "./data",
  },
  {
    name: "region",
    value: "name",
    text: "failure domain of this worker, such as eu",
    parse: region,
    preset: "default",
  },
  { name: "replicas", value: "number", text: "copies of each key", parse: integer(1, 9), preset: 3 },
  {
    name: "consistency",
    value: "quorum|one",
    text: "default for reads; a request overrides it with ?consistency=",
    parse: oneOf("quorum", "one"),
    preset: "quorum",
  },
  {
    name: "sync",
    value: "always|os",
    text: "always: acknowledge after fdatasync, survives power loss; os: after the write call, survives kill -9",
    parse: oneOf("always", "os"),
    preset: "always",
  },
  {
    name: "threads",
    value: "number",
    text: "shard threads; a data directory keeps the number it was made with",
    parse: integer(1, 64),
    preset: THREADS_DEFAULT,
    presetText: "cores - 1",
  },
  {
    name: "max-value",
    value: "size",
    text: "largest value, such as 512MiB; larger ones get 413",
    parse: size,
    preset: VALUE_BYTES_DEFAULT,
    presetText: "1GiB",
  },
  {
    name: "auth",
    value: "key",
    text: "shared key of clients (Authorization: Bearer) and nodes; others can see it in the process list, so prefer MINIVAULT_AUTH or -auth-file",
    parse: nonEmpty,
  },
  { name: "auth-file", value: "file", text: "file with the shared key", parse: nonEmpty },
  {
    name: "auth-mode",
    value: "all|writes",
    text: "what needs the key; writes: reads are public",
    parse: oneOf("all", "writes"),
    presetText: "all",
  },
];

const EXAMPLES = `
Examples:
  minivault                                    one node on port 3000, data in ./data
  minivault -port 8080 -data /var/lib/mv       the same elsewhere
  minivault -host 127.0.0.1 -sync os           local cache: faster writes, safe from kill -9, not from power loss
  MINIVAULT_AUTH=secret minivault              clients send Authorization: Bearer secret
  curl -X PUT localhost:3000/greeting -H 'Content-Type: application/json' -d '{"value": "hello"}'

Every flag can be given as MINIVAULT_<NAME> in the environment, such as MINIVAULT_MAX_VALUE=2GiB; the flag wins.
MINIVAULT_LOG sets the log level: debug, info (default), warn, error.
SIGTERM and SIGINT finish what is in flight, sync and exit.

Exit status: 0 stopped as asked, 1 a failure while running or starting, 2 a bad flag or the wrong Node.js.`;

/** Environment variables of the program that are not flags. */
const OTHER_VARIABLES = new Set(["MINIVAULT_LOG"]);

function variable(name: string): string {
  return `MINIVAULT_${name.toUpperCase().replaceAll("-", "_")}`;
}

/** Go writes -flag; commander wants --flag. */
function normalise(argv: readonly string[]): string[] {
  return argv.map((word) => (/^-[a-z][a-z-]+(=.*)?$/.test(word) ? `-${word}` : word));
}

function program(): Command {
  const command = new Command("minivault")
    .description("A key-value store over plain HTTP. GET, POST, PUT and DELETE /<key> with curl.")
    .usage("[flags]")
    .helpOption("--help", "print this text")
    .version(versionText(), "--version", "print version, commit and Node.js")
    .allowExcessArguments(false)
    .exitOverride()
    .configureOutput({ writeOut: () => {}, writeErr: () => {}, getOutHelpWidth: () => 110 })
    .showSuggestionAfterError(true)
    .addHelpText("after", EXAMPLES);
  for (const flag of FLAGS) {
    const option = new Option(`--${flag.name} <${flag.value}>`, flag.text)
      .env(variable(flag.name))
      .argParser(flag.parse);
    if (flag.preset !== undefined || flag.presetText !== undefined)
      option.default(flag.preset, flag.presetText);
    command.addOption(option);
  }
  return command;
}

function versionText(): string {
  return `minivault ${buildInfo.version} (${buildInfo.commit}, Node ${process.versions.node}, ${buildInfo.platform}-${buildInfo.arch})`;
}

/** The message of a commander or parser error as one line. */
function oneLine(error: unknown): string {
  const text = (error as Error).message.replace(/^error: /, "").trim();
  return text
    .split("\n")
    .map((line) => line.trim())
    .join(" ");
}

function badFlag(error: unknown): Parsed {
  return { kind: "print", text: `minivault: ${oneLine(error)}; see minivault -help`, status: 2 };
}

/**
 * Reads flags and environment.
 * @param argv without the program's own name
 */
export function parseArguments(argv: readonly string[], env: NodeJS.ProcessEnv): Parsed {
  const command = program();
  // commander reads process.env; tests pass their own.
  const saved = process.env;
  try {
    process.env = env;
    for (const flag of FLAGS) wrapParser(command, flag);
    command.parse(normalise(argv), { from: "user" });
  } catch (error) {
    if (!(error instanceof CommanderError)) return badFlag(error);
    if (error.code === "commander.version") return { kind: "print", text: versionText(), status: 0 };
    if (error.code === "commander.helpDisplayed")
      return { kind: "print", text: command.helpInformation() + EXAMPLES, status: 0 };
    return badFlag(error);
  } finally {
    process.env = saved;
  }
  try {
    return { kind: "run", config: configure(command.opts(), env) };
  } catch (error) {
    return badFlag(error);
  }
}

/** Names the flag, or the variable that stood for it, in a parser's error. */
function wrapParser(command: Command, flag: Flag): void {
  const option = command.options.find((candidate) => candidate.long === `--${flag.name}`);
  option?.argParser((text: string) => {
    try {
      return flag.parse(text);
    } catch (error) {
      const from =
        process.env[variable(flag.name)] === text
          ? `${variable(flag.name)} or -${flag.name}`
          : `-${flag.name}`;
      throw new Error(`${from}: ${(error as Error).message}`);
    }
  });
}

function configure(options: Record<string, unknown>, env: NodeJS.ProcessEnv): Config {
  const warnings: string[] = [];
  const known = new Set(FLAGS.map((flag) => variable(flag.name)));
  for (const name of Object.keys(env))
    if (name.startsWith("MINIVAULT_") && !known.has(name) && !OTHER_VARIABLES.has(name))
      warnings.push(`the variable ${name} means nothing to minivault`);
  const auth = readAuth(options);
  const host = options.host as string;
  if (auth === null && !/^(127\.|localhost$|::1$|\[::1\]$)/.test(host))
    warnings.push(
      `everybody who can reach ${host}:${options.port} can read and write: set MINIVAULT_AUTH, or -host 127.0.0.1`,
    );
  return {
    mode: options.mode as Config["mode"],
    port: options.port as number,
    host,
    publicUrl: (options.publicUrl as string | undefined) ?? null,
    masters: (options.master as string[] | undefined) ?? [],
    volumes: (options.volumes as string[] | undefined) ?? [],
    dataDirectory: path.resolve(options.data as string),
    region: options.region as string,
    replicas: options.replicas as number,
    consistency: options.consistency as Config["consistency"],
    sync: options.sync as Config["sync"],
    threads: options.threads as number,
    maxValueBytes: options.maxValue as number,
    auth,
    warnings,
  };
}

function readAuth(options: Record<string, unknown>): Config["auth"] {
  const mode = options.authMode as "all" | "writes" | undefined;
  if (options.auth !== undefined && options.authFile !== undefined)
    throw new Error("-auth and -auth-file: give one of them");
  let key = options.auth as string | undefined;
  if (options.authFile !== undefined) {
    try {
      key = readFileSync(options.authFile as string, "utf8").trim();
    } catch (error) {
      throw new Error(`-auth-file: ${(error as Error).message}`);
    }
    if (key === "") throw new Error(`-auth-file: ${options.authFile} is empty`);
  }
  if (key === undefined && mode !== undefined)
    throw new Error("-auth-mode needs -auth, -auth-file or MINIVAULT_AUTH");
  return key === undefined ? null : { key, mode: mode ?? "all" };
}
