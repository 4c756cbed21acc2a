/**
 * `minivault completion`: scripts that let shells complete commands and flags, from the same tables as the
 * help.
 */
import { FLAGS } from "../config/flags.ts";
import { UsageError } from "../config/values.ts";
import { sharedFlag } from "./subcommand/help.ts";
import type { Subcommand } from "./subcommand/subcommand.ts";

/** A word to complete, and what it is for. */
interface Candidate {
  name: string;
  text: string;
}

/** What can follow each command; "" is for the words of a node. */
type Table = ReadonlyMap<string, readonly Candidate[]>;

const SHELLS: Readonly<Record<string, (table: Table, commands: readonly Subcommand[]) => string>> = {
  bash: bashScript,
  zsh: zshScript,
  fish: fishScript,
};

/** @param commandsOf the table that this command is in itself */
export function completionCommand(commandsOf: () => readonly Subcommand[]): Subcommand {
  return {
    name: "completion",
    operands: Object.keys(SHELLS).join("|"),
    summary: "Prints a script that lets a shell complete commands and flags.",
    more: `  minivault completion bash > /etc/bash_completion.d/minivault
  minivault completion zsh > "\${fpath[1]}/_minivault"
  minivault completion fish > ~/.config/fish/completions/minivault.fish`,
    operandsMin: 1,
    operandsMax: 1,
    flags: [],
    switches: {},
    async run({ operands: [shell] }, terminal) {
      if (!Object.hasOwn(SHELLS, shell))
        throw new UsageError(`there is no script for "${shell}", but for ${Object.keys(SHELLS).join(", ")}`);
      const commands = commandsOf();
      terminal.out(SHELLS[shell](tableOf(commands), commands));
      return 0;
    },
  };
}

function tableOf(commands: readonly Subcommand[]): Table {
  const table = new Map<string, readonly Candidate[]>();
  const help = { name: "-help", text: "what it does, and its flags" };
  const version = { name: "-version", text: "version, commit, Node.js and uWebSockets.js" };
  table.set("", [...FLAGS.map(({ name, text }) => ({ name: `-${name}`, text })), version, help]);
  for (const { name, flags, switches, options = {} } of commands)
    table.set(name, [
      ...Object.entries(switches).map(([flag, text]) => ({ name: `-${flag}`, text })),
      ...Object.entries(options).map(([flag, { text }]) => ({ name: `-${flag}`, text })),
      ...flags.map((flag) => ({ name: `-${flag}`, text: sharedFlag(flag).text })),
      help,
    ]);
  return table;
}

function namesOf(candidates: readonly Candidate[] | undefined): string {
  return (candidates ?? []).map(({ name }) => name).join(" ");
}

function bashScript(table: Table, commands: readonly Subcommand[]): string {
  const cases = commands.map(({ name }) => `    ${name}) words="${namesOf(table.get(name))}" ;;`);
  const first = `${commands.map(({ name }) => name).join(" ")} ${namesOf(table.get(""))}`;
  return `# bash completion of minivault
_minivault() {
  local current=\${COMP_WORDS[COMP_CWORD]} words
  case \${COMP_WORDS[1]} in
${cases.join("\n")}
    *) words="${namesOf(table.get(""))}" ;;
  esac
  if [ "$COMP_CWORD" = 1 ]; then words="${first}"; fi
  COMPREPLY=()
  if [ "$COMP_CWORD" = 1 ] || [ "\${current#-}" != "$current" ]; then
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  fi
}
# Anything else is a file.
complete -o default -F _minivault minivault
`;
}

/** For single quotes, so there may be none inside. */
function quoted(text: string): string {
  return `'${text.replace(/'/g, "’")}'`;
}

function zshScript(table: Table, commands: readonly Subcommand[]): string {
  const pair = ({ name, text }: Candidate) => quoted(`${name.replace(/:/g, "\\:")}:${text}`);
  const list = (candidates: readonly Candidate[] = []) =>
    candidates.map((one) => `      ${pair(one)}`).join("\n");
  const summaries = commands.map(({ name, summary }) => ({ name, text: summary }));
  const cases = commands.map(({ name }) => `    ${name}) candidates=(\n${list(table.get(name))}\n    ) ;;`);
  return `#compdef minivault
# zsh completion of minivault
_minivault() {
  local command=$words[2]
  local -a candidates
  if (( CURRENT == 2 )); then
    candidates=(
${list(summaries)}
${list(table.get(""))}
    )
    _describe 'command or flag' candidates
    return
  fi
  case $command in
${cases.join("\n")}
    *) candidates=(
${list(table.get(""))}
    ) ;;
  esac
  if [[ $PREFIX == -* ]]; then _describe 'flag' candidates; else _files; fi
}
_minivault "$@"
`;
}

function fishScript(table: Table, commands: readonly Subcommand[]): string {
  const lines = ["# fish completion of minivault"];
  for (const { name, summary } of commands)
    lines.push(`complete -c minivault -n __fish_use_subcommand -f -a ${name} -d ${quoted(summary)}`);
  for (const [command, candidates] of table) {
    const when = command === "" ? "__fish_use_subcommand" : quoted(`__fish_seen_subcommand_from ${command}`);
    for (const { name, text } of candidates)
      lines.push(`complete -c minivault -n ${when} -o ${name.slice(1)} -d ${quoted(text)}`);
  }
  return `${lines.join("\n")}\n`;
}
