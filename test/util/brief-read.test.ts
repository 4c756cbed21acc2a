/** Files of keys, tokens and certificates: what stands in their place is named, and nothing waits for ever for it. */
import assert from "node:assert/strict";
import { execFileSync, spawn, spawnSync } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { after, test } from "node:test";
import { readAgain, readBriefly } from "../../src/util/brief-read.ts";
import { builtProgram, cleanEnvironment, removeFolder, temporaryFolder } from "../rest/server.ts";

const folder = temporaryFolder();
after(() => removeFolder(folder));
const needsPipes = { skip: process.platform === "win32" ? "no named pipes here" : false };
const KEY = "key-of-sixteen-or-more";

let files = 0;
function named(): string {
  return path.join(folder, `file-${files++}`);
}

function pipe(): string {
  const file = named();
  execFileSync("mkfifo", ["-m", "600", file]);
  return file;
}

test(
  "brief reads: a pipe is read to its end, also when it is written to late and in pieces",
  needsPipes,
  () => {
    const file = pipe();
    const writer = spawn("sh", ["-c", 'sleep 0.1; { printf one; sleep 0.1; printf two; } > "$0"', file]);
    assert.equal(readBriefly(file).toString(), "onetwo");
    writer.kill();
  },
);

test("brief reads: a pipe to which nobody writes is refused, and not waited for", needsPipes, () => {
  assert.throws(() => readBriefly(pipe()), /^Error: it is a pipe to which nobody writes, and not a file$/);
});

test("brief reads: what is no file is named", needsPipes, async () => {
  assert.throws(() => readBriefly(folder), /it is a folder, and not a file/);
  assert.throws(() => readBriefly("/dev/zero"), /it is a device, and not a file/);
  const socket = named();
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(socket, resolve));
  assert.throws(() => readBriefly(socket), /it is a socket, and not a file/);
  server.close();
  for (const [what, kind] of [
    [pipe(), "pipe"],
    [folder, "folder"],
    ["/dev/zero", "device"],
  ])
    assert.throws(() => readAgain(what), new RegExp(`^Error: ${what} is a ${kind}, and not a file$`));
  const file = named();
  fs.writeFileSync(file, KEY);
  for (const read of [readBriefly, readAgain]) assert.equal(read(file).toString(), KEY);
});

test(
  "brief reads: a start refuses a pipe, a folder or a device in the place of each file that it reads",
  needsPipes,
  async () => {
    const program = await builtProgram();
    const pem = named();
    fs.writeFileSync(pem, "no certificate", { mode: 0o600 });
    const flags = [
      ...["-auth-file", "-tokens", "-cluster-key-file", "-tls-ca"].map((flag) => (file: string) => [
        flag,
        file,
      ]),
      (file: string) => ["-tls-cert", file, "-tls-key", pem],
      (file: string) => ["-tls-cert", pem, "-tls-key", file],
    ];
    const answers = flags.flatMap((words, index) =>
      // What is true of a pipe is true of the others, wherever one function reads it.
      (index % 4 === 0 ? [pipe(), folder, "/dev/zero"] : [pipe()]).map(async (file) => {
        const all = ["-port", "0", "-data", named(), ...words(file)];
        const child = spawn(process.execPath, [program, ...all], {
          env: cleanEnvironment(),
          timeout: 60_000,
        });
        let output = "";
        for (const stream of [child.stdout, child.stderr])
          stream.on("data", (text) => {
            output += text;
          });
        const status = await new Promise((resolve) => child.once("close", resolve));
        return { words: all.join(" "), file, status, output };
      }),
    );
    for (const { words, file, status, output } of await Promise.all(answers)) {
      assert.ok(status === 1 || status === 2, `${words}: ${status} ${output}`);
      assert.match(output, / is a (pipe|folder|device)( to which nobody writes)?, and not a file/, words);
      assert.ok(output.includes(file), output);
      assert.doesNotMatch(output, /\n {4}at /, words);
    }
  },
);

test(
  "brief reads: a key comes through a pipe, and a command names a pipe without a writer",
  needsPipes,
  async () => {
    const program = await builtProgram();
    const get = (file: string, before: string): string => {
      const words = `${before} "$0" "$1" get x -url http://127.0.0.1:1 -token-file "$2"`;
      const options = { encoding: "utf8", env: cleanEnvironment(), timeout: 60_000 } as const;
      return spawnSync("sh", ["-c", words, process.execPath, program, file], options).stderr;
    };
    assert.match(get(pipe(), ""), /-token-file: \S+: it is a pipe to which nobody writes, and not a file/);
    assert.match(get("/dev/stdin", `printf '${KEY}' |`), /connect|reach/);
  },
);
