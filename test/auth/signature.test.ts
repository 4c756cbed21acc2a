import assert from "node:assert/strict";
import { createHmac } from "node:crypto";
import { describe, test } from "node:test";
import { Receiver, readTold } from "../../src/auth/answer.ts";
import { KeyRing, SigningKey } from "../../src/auth/keys.ts";
import { REPLAY_WINDOW_REQUESTS, ReplayGuard } from "../../src/auth/replay.ts";
import {
  bodyDigest,
  bodyMatches,
  type Genuine,
  RequestSigner,
  RequestVerifier,
  SIGNATURE_AGE_MS,
  STREAMED_BODY,
  type Verdict,
} from "../../src/auth/signature.ts";
import { Random, randomSeed } from "../random.ts";

const URL = "http://10.0.0.2:3000";
const BODY = Buffer.from("a body");
const ELSEWHERE = "this is another node";

/** A signer and a verifier with clocks that the test moves; the signer knows the verifier already. */
function setUp(keys = ["key"]) {
  const clock = { signerMs: 1000, verifierMs: 50_000 };
  const ring = new KeyRing(keys);
  const signer = new RequestSigner(ring);
  const startVerifier = () =>
    new RequestVerifier(ring, {
      audience: (url) => (url === URL ? null : ELSEWHERE),
      steadyMs: () => clock.verifierMs,
    });
  const verifier = startVerifier();
  const receiver = new Receiver(URL, () => clock.signerMs);
  const learn = (of = verifier) => receiver.learn({ clock: of.clock, session: of.session, mac: "" });
  learn();
  return { clock, ring, signer, verifier, startVerifier, receiver, learn };
}

function passed(verdict: Verdict): Genuine {
  assert.equal(verdict.problem, null);
  assert.ok(verdict.genuine !== null);
  return verdict.genuine;
}

/** Refused, and like a stranger: the answer is not signed. */
function refusedUnsigned(verdict: Verdict, problem: RegExp, what = ""): void {
  assert.match(String(verdict.problem), problem, what);
  assert.equal(verdict.genuine, null, what);
}

describe("signature", () => {
  test("a signed request passes once, with its body only", () => {
    const { signer, verifier, receiver } = setUp();
    const { header } = signer.sign(receiver, "POST", "/_peer/batch?x=1", BODY);
    const genuine = passed(verifier.check("POST", "/_peer/batch?x=1", header));
    assert.equal(bodyMatches(genuine, BODY), true);
    assert.equal(bodyMatches(genuine, Buffer.from("b body")), false);
    assert.equal(bodyMatches(genuine, Buffer.alloc(0)), false);
    // A signed refusal of what was done could be shown to its sender in place of the answer.
    refusedUnsigned(verifier.check("POST", "/_peer/batch?x=1", header), /seen before/);
  });

  test("method, path, query, every field and the key count", () => {
    const { signer, verifier, receiver } = setUp();
    const { header } = signer.sign(receiver, "POST", "/_peer/batch?x=1", BODY);
    for (const [method, target] of [
      ["PUT", "/_peer/batch?x=1"],
      ["POST", "/_peer/batcH?x=1"],
      ["POST", "/_peer/batch?x=2"],
      ["POST", "/_peer/batch"],
      ["POST", "/_peer/batch?x=1&y"],
    ])
      refusedUnsigned(verifier.check(method, target, header), /does not hold/, target);
    const parts = header.split(" ");
    for (let index = 1; index < parts.length; index++) {
      const changed = [...parts];
      const first = changed[index][0];
      changed[index] = (first === "1" ? "2" : first === "h" ? "x" : "1") + changed[index].slice(1);
      const verdict = verifier.check("POST", "/_peer/batch?x=1", changed.join(" "));
      refusedUnsigned(verdict, /does not hold/, `${index}`);
    }
    const stranger = new RequestSigner(new KeyRing(["yek"])).sign(receiver, "POST", "/", BODY);
    refusedUnsigned(verifier.check("POST", "/", stranger.header), /does not hold/);
    // None of the above has used the nonce up.
    passed(verifier.check("POST", "/_peer/batch?x=1", header));
  });

  test("a request for another node is refused with a signature, and never passes", () => {
    const { clock, signer, verifier, receiver } = setUp();
    const other = new Receiver("http://10.0.0.3:3000", () => clock.signerMs);
    other.learn({ clock: verifier.clock, session: receiver.session ?? "", mac: "" });
    const { header } = signer.sign(other, "POST", "/", BODY);
    const verdict = verifier.check("POST", "/", header);
    assert.equal(verdict.problem, ELSEWHERE);
    assert.ok(verdict.genuine !== null);
    refusedUnsigned(verifier.check("POST", "/", header), /seen before/);
  });

  test("what is no signature at all is refused, and never throws", (t) => {
    const { signer, verifier, receiver } = setUp();
    const { header } = signer.sign(receiver, "GET", "/", BODY);
    const cases = [
      "",
      "Bearer key",
      "Minivault-HMAC-SHA256",
      header.slice(0, -1),
      `${header} x`,
      header.toLowerCase(),
    ];
    for (const text of [...cases, "x".repeat(100_000), header.replace(/ /g, "  ")])
      refusedUnsigned(verifier.check("GET", "/", text), /./, text.slice(0, 80));
    const random = new Random(randomSeed(t));
    for (let count = 0; count < 3000; count++) {
      const characters = [...header];
      const at = random.below(characters.length);
      characters[at] = String.fromCharCode(32 + random.below(95));
      const changed = characters.join("");
      if (changed !== header) refusedUnsigned(verifier.check("GET", "/", changed), /./, changed);
    }
    passed(verifier.check("GET", "/", header));
  });

  test("wall clocks do not matter: time is the receiver's own, since its start", () => {
    const { clock, signer, verifier, receiver } = setUp();
    const sign = () => signer.sign(receiver, "GET", "/", BODY).header;
    const early = sign();
    // An hour later, on both.
    clock.signerMs += 3_600_000;
    clock.verifierMs += 3_600_000;
    passed(verifier.check("GET", "/", sign()));
    const old = verifier.check("GET", "/", early);
    assert.match(String(old.problem), /signed at another time/);
    assert.ok(old.genuine !== null, "its sender learns by what clock to sign");
    for (const offMs of [-SIGNATURE_AGE_MS - 1, SIGNATURE_AGE_MS + 1]) {
      receiver.learn({ clock: verifier.clock + offMs, session: verifier.session, mac: "" });
      assert.match(String(verifier.check("GET", "/", sign()).problem), /another time/);
    }
    for (const offMs of [-SIGNATURE_AGE_MS, SIGNATURE_AGE_MS]) {
      receiver.learn({ clock: verifier.clock + offMs, session: verifier.session, mac: "" });
      passed(verifier.check("GET", "/", sign()));
    }
  });

  test("what was signed for one run of a node, or for none, does not pass in another", () => {
    const { signer, verifier, startVerifier, receiver, learn } = setUp();
    const { header } = signer.sign(receiver, "POST", "/", BODY);
    const anew = startVerifier();
    assert.notEqual(anew.session, verifier.session);
    const verdict = anew.check("POST", "/", header);
    assert.match(String(verdict.problem), /run of the node/);
    assert.ok(verdict.genuine !== null);
    const unmet = signer.sign(new Receiver(URL), "POST", "/", BODY);
    assert.match(String(verifier.check("POST", "/", unmet.header).problem), /run of the node/);
    learn(anew);
    passed(anew.check("POST", "/", signer.sign(receiver, "POST", "/", BODY).header));
  });

  test("a streamed body never counts as one that is at hand", () => {
    const { signer, verifier, receiver } = setUp();
    const { header } = signer.sign(receiver, "PUT", "/", STREAMED_BODY);
    const genuine = passed(verifier.check("PUT", "/", header));
    assert.equal(genuine.body, STREAMED_BODY);
    assert.equal(bodyMatches(genuine, Buffer.alloc(0)), false);
  });
});

describe("keys", () => {
  test("a MAC is HMAC-SHA256, whatever the text (random)", (t) => {
    const random = new Random(randomSeed(t));
    const key = new SigningKey("a key");
    for (const length of [
      0,
      1,
      55,
      56,
      63,
      64,
      65,
      1365,
      1366,
      5000,
      ...Array.from({ length: 50 }, () => random.below(3000)),
    ]) {
      const text = Array.from({ length }, () => String.fromCharCode(random.below(0x2000))).join("");
      const mac = createHmac("sha256", key.object).update(text).digest("base64url");
      assert.equal(key.mac(text), mac, `${length} characters`);
      assert.equal(key.holds(text, mac), true);
      assert.equal(key.holds(`${text}x`, mac), false);
      assert.equal(key.holds(text, `${mac}A`), false);
    }
  });

  test("two keys: both are accepted, the first signs, and so each step of an exchange is understood", () => {
    const steps = [["old"], ["old", "new"], ["new", "old"], ["new"]];
    for (const [index, mine] of steps.entries())
      for (const theirs of steps.slice(Math.max(0, index - 1), index + 2)) {
        const { signer, receiver } = setUp(mine);
        const verifier = new RequestVerifier(new KeyRing(theirs), { audience: () => null });
        receiver.learn({ clock: verifier.clock, session: verifier.session, mac: "" });
        const signed = signer.sign(receiver, "POST", "/", BODY);
        const genuine = passed(verifier.check("POST", "/", signed.header));
        const answer = verifier.answer(genuine, 200, BODY);
        assert.ok(readTold(signed, 200, answer.header, bodyDigest(BODY)), `${mine} to ${theirs}`);
      }
    const { ring, signer, verifier, receiver } = setUp(["old"]);
    ring.renew(["new", "old"]);
    passed(verifier.check("POST", "/", signer.sign(receiver, "POST", "/", BODY).header));
    ring.renew(["old"]);
    const late = new RequestSigner(new KeyRing(["new"])).sign(receiver, "POST", "/", BODY);
    refusedUnsigned(verifier.check("POST", "/", late.header), /does not hold/);
    for (const none of [[], ["a", "b", "c"], [""]]) assert.throws(() => new KeyRing(none));
  });
});

describe("answers", () => {
  test("request, status, clock, session and body count; nothing else is an answer", (t) => {
    const { signer, verifier, receiver } = setUp();
    const sign = () => signer.sign(receiver, "POST", "/", BODY);
    const signed = sign();
    const genuine = passed(verifier.check("POST", "/", signed.header));
    const { header } = verifier.answer(genuine, 200, BODY);
    const read = (status: number, text: string, body: Uint8Array, request = signed) =>
      readTold(request, status, text, bodyDigest(body));
    const told = read(200, header, BODY);
    assert.deepEqual([told?.clock, told?.session], [verifier.clock, verifier.session]);
    assert.equal(read(503, header, BODY), null, "another status");
    assert.equal(read(200, header, Buffer.from("b body")), null, "another body");
    assert.equal(read(200, header, BODY, sign()), null, "another request's answer");
    const stranger = new SigningKey("yek");
    assert.equal(read(200, header, BODY, { ...signed, key: stranger }), null, "another key");
    assert.equal(read(200, "", BODY), null, "no signature");
    assert.equal(readTold(signed, 200, header, STREAMED_BODY), null);
    // A request's own signature is none of its answer.
    assert.equal(read(200, `${verifier.clock} ${verifier.session} ${signed.mac}`, BODY), null);
    const random = new Random(randomSeed(t));
    for (let count = 0; count < 2000; count++) {
      const at = random.below(header.length);
      const changed = header.slice(0, at) + String.fromCharCode(32 + random.below(95)) + header.slice(at + 1);
      if (changed !== header) assert.equal(read(200, changed, BODY), null, changed);
    }
  });

  test("a receiver's clock goes on with the own one", () => {
    const { clock, verifier, receiver } = setUp();
    clock.signerMs += 5000;
    clock.verifierMs += 5000;
    assert.equal(receiver.clock(), verifier.clock);
    assert.equal(new Receiver(URL).clock(), 0);
  });
});

describe("replays", () => {
  test("any order within the window passes once (random)", (t) => {
    const random = new Random(randomSeed(t));
    const guard = new ReplayGuard(1000);
    const seen = new Set<number>();
    let highest = 0;
    for (let count = 0; count < 200_000; count++) {
      const jump = random.below(1000) === 0 ? random.below(3 * REPLAY_WINDOW_REQUESTS) : random.below(40);
      const ahead = random.below(2) === 0;
      const sequence = ahead
        ? highest + jump
        : Math.max(0, highest - random.below(2 * REPLAY_WINDOW_REQUESTS));
      highest = Math.max(highest, sequence);
      const expected =
        highest - sequence >= REPLAY_WINDOW_REQUESTS ? "old" : seen.has(sequence) ? "seen" : "new";
      assert.equal(guard.take("a", sequence, 0), expected, `sequence ${sequence}, highest ${highest}`);
      seen.add(sequence);
    }
  });

  test("senders are kept apart, bounded, and forgotten only after the time", () => {
    const guard = new ReplayGuard(1000, 3);
    for (const name of ["a", "b", "c"]) assert.equal(guard.take(name, 5, 0), "new");
    assert.equal(guard.take("d", 5, 1000), "full", "rather refused than taken twice");
    assert.equal(guard.take("a", 6, 500), "new");
    assert.equal(guard.take("b", 5, 1000), "seen");
    assert.equal(guard.take("d", 5, 1001), "new", "b and c are forgotten, a is not");
    assert.equal(guard.size, 2);
    assert.equal(guard.take("a", 6, 1001), "seen");
  });
});
