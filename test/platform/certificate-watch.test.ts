import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { CertificateWatch, certificateProblem } from "../../src/platform/certificate-watch.ts";
import { makeCertificates } from "../certificate.ts";
import { removeFolder, temporaryFolder } from "../rest/server.ts";

const folder = temporaryFolder();
after(() => removeFolder(folder));

const DAY_MS = 24 * 3600_000;
const certificates = makeCertificates(folder);
const setup = {
  file: certificates.certificateFile,
  authorities: certificates.authority,
  url: "https://127.0.0.1:3000",
};

test("certificate: what is right is nothing to say", () => {
  assert.equal(certificateProblem(setup, Date.now()), null);
  assert.equal(certificateProblem({ ...setup, url: "https://localhost:1" }, Date.now()), null);
  assert.equal(certificateProblem({ ...setup, url: null, authorities: null }, Date.now()), null);
});

test("certificate: what others will find wrong is found here first", () => {
  const other = makeCertificates(temporaryFolder()).authority;
  const problems: [object, number, RegExp][] = [
    [{}, Date.now() + 2 * DAY_MS, /has expired on/],
    [{}, Date.now() - 2 * DAY_MS, /is not valid before/],
    [{}, Date.now() + DAY_MS * 0.9, /expires on/],
    [{ url: "https://elsewhere.example:3000" }, Date.now(), /is not for elsewhere\.example/],
    [{ url: "https://127.0.0.2:3000" }, Date.now(), /is not for 127\.0\.0\.2/],
    [{ url: "https://[::1]:3000" }, Date.now(), /is not for ::1/],
    [{ authorities: other }, Date.now(), /from none of the authorities/],
    [{ file: path.join(folder, "none.pem") }, Date.now(), /cannot be read/],
    [{ file: certificates.keyFile }, Date.now(), /there is no certificate/],
  ];
  for (const [more, nowMillis, expected] of problems)
    assert.match(certificateProblem({ ...setup, ...more }, nowMillis) ?? "", expected);
});

test("certificate: a chain counts, and each problem is said once until it changes", () => {
  const file = path.join(folder, "chain.pem");
  writeFileSync(file, readFileSync(certificates.certificateFile, "utf8") + certificates.authority);
  assert.equal(certificateProblem({ ...setup, file }, Date.now()), null);
  const said: string[] = [];
  const watch = new CertificateWatch({ ...setup, file, url: "https://x.example" }, (sentence) =>
    said.push(sentence),
  );
  watch.look();
  assert.equal(said.length, 1);
  writeFileSync(file, "");
  watch.look();
  watch.look();
  assert.deepEqual([said.length, watch.problem], [2, said[1]]);
  watch.close();
});
