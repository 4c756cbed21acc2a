/**
 * Programs of others do their daily work against one node: rclone, s3cmd, restic, the AWS command line, boto3 and minio's client for Node.js.
 * One that is not here is left out, and says so. What they keep in files of their own is in a folder of this test.
 */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import fs from "node:fs";
import path from "node:path";
import { after, before, test } from "node:test";
import { Client } from "minio";
import { closeConnections } from "../rest/client.ts";
import { removeFolder, temporaryFolder } from "../rest/server.ts";
import { environmentOf, missing } from "./foreign.ts";
import { ACCESS_KEY, KEY, type S3Server, startS3 } from "./harness.ts";

/** Longest that a program may take for one command. */
const COMMAND_MS_MAX = 300_000;
const MIB = 2 ** 20;
const folder = temporaryFolder();
const files = path.join(folder, "files");
let server: S3Server;
before(async () => {
  server = await startS3();
  fs.mkdirSync(path.join(files, "sub folder"), { recursive: true });
  for (const [name, bytes] of [
    ["empty", 0],
    ["small", 11],
    ["sub folder/ü + %41", 70_000],
    ["large", 11 * MIB + 1],
  ] as const)
    fs.writeFileSync(path.join(files, name), randomBytes(bytes));
});
after(async () => {
  closeConnections();
  await server.dispose();
  removeFolder(folder);
});

/** Runs a program to its end; answers what it has written. */
function run(program: string, ...words: string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { env: environmentOf(folder), timeout: COMMAND_MS_MAX, maxBuffer: 64 * MIB };
    execFile(program, words, options, (error, stdout, stderr) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`${program} ${words.join(" ")}: ${error.message}\n${stdout}\n${stderr}`));
    });
  });
}

/** Two folders have the same files with the same bytes. */
function assertSame(a: string, b: string): void {
  const list = (of: string): string[] =>
    fs
      .readdirSync(of, { recursive: true })
      .map(String)
      .filter((name) => fs.statSync(path.join(of, name)).isFile())
      .sort();
  assert.deepEqual(list(a), list(b));
  for (const name of list(a))
    assert.ok(fs.readFileSync(path.join(a, name)).equals(fs.readFileSync(path.join(b, name))), name);
}

const endpoint = (): string => `http://127.0.0.1:${server.s3Port}`;

test("rclone: copy, check, sync by checksum, in parts, and back", {
  skip: missing(folder, "rclone", "version"),
}, async () => {
  const config = path.join(folder, "rclone.conf");
  fs.writeFileSync(
    config,
    `[node]\ntype = s3\nprovider = Other\naccess_key_id = ${ACCESS_KEY}\nsecret_access_key = ${KEY}\nendpoint = ${endpoint()}\n`,
  );
  const rclone = (...words: string[]) =>
    run("rclone", "--config", config, "--s3-upload-cutoff", "5M", "--s3-chunk-size", "5M", ...words);
  await rclone("copy", files, "node:rclone/there");
  await rclone("check", "--download", files, "node:rclone/there");
  const changed = path.join(files, "small");
  const before = fs.readFileSync(changed);
  fs.writeFileSync(changed, "another one");
  await rclone("sync", "--checksum", files, "node:rclone/there");
  fs.writeFileSync(changed, before);
  await assert.rejects(rclone("check", files, "node:rclone/there"), /1 differences found/);
  await rclone("sync", "--checksum", files, "node:rclone/there");
  await rclone("check", files, "node:rclone/there");
  await rclone("copy", "node:rclone/there", path.join(folder, "from rclone"));
  assertSame(files, path.join(folder, "from rclone"));
  await rclone("moveto", "node:rclone/there/large", "node:rclone/moved");
  assert.equal((await rclone("lsf", "-R", "--files-only", "node:rclone")).split("\n").length, 5);
  await rclone("purge", "node:rclone");
  assert.ok(!(await rclone("lsd", "node:")).includes("rclone"));
});

test("s3cmd: put, sync, in parts, get, copy, delete", {
  skip: missing(folder, "s3cmd", "--version"),
}, async () => {
  const config = path.join(folder, "s3cfg");
  const host = `127.0.0.1:${server.s3Port}`;
  fs.writeFileSync(
    config,
    `[default]\naccess_key = ${ACCESS_KEY}\nsecret_key = ${KEY}\nhost_base = ${host}\nhost_bucket = ${host}/%(bucket)\nuse_https = False\n`,
  );
  const s3cmd = (...words: string[]) => run("s3cmd", "-c", config, "--no-progress", ...words);
  await s3cmd("mb", "s3://s3cmd");
  await s3cmd("put", "--multipart-chunk-size-mb=5", path.join(files, "large"), "s3://s3cmd/large");
  await s3cmd("get", "s3://s3cmd/large", path.join(folder, "large of s3cmd"));
  assert.ok(
    fs.readFileSync(path.join(folder, "large of s3cmd")).equals(fs.readFileSync(path.join(files, "large"))),
  );
  await s3cmd("sync", "--multipart-chunk-size-mb=5", `${files}/`, "s3://s3cmd/sync/");
  await s3cmd("sync", "s3://s3cmd/sync/", `${path.join(folder, "from s3cmd")}/`);
  assertSame(files, path.join(folder, "from s3cmd"));
  await s3cmd("cp", "s3://s3cmd/large", "s3://s3cmd/copy");
  assert.match(await s3cmd("info", "s3://s3cmd/copy"), new RegExp(`File size: ${11 * MIB + 1}`));
  await s3cmd("del", "--recursive", "--force", "s3://s3cmd");
  await s3cmd("rb", "s3://s3cmd");
});

test("restic: init, backup, check of all data, restore, prune", {
  skip: missing(folder, "restic", "version"),
}, async () => {
  const restic = (...words: string[]) => run("restic", "-r", `s3:${endpoint()}/restic/backups`, ...words);
  await restic("init");
  await restic("backup", files);
  fs.appendFileSync(path.join(files, "large"), "more");
  await restic("backup", files);
  await restic("check", "--read-data");
  await restic("restore", "latest", "--target", path.join(folder, "from restic"));
  assertSame(files, path.join(folder, "from restic", files));
  await restic("forget", "--keep-last", "1", "--prune");
  await restic("check");
});

test("aws: cp in parts, sync, ls, presign, rm", { skip: missing(folder, "aws", "--version") }, async () => {
  const aws = (...words: string[]) => run("aws", "--endpoint-url", endpoint(), ...words);
  await aws("s3", "mb", "s3://awscli");
  await aws("s3", "sync", "--no-progress", files, "s3://awscli/sync");
  await aws("s3", "cp", "--no-progress", "s3://awscli/sync/large", "s3://awscli/copy");
  await aws("s3", "sync", "--no-progress", "s3://awscli/sync", path.join(folder, "from aws"));
  assertSame(files, path.join(folder, "from aws"));
  assert.equal((await aws("s3", "ls", "--recursive", "s3://awscli")).trim().split("\n").length, 5);
  await aws("s3", "rb", "--force", "s3://awscli");
});

const BOTO = `
import sys, urllib.request
import boto3
from botocore.config import Config
from boto3.s3.transfer import TransferConfig
s3 = boto3.client("s3", endpoint_url=sys.argv[1], config=Config(signature_version="s3v4"))
s3.create_bucket(Bucket="boto")
s3.upload_file(sys.argv[2], "boto", "large", Config=TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20))
s3.download_file("boto", "large", sys.argv[3])
assert s3.put_object(Bucket="boto", Key="a b", Body=b"hello", Metadata={"x": "y"})["ETag"] == '"5d41402abc4b2a76b9719d911017c592"'
assert s3.head_object(Bucket="boto", Key="a b")["Metadata"] == {"x": "y"}
url = s3.generate_presigned_url("get_object", Params={"Bucket": "boto", "Key": "a b", "ResponseContentType": "text/x"})
with urllib.request.urlopen(url) as answer: assert (answer.read(), answer.headers["content-type"]) == (b"hello", "text/x")
pages = s3.get_paginator("list_objects_v2").paginate(Bucket="boto", PaginationConfig={"PageSize": 1})
assert [o["Key"] for page in pages for o in page["Contents"]] == ["a b", "large"]
assert len(s3.delete_objects(Bucket="boto", Delete={"Objects": [{"Key": "a b"}, {"Key": "large"}]})["Deleted"]) == 2
s3.delete_bucket(Bucket="boto")
`;

test("boto3: files in parts, metadata, presigned URLs, pages", {
  skip: missing(folder, "python3", "-c", "import boto3"),
}, async () => {
  const [large, copy] = [path.join(files, "large"), path.join(folder, "large of boto3")];
  await run("python3", "-c", BOTO, endpoint(), large, copy);
  assert.ok(fs.readFileSync(copy).equals(fs.readFileSync(large)));
});

test("minio: streams, presigned URLs, lists, removes", async () => {
  const { s3Port: port } = server;
  const minio = new Client({
    endPoint: "127.0.0.1",
    port,
    useSSL: false,
    accessKey: ACCESS_KEY,
    secretKey: KEY,
  });
  await minio.makeBucket("minio");
  const large = path.join(files, "large");
  await minio.fPutObject("minio", "a/large", large, { "x-amz-meta-k": "v" });
  const { size, metaData } = await minio.statObject("minio", "a/large");
  assert.deepEqual([size, metaData.k], [fs.statSync(large).size, "v"]);
  await minio.fGetObject("minio", "a/large", path.join(folder, "large of minio"));
  assert.ok(fs.readFileSync(path.join(folder, "large of minio")).equals(fs.readFileSync(large)));
  const put = await fetch(await minio.presignedPutObject("minio", "by url", 60), {
    method: "PUT",
    body: "by url",
  });
  assert.equal(put.status, 200);
  assert.equal(await (await fetch(await minio.presignedGetObject("minio", "by url", 60))).text(), "by url");
  const names: string[] = [];
  for await (const { name } of minio.listObjectsV2("minio", "", true)) names.push(name);
  assert.deepEqual(names, ["a/large", "by url"]);
  await minio.removeObjects("minio", names);
  await minio.removeBucket("minio");
});
