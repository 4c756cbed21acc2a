/**
 * The command line: flags in Go's and in GNU's style, the environment, help. It reads the files that
 * access.ts names, and otherwise only computes: what to print and the exit status are answers, the process is
 * never ended here.
 *
 * commander keeps the options and writes the help. The words are put into its form first (`normalise`),
 * because it knows no `-port 3000`, and because an error has to quote what was typed.
 */
import { isIP } from "node:net";
import path from "node:path";
import { Command, Option } from "commander";
import {
  filesOf,
  readAuth,
  readClusterKeys,
  readS3Port,
  readTls,
  readTlsCa,
  secretWarnings,
} from "../config/access.ts";
import type { Config } from "../config/config.ts";
import { type Flag, parseFlag, variableOf } from "../config/flag.ts";
import { FLAGS } from "../config/flags.ts";
import { AUTH_KEY_BYTES_MIN, nodeUrl, oneOf, SHORT_KEY, UsageError } from "../config/values.ts";
import { addressText } from "../platform/address.ts";
import { buildInfo } from "../platform/build-info.ts";
import { LOG_LEVELS } from "../platform/log.ts";
import { commandVariables, subcommandLines, subcommandNames } from "./commands.ts";
import { HELP_COLUMNS } from "./subcommand/help.ts";
import { nearestName, unknownFlag } from "./subcommand/nearest.ts";

export type Parsed =
  | { kind: "run"; config: Config }
  /**
   * Text to print, without a final line feed, and the exit status: 0 belongs on standard output, 2 on
   * standard error.
   */
  | { kind: "print"; text: string; status: 0 | 2 };

/** The variable that is not a flag's. */
const LOG_VARIABLE = "MINIVAULT_LOG";

const ABOUT = "A key-value store over plain HTTP: GET, POST, PUT and DELETE /<key>, with any client.";

const MORE = `
Commands (minivault <command> -help tells more):
${subcommandLines()}

Other:
  -version                 print version, commit, Node.js and uWebSockets.js
  -help                    print this text

Examples:
  minivault                                  one node on port 3000, data in ./data
  minivault -port 8080 -data /var/lib/mv     elsewhere
  minivault -host 127.0.0.1 -sync os         a local cache: faster writes, safe from kill -9, not from power loss
  MINIVAULT_AUTH="$KEY" minivault            only clients that send Authorization: Bearer $KEY

  curl -X PUT localhost:3000/greeting -H 'Content-Type: application/json' -d '{"value": "hello"}'
  curl localhost:3000/greeting
  curl -T photo.jpg localhost:3000/photos/1  any file, whatever its size up to -max-value

Flags are written -port 3000, -port=3000, --port 3000 or --port=3000.

Environment:
  Each flag can be given as MINIVAULT_<NAME>, such as MINIVAULT_MAX_VALUE=2GiB; the flag wins.
  ${LOG_VARIABLE} is the log level: ${LOG_LEVELS.join(", ")} (default info). Logs go to standard error.

Signals:
  SIGTERM, SIGINT          stop accepting, finish what is in flight, sync and exit with 0; a second one, a second
                           later or more, does not wait: exit with 1
  SIGHUP                   read the certificate, -auth-file, -tokens and -cluster-key-file again, and open -audit anew
  SIGUSR1, SIGUSR2         nothing but a line in the log

Exit status: 0 stopped as asked; 1 a failure at start or while running; 2 a bad flag or variable, or the wrong Node.js.`;

/**
 * Reads flags and environment.
 * @param argv the words after the program's name
 * @param env the environment; only variables that begin with MINIVAULT_ are read
 */
export function parseArguments(argv: readonly string[], env: NodeJS.ProcessEnv): Parsed {
  try {
    const words = normalise(argv);
    if (words === "help") return { kind: "print", text: helpText(), status: 0 };
    if (words === "version") return { kind: "print", text: versionText(), status: 0 };
    const command = createCommand();
    command.parse(words, { from: "user" });
    addEnvironment(command, env);
    return { kind: "run", config: configure(command, env) };
  } catch (error) {
    if (!(error instanceof UsageError)) throw error;
    const line = error.message.replace(/\p{Cc}+/gu, " ");
    return { kind: "print", text: `minivault: ${line}; minivault -help lists the flags`, status: 2 };
  }
}

/**
 * Puts every flag into the form --name=value. Where help or the version is asked for anywhere, it answers
 * that instead: who asks for help has often got something else wrong.
 */
function normalise(argv: readonly string[]): string[] | "help" | "version" {
  if (argv.some((word) => /^--?(h|help)(=|$)/.test(word))) return "help";
  if (argv.some((word) => /^--?version(=|$)/.test(word))) return "version";
  const words: string[] = [];
  for (let index = 0; index < argv.length; index++) {
    const word = argv[index];
    const match = /^--?([^-=][^=]*)(?:=(.*))?$/s.exec(word);
    if (match === null) throw new UsageError(unexpected(word));
    const name = match[1];
    let value: string | undefined = match[2];
    if (!isFlag(name))
      throw new UsageError(unknownFlag(name, [...FLAGS.map((flag) => flag.name), "help", "version"]));
    if (value === undefined && isSwitch(name)) value = "true";
    if (value === undefined) {
      value = argv[++index];
      // A flag where a value should be is a forgotten value, not a directory of that name.
      if (value === undefined || isFlag(/^--?([^=]*)/.exec(value)?.[1] ?? "")) {
        throw new UsageError(`-${name} needs a value`);
      }
    }
    words.push(`--${name}=${value}`);
  }
  return words;
}

function isFlag(name: string): boolean {
  return FLAGS.some((flag) => flag.name === name);
}

/** A flag that needs no value. */
function isSwitch(name: string): boolean {
  return FLAGS.some((flag) => flag.name === name && flag.value === "");
}

function unexpected(word: string): string {
  if (word.startsWith("-") || word === "") return `unexpected "${word}"`;
  const command = nearestName(word, subcommandNames());
  const hint = command === null ? "" : `; did you mean the command ${command}?`;
  return `unexpected "${word}": a data directory is given as -data ${word}${hint}`;
}

function createCommand(): Command {
  const command = new Command("minivault")
    .description(ABOUT)
    .usage("[flags]")
    .helpOption(false)
    .exitOverride()
    .configureOutput({ writeOut: () => {}, writeErr: () => {}, getOutHelpWidth: () => HELP_COLUMNS })
    .configureHelp({
      optionTerm: (option) => option.flags.replace(/^--/, "-").replace(/ ?\[.*\]|[<>]/g, ""),
      optionDescription: ({ description, defaultValue, defaultValueDescription }) => {
        const preset = defaultValueDescription ?? defaultValue;
        return preset === undefined ? description : `${description} (default ${preset})`;
      },
    });
  for (const flag of FLAGS) command.addOption(createOption(flag));
  return command;
}

function createOption(flag: Flag): Option {
  const value = flag.value === "" ? "[true|false]" : `<${flag.value}>`;
  const option = new Option(`--${flag.name} ${value}`, flag.text)
    .argParser((text: string) => parseFlag(flag, text, `-${flag.name}`))
    .helpGroup(`${flag.group}:`);
  if (flag.preset !== undefined || flag.presetText !== undefined)
    option.default(flag.preset, flag.presetText);
  return option;
}

/** Takes what no flag gives from the environment. */
function addEnvironment(command: Command, env: NodeJS.ProcessEnv): void {
  for (const flag of FLAGS) {
    const variable = variableOf(flag.name);
    const text = env[variable];
    if (text === undefined || command.getOptionValueSource(keyOf(flag.name)) === "cli") continue;
    // An empty variable is an unset one, as compose files produce them; but a key that has got lost must not
    // open the store to everybody.
    if (text === "" && flag.group !== "Access") continue;
    command.setOptionValueWithSource(keyOf(flag.name), parseFlag(flag, text, variable), "env");
  }
}

/** The name under which commander keeps a flag's value. */
function keyOf(name: string): string {
  return name.replace(/-([a-z])/g, (_, letter: string) => letter.toUpperCase());
}

function configure(command: Command, env: NodeJS.ProcessEnv): Config {
  const options = command.opts();
  checkLogLevel(env);
  const warnings = unknownVariables(env).map((name) => `the variable ${name} means nothing to minivault`);
  const isFlagGiven = (name: string) => command.getOptionValueSource(name) === "cli";
  const auth = readAuth(options, isFlagGiven);
  const clusterKeys = readClusterKeys(options, auth);
  const files = filesOf(options, isFlagGiven);
  const [tls, tlsCa] = [readTls(options), readTlsCa(options)];
  // Nodes of one cluster are alike: where this one speaks https, or knows whom to trust, the others are
  // reached by it.
  const scheme = tls === null && tlsCa === null ? "http" : "https";
  const urls = (addresses: string[] = []) => [
    ...new Set(addresses.map((address) => nodeUrl(address, scheme))),
  ];
  warnings.push(...secretWarnings([tls?.key]));
  const isOfCluster =
    options.mode === "master" || options.master !== undefined || options.volumes !== undefined;
  if (isOfCluster && auth !== null && clusterKeys.length === 0)
    throw new UsageError(
      "-tokens are clients' alone: the nodes of a cluster need a key, too: -cluster-key-file, or MINIVAULT_AUTH",
    );
  if (auth?.key?.length !== undefined && auth.key.length < AUTH_KEY_BYTES_MIN) {
    if (!isLoopback(options.host))
      throw new UsageError(`${isFlagGiven("auth") ? "-auth" : "MINIVAULT_AUTH"}: ${SHORT_KEY}`);
    warnings.push(SHORT_KEY);
  }
  if (auth === null && !isLoopback(options.host)) {
    warnings.push(
      `no key is set: everybody who can reach ${addressText(options.host, options.port)} can read, write and delete; set MINIVAULT_AUTH or -tokens, or listen on -host 127.0.0.1`,
    );
  }
  return {
    mode: options.mode,
    port: options.port,
    host: options.host,
    s3Port: readS3Port(options, auth, warnings),
    publicUrl: options.publicUrl === undefined ? null : nodeUrl(options.publicUrl, scheme),
    masters: urls(options.master),
    ...{ volumes: urls(options.volumes), registry: options.registry ?? null },
    dataDirectory: path.resolve(options.data),
    removeAfterMs: options.removeAfter,
    peerAddress: options.peerAddress ?? null,
    region: options.region,
    ...{ replicas: options.replicas, partitions: options.partitions ?? null },
    isReplicasGiven: command.getOptionValueSource("replicas") !== "default",
    consistency: options.consistency,
    sync: options.sync,
    historyMs: options.history,
    threads: options.threads,
    ...{ fronts: options.fronts, frontPort: options.frontPort ?? null },
    maxValueBytes: options.maxValue,
    cors: options.cors ?? [],
    auth,
    metrics: options.metrics,
    compat: options.compat,
    audit: options.audit === undefined ? null : path.resolve(options.audit),
    clusterKeys,
    allowInvite: options.allowInvite,
    tls,
    tlsCa,
    files,
    warnings,
  };
}

function checkLogLevel(env: NodeJS.ProcessEnv): void {
  const level = env[LOG_VARIABLE];
  if (level === undefined || level === "") return;
  try {
    oneOf(...LOG_LEVELS)(level);
  } catch (error) {
    throw new UsageError(`${LOG_VARIABLE}: ${(error as Error).message}`);
  }
}

function unknownVariables(env: NodeJS.ProcessEnv): string[] {
  const known = new Set([...FLAGS.map((flag) => variableOf(flag.name)), ...commandVariables(), LOG_VARIABLE]);
  return Object.keys(env).filter((name) => name.startsWith("MINIVAULT_") && !known.has(name));
}

function isLoopback(host: string): boolean {
  const address = host.toLowerCase();
  if (isIP(address) === 4) return address.startsWith("127.");
  return address === "localhost" || address === "::1" || address.startsWith("::ffff:127.");
}

function helpText(): string {
  return `${createCommand().helpInformation().trimEnd()}\n${MORE}`;
}

function versionText(): string {
  const { version, commit, platform, arch, uws } = buildInfo;
  return `minivault ${version} (commit ${commit}, Node ${process.versions.node}, ${platform}-${arch}, ${uws})`;
}
