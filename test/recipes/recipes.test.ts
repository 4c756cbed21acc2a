/**
 * The files of docs/recipes, as they are but for ports and paths: nginx and haproxy in front of a cluster of which a node
 * is killed, rsyslog with a log, systemd's own checks, and for Docker and Kubernetes their form and each command line.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync, spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import https from "node:https";
import net from "node:net";
import path from "node:path";
import { after, describe, test } from "node:test";
import { parseAllDocuments } from "yaml";
import { freePort } from "../../native-bench/processes.ts";
import { parseArguments } from "../../src/cli/arguments.ts";
import { makeCertificates } from "../certificate.ts";
import { type Cluster, startCluster } from "../cluster/workers.ts";
import {
  call,
  closeConnections,
  content,
  contentHash,
  contentStream,
  digest,
  inParallel,
} from "../rest/client.ts";
import { REPOSITORY, removeFolder, temporaryFolder, waitUntil } from "../rest/server.ts";

const folder = temporaryFolder();
const certificates = makeCertificates(folder);
fs.writeFileSync(
  path.join(folder, "server-and-key.pem"),
  Buffer.concat([fs.readFileSync(certificates.certificateFile), fs.readFileSync(certificates.keyFile)]),
  { mode: 0o600 },
);
const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill("SIGKILL");
  closeConnections();
  removeFolder(folder);
});

const has = (program: string, ...words: string[]): boolean => spawnSync(program, words).error === undefined;
const read = (name: string): string => fs.readFileSync(path.join(REPOSITORY, "docs/recipes", name), "utf8");

/** A recipe with other ports and paths, as a file. */
function adapted(name: string, changes: [from: string, to: string][]): string {
  const text = changes.reduce((all, [from, to]) => {
    assert.ok(all.includes(from), `${name} has ${from}`);
    return all.replaceAll(from, to);
  }, read(name));
  const file = path.join(folder, name);
  fs.writeFileSync(file, text);
  return file;
}

function launchProgram(program: string, words: string[]): { child: ChildProcess; output: () => string } {
  const child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe"] });
  children.push(child);
  let text = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.on("data", (piece) => {
      text += piece;
    });
  return { child, output: () => text };
}

/** In order: nginx killed at once would leave its own children. */
async function stop(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGTERM");
  await ended;
}

function statusOverTls(port: number, target: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const request = https.get(
      { host: "localhost", port, path: target, ca: certificates.authority, agent: false },
      (response) => {
        response.resume();
        resolve(response.statusCode ?? 0);
      },
    );
    request.on("error", reject);
  });
}

/** What clients may expect of whatever stands in front of three nodes, also when one is killed. */
async function tryFront(cluster: Cluster, plain: number, tls: number): Promise<void> {
  const ask = (method: string, target: string, body?: string | Uint8Array) =>
    call(plain, method, target, { agent: false, ...(body === undefined ? {} : { body }) });
  await waitUntil("it answers", async () => (await ask("GET", "/health").catch(() => null))?.status === 200);
  const seed = 17;
  const bytes = 30_000_000;
  const put = await call(plain, "PUT", "/large", { body: contentStream(seed, bytes), agent: false });
  assert.equal(put.status, 201, put.text);
  assert.equal((await digest(plain, "GET", "/large", { agent: false })).sha256, contentHash(seed, bytes));
  const part = await call(plain, "GET", "/large", { headers: { Range: "bytes=5-9" }, agent: false });
  assert.deepEqual([part.status, part.body.equals(content(seed, bytes).subarray(5, 10))], [206, true]);
  // Keys go on as they were sent.
  for (const key of ["a//b", "%2Fslash", "a%2Fb", "..%2Fup", "ü?".replace("?", "%3F")]) {
    const target = `/_kv/${encodeURI(key).replaceAll("%25", "%")}`;
    assert.equal((await ask("PUT", target, key)).status, 201, target);
    const names = (await call(cluster.workers[0].port, "GET", target)).text;
    assert.equal(names, key, target);
  }
  assert.equal(await statusOverTls(tls, "/large"), 200);
  const listed = await call(plain, "GET", "/?list&count", { agent: false });
  assert.equal(listed.json().count, 6);
  await cluster.workers[1].kill();
  // From the moment that it is known: every read is answered, and every write that was not under way.
  await waitUntil("writes are taken without it", async () => {
    const statuses = await Promise.all(
      Array.from({ length: 12 }, (_, i) =>
        ask("PUT", `/after/${i}`, "x").then(
          ({ status }) => status,
          () => 0,
        ),
      ),
    );
    return statuses.every((status) => status === 200 || status === 201);
  });
  await inParallel(60, 6, async (index) => {
    assert.equal((await ask("GET", `/after/${index % 12}`)).status, 200);
  });
}

async function withFront(
  body: (cluster: Cluster, nodes: [string, string][]) => Promise<void>,
): Promise<void> {
  const cluster = await startCluster({ workers: 3 });
  try {
    await body(
      cluster,
      cluster.workers.map(({ port }, i) => [`127.0.0.1:300${i + 1}`, `127.0.0.1:${port}`]),
    );
  } finally {
    await cluster.dispose();
  }
}

describe("recipes", () => {
  test("nginx", { skip: !has("nginx", "-v") && "there is no nginx" }, () =>
    withFront(async (cluster, nodes) => {
      const [plain, tls] = [await freePort(), await freePort()];
      const file = adapted("nginx.conf", [
        ...nodes,
        ["listen 8080", `listen 127.0.0.1:${plain}`],
        ["listen 8443", `listen 127.0.0.1:${tls}`],
        ["/etc/minivault/server.pem", certificates.certificateFile],
        ["/etc/minivault/server-key.pem", certificates.keyFile],
        // Where it may write as whoever runs the tests.
        [
          "http {",
          `http { access_log off; client_body_temp_path ${folder}/body; proxy_temp_path ${folder}/proxy;`,
        ],
      ]);
      const { child, output } = launchProgram("nginx", [
        "-p",
        folder,
        "-e",
        "stderr",
        "-c",
        file,
        "-g",
        `daemon off; pid ${folder}/nginx.pid;`,
      ]);
      try {
        await tryFront(cluster, plain, tls);
      } catch (error) {
        (error as Error).message += `\n${output()}`;
        throw error;
      } finally {
        await stop(child);
      }
    }),
  );

  test("haproxy", { skip: !has("haproxy", "-v") && "there is no haproxy" }, () =>
    withFront(async (cluster, nodes) => {
      const [plain, tls] = [await freePort(), await freePort()];
      const file = adapted("haproxy.cfg", [
        ...nodes,
        ["bind :8080", `bind 127.0.0.1:${plain}`],
        ["bind :8443", `bind 127.0.0.1:${tls}`],
        ["/etc/minivault/server-and-key.pem", path.join(folder, "server-and-key.pem")],
      ]);
      const { child, output } = launchProgram("haproxy", ["-db", "-f", file]);
      try {
        await tryFront(cluster, plain, tls);
      } catch (error) {
        (error as Error).message += `\n${output()}`;
        throw error;
      } finally {
        await stop(child);
      }
    }),
  );

  test("rsyslog", { skip: !has("rsyslogd", "-v") && "there is no rsyslog" }, async () => {
    const received: string[] = [];
    const collector = net.createServer((socket) =>
      socket.on("data", (piece) => received.push(String(piece))),
    );
    const port = await new Promise<number>((resolve) =>
      collector.listen(0, "127.0.0.1", () => resolve((collector.address() as net.AddressInfo).port)),
    );
    const log = path.join(folder, "minivault.log");
    fs.writeFileSync(log, '{"level":"info","msg":"the first line"}\n');
    const file = adapted("rsyslog.conf", [
      ["/var/log/minivault.log", log],
      ['port="5140"', `port="${port}"`],
      ["# rsyslog:", `global(workDirectory="${folder}")\n# rsyslog:`],
    ]);
    const { child, output } = launchProgram("rsyslogd", [
      "-n",
      "-f",
      file,
      "-i",
      path.join(folder, "rsyslog.pid"),
    ]);
    await waitUntil(`the line comes\n${output()}`, () => received.join("").includes("the first line"));
    fs.appendFileSync(log, '{"level":"warn","msg":"the second line"}\n');
    await waitUntil("the next one comes", () => received.join("").includes("the second line"));
    await stop(child);
    collector.close();
  });

  test("systemd", { skip: !has("systemd-analyze", "--version") && "there is no systemd" }, () => {
    const program = path.join(folder, "minivault.js");
    fs.writeFileSync(program, "");
    const file = adapted("minivault.service", [
      ["/usr/bin/node", process.execPath],
      ["/opt/minivault/minivault.js", program],
    ]);
    const { status, stdout, stderr } = spawnSync("systemd-analyze", ["verify", file], { encoding: "utf8" });
    // Units of the machine may have warnings of their own.
    const ours = `${stdout}${stderr}`.split("\n").filter((line) => line.includes("minivault"));
    assert.deepEqual([status, ours], [0, []]);
    const exposure = execFileSync("systemd-analyze", ["security", "--offline=true", "--threshold=25", file], {
      encoding: "utf8",
    });
    assert.match(exposure, /exposure level for minivault\.service: [01]\.\d OK/);
    demandCommand(/-data .*/.exec(read("minivault.service"))?.[0].split(" ") as string[]);
  });

  test("docker compose: its form, and each command line", () => {
    const [document] = parseAllDocuments(read("compose.yml"), { merge: true }).map((one) => one.toJS());
    const services = Object.entries(
      document.services as Record<
        string,
        { command: string; environment: Record<string, string>; volumes: string[] }
      >,
    );
    assert.equal(services.length, 4);
    for (const [name, { command, environment, volumes }] of services) {
      demandCommand(command.split(" "), environment);
      assert.ok(volumes[0].startsWith(`${name}:`) && name in document.volumes, name);
      if (name !== "master") assert.match(command, new RegExp(`-public-url http://${name}:3000`));
    }
  });

  test("kubernetes: its published types, and each command line", () => {
    const documents = parseAllDocuments(read("kubernetes.yaml")).map((one) => one.toJS());
    // A literal with a member that the types do not know, or of another kind, is an error of the compiler.
    const types: Record<string, string> = {
      Service: 'import("kubernetes-types/core/v1").Service',
      StatefulSet: 'import("kubernetes-types/apps/v1").StatefulSet',
      PodDisruptionBudget: 'import("kubernetes-types/policy/v1").PodDisruptionBudget',
    };
    const check = (all: { kind: string }[]): string => {
      const file = path.join(REPOSITORY, `test/recipes/kubernetes-${process.pid}.ts`);
      fs.writeFileSync(
        file,
        all
          .map((one, i) => `export const document${i}: ${types[one.kind]} = ${JSON.stringify(one)};\n`)
          .join(""),
      );
      try {
        const flags = [
          "--noEmit",
          "--strict",
          "--skipLibCheck",
          "--ignoreConfig",
          "--moduleResolution",
          "bundler",
          "--module",
          "esnext",
        ];
        return spawnSync(path.join(REPOSITORY, "node_modules/.bin/tsc"), [...flags, file], {
          encoding: "utf8",
        }).stdout;
      } finally {
        fs.rmSync(file);
      }
    };
    assert.equal(check(documents), "");
    const wrong = structuredClone(documents);
    wrong[4].spec.template.spec.containers[0].readinesProbe = {};
    assert.match(check(wrong), /readinesProbe/);
    assert.deepEqual(
      documents.map(({ kind }) => kind),
      ["Service", "Service", "Service", "StatefulSet", "StatefulSet", "PodDisruptionBudget"],
    );
    for (const { spec } of documents.filter(({ kind }) => kind === "StatefulSet")) {
      const { labels } = spec.template.metadata;
      assert.deepEqual(spec.selector.matchLabels, labels);
      const [{ args, volumeMounts }] = spec.template.spec.containers;
      demandCommand(args.map((word: string) => word.replace("$(POD_NAME)", "minivault-0")));
      assert.equal(volumeMounts[0].name, spec.volumeClaimTemplates[0].metadata.name);
      const service = documents.find(
        ({ kind, metadata }) => kind === "Service" && metadata.name === spec.serviceName,
      );
      assert.ok(Object.entries(service.spec.selector).every(([name, value]) => labels[name] === value));
    }
  });
});

/** The program takes these words. */
function demandCommand(words: string[], environment: Record<string, string> = {}): void {
  const env = Object.fromEntries(Object.entries(environment).map(([name]) => [name, "0123456789abcdef"]));
  const parsed = parseArguments(words, env);
  assert.equal(parsed.kind, "run", JSON.stringify(parsed));
}
