/**
 * Load on etcd by the fastest client that is there: a Go program on etcd's own clientv3, built when it is first needed (Debian: golang-go and
 * golang-etcd-server-dev); else wrk on its JSON gateway, which costs etcd a translation for each request and is named as such.
 */
import { spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import path from "node:path";
import { keyPath, type Operation, SPREAD_KEYS } from "./load.ts";
import { isInstalled } from "./machine.ts";
import { run, temporaryFolder } from "./processes.ts";

const GO_LIBRARIES = "/usr/share/gocode";

export interface Rate {
  perSecond: number;
  failures: number;
}

/** Answers per second; `connections` are spread over the ports. */
export interface EtcdLoad {
  readonly name: string;
  run(
    ports: readonly number[],
    operation: Operation,
    connections: number,
    seconds: number,
    bytes: number,
  ): Promise<Rate>;
}

export function etcdLoad(): EtcdLoad {
  const program = isInstalled("go") ? buildGo() : null;
  if (program === null) return { name: "wrk on its JSON gateway", run: runGateway };
  return {
    name: "clientv3 for Go",
    run: async (ports, operation, connections, seconds, bytes) => {
      const words = [ports.join(","), operation.toLowerCase(), connections, seconds, bytes].map(String);
      return JSON.parse(await run(program, words)) as Rate;
    },
  };
}

/** The program of Go, or null where it cannot be built; says why. */
function buildGo(): string | null {
  const program = path.join(temporaryFolder(), "etcd-load");
  const { status, stderr } = spawnSync(
    "go",
    ["build", "-o", program, path.join(__dirname, "etcd-client/main.go")],
    {
      encoding: "utf8",
      env: {
        ...process.env,
        GO111MODULE: "off",
        GOPATH: GO_LIBRARIES,
        GOCACHE: temporaryFolder(),
        GOFLAGS: "",
      },
    },
  );
  if (status === 0) return program;
  console.error(`etcd's client for Go cannot be built:\n${stderr}`);
  return null;
}

const runGateway: EtcdLoad["run"] = async (ports, operation, connections, seconds, bytes) => {
  const base64 = (text: string): string => Buffer.from(text).toString("base64");
  const script = path.join(temporaryFolder(), "etcd.lua");
  const value = base64("v".repeat(bytes));
  const bodies = Array.from({ length: SPREAD_KEYS }, (_, number) => {
    const key = base64(keyPath(number).slice(1));
    return JSON.stringify(operation === "PUT" ? { key, value } : { key });
  });
  const target = operation === "PUT" ? "/v3/kv/put" : "/v3/kv/range";
  writeFileSync(
    script,
    `local requests = {}
local next = 0
function init(args)
${bodies.map((body) => `  requests[#requests + 1] = wrk.format("POST", "${target}", { ["Content-Type"] = "application/json" }, '${body}')`).join("\n")}
end
function request()
  next = next % #requests + 1
  return requests[next]
end
function done(summary, latency, requests)
  local e = summary.errors
  io.write(string.format('\\n{"perSecond":%.1f,"failures":%d}\\n', (summary.requests - e.status) / summary.duration * 1e6,
    e.connect + e.read + e.write + e.status + e.timeout))
end
`,
  );
  const parts = await Promise.all(
    ports.map(async (port, number) => {
      const share = Math.floor(connections / ports.length) + (number < connections % ports.length ? 1 : 0);
      const words = [
        "-t1",
        `-c${share}`,
        `-d${Math.max(1, Math.round(seconds))}s`,
        "--timeout",
        "10s",
        "-s",
        script,
      ];
      const output = await run("wrk", [...words, `http://127.0.0.1:${port}/`]);
      const line = output.split("\n").find((text) => text.startsWith("{"));
      if (line === undefined) throw new Error(`wrk printed no result:\n${output}`);
      return JSON.parse(line) as Rate;
    }),
  );
  return {
    perSecond: parts.reduce((sum, part) => sum + part.perSecond, 0),
    failures: parts.reduce((sum, part) => sum + part.failures, 0),
  };
};
