import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import fs from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import path from "node:path";
import { after, describe, test } from "node:test";
import { parseArguments } from "../../src/cli/arguments.ts";
import type { Config } from "../../src/config/config.ts";
import { variableOf } from "../../src/config/flag.ts";
import { FLAGS } from "../../src/config/flags.ts";
import { VALUE_BYTES_MAX } from "../../src/util/limits.ts";
import { makeCertificates } from "../certificate.ts";

const scratch = fs.mkdtempSync(path.join(tmpdir(), "minivault-cli-"));
after(() => fs.rmSync(scratch, { recursive: true, force: true }));

function config(argv: string[], env: NodeJS.ProcessEnv = {}): Config {
  const parsed = parseArguments(argv, env);
  assert.equal(parsed.kind, "run", parsed.kind === "print" ? parsed.text : "");
  return (parsed as { config: Config }).config;
}

/** The one line of a refusal, without program name and closing hint. */
function refusal(argv: string[], env: NodeJS.ProcessEnv = {}): string {
  const parsed = parseArguments(argv, env);
  if (parsed.kind !== "print") throw new Error(`accepted: ${argv.join(" ")}`);
  assert.equal(parsed.status, 2);
  assert.match(parsed.text, /^minivault: [^\p{Cc}]+; minivault -help lists the flags$/u);
  return parsed.text.slice("minivault: ".length, -"; minivault -help lists the flags".length);
}

function file(name: string, text: string): string {
  const full = path.join(scratch, name);
  fs.writeFileSync(full, text, { mode: 0o600 });
  return full;
}

describe("arguments: defaults and forms", () => {
  test("nothing given", () => {
    const { warnings, ...rest } = config([]);
    assert.deepEqual(rest, {
      mode: "worker",
      port: 3000,
      host: "0.0.0.0",
      publicUrl: null,
      masters: [],
      registry: null,
      volumes: [],
      dataDirectory: path.resolve("data"),
      removeAfterMs: 600_000,
      peerAddress: null,
      region: "default",
      replicas: 3,
      isReplicasGiven: false,
      partitions: null,
      s3Port: null,
      consistency: "quorum",
      compat: "none",
      sync: "always",
      historyMs: 3_600_000,
      threads: Math.min(64, Math.max(1, availableParallelism() - 1)),
      fronts: 1,
      frontPort: null,
      maxValueBytes: 2 ** 30,
      auth: null,
      metrics: "on",
      audit: null,
      clusterKeys: [],
      allowInvite: false,
      cors: [],
      tls: null,
      tlsCa: null,
      files: { auth: null, tokens: null, clusterKey: null, tlsCa: null },
    });
    assert.equal(warnings.length, 1);
  });

  for (const words of [["-port", "81"], ["-port=81"], ["--port", "81"], ["--port=81"]]) {
    test(words.join(" "), () => assert.equal(config(words).port, 81));
  }

  test("all flags at once, in both styles", () => {
    const key = file("key", "a-key-from-a-file\n");
    const clusterKeys = file("cluster-keys", "the-cluster's-own-key\n\n  the-one-before-it\n");
    const parsed = config([
      ..."-mode master -port=0 --host ::1 --public-url=https://kv.example.org:8443/".split(" "),
      ..."-master 10.0.0.1:3000,http://m2:3000 -volumes=a:1,b:2 -registry etcd://e1,e2:2380/mv/eu --data /tmp/x/../y -region eu-west.1".split(
        " ",
      ),
      ..."-replicas 7 -partitions 65536 -remove-after 90s -consistency one -sync=os -history 2h --threads 64".split(
        " ",
      ),
      ..."-max-value 1.5GiB -auth-mode writes -compat mkv -s3-port 9000".split(" "),
      "-auth-file",
      key,
      "-allow-invite",
      "-cluster-key-file",
      clusterKeys,
    ]);
    assert.deepEqual(parsed, {
      mode: "master",
      port: 0,
      host: "::1",
      publicUrl: "https://kv.example.org:8443",
      masters: ["http://10.0.0.1:3000", "http://m2:3000"],
      registry: { endpoints: ["http://e1:2379", "http://e2:2380"], prefix: "mv/eu", user: null },
      volumes: ["http://a:1", "http://b:2"],
      dataDirectory: "/tmp/y",
      removeAfterMs: 90_000,
      peerAddress: null,
      region: "eu-west.1",
      replicas: 7,
      isReplicasGiven: true,
      partitions: 65_536,
      consistency: "one",
      s3Port: 9000,
      compat: "mkv",
      sync: "os",
      historyMs: 7_200_000,
      threads: 64,
      fronts: 1,
      frontPort: null,
      maxValueBytes: 1.5 * 2 ** 30,
      auth: { key: "a-key-from-a-file", mode: "writes", tokens: null },
      metrics: "on",
      audit: null,
      clusterKeys: ["the-cluster's-own-key", "the-one-before-it"],
      allowInvite: true,
      cors: [],
      tls: null,
      tlsCa: null,
      files: { auth: key, tokens: null, clusterKey: clusterKeys, tlsCa: null },
      warnings: [],
    });
  });

  test("the cluster's key: the clients' where it has none of its own; one line or two, and long enough", () => {
    assert.deepEqual(config([]).clusterKeys, []);
    assert.deepEqual(config(["-auth", "k".repeat(16)]).clusterKeys, ["k".repeat(16)]);
    const keys = file("one-key", "a-key-of-the-cluster\n");
    const parsed = config(["-cluster-key-file", keys]);
    assert.deepEqual([parsed.auth, parsed.clusterKeys], [null, ["a-key-of-the-cluster"]]);
    const key = "k".repeat(16);
    for (const [text, reason] of [
      ["", "it has 0 lines"],
      ["\n\n", "it has 0 lines"],
      [`${key}\n${key}\n${key}\n`, "it has 3 lines"],
      ["k".repeat(15), "fewer than 16 characters"],
      [`${key}\nshort`, "fewer than 16 characters"],
      [`${key} and more`, "visible ASCII"],
    ]) {
      const printed = parseArguments(["-cluster-key-file", file("bad-keys", text)], {});
      assert.ok(printed.kind === "print" && printed.status === 2);
      assert.ok(printed.text.includes("-cluster-key-file: ") && printed.text.includes(reason), printed.text);
      assert.ok(!printed.text.includes("kkkk"), "what is in the file is not shown");
    }
  });

  test("certificates: both files or none; with them, nodes without a scheme are reached by https", () => {
    const tls = ["-tls-cert", "c.pem", "-tls-key", "k.pem"];
    assert.deepEqual(config(tls).tls, { certificate: "c.pem", key: "k.pem", ca: null });
    const urls = config([...tls, "-public-url", "n:1", "-volumes", "a:1,http://b:2", "-master", "m"]);
    assert.deepEqual(
      [urls.publicUrl, urls.volumes, urls.masters],
      ["https://n:1", ["https://a:1", "http://b:2"], ["https://m"]],
    );
    assert.equal(
      refusal(["-tls-cert", "c.pem"]),
      "-tls-cert and -tls-key (or their variables): give both or none",
    );
    assert.equal(
      refusal(["-tls-key", "k.pem"]),
      "-tls-cert and -tls-key (or their variables): give both or none",
    );
    const nothing = file("no-certificate.pem", "hello");
    assert.equal(refusal(["-tls-ca", nothing]), `-tls-ca: ${nothing}: it holds no certificate in PEM`);
    const { authority, authorityFile } = makeCertificates(path.dirname(nothing));
    const trusting = config(["-tls-ca", authorityFile, "-volumes", "a:1"]);
    assert.deepEqual([trusting.tlsCa, trusting.tls, trusting.volumes], [authority, null, ["https://a:1"]]);
  });

  test("the last of a repeated flag counts, as scripts that put defaults first rely on", () => {
    assert.equal(config(["-port", "1", "--port=2"]).port, 2);
  });

  test("a value may hold = and begin with a dash", () => {
    assert.equal(config(["-auth", "a=b==0123456789abc"]).auth?.key, "a=b==0123456789abc");
    assert.equal(config(["-auth=-x-0123456789abcd"]).auth?.key, "-x-0123456789abcd");
    assert.equal(config(["-auth", "-x0123456789abcdef"]).auth?.key, "-x0123456789abcdef");
  });

  test("arguments and environment are not changed, and process.env is not read", () => {
    const argv = Object.freeze(["-port", "5"]) as string[];
    const env = Object.freeze({ MINIVAULT_REGION: "eu" });
    process.env.MINIVAULT_REPLICAS = "7";
    try {
      const parsed = config(argv, env);
      assert.deepEqual([parsed.port, parsed.region, parsed.replicas], [5, "eu", 3]);
    } finally {
      delete process.env.MINIVAULT_REPLICAS;
    }
  });
});

describe("arguments: environment", () => {
  test("every flag has its variable", () => {
    const env = {
      MINIVAULT_MODE: "master",
      MINIVAULT_PORT: "1",
      MINIVAULT_S3_PORT: "9000",
      MINIVAULT_HOST: "127.0.0.1",
      MINIVAULT_PUBLIC_URL: "http://n1:3000",
      MINIVAULT_MASTER: "m:1",
      MINIVAULT_VOLUMES: "v:1",
      MINIVAULT_DATA: "/d",
      MINIVAULT_REMOVE_AFTER: "0",
      MINIVAULT_REGISTRY: "etcds://mv:p%40ss@[::1]:2379/one/",
      MINIVAULT_PEER_ADDRESS: "127.0.0.2",
      MINIVAULT_REGION: "us",
      MINIVAULT_ALLOW_INVITE: "true",
      MINIVAULT_REPLICAS: "1",
      MINIVAULT_PARTITIONS: "2048",
      MINIVAULT_CONSISTENCY: "one",
      MINIVAULT_COMPAT: "mkv",
      MINIVAULT_SYNC: "os",
      MINIVAULT_HISTORY: "2h",
      MINIVAULT_THREADS: "2",
      MINIVAULT_FRONTS: "3",
      MINIVAULT_FRONT_PORT: "5001",
      MINIVAULT_MAX_VALUE: "100MB",
      MINIVAULT_AUTH: "a-key-from-the-environment",
      MINIVAULT_AUTH_MODE: "writes",
      MINIVAULT_CORS: "https://a",
      MINIVAULT_AUDIT: "/a.log",
      MINIVAULT_METRICS: "open",
      MINIVAULT_TLS_CERT: "/c.pem",
      MINIVAULT_TLS_KEY: "/k.pem",
      MINIVAULT_LOG: "debug",
    };
    assert.deepEqual(config([], env), {
      mode: "master",
      port: 1,
      host: "127.0.0.1",
      publicUrl: "http://n1:3000",
      masters: ["https://m:1"],
      registry: { endpoints: ["https://[::1]:2379"], prefix: "one", user: { name: "mv", password: "p@ss" } },
      volumes: ["https://v:1"],
      dataDirectory: "/d",
      removeAfterMs: 0,
      peerAddress: "127.0.0.2",
      region: "us",
      replicas: 1,
      isReplicasGiven: true,
      partitions: 2048,
      consistency: "one",
      s3Port: 9000,
      compat: "mkv",
      sync: "os",
      historyMs: 7_200_000,
      threads: 2,
      fronts: 3,
      frontPort: 5001,
      maxValueBytes: 1e8,
      auth: { key: "a-key-from-the-environment", mode: "writes", tokens: null },
      metrics: "open",
      audit: "/a.log",
      clusterKeys: ["a-key-from-the-environment"],
      allowInvite: true,
      cors: ["https://a"],
      tls: { certificate: "/c.pem", key: "/k.pem", ca: null },
      tlsCa: null,
      files: { auth: null, tokens: null, clusterKey: null, tlsCa: null },
      warnings: [],
    });
    const files = ["AUTH_FILE", "TOKENS", "CLUSTER_KEY_FILE", "TLS_CA"].map((name) => `MINIVAULT_${name}`);
    const known = new Set([...Object.keys(env), ...files]);
    for (const flag of FLAGS) assert.ok(known.has(variableOf(flag.name)), `${flag.name} is tested here`);
  });

  test("the flag wins, also over a bad variable", () => {
    assert.equal(config(["-port", "1"], { MINIVAULT_PORT: "2" }).port, 1);
    assert.equal(config(["-port", "1"], { MINIVAULT_PORT: "x" }).port, 1);
    assert.equal(
      config(["-port", "3000"], { MINIVAULT_PORT: "2" }).port,
      3000,
      "also with the default's value",
    );
  });

  test("a bad variable is named", () => {
    assert.equal(
      refusal([], { MINIVAULT_MAX_VALUE: "big" }),
      'MINIVAULT_MAX_VALUE: "big" is not a size such as 1GiB, 512MiB or 100MB',
    );
    assert.match(
      refusal([], { MINIVAULT_LOG: "loud" }),
      /^MINIVAULT_LOG: "loud" is not "debug" or "info" or/,
    );
  });

  test("an empty variable is an unset one, but not where it would open the store", () => {
    assert.equal(config([], { MINIVAULT_PORT: "", MINIVAULT_MASTER: "", MINIVAULT_LOG: "" }).port, 3000);
    assert.equal(refusal([], { MINIVAULT_AUTH: "" }), "MINIVAULT_AUTH: the key is empty");
    assert.equal(refusal([], { MINIVAULT_AUTH_FILE: "" }), "MINIVAULT_AUTH_FILE: it is empty");
  });

  test("an unknown variable gets a warning", () => {
    const { warnings } = config(["-host", "127.0.0.1"], {
      MINIVAULT_PROT: "1",
      OTHER: "2",
      minivault_x: "3",
    });
    assert.deepEqual(warnings, ["the variable MINIVAULT_PROT means nothing to minivault"]);
  });
});

describe("arguments: refusals", () => {
  const table: [string[], string][] = [
    [["-prot", "3000"], 'unknown flag "-prot", did you mean -port?'],
    [["--prot=3000"], 'unknown flag "-prot", did you mean -port?'],
    [["-maxvalue", "1"], 'unknown flag "-maxvalue", did you mean -max-value?'],
    [["-max_value", "1"], 'unknown flag "-max_value", did you mean -max-value?'],
    [["-Port", "1"], 'unknown flag "-Port", did you mean -port?'],
    [["-dir", "x"], 'unknown flag "-dir"'],
    [["-regoin", "eu"], 'unknown flag "-regoin", did you mean -region?'],
    [["-consistancy=one"], 'unknown flag "-consistancy", did you mean -consistency?'],
    [["--verison"], 'unknown flag "-verison", did you mean -version?'],
    [["-xyzzy"], 'unknown flag "-xyzzy"'],
    [["-p", "1"], 'unknown flag "-p"'],
    [["-__proto__", "1"], 'unknown flag "-__proto__"'],
    [["-a\nb"], 'unknown flag "-a b"'],
    [["./data"], 'unexpected "./data": a data directory is given as -data ./data'],
    [["-port", "1", "2"], 'unexpected "2": a data directory is given as -data 2'],
    [["-"], 'unexpected "-"'],
    [["--"], 'unexpected "--"'],
    [["-=1"], 'unexpected "-=1"'],
    [["---port", "1"], 'unexpected "---port"'],
    [[""], 'unexpected ""'],
    [["-port"], "-port needs a value"],
    [["-data", "-port", "3000"], "-data needs a value"],
    [["-data", "--port=3000"], "-data needs a value"],
    [["-data="], "-data: it is empty"],
    [["-host", " "], "-host: it is empty"],
    [["-host", "[]"], "-host: it is empty"],
    [["-host", "[127.0.0.1]"], '-host: "[127.0.0.1]": only an IPv6 address stands in brackets'],
    [["-host", "[::1"], '-host: "[::1" is not an address or a name; a port is given by -port'],
    [["-host", "::1]"], '-host: "::1]" is not an address or a name; a port is given by -port'],
    [["-host", "[::1]:80"], '-host: "[::1]:80" is not an address or a name; a port is given by -port'],
    [
      ["-host", "127.0.0.1:80"],
      '-host: "127.0.0.1:80" is not an address or a name; a port is given by -port',
    ],
    [["-host", "http://a"], '-host: "http://a" is not an address or a name; a port is given by -port'],
    [["-peer-address", "[a]"], '-peer-address: "[a]": only an IPv6 address stands in brackets'],
    ...[
      "a.example",
      "https://a.example/",
      "https://u@a",
      "null",
      "https://a,,https://b",
      "https://a b",
      "://a",
    ].map((text): [string[], string] => [
      ["-cors", text],
      `-cors: "${text.includes(",,") ? "" : text}" is not an origin such as https://app.example or http://localhost:5173`,
    ]),
    [["-cors", "*,https://a"], '-cors: "*" stands alone'],
    [["-mode", "servant"], '-mode: "servant" is not "worker" or "master"'],
    [["-mode", "Worker"], '-mode: "Worker" is not "worker" or "master"'],
    [["-sync", "never"], '-sync: "never" is not "always" or "os"'],
    [["-consistency", "all"], '-consistency: "all" is not "quorum" or "one"'],
    [["-auth", "k".repeat(16), "-auth-mode", "reads"], '-auth-mode: "reads" is not "all" or "writes"'],
    [["-auth-mode", "writes"], "-auth-mode needs a key: MINIVAULT_AUTH, -auth-file or -auth; or -tokens"],
    [["-allow-invite=yes"], '-allow-invite: "yes" is not "true" or "false"'],
    [["-auth", ""], "-auth: the key is empty"],
    [["-auth", "two words"], "-auth: the key has other characters than visible ASCII without blanks"],
    [["-auth", "schlüssel"], "-auth: the key has other characters than visible ASCII without blanks"],
    [
      ["-auth", "k".repeat(15)],
      "-auth: the key has fewer than 16 characters, and could be guessed: openssl rand -hex 32 makes one",
    ],
    [
      ["-host", "127.0.0.1", "-auth", "k".repeat(7)],
      "-auth: the key has fewer than 16 characters, and could be guessed: openssl rand -hex 32 makes one",
    ],
    [["-auth", "k".repeat(1025)], "-auth: the key is longer than 1024 bytes"],
    [
      ["-auth", "k".repeat(16), "-auth-file", "b"],
      "-auth and -auth-file (or their variables): give only one of them",
    ],
    ...["-1", "65536", "", "x", "1.5", "1e3", "0x10", " 1", "+1", "99999999999999999999", "١"].map(
      (text): [string[], string] => [
        ["-port", text],
        `-port: "${text}" is not a whole number from 0 to 65535`,
      ],
    ),
    ...["0", "10", "-3"].map((text): [string[], string] => [
      ["-replicas", text],
      `-replicas: "${text}" is not a whole number from 1 to 7`,
    ]),
    ...["0", "512", "1025", "131072", "4e3", "-1024"].map((text): [string[], string] => [
      ["-partitions", text],
      `-partitions: "${text}" is not a power of two from 1024 to 65536`,
    ]),
    ...["10", "m", "-1s", "1d", "1.5m"].map((text): [string[], string] => [
      ["-remove-after", text],
      `-remove-after: "${text}" is not a time such as 30s, 10m or 2h`,
    ]),
    ...["0", "65"].map((text): [string[], string] => [
      ["-threads", text],
      `-threads: "${text}" is not a whole number from 1 to 64`,
    ]),
    ...["", "1TiB", "MiB", "1 MiB x", "-1", "1,5GiB", "0x10", "1e9"].map((text): [string[], string] => [
      ["-max-value", text],
      `-max-value: "${text}" is not a size such as 1GiB, 512MiB or 100MB`,
    ]),
    ...["0", "0.5", "65GiB", "999999999999999999999"].map((text): [string[], string] => [
      ["-max-value", text],
      `-max-value: "${text}" is not from 1 byte to 64GiB`,
    ]),
    ...["", "http://", "::", "http://a:99999", "a b"].map((text): [string[], string] => [
      ["-public-url", text],
      `-public-url: "${text}" is not a URL such as http://10.0.0.1:3000`,
    ]),
    [["-public-url", "ftp://a"], '-public-url: "ftp://a" is not an http or https URL'],
    ...["http://a/b", "http://a?x", "http://a#x", "http://u@a", "http://:p@a", "a:1/x"].map(
      (text): [string[], string] => [
        ["-public-url", text],
        `-public-url: "${text}" has more than scheme, host and port`,
      ],
    ),
    [["-master", "a:1,,http://b/x"], '-master: "http://b/x" has more than scheme, host and port'],
    [["-master", ","], "-master: it names no URL"],
    ...["", "a b", "-eu", "é", "a/b", "x".repeat(64)].map((text): [string[], string] => [
      ["-region", text],
      `-region: "${text}" is not a name of up to 63 letters, digits, ".", "_" or "-"`,
    ]),
  ];
  for (const [argv, message] of table) {
    test(JSON.stringify(argv).slice(0, 80), () => assert.equal(refusal(argv), message));
  }
});

describe("arguments: values", () => {
  test("sizes", () => {
    const sizes: [string, number][] = [
      ["123", 123],
      ["1", 1],
      ["1B", 1],
      ["1KiB", 1024],
      ["2k", 2048],
      ["100MB", 1e8],
      ["512MiB", 2 ** 29],
      ["512 mib", 2 ** 29],
      ["0.5GiB", 2 ** 29],
      ["64GiB", VALUE_BYTES_MAX],
    ];
    for (const [text, bytes] of sizes) assert.equal(config(["-max-value", text]).maxValueBytes, bytes, text);
  });

  test("URLs: a scheme is added, what is given twice counts once", () => {
    assert.deepEqual(config(["-volumes", " a:1 , http://a:1,https://b ,[::1]:3000"]).volumes, [
      "http://a:1",
      "https://b",
      "http://[::1]:3000",
    ]);
  });

  test("the key's file: white space around is not part of the key", () => {
    assert.deepEqual(config(["-auth-file", file("k1", "  s3cret-0123456789\r\n")]).auth, {
      key: "s3cret-0123456789",
      mode: "all",
      tokens: null,
    });
  });

  test("the key's file: what cannot be used, without a word of what is in it", () => {
    const empty = file("k2", " \n");
    assert.equal(refusal(["-auth-file", empty]), `-auth-file: ${empty}: the key is empty`);
    const lines = file("k3", "one\nsecret two\n");
    assert.ok(!refusal(["-auth-file", lines]).includes("secret"));
    assert.match(
      refusal(["-auth-file", path.join(scratch, "none")]),
      /^-auth-file: .*none: it is not there \(ENOENT\)$/,
    );
    assert.match(refusal(["-auth-file", scratch]), /it is a folder, and not a file$/);
    const sparse = file("sparse", "s3cret-0123456789");
    fs.truncateSync(sparse, 2 ** 40);
    for (const flag of ["-auth-file", "-tokens"])
      assert.match(refusal([flag, sparse]), new RegExp(`^${flag}: .*sparse: it is larger than 16 MiB$`));
  });

  test("a file of authorities that has no end, or is huge, is read no further than such files are", () => {
    const huge = file("ca", "");
    fs.truncateSync(huge, 2 ** 40);
    assert.equal(refusal(["-tls-ca", huge]), `-tls-ca: ${huge}: it is larger than 16 MiB`);
    const endless = "/dev/zero";
    if (fs.existsSync(endless))
      assert.equal(refusal(["-tls-ca", endless]), `-tls-ca: ${endless}: it is a device, and not a file`);
  });

  test("a key or tokens that others can read or change are none; a certificate's key gets a warning", {
    skip: process.getuid === undefined,
  }, () => {
    const key = file("k5", "a-key-from-a-file");
    const tokens = file("t5", "# nobody yet\n");
    const tls = ["-host", "127.0.0.1", "-tls-cert", "c.pem", "-tls-key", key];
    const words = (flag: string, secret: string) => ["-host", "127.0.0.1", flag, secret];
    const of = (flag: string): string => (flag === "-tokens" ? tokens : key);
    for (const mode of [0o600, 0o640, 0o400]) {
      fs.chmodSync(key, mode);
      fs.chmodSync(tokens, mode);
      assert.deepEqual(config(tls).warnings, []);
      for (const flag of ["-auth-file", "-tokens"])
        assert.deepEqual(config(words(flag, of(flag))).warnings, []);
    }
    for (const [mode, verb] of [
      [0o644, "read"],
      [0o660, "change"],
      [0o602, "change"],
    ] as const) {
      fs.chmodSync(key, mode);
      fs.chmodSync(tokens, mode);
      assert.deepEqual(config(tls).warnings, [
        `other users of this machine may ${verb} the secret in ${key}: chmod 600 ${key}`,
      ]);
      for (const flag of ["-auth-file", "-tokens"])
        assert.equal(
          refusal(words(flag, of(flag))),
          `${flag}: ${of(flag)}: other users of this machine may ${verb} the secret in it: chmod 600 ${of(flag)}`,
        );
    }
  });

  test("tokens: what is wrong with the file is said by line, without what is in it; secrets for S3 are the user's alone", () => {
    const line = JSON.stringify({ name: "a", sha256: "0".repeat(64), prefix: ["a/"], allow: ["read"] });
    const good = config(["-tokens", file("t1", `${line}\n`)]);
    assert.deepEqual(
      [good.auth?.key, good.auth?.tokens?.length, good.files.tokens],
      [null, 1, path.join(scratch, "t1")],
    );
    const bad = file("t2", `\n${line}\n{"name":"geheim"`);
    assert.equal(refusal(["-tokens", bad]), `-tokens: ${bad}: line 3: it is no JSON`);
    assert.match(
      refusal(["-tokens", path.join(scratch, "none")]),
      /^-tokens: .*none: it is not there \(ENOENT\)$/,
    );
    const s3 = file("t3", line.replace("}", ',"accessKey":"MVAAAA","secretKey":"0123456789abcdef"}'));
    assert.equal(config(["-tokens", s3]).auth?.tokens?.[0].s3?.accessKey, "MVAAAA");
    fs.chmodSync(s3, 0o640);
    if (process.getuid !== undefined)
      assert.match(refusal(["-tokens", s3]), /secrets for S3, so only its user/);
    for (const words of [
      ["-mode", "master"],
      ["-master", "m:1"],
      ["-volumes", "v:1"],
    ])
      assert.match(refusal(["-tokens", path.join(scratch, "t1"), ...words]), /nodes of a cluster need a key/);
  });

  test("a key by flag wins over one by variable, whichever kind", () => {
    const key = file("k4", "a-key-from-a-file");
    assert.equal(
      config(["-auth-file", key], { MINIVAULT_AUTH: "a-key-of-the-environment" }).auth?.key,
      "a-key-from-a-file",
    );
    assert.equal(
      config(["-auth", "a-key-of-a-flag-0"], { MINIVAULT_AUTH_FILE: key }).auth?.key,
      "a-key-of-a-flag-0",
    );
    assert.match(refusal([], { MINIVAULT_AUTH: "k".repeat(16), MINIVAULT_AUTH_FILE: key }), /give only one/);
  });
});

describe("arguments: addresses and origins", () => {
  test("IPv6 in brackets is the address without", () => {
    for (const [text, host] of [
      ["[::1]", "::1"],
      ["::1", "::1"],
      ["[::]", "::"],
      [" [fe80::1%eth0] ", "fe80::1%eth0"],
      ["fe80::1%eth0", "fe80::1%eth0"],
      ["[::ffff:127.0.0.1]", "::ffff:127.0.0.1"],
      ["node-1.example", "node-1.example"],
    ]) {
      assert.equal(config(["-host", text]).host, host);
      assert.equal(config(["-peer-address", text]).peerAddress, host);
    }
  });

  test("origins are kept as browsers send them", () => {
    const text = "https://App.Example:443, http://localhost:5173,capacitor://localhost,http://[::1]:80";
    assert.deepEqual(config(["-cors", text]).cors, [
      ...["https://app.example", "http://localhost:5173", "capacitor://localhost", "http://[::1]"],
    ]);
    assert.deepEqual(config([], { MINIVAULT_CORS: "*" }).cors, ["*"]);
  });
});

describe("arguments: warnings", () => {
  test("no key on an address that others can reach", () => {
    for (const host of ["0.0.0.0", "::", "10.0.0.1", "127.example.org", "localhost.example.org"]) {
      const { warnings } = config(["-host", host, "-port", "81"]);
      assert.deepEqual(warnings, [
        `no key is set: everybody who can reach ${host === "::" ? "[::]" : host}:81 can read, write and delete; set MINIVAULT_AUTH or -tokens, or listen on -host 127.0.0.1`,
      ]);
    }
  });

  test("a short key on a loopback address", () => {
    const { auth, warnings } = config(["-host", "127.0.0.1", "-auth", "k".repeat(8)]);
    assert.equal(auth?.key, "k".repeat(8));
    assert.deepEqual(warnings, [
      "the key has fewer than 16 characters, and could be guessed: openssl rand -hex 32 makes one",
    ]);
  });

  test("none on loopback, none with a key", () => {
    for (const host of [
      "127.0.0.1",
      "127.8.9.1",
      "localhost",
      "LOCALHOST",
      "::1",
      "[::1]",
      "::ffff:127.0.0.1",
    ]) {
      assert.deepEqual(config(["-host", host]).warnings, []);
    }
    assert.deepEqual(config(["-auth", "k".repeat(16)]).warnings, []);
  });
});

describe("arguments: help and version", () => {
  test("help in every form, also beside a mistake", () => {
    for (const argv of [
      ["-help"],
      ["--help"],
      ["-h"],
      ["--help=true"],
      ["-prot", "1", "-help"],
      ["-port", "-help"],
    ]) {
      const parsed = parseArguments(argv, {});
      assert.ok(
        parsed.kind === "print" && parsed.status === 0 && parsed.text.startsWith("Usage: minivault [flags]"),
      );
    }
  });

  test("help names every flag with its default, the environment and the exit status, in lines that fit", () => {
    const parsed = parseArguments(["-help"], {});
    const text = parsed.kind === "print" ? parsed.text : "";
    for (const { name, value, preset, presetText } of FLAGS) {
      assert.ok(text.includes(`\n  -${name} ${value}`), name);
      if ((presetText ?? preset) !== undefined)
        assert.ok(text.replace(/\s+/g, " ").includes(`(default ${presetText ?? preset})`));
    }
    for (const heading of [
      "Listening:",
      "Storing:",
      "Cluster",
      "Access:",
      "Examples:",
      "Environment:",
      "Exit status:",
    ]) {
      assert.ok(text.includes(`\n${heading}`), heading);
    }
    for (const line of text.split("\n")) assert.ok(line.length <= 120, line);
    for (const command of ["verify", "inspect", "nodes", "drain"]) assert.ok(text.includes(command), command);
    assert.ok(!/ +\n/.test(text), "no trailing blanks");
  });

  test("the flags are these, and no other", () => {
    const names =
      "mode port s3-port host public-url master volumes registry remove-after data peer-address region replicas partitions consistency sync history threads fronts front-port max-value auth auth-file auth-mode tokens audit metrics cluster-key-file compat allow-invite cors tls-cert tls-key tls-ca";
    assert.deepEqual(FLAGS.map((flag) => flag.name).sort(), names.split(" ").sort());
  });

  test("version", () => {
    for (const argv of [["-version"], ["--version"], ["-version", "-port", "x"]]) {
      const parsed = parseArguments(argv, {});
      assert.equal(parsed.kind === "print" && parsed.status, 0);
      const expected = new RegExp(
        `^minivault \\S+ \\(commit \\S+, Node ${process.versions.node}, ${process.platform}-`,
      );
      assert.match(parsed.kind === "print" ? parsed.text : "", expected);
    }
  });
});

describe("arguments: the program", () => {
  const run = (argv: string[], env: NodeJS.ProcessEnv = {}) =>
    spawnSync(process.execPath, ["--import", "tsx", path.resolve(__dirname, "../../src/main.ts"), ...argv], {
      encoding: "utf8",
      env: { PATH: process.env.PATH, ...env },
      cwd: path.resolve(__dirname, "../.."),
    });

  test("a mistake is one line on standard error and status 2", () => {
    const { status, stdout, stderr } = run(["-prot", "1"]);
    assert.deepEqual(
      [status, stdout, stderr],
      [2, "", 'minivault: unknown flag "-prot", did you mean -port?; minivault -help lists the flags\n'],
    );
  });

  test("help is on standard output with status 0", () => {
    const { status, stdout, stderr } = run(["-help"]);
    assert.deepEqual([status, stderr], [0, ""]);
    assert.match(stdout, /^Usage: minivault/);
  });
});
