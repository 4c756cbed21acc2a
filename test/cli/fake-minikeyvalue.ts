/**
 * What minikeyvalue's master and volumes answer, by its source (server.go, lib.go at 451d248): lists in pages, redirects with Content-Md5,
 * values at the paths that keys have on volumes. With faults that a test asks for.
 */
import { createHash } from "node:crypto";
import http from "node:http";
import type { AddressInfo } from "node:net";

export interface FakeMiniKeyValue {
  readonly url: string;
  /** By key, with its slash. */
  readonly values: Map<string, Buffer>;
  /** GETs of values that a volume has answered. */
  readonly fetched: string[];
  /** Before a value is answered. */
  onValue: (key: string) => void;
  /** Listed, but no volume has them. */
  readonly lost: Set<string>;
  /** Other bytes than the master knows. */
  readonly wrong: Set<string>;
  /** Cut in the middle, so many times more. */
  readonly cut: Map<string, number>;
  close(): Promise<void>;
}

/** As key2path of lib.go. */
function volumePath(key: string): string {
  const hash = createHash("md5").update(key).digest();
  const folder = [hash[0], hash[1]].map((byte) => byte.toString(16).padStart(2, "0")).join("/");
  return `/${folder}/${Buffer.from(key).toString("base64")}`;
}

const listen = (server: http.Server): Promise<number> =>
  new Promise((resolve) => {
    server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
  });

/** Fewer than it is asked for, so that few keys are several pages. */
const PAGE_KEYS_MAX = 50;

function listText(keys: readonly string[], query: URLSearchParams): string {
  const limit = Number(query.get("limit") ?? 0);
  const start = Buffer.from(query.get("start") ?? "");
  const from = keys.filter((key) => Buffer.compare(Buffer.from(key), start) >= 0);
  const shown = from.slice(0, limit > 0 ? Math.min(limit, PAGE_KEYS_MAX) : PAGE_KEYS_MAX);
  return JSON.stringify({ next: from[shown.length] ?? "", keys: shown });
}

export async function startMiniKeyValue(): Promise<FakeMiniKeyValue> {
  const values = new Map<string, Buffer>();
  const byPath = new Map<string, string>();
  const fake = {
    ...{ url: "", values, fetched: [] as string[], onValue: (_key: string) => {} },
    ...{ lost: new Set<string>(), wrong: new Set<string>(), cut: new Map<string, number>() },
    close: async () => {
      for (const server of [master, volume]) {
        server.closeAllConnections();
        await new Promise((resolve) => server.close(resolve));
      }
    },
  };
  const volume = http.createServer((request, response) => {
    const key = byPath.get(decodeURIComponent(request.url ?? ""));
    const value = key === undefined ? undefined : values.get(key);
    if (key === undefined || value === undefined || fake.lost.has(key)) {
      response.writeHead(404, { "Content-Length": 0 }).end();
      return;
    }
    fake.fetched.push(key);
    const cuts = fake.cut.get(key) ?? 0;
    const bytes = fake.wrong.has(key) ? Buffer.concat([Buffer.from("x"), value.subarray(1)]) : value;
    response.writeHead(200, { "Content-Type": "application/octet-stream", "Content-Length": bytes.length });
    if (cuts === 0) response.end(bytes);
    else {
      fake.cut.set(key, cuts - 1);
      response.write(bytes.subarray(0, bytes.length / 2), () => request.socket.destroy());
    }
  });
  const volumePort = await listen(volume);
  const master = http.createServer((request, response) => {
    const [path, query] = (request.url ?? "").split("?");
    const key = decodeURIComponent(path);
    if (query !== undefined) {
      const keys = [...values.keys()]
        .filter((one) => one.startsWith(key))
        .sort((a, b) => Buffer.compare(Buffer.from(a), Buffer.from(b)));
      const isList = query.split("&")[0] === "list";
      response.writeHead(isList ? 200 : 403, { "Content-Type": "application/json" });
      response.end(isList ? listText(keys, new URLSearchParams(query)) : "");
      return;
    }
    fake.onValue(key);
    const value = values.get(key);
    if (value === undefined || fake.lost.has(key)) {
      response.writeHead(404, { "Content-Length": 0 }).end();
      return;
    }
    byPath.set(volumePath(key), key);
    response.writeHead(302, {
      ...{ "Content-Md5": createHash("md5").update(value).digest("hex"), "Content-Length": 0 },
      ...{ "Key-Balance": "balanced", Location: `http://127.0.0.1:${volumePort}${volumePath(key)}` },
    });
    response.end();
  });
  fake.url = `http://127.0.0.1:${await listen(master)}`;
  return fake;
}
