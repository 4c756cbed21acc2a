/** Clients with large values and keys of their own: by HTTP, and by S3 with uploads in parts. */
import { setTimeout as sleep } from "node:timers/promises";
import {
  AbortMultipartUploadCommand,
  CompleteMultipartUploadCommand,
  CreateBucketCommand,
  CreateMultipartUploadCommand,
  DeleteObjectCommand,
  GetObjectCommand,
  ListObjectsV2Command,
  PutObjectCommand,
  S3Client,
  UploadPartCommand,
} from "@aws-sdk/client-s3";
import type { Random } from "../random.ts";
import { type Doors, LARGE_MS_MAX, type Node } from "./doors.ts";
import { Register } from "./register.ts";
import { nameOf, valueNamed } from "./values.ts";

const MIB = 2 ** 20;
const LARGE_KEYS = 5;
const LARGE_BYTES_MAX = 6 * MIB;
const LARGE_THINK_MS_MAX = 3000;
const OBJECTS = 30;
const OBJECT_BYTES_MAX = 200_000;
const OBJECT_THINK_MS_MAX = 800;
const PART_BYTES = 5 * MIB;

export class LargeClient {
  readonly prefix: string;
  private readonly doors: Doors;
  private readonly random: Random;
  private readonly wrong: (what: string) => void;
  private readonly registers: Register[] = Array.from({ length: LARGE_KEYS }, () => new Register());
  private written = 0;

  constructor(number: number, doors: Doors, random: Random, wrong: (what: string) => void) {
    this.prefix = `large/${number}/`;
    this.doors = doors;
    this.random = random;
    this.wrong = wrong;
  }

  async run(over: () => boolean): Promise<void> {
    while (!over()) {
      const index = this.random.below(LARGE_KEYS);
      const what = this.random.below(10);
      if (what < 5) await this.put(index);
      else if (what < 9) await this.get(index);
      else await this.remove(index);
      await sleep(this.random.below(LARGE_THINK_MS_MAX));
    }
  }

  /** Reads everything at one node. False: it did not answer everything. */
  async check(node: Node): Promise<boolean> {
    for (let index = 0; index < LARGE_KEYS; index++) if (!(await this.get(index, node))) return false;
    return true;
  }

  private async put(index: number): Promise<void> {
    const value = valueNamed(`bytes-${MIB + this.random.below(LARGE_BYTES_MAX - MIB)}-${++this.written}`);
    const asked = { headers: { "Content-Type": value.type }, body: value.body, timeoutMs: LARGE_MS_MAX };
    await this.write("PUT", index, value.name, asked);
  }

  private remove(index: number): Promise<void> {
    return this.write("DELETE", index, null, {});
  }

  private async write(method: string, index: number, name: string | null, asked: object): Promise<void> {
    const key = this.prefix + index;
    const reply = await this.doors.ask(this.random, method, `/${key}`, asked);
    const register = this.registers[index];
    if ("failed" in reply) {
      if (reply.failed === "unknown") register.unknown(name, reply.sentMs);
    } else if (reply.status === 200 || reply.status === 201)
      register.acknowledged(name, reply.sentMs, reply.answeredMs);
    else this.wrong(`${method} ${key} is answered ${reply.status}: ${reply.body.subarray(0, 200)}`);
  }

  private async get(index: number, node?: Node): Promise<boolean> {
    const key = this.prefix + index;
    const where = node === undefined ? {} : { node };
    const reply = await this.doors.ask(this.random, "GET", `/${key}`, { timeoutMs: LARGE_MS_MAX, ...where });
    if ("failed" in reply) return false;
    if (reply.status !== 200 && reply.status !== 404)
      this.wrong(`GET ${key} is answered ${reply.status}: ${reply.body.subarray(0, 200)}`);
    else {
      const name = reply.status === 404 ? null : nameOf(reply.body);
      const what = this.registers[index].read(name, reply.sentMs, reply.answeredMs);
      if (what !== null) this.wrong(`${key}: ${what}`);
    }
    return true;
  }
}

export interface S3Access {
  accessKey: string;
  secretKey: string;
  /** Of each node, in their order. */
  ports: readonly number[];
}

/** S3's ways to say "not now", beside 5xx. */
const TROUBLE = new Set(["RequestTimeout", "TimeoutError", "AbortError", "ServiceUnavailable", "SlowDown"]);
const ABSENT = new Set(["NoSuchKey", "NotFound"]);
const BUCKET_THERE = new Set(["BucketAlreadyOwnedByYou", "BucketAlreadyExists"]);

export class ObjectClient {
  private readonly bucket: string;
  private readonly doors: Doors;
  private readonly clients: readonly S3Client[];
  private readonly random: Random;
  private readonly wrong: (what: string) => void;
  private readonly registers: Register[] = Array.from({ length: OBJECTS }, () => new Register());
  private written = 0;

  constructor(number: number, doors: Doors, access: S3Access, random: Random, wrong: (what: string) => void) {
    this.bucket = `bucket-${number}`;
    this.doors = doors;
    this.random = random;
    this.wrong = wrong;
    this.clients = access.ports.map(
      (port) =>
        new S3Client({
          endpoint: `http://127.0.0.1:${port}`,
          region: "us-east-1",
          forcePathStyle: true,
          credentials: { accessKeyId: access.accessKey, secretAccessKey: access.secretKey },
          maxAttempts: 1,
        }),
    );
  }

  async run(over: () => boolean): Promise<void> {
    const { bucket } = this;
    while (
      !over() &&
      (await this.at(this.doors.pick(this.random), (client, abortSignal) =>
        client.send(new CreateBucketCommand({ Bucket: bucket }), { abortSignal }),
      )) === null
    )
      await sleep(500);
    while (!over()) {
      const index = this.random.below(OBJECTS);
      const what = this.random.below(100);
      if (what < 40) await this.put(index);
      else if (what < 75) await this.get(index);
      else if (what < 83) await this.remove(index);
      else if (what < 95) await this.list();
      else await this.putInParts(index);
      await sleep(this.random.below(OBJECT_THINK_MS_MAX));
    }
  }

  /** Reads everything at one node. False: it did not answer everything. */
  async check(node: Node): Promise<boolean> {
    for (let index = 0; index < OBJECTS; index++) if (!(await this.get(index, node))) return false;
    return this.list(node);
  }

  close(): void {
    for (const client of this.clients) client.destroy();
  }

  private nameOf(index: number): { Bucket: string; Key: string } {
    return { Bucket: this.bucket, Key: `object-${String(index).padStart(3, "0")}` };
  }

  /** What S3 answers, "absent", or null: nobody knows what became of it. */
  private async at<Result>(
    node: Node,
    work: (client: S3Client, signal: AbortSignal) => Promise<Result>,
  ): Promise<Result | "absent" | null> {
    try {
      return await work(this.clients[node.number], AbortSignal.timeout(LARGE_MS_MAX));
    } catch (error) {
      const { name, code, $metadata } = error as {
        name: string;
        code?: string;
        $metadata?: { httpStatusCode?: number };
      };
      const status = $metadata?.httpStatusCode;
      if (ABSENT.has(name) || BUCKET_THERE.has(name)) return "absent";
      this.doors.count(node, `S3 ${code ?? name}`);
      if (status !== undefined && status <= 500 && !TROUBLE.has(name))
        this.wrong(`S3 in ${this.bucket} at node ${node.number} is answered ${status}: ${error}`);
      return null;
    }
  }

  private async write(
    index: number,
    name: string | null,
    work: (client: S3Client, signal: AbortSignal) => Promise<unknown>,
  ): Promise<void> {
    const sentMs = Date.now();
    const result = await this.at(this.doors.pick(this.random), work);
    if (result === null) this.registers[index].unknown(name, sentMs);
    else this.registers[index].acknowledged(name, sentMs, Date.now());
  }

  private async put(index: number): Promise<void> {
    const value = valueNamed(`bytes-${this.random.below(OBJECT_BYTES_MAX)}-${++this.written}`);
    const command = new PutObjectCommand({
      ...this.nameOf(index),
      Body: value.body,
      ContentType: value.type,
    });
    await this.write(index, value.name, (client, abortSignal) => client.send(command, { abortSignal }));
  }

  private async remove(index: number): Promise<void> {
    const command = new DeleteObjectCommand(this.nameOf(index));
    await this.write(index, null, (client, abortSignal) => client.send(command, { abortSignal }));
  }

  private async putInParts(index: number): Promise<void> {
    const value = valueNamed(`bytes-${PART_BYTES + this.random.below(PART_BYTES)}-${++this.written}`);
    const object = this.nameOf(index);
    await this.write(index, value.name, async (client, abortSignal) => {
      const { UploadId } = await client.send(new CreateMultipartUploadCommand(object), { abortSignal });
      const parts = [value.body.subarray(0, PART_BYTES), value.body.subarray(PART_BYTES)];
      try {
        const Parts = [];
        for (const [number, Body] of parts.entries()) {
          const part = { ...object, UploadId, PartNumber: number + 1, Body };
          const { ETag } = await client.send(new UploadPartCommand(part), { abortSignal });
          Parts.push({ ETag, PartNumber: number + 1 });
        }
        const whole = { ...object, UploadId, MultipartUpload: { Parts } };
        await client.send(new CompleteMultipartUploadCommand(whole), { abortSignal });
      } catch (error) {
        // What is not aborted would stay for seven days: any node takes it.
        await this.abort({ ...object, UploadId });
        throw error;
      }
    });
  }

  private async abort(upload: { Bucket: string; Key: string; UploadId: string | undefined }): Promise<void> {
    const abortSignal = AbortSignal.timeout(LARGE_MS_MAX);
    const client = this.clients[this.doors.pick(this.random).number];
    await client.send(new AbortMultipartUploadCommand(upload), { abortSignal }).catch(() => {});
  }

  private async get(index: number, node = this.doors.pick(this.random)): Promise<boolean> {
    const object = this.nameOf(index);
    const sentMs = Date.now();
    const body = await this.at(node, async (client, abortSignal) => {
      const { Body } = await client.send(new GetObjectCommand(object), { abortSignal });
      return Buffer.from((await Body?.transformToByteArray()) ?? []);
    });
    if (body === null) return false;
    const name = body === "absent" ? null : nameOf(body);
    const what = this.registers[index].read(name, sentMs, Date.now());
    if (what !== null) this.wrong(`S3 ${object.Bucket}/${object.Key}: ${what}`);
    return true;
  }

  /** Which there are; their values it does not see. */
  private async list(node = this.doors.pick(this.random)): Promise<boolean> {
    const command = new ListObjectsV2Command({ Bucket: this.bucket });
    const page = await this.at(node, (client, abortSignal) => client.send(command, { abortSignal }));
    if (page === null || page === "absent") return page !== null;
    const keys = (page.Contents ?? []).map(({ Key }) => Key ?? "");
    if (keys.some((key, index) => index > 0 && keys[index - 1] >= key))
      this.wrong(`S3 ${this.bucket}: a list out of order`);
    return true;
  }
}
