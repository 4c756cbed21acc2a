/** What people really use: curl, and undici's fetch. Early refusals must reach them. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  closeSync,
  ftruncateSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { withFront } from "./harness.ts";

const MIB = 1024 * 1024;
let folder = "";
let hasCurl = false;

function curl(...args: string[]): Promise<{ status: number; out: string }> {
  return new Promise((resolve) => {
    execFile(
      "curl",
      ["-sS", "--max-time", "30", ...args],
      { maxBuffer: 64 * MIB, encoding: "latin1" },
      (error, out) => {
        resolve({ status: error === null ? 0 : Number(error.code), out });
      },
    );
  });
}

before(async () => {
  folder = mkdtempSync(path.join(tmpdir(), "front-curl-"));
  hasCurl = (await curl("--version")).status === 0;
});
after(() => rmSync(folder, { recursive: true }));

test("curl: -T, --data-binary, -d, -I, -r and -X work as people expect", async (context) => {
  if (!hasCurl) return context.skip("curl is missing");
  await withFront({}, async ({ port, vault }) => {
    const url = `http://127.0.0.1:${port}`;
    const file = path.join(folder, "file");
    const bytes = randomBytes(3 * MIB + 1);
    writeFileSync(file, bytes);
    assert.match((await curl("-T", file, `${url}/a/file`)).out, /"created":true/);
    assert.ok(Buffer.from(vault.values.get("a/file")?.bytes ?? []).equals(bytes));
    await curl("-o", `${file}.back`, `${url}/a/file`);
    assert.ok(readFileSync(`${file}.back`).equals(bytes));
    assert.match((await curl("--data-binary", `@${file}`, `${url}/posted`)).out, /"created":true/);
    assert.equal(vault.values.get("posted")?.contentType, "application/octet-stream");
    assert.match((await curl("-d", "x", `${url}/posted`)).out, /"code":"exists"/);
    assert.match(
      (await curl("-I", `${url}/posted`)).out,
      /^HTTP\/1.1 200 OK\r\n[\s\S]*Content-Length: 3145729\r\n/,
    );
    assert.equal((await curl("-r", "0-3", `${url}/posted`)).out, bytes.subarray(0, 4).toString("latin1"));
    assert.match((await curl("-X", "DELETE", `${url}/posted`)).out, /"deleted":true/);
    assert.match((await curl("-X", "PUT", `${url}/nothing`)).out, /"code":"length_required"/);
    const chunked = await curl("-T", file, "-H", "Transfer-Encoding: chunked", `${url}/chunked`);
    assert.match(chunked.out, /"created":true/);
    assert.ok(Buffer.from(vault.values.get("chunked")?.bytes ?? []).equals(bytes));
    assert.match((await curl("--path-as-is", "-T", file, `${url}/../x`)).out, /"created":true/);
    assert.ok(vault.values.has("../x"));
  });
});

test("curl and fetch: refusals of large bodies are seen, with and without Expect", async (context) => {
  await withFront({ maxValueBytes: 8 * MIB }, async ({ port, vault }) => {
    const url = `http://127.0.0.1:${port}`;
    vault.put("there", "x");
    const file = path.join(folder, "large");
    const descriptor = openSync(file, "w");
    ftruncateSync(descriptor, 200 * MIB);
    closeSync(descriptor);
    if (hasCurl) {
      for (const expect of ["Expect: 100-continue", "Expect:"]) {
        const declared = await curl("-w", "%{http_code}", "-H", expect, "-T", file, `${url}/k`);
        assert.match(declared.out, /"too_large"[\s\S]*413$/, expect);
        const chunked = await curl(
          "-w",
          "%{http_code}",
          "-H",
          expect,
          "-H",
          "Transfer-Encoding: chunked",
          "-T",
          file,
          `${url}/k`,
        );
        assert.match(chunked.out, /"too_large"[\s\S]*413$/, expect);
        const long = await curl("-w", "%{http_code}", "-H", expect, "-T", file, `${url}/${"k".repeat(1025)}`);
        assert.match(long.out, /"key_too_long"[\s\S]*414$/, expect);
        const method = await curl("-w", "%{http_code}", "-H", expect, "-X", "BREW", "-T", file, `${url}/k`);
        assert.match(method.out, /"method_not_allowed"[\s\S]*405$/, expect);
      }
      vault.failUploadAt = { bytes: 3 * MIB, failure: { error: "disk_full" } };
      const small = path.join(folder, "small");
      writeFileSync(small, Buffer.alloc(7 * MIB));
      const full = await curl("-w", "%{http_code}", "-T", small, `${url}/k`);
      assert.match(full.out, /"disk_full"[\s\S]*507$/);
      vault.failUploadAt = null;
    } else context.diagnostic("curl is missing");
    const reply = await fetch(`${url}/k`, { method: "PUT", body: new Uint8Array(20 * MIB) });
    assert.equal(reply.status, 413);
    assert.equal(((await reply.json()) as { code: string }).code, "too_large");
    const exists = await fetch(`${url}/there`, { method: "POST", body: new Uint8Array(5 * MIB) });
    assert.equal(exists.status, 409);
    assert.equal(((await exists.json()) as { code: string }).code, "exists");
  });
});
