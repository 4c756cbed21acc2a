import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { closeSync, constants, openSync, readFileSync, readSync, renameSync, symlinkSync } from "node:fs";
import path from "node:path";
import { after, test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { AuditFile } from "../../../src/server/access/audit.ts";
import { removeFolder, temporaryFolder } from "../../rest/server.ts";

const folder = temporaryFolder();
after(() => removeFolder(folder));

const SENDER = { client: "10.0.0.7", forwardedFor: "" };

/** An audit, and what it complains of. */
function open(file: string): { audit: AuditFile; complaints: { lost: number; reason: string }[] } {
  const complaints: { lost: number; reason: string }[] = [];
  const error = (fields: object) => {
    complaints.push(fields as { lost: number; reason: string });
  };
  return { audit: new AuditFile(file, { info: () => {}, error }), complaints };
}

test("audit: on a full disk what is lost is counted, said in the log, and noted in the file once there is room", async () => {
  const file = path.join(folder, "audit");
  symlinkSync("/dev/full", file);
  const { audit, complaints } = open(file);
  for (let number = 0; number < 3; number++) audit.note("app", SENDER, "PUT", `/k${number}`, 201);
  await turn();
  audit.note(null, SENDER, "GET", "/k", 401);
  await turn();
  // One complaint a second.
  assert.deepEqual([complaints.length, complaints[0]?.lost], [1, 3]);
  assert.match(complaints[0].reason, /no room.*ENOSPC/);
  symlinkSync(path.join(folder, "room"), path.join(folder, "next"));
  renameSync(path.join(folder, "next"), file);
  audit.reopen();
  audit.note("app", SENDER, "DELETE", "/k0", 200);
  audit.close();
  const [missing, line, end] = readFileSync(file, "utf8").split("\n");
  assert.equal(JSON.parse(missing).lost, 4);
  assert.equal(JSON.parse(line).path, "/k0");
  assert.equal(end, "");
});

test("audit: of what a pipe takes a part of, as many lines are told lost as did not come", async () => {
  const file = path.join(folder, "pipe");
  execFileSync("mkfifo", [file]);
  const reader = openSync(file, constants.O_RDONLY | constants.O_NONBLOCK);
  const room = Buffer.alloc(1024 * 1024);
  const { audit, complaints } = open(file);
  let text = "";
  let notes = 0;
  const note = async (count: number): Promise<void> => {
    for (let number = 0; number < count; number++)
      audit.note("app", SENDER, "PUT", `/key/${notes++}/${"x".repeat(number % 50)}`, 201);
    await turn();
  };
  const take = (): void => {
    text += room.toString("utf8", 0, readSync(reader, room, 0, room.length, null));
  };
  // More than a pipe holds, more often than it is emptied.
  for (let round = 0; round < 3; round++) {
    await note(2_000);
    await note(10);
    take();
  }
  await note(1);
  take();
  audit.close();
  closeSync(reader);
  let came = 0;
  let lost = 0;
  let torn = 0;
  for (const line of text.split("\n").filter((one) => one !== ""))
    try {
      const fields = JSON.parse(line);
      if (fields.lost === undefined) came++;
      else lost += fields.lost;
    } catch {
      torn++;
    }
  assert.ok(complaints.length > 0 && torn <= 3, `${complaints.length} complaints, ${torn} torn lines`);
  assert.deepEqual([came + lost, lost > 1_000], [notes, true], `${came} came, ${lost} were told lost`);
});
