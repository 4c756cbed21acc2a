/** The recipes of docs/build-caches.md: each block of the page is run as it stands there, but for the port. */
import { spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { cleanEnvironment, REPOSITORY, runProgram, type Server, startServer } from "./server.ts";

const PAGE = path.join(REPOSITORY, "docs/build-caches.md");
/** What the page calls the node. */
const NODE = "localhost:3000";

export const has = (program: string): boolean => spawnSync("which", [program]).status === 0;

/** The block whose first line ends with that name. */
export function blockOf(name: string): string {
  const found = new RegExp(`^\`\`\`\\w+ ${name}\n([^]*?)^\`\`\``, "m").exec(fs.readFileSync(PAGE, "utf8"));
  if (found === null) throw new Error(`docs/build-caches.md has no block "${name}"`);
  return found[1];
}

export interface CacheNode {
  server: Server;
  token: string;
}

/** A node with the token that the page makes. */
export async function startCacheNode(folder: string): Promise<CacheNode> {
  const [, command] = /^\$ minivault (token .*)$/m.exec(fs.readFileSync(PAGE, "utf8")) ?? [];
  const { output } = await runProgram([...command.split(" "), "-json"]);
  const { token, line } = JSON.parse(output) as { token: string; line: string };
  const file = path.join(folder, "tokens");
  fs.writeFileSync(file, `${line}\n`, { mode: 0o600 });
  return { server: await startServer({ sync: "os", flags: ["-tokens", file] }), token };
}

/** Runs a block in a folder. Answers what it has printed; throws where it fails. */
export function runBlock(
  text: string,
  { server, token }: CacheNode,
  cwd: string,
  env: Record<string, string>,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const script = text.replaceAll(NODE, `localhost:${server.port}`);
    const child = spawn("bash", ["-euo", "pipefail", "-c", script], {
      cwd,
      env: { ...cleanEnvironment(), ...env, TOKEN: token },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    for (const stream of [child.stdout, child.stderr])
      stream.on("data", (piece) => {
        output += piece;
      });
    child.once("error", reject);
    child.once("close", (status) => {
      if (status === 0) resolve(output);
      else reject(new Error(`the recipe ended with ${status}:\n${output}`));
    });
  });
}
