/**
 * `minivault health`: whether the node on this machine serves, for container engines and supervisors that run
 * a command. It finds out by itself whether the port speaks https, since it does not see the flags that the
 * node was started with.
 */
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { FLAGS } from "../config/flags.ts";
import type { Subcommand } from "./subcommand/subcommand.ts";

/** For each of the two ways; below the time that a container engine gives its check. */
const ASK_MS = 1200;

interface Answer {
  status: number;
  text: string;
}

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
    const host = loopbackOf(String(values.host ?? ""));
    const { status, text } = await ask("http", host, port).catch((error: NodeJS.ErrnoException) => {
      // Nobody is there at all, so neither is https.
      if (error.code === "ECONNREFUSED") throw error;
      return ask("https", host, port);
    });
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

function ask(scheme: "http" | "https", host: string, port: number): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { host, port, path: "/health", agent: false, timeout: ASK_MS };
    const request =
      scheme === "http" ? httpRequest(options) : httpsRequest({ ...options, rejectUnauthorized: false });
    request.on("response", (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (piece: string) => {
        text += piece;
      });
      response.on("end", () => resolve({ status: response.statusCode ?? 0, text }));
      response.on("error", reject);
    });
    request.on("timeout", () => request.destroy(new Error(`no answer from ${host}:${port} in ${ASK_MS} ms`)));
    request.on("error", reject);
    request.end();
  });
}
