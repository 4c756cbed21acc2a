/** Terraform itself, with the backend as docs/api.md has it. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { hash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { has } from "./build-caches.ts";
import { call, closeConnections } from "./client.ts";
import { cleanEnvironment, REPOSITORY, removeFolder, temporaryFolder, waitUntil } from "./server.ts";

/** Options of a test: skipped where there is no Terraform. */
export const needsTerraform = {
  skip: has("terraform") ? false : "terraform is not installed",
  timeout: 600_000,
};
/** Longest that it may take to its first resource. */
const START_MS_MAX = 300_000;
const SECRET = "mv1.terraform.secret";
/** Where the page keeps the state. */
export const STATE = "/_raw/terraform/prod";
/** Its apply stands still, and holds the lock, where `hold` is there: until `go` is, or the folder is removed. */
const RESOURCES = `
variable "text" { type = string }
resource "terraform_data" "one" {
  input            = var.text
  triggers_replace = var.text
  provisioner "local-exec" {
    command = "if [ -e hold ]; then touch held; until [ -e go ] || [ ! -e held ]; do sleep 0.05; done; fi"
  }
}
output "text" { value = terraform_data.one.output }
`;

const root = temporaryFolder();
const running = new Set<ChildProcess>();

/** Ends what is left of it. */
export function endTerraform(): void {
  for (const child of running) child.kill("SIGKILL");
  closeConnections();
  removeFolder(root);
}

export interface Ended {
  status: number | null;
  output: string;
}

/** One person's folder, whose backend is at a node. */
export class Folder {
  readonly path: string;

  constructor(name: string, port: number) {
    this.path = path.join(root, name);
    fs.mkdirSync(this.path);
    this.moveTo(port);
  }

  /** As the page has it, but for the port. */
  moveTo(port: number): void {
    const page = fs.readFileSync(path.join(REPOSITORY, "docs/api.md"), "utf8");
    const [, block] = /^```hcl\n(terraform \{.*?)^```/ms.exec(page) ?? [];
    assert.ok(block.includes(`localhost:3000${STATE}`));
    const text = block.replaceAll("localhost:3000", `127.0.0.1:${port}`) + RESOURCES;
    fs.writeFileSync(path.join(this.path, "main.tf"), text);
  }

  start(...words: string[]): { child: ChildProcess; ended: Promise<Ended> } {
    const env = {
      ...cleanEnvironment(),
      ...{ HOME: root, CHECKPOINT_DISABLE: "1", TF_IN_AUTOMATION: "1", TF_CLI_CONFIG_FILE: "/dev/null" },
      ...{ TF_HTTP_USERNAME: "any", TF_HTTP_PASSWORD: SECRET },
      // On a machine that is busy a node may say more often than twice that it has too much to do.
      ...{ TF_HTTP_RETRY_MAX: "30", TF_HTTP_RETRY_WAIT_MIN: "1", TF_HTTP_RETRY_WAIT_MAX: "2" },
    };
    const child = spawn("terraform", words, { cwd: this.path, env, stdio: ["ignore", "pipe", "pipe"] });
    running.add(child);
    let output = "";
    for (const stream of [child.stdout, child.stderr]) stream.on("data", (piece) => (output += piece));
    const ended = new Promise<Ended>((resolve, reject) => {
      child.once("error", reject);
      child.once("close", (status) => {
        running.delete(child);
        resolve({ status, output });
      });
    });
    return { child, ended };
  }

  /** Runs it to its end. */
  run(...words: string[]): Promise<Ended> {
    return this.start(...words).ended;
  }

  async init(): Promise<void> {
    const { status, output } = await this.run("init", "-no-color", "-input=false", "-reconfigure");
    assert.equal(status, 0, output);
  }

  apply(text: string): Promise<Ended> {
    return this.run("apply", "-no-color", "-auto-approve", "-input=false", `-var=text=${text}`);
  }

  async applies(text: string): Promise<void> {
    const { status, output } = await this.apply(text);
    assert.equal(status, 0, output);
  }

  /** Begins an apply, and answers when it holds the lock and stands still. */
  async holds(text: string): Promise<{ child: ChildProcess; ended: Promise<Ended> }> {
    for (const left of ["go", "held"]) fs.rmSync(path.join(this.path, left), { force: true });
    fs.writeFileSync(path.join(this.path, "hold"), "");
    const started = this.start("apply", "-no-color", "-auto-approve", "-input=false", `-var=text=${text}`);
    let early: Ended | null = null;
    void started.ended.then((ended) => (early = ended));
    await waitUntil(
      `it holds the lock for ${text}`,
      () => {
        assert.equal(early, null);
        return fs.existsSync(path.join(this.path, "held"));
      },
      START_MS_MAX,
    );
    return started;
  }

  goesOn(): void {
    fs.rmSync(path.join(this.path, "hold"));
    fs.writeFileSync(path.join(this.path, "go"), "");
  }

  async output(): Promise<string> {
    const { status, output } = await this.run("output", "-no-color", "-raw", "text");
    assert.equal(status, 0, output);
    return output;
  }

  /** Is kept out by a lock; answers its ID. */
  async lockedOut(): Promise<string> {
    const { status, output } = await this.apply("of another one");
    assert.equal(status, 1, output);
    // What it prints as the lock's information is its own request's.
    const [, id] = /already locked:\s+ID=(\S+)/.exec(output) ?? [];
    assert.ok(id !== undefined, output);
    return id;
  }
}

/** Tokens as the page asks for one. */
export function tokens(): string[] {
  const line = { name: "terraform", sha256: hash("sha256", SECRET), prefix: ["terraform/"] };
  const file = path.join(root, "tokens");
  fs.writeFileSync(file, `${JSON.stringify({ ...line, allow: ["read", "write", "delete"] })}\n`, {
    mode: 0o600,
  });
  return ["-tokens", file];
}

/** Asks for what is kept. */
export const ask = (port: number, key: string) =>
  call(port, "GET", key, { headers: { Authorization: `Bearer ${SECRET}` }, agent: false });
