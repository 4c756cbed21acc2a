/** Terraform itself, with the backend as docs/api.md has it: its state and its locks are on a node, or on a cluster. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { hash } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { after, describe, test } from "node:test";
import { startCluster } from "../cluster/workers.ts";
import { has } from "./build-caches.ts";
import { call, closeConnections } from "./client.ts";
import {
  cleanEnvironment,
  REPOSITORY,
  removeFolder,
  temporaryFolder,
  waitUntil,
  withServer,
} from "./server.ts";

const needsTerraform = { skip: has("terraform") ? false : "terraform is not installed", timeout: 600_000 };
const SECRET = "mv1.terraform.secret";
const STATE = "/_raw/terraform/prod";
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
after(() => {
  for (const child of running) child.kill("SIGKILL");
  closeConnections();
  removeFolder(root);
});

interface Ended {
  status: number | null;
  output: string;
}

/** One person's folder, whose backend is at a node. */
class Folder {
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
    await waitUntil(`it holds the lock for ${text}`, () => {
      assert.equal(early, null);
      return fs.existsSync(path.join(this.path, "held"));
    });
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
function tokens(): string[] {
  const line = { name: "terraform", sha256: hash("sha256", SECRET), prefix: ["terraform/"] };
  const file = path.join(root, "tokens");
  fs.writeFileSync(file, `${JSON.stringify({ ...line, allow: ["read", "write", "delete"] })}\n`, {
    mode: 0o600,
  });
  return ["-tokens", file];
}

const ask = (port: number, key: string) =>
  call(port, "GET", key, { headers: { Authorization: `Bearer ${SECRET}` }, agent: false });

describe("terraform: the program", needsTerraform, () => {
  test("terraform: init, plan, apply, a lock that keeps others out, one that is taken away, destroy", async () => {
    await withServer({ flags: tokens() }, async ({ port }) => {
      const ada = new Folder("ada", port);
      const bob = new Folder("bob", port);
      await ada.init();
      await bob.init();
      await ada.applies("one");
      const same = await bob.run("plan", "-no-color", "-input=false", "-detailed-exitcode", "-var=text=one");
      assert.equal(same.status, 0, same.output);
      const other = await bob.run("plan", "-no-color", "-input=false", "-detailed-exitcode", "-var=text=two");
      assert.equal(other.status, 2, other.output);
      assert.equal(await bob.output(), "one");
      const state = (await ask(port, STATE)).json();
      assert.equal(state.outputs.text.value, "one");
      assert.equal((await ask(port, `${STATE}.tflock`)).status, 404);

      // A lock keeps another one out, and is given back.
      const held = await ada.holds("two");
      const id = await bob.lockedOut();
      assert.equal((await ask(port, `${STATE}.tflock`)).json().ID, id);
      ada.goesOn();
      const ended = await held.ended;
      assert.equal(ended.status, 0, ended.output);
      assert.equal(await bob.output(), "two");

      // One whose holder has died stays until it is taken away.
      const dies = await ada.holds("three");
      dies.child.kill("SIGKILL");
      ada.goesOn();
      await dies.ended;
      const left = await bob.lockedOut();
      assert.notEqual(left, id);
      const unlocked = await bob.run("force-unlock", "-force", left);
      assert.equal(unlocked.status, 0, unlocked.output);
      await bob.applies("four");

      // Whose lock was taken away while it worked does not write over what another one has done.
      const robbed = await ada.holds("five");
      const taken = await bob.run("force-unlock", "-force", await bob.lockedOut());
      assert.equal(taken.status, 0, taken.output);
      await bob.applies("six");
      ada.goesOn();
      const late = await robbed.ended;
      assert.equal(late.status, 1, late.output);
      assert.match(late.output, /Failed to save state/);
      assert.ok(fs.existsSync(path.join(ada.path, "errored.tfstate")));
      assert.equal(await bob.output(), "six");

      const gone = await bob.run("destroy", "-no-color", "-auto-approve", "-input=false", "-var=text=six");
      assert.equal(gone.status, 0, gone.output);
      assert.deepEqual((await ask(port, STATE)).json().resources, []);
      assert.equal((await ask(port, `${STATE}.tflock`)).status, 404);
    });
  });

  test("terraform: over three nodes, one of which is killed while a lock is held", async () => {
    const cluster = await startCluster({ workers: 3 });
    try {
      const [first, second, third] = cluster.workers;
      const ada = new Folder("ada at a cluster", first.port);
      const bob = new Folder("bob at a cluster", third.port);
      await ada.init();
      await ada.applies("one");
      ada.moveTo(second.port);
      await ada.init();
      await bob.init();
      assert.equal(await bob.output(), "one");
      const held = await ada.holds("two");
      await bob.lockedOut();
      await first.kill();
      await bob.lockedOut();
      ada.goesOn();
      const ended = await held.ended;
      assert.equal(ended.status, 0, ended.output);
      assert.equal(await bob.output(), "two");
      await bob.applies("three");
      assert.equal(await ada.output(), "three");
    } finally {
      await cluster.dispose();
    }
  });
});
