import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { REPLAY_WINDOW_REQUESTS, ReplayGuard } from "../../src/auth/replay.ts";
import {
  bodyMatches,
  RequestSigner,
  RequestVerifier,
  SIGNATURE_SKEW_MS,
  STREAMED_BODY,
} from "../../src/auth/signature.ts";
import { Random, randomSeed } from "../random.ts";

const URL = "http://10.0.0.2:3000";
const BODY = Buffer.from("a body");

/** A signer and a verifier with clocks that the test moves. */
function setUp() {
  const clock = { signerMs: 1_790_000_000_000, verifierMs: 1_790_000_000_000, steadyMs: 0 };
  const signer = new RequestSigner("key", () => clock.signerMs);
  const verifier = new RequestVerifier(
    "key",
    () => URL,
    () => clock.verifierMs,
    () => clock.steadyMs,
  );
  return { clock, signer, verifier };
}

describe("signature", () => {
  test("a signed request passes once, with its body only", () => {
    const { signer, verifier } = setUp();
    const { header } = signer.sign(URL, "POST", "/_peer/batch?x=1", BODY);
    const genuine = verifier.check("POST", "/_peer/batch?x=1", header);
    assert.ok(typeof genuine !== "string", String(genuine));
    assert.equal(bodyMatches(genuine, BODY), true);
    assert.equal(bodyMatches(genuine, Buffer.from("b body")), false);
    assert.equal(bodyMatches(genuine, Buffer.alloc(0)), false);
    assert.match(String(verifier.check("POST", "/_peer/batch?x=1", header)), /seen before/);
  });

  test("method, path, query, audience, every field and the key count", () => {
    const { signer, verifier } = setUp();
    const { header } = signer.sign(URL, "POST", "/_peer/batch?x=1", BODY);
    for (const [method, target] of [
      ["PUT", "/_peer/batch?x=1"],
      ["POST", "/_peer/batcH?x=1"],
      ["POST", "/_peer/batch?x=2"],
      ["POST", "/_peer/batch"],
      ["POST", "/_peer/batch?x=1&y"],
    ])
      assert.match(String(verifier.check(method, target, header)), /does not hold/, target);
    const parts = header.split(" ");
    for (let index = 1; index < parts.length; index++) {
      const changed = [...parts];
      const first = changed[index][0];
      changed[index] = (first === "1" ? "2" : first === "h" ? "x" : "1") + changed[index].slice(1);
      assert.match(
        String(verifier.check("POST", "/_peer/batch?x=1", changed.join(" "))),
        /does not hold/,
        `${index}`,
      );
    }
    const stranger = new RequestSigner("yek").sign(URL, "POST", "/", BODY);
    assert.match(String(verifier.check("POST", "/", stranger.header)), /does not hold/);
    const elsewhere = signer.sign("http://10.0.0.3:3000", "POST", "/", BODY);
    assert.match(
      String(verifier.check("POST", "/", elsewhere.header)),
      /signed for http:\/\/10\.0\.0\.3:3000/,
    );
    // None of the above has used the nonce up.
    assert.equal(typeof verifier.check("POST", "/_peer/batch?x=1", header), "object");
  });

  test("what is no signature at all is refused, and never throws", (t) => {
    const { signer, verifier } = setUp();
    const { header } = signer.sign(URL, "GET", "/", BODY);
    const cases = [
      "",
      "Bearer key",
      "Minivault-HMAC-SHA256",
      header.slice(0, -1),
      `${header} x`,
      header.toLowerCase(),
    ];
    for (const text of [...cases, "x".repeat(100_000), header.replace(/ /g, "  ")])
      assert.equal(typeof verifier.check("GET", "/", text), "string", text.slice(0, 80));
    const random = new Random(randomSeed(t));
    for (let count = 0; count < 3000; count++) {
      const characters = [...header];
      const at = random.below(characters.length);
      characters[at] = String.fromCharCode(32 + random.below(95));
      const changed = characters.join("");
      if (changed !== header) assert.equal(typeof verifier.check("GET", "/", changed), "string", changed);
    }
    assert.equal(typeof verifier.check("GET", "/", header), "object");
  });

  test("clocks may differ by five minutes, either way", () => {
    const { clock, signer, verifier } = setUp();
    const sign = () => signer.sign(URL, "GET", "/", BODY).header;
    const early = sign();
    for (const aheadMs of [-SIGNATURE_SKEW_MS - 1, SIGNATURE_SKEW_MS + 1]) {
      clock.signerMs = clock.verifierMs + aheadMs;
      assert.match(String(verifier.check("GET", "/", sign())), /clocks/);
    }
    for (const aheadMs of [-SIGNATURE_SKEW_MS, SIGNATURE_SKEW_MS]) {
      clock.signerMs = clock.verifierMs + aheadMs;
      assert.equal(typeof verifier.check("GET", "/", sign()), "object");
    }
    clock.verifierMs += SIGNATURE_SKEW_MS + 1;
    assert.match(String(verifier.check("GET", "/", early)), /too old/);
  });

  test("a streamed body never counts as one that is at hand", () => {
    const { signer, verifier } = setUp();
    const genuine = verifier.check("PUT", "/", signer.sign(URL, "PUT", "/", STREAMED_BODY).header);
    assert.ok(typeof genuine !== "string");
    assert.equal(genuine.body, STREAMED_BODY);
    assert.equal(bodyMatches(genuine, Buffer.alloc(0)), false);
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
