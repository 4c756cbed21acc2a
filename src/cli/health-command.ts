/**
 * `minivault health`: whether the node on this machine serves, for container engines and supervisors that run
 * a command. It finds out by itself whether the port speaks https, since it does not see the flags that the
 * node was started with.
 */
import { FLAGS } from "../config/flags.ts";
import { addressText } from "../platform/address.ts";
import { askText } from "./subcommand/ask.ts";
import type { Subcommand } from "./subcommand/subcommand.ts";

/** For each of the two ways; below the time that a container engine gives its check. */
const ASK_MS = 1200;

export const HEALTH: Subcommand = {
  name: "health",
  operands: "",
  summary: "Asks the node on this machine for its /health, over http or https.",
  more: `Where the node's port and host are in the environment (MINIVAULT_PORT, MINIVAULT_HOST) they need not be given. The certificate is not
checked: this is one machine, and the certificate is for the node's public name.

Exit status: 0 it serves; 1 it does not, or cannot be reached; 2 used wrongly.`,
  operandsMin: 0,
  operandsMax: 0,
  flags: ["port", "host"],
  switches: {},
  async run({ values }, terminal) {
    const port = Number(values.port ?? FLAGS.find(({ name }) => name === "port")?.preset);
    const place = `${addressText(loopbackOf(String(values.host ?? "")), port)}/health`;
    const { status, text } = await askText(`http://${place}`, ASK_MS).catch(
      (error: NodeJS.ErrnoException) => {
        // Nobody is there at all, so neither is https.
        if (error.code === "ECONNREFUSED") throw error;
        return askText(`https://${place}`, ASK_MS, { rejectUnauthorized: false });
      },
    );
    terminal.out(`${text.trimEnd()}\n`);
    return status === 200 ? 0 : 1;
  },
};

/** Where a node that listens on `host` is found from its own machine. */
function loopbackOf(host: string): string {
  const address = host.replace(/^\[(.*)\]$/, "$1");
  if (address === "" || address === "0.0.0.0") return "127.0.0.1";
  return address === "::" ? "::1" : address;
}
