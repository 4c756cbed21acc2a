/** Files that are read again while a node serves: none of them holds it up. */
import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { mkdirSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { FileReload, type Reloadable } from "../../src/app/reload.ts";
import type { Config } from "../../src/config/config.ts";
import { certificateProblem } from "../../src/platform/certificate-watch.ts";
import type { Logger } from "../../src/platform/log.ts";
import { removeFolder, temporaryFolder } from "../rest/server.ts";

const folder = temporaryFolder();
after(() => removeFolder(folder));
const needsPipes = { skip: process.platform === "win32" ? "no named pipes here" : false };

/** A named pipe with a writer behind it, so that a reader that waits for it comes back each time. */
function pipe(file: string): () => void {
  execFileSync("mkfifo", ["-m", "600", file]);
  const writer = spawn("sh", ["-c", 'while sleep 1; do : >> "$0"; done', file], {
    stdio: "ignore",
    detached: true,
  });
  return () => process.kill(-Number(writer.pid), "SIGKILL");
}

const KINDS: [string, RegExp, (file: string) => (() => void) | undefined][] = [
  ["a pipe", /is a pipe or a device, which is read at the start and never again/, pipe],
  ["a directory", /is a directory, not a file/, (file) => void mkdirSync(file)],
  [
    "a file without end",
    /is larger than 16 MiB, so it is not read/,
    (file) => {
      writeFileSync(file, "", { mode: 0o600 });
      truncateSync(file, 2 ** 40);
    },
  ],
];

for (const [kind, sentence, make] of KINDS)
  test(
    `reload: ${kind} in the place of each file is named at SIGHUP, and nothing waits for it`,
    needsPipes,
    () => {
      const names = ["tokens", "auth", "clusterKey", "tlsCa", "certificate"];
      const files = Object.fromEntries(names.map((name) => [name, path.join(folder, name)]));
      const ends = names.map((name) => make(files[name]));
      const errors: string[] = [];
      const target: Reloadable = {
        renewCertificate: () => assert.fail("it must not be read"),
        renewKey: () => assert.fail("it must not be read"),
        renewClusterKeys: () => assert.fail("it must not be read"),
        renewTokens: () => assert.fail("it must not be read"),
        reopenAudit() {},
      };
      const { certificate, ...others } = files;
      const config = {
        ...{ auth: null, clusterKeys: [], files: others, tlsCa: null, publicUrl: null },
        tls: { certificate, key: certificate, ca: null },
      } as unknown as Config;
      const log = { info() {}, warn() {}, error: (text: string) => errors.push(text) } as unknown as Logger;
      const reload = new FileReload(config, target, log);
      try {
        reload.all();
        assert.match(
          String(certificateProblem({ file: certificate, authorities: null, url: null }, 0)),
          sentence,
        );
      } finally {
        reload.close();
        for (const end of ends) end?.();
        for (const name of names) rmSync(files[name], { recursive: true });
      }
      assert.equal(errors.length, names.length, errors.join("\n"));
      for (const name of names)
        assert.ok(
          errors.some((text) => text.includes(`${files[name]} is `) && sentence.test(text)),
          `${name}: ${errors.join("\n")}`,
        );
    },
  );
