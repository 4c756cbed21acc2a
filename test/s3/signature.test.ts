/** The signatures of AWS' documentation ("Authenticating Requests (AWS Signature Version 4)"), and what must not pass for one. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { S3Error } from "../../src/s3/protocol/errors.ts";
import {
  ALGORITHM,
  canonicalRequest,
  encodeUri,
  hmac,
  parametersOf,
  SigningKeys,
  scopeText,
  sha256,
  signingKey,
  stringToSign,
} from "../../src/s3/signature/canonical.ts";
import { ChunkedBody } from "../../src/s3/signature/chunks.ts";
import { createRepeats, REPEAT_MS_MAX, Repeats } from "../../src/s3/signature/repeats.ts";
import { type Seed, SKEW_MS_MAX, verify } from "../../src/s3/signature/verify.ts";
import { Random, randomSeed } from "../random.ts";

const ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE";
const SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const TIME = "20130524T000000Z";
const NOW_MS = Date.UTC(2013, 4, 24);
const SCOPE = { date: "20130524", region: "us-east-1", service: "s3" };
const EMPTY = sha256("");

interface Sent {
  method: string;
  path: string;
  query?: string;
  headers: Record<string, string>;
}

function judge({ method, path, query = "", headers }: Sent, nowMs = NOW_MS) {
  const request = {
    method,
    path,
    query,
    header: (name: string) => headers[name] ?? null,
    headerNames: () => Object.keys(headers),
  };
  const find = (accessKey: string) => (accessKey === ACCESS_KEY ? { holder: "me", secret: SECRET } : null);
  return verify(request, new SigningKeys(), find, nowMs);
}

function signed(
  method: string,
  path: string,
  query: string,
  signature: string,
  headers: Record<string, string>,
): Sent {
  const all: Record<string, string> = {
    host: "examplebucket.s3.amazonaws.com",
    "x-amz-date": TIME,
    ...headers,
  };
  const names = Object.keys(all)
    .filter((name) => name !== "content-type")
    .sort();
  all.authorization = `AWS4-HMAC-SHA256 Credential=${ACCESS_KEY}/20130524/us-east-1/s3/aws4_request,SignedHeaders=${names.join(";")},Signature=${signature}`;
  return { method, path, query, headers: all };
}

const GET = signed(
  "GET",
  "/test.txt",
  "",
  "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
  {
    range: "bytes=0-9",
    "x-amz-content-sha256": EMPTY,
  },
);
const PUT = signed(
  "PUT",
  "/test$file.text",
  "",
  "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
  {
    date: "Fri, 24 May 2013 00:00:00 GMT",
    "x-amz-content-sha256": "44ce7dd67c959e0d3524ffac1771dfbba87d2b6b4b4e99e42034a8b803f8b072",
    "x-amz-storage-class": "REDUCED_REDUNDANCY",
  },
);
const LIFECYCLE = signed(
  "GET",
  "/",
  "lifecycle",
  "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
  {
    "x-amz-content-sha256": EMPTY,
  },
);
const LIST = signed(
  "GET",
  "/",
  "max-keys=2&prefix=J",
  "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
  { "x-amz-content-sha256": EMPTY },
);
const PRESIGNED: Sent = {
  method: "GET",
  path: "/test.txt",
  query:
    "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=AKIAIOSFODNN7EXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Date=20130524T000000Z&X-Amz-Expires=86400&X-Amz-SignedHeaders=host&X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404",
  headers: { host: "examplebucket.s3.amazonaws.com" },
};

function refusal(sent: Sent, nowMs = NOW_MS): string {
  try {
    const genuine = judge(sent, nowMs);
    return genuine === null ? "unsigned" : "genuine";
  } catch (error) {
    assert.ok(error instanceof S3Error, String(error));
    return error.code;
  }
}

test("signature: the documentation's examples", () => {
  assert.equal(
    signingKey(SECRET, SCOPE).toString("hex"),
    "dbb893acc010964918f1fd433add87c70e8b0db6be30c1fbeafefa5ec6ba8378",
  );
  for (const sent of [GET, PUT, LIFECYCLE, LIST, PRESIGNED])
    assert.equal(judge(sent)?.holder, "me", sent.path);
  assert.equal(judge(PRESIGNED)?.isPresigned, true);
  assert.equal(judge(GET)?.payload, EMPTY);
  const { headers, ...sent } = PUT;
  const canonical = canonicalRequest(
    { ...sent, query: "", header: (name) => headers[name] ?? null },
    ["date", "host", "x-amz-content-sha256", "x-amz-date", "x-amz-storage-class"],
    headers["x-amz-content-sha256"],
    false,
  );
  assert.match(canonical, /^PUT\n\/test%24file\.text\n\ndate:Fri, 24 May 2013 00:00:00 GMT\nhost:/);
});

test("signature: another request, header, time, key or secret does not pass", () => {
  assert.equal(refusal({ ...GET, method: "DELETE" }), "SignatureDoesNotMatch");
  assert.equal(refusal({ ...GET, path: "/test.txu" }), "SignatureDoesNotMatch");
  assert.equal(refusal({ ...GET, query: "x=1" }), "SignatureDoesNotMatch");
  assert.equal(refusal({ ...GET, headers: { ...GET.headers, range: "bytes=0-8" } }), "SignatureDoesNotMatch");
  assert.equal(refusal({ ...GET, headers: { ...GET.headers, host: "other" } }), "SignatureDoesNotMatch");
  const cut = GET.headers.authorization.slice(0, -1);
  assert.equal(refusal({ ...GET, headers: { ...GET.headers, authorization: cut } }), "SignatureDoesNotMatch");
  const other = GET.headers.authorization.replace(ACCESS_KEY, "AKIAIOSFODNN7EXAMPLF");
  assert.equal(refusal({ ...GET, headers: { ...GET.headers, authorization: other } }), "InvalidAccessKeyId");
  const region = GET.headers.authorization.replace("us-east-1", "us-east-2");
  assert.equal(
    refusal({ ...GET, headers: { ...GET.headers, authorization: region } }),
    "SignatureDoesNotMatch",
  );
  const service = GET.headers.authorization.replace("/s3/", "/ec2/");
  assert.equal(
    refusal({ ...GET, headers: { ...GET.headers, authorization: service } }),
    "AuthorizationHeaderMalformed",
  );
  // What changes the meaning of a request and is not signed.
  assert.equal(refusal({ ...PUT, headers: { ...PUT.headers, "x-amz-copy-source": "/a/b" } }), "AccessDenied");
  assert.equal(
    refusal({ ...PRESIGNED, headers: { ...PRESIGNED.headers, "x-amz-acl": "private" } }),
    "AccessDenied",
  );
  const noHost = GET.headers.authorization.replace("host;", "");
  assert.equal(refusal({ ...GET, headers: { ...GET.headers, authorization: noHost } }), "AccessDenied");
  assert.equal(refusal({ ...GET, headers: { host: "x" } }), "unsigned");
});

test("signature: a request's time is now, give or take 15 minutes; a URL's is until it expires", () => {
  assert.equal(refusal(GET, NOW_MS + SKEW_MS_MAX), "genuine");
  assert.equal(refusal(GET, NOW_MS - SKEW_MS_MAX), "genuine");
  assert.equal(refusal(GET, NOW_MS + SKEW_MS_MAX + 1), "RequestTimeTooSkewed");
  assert.equal(refusal(GET, NOW_MS - SKEW_MS_MAX - 1), "RequestTimeTooSkewed");
  assert.equal(refusal(PRESIGNED, NOW_MS + 86_400_000), "genuine");
  assert.equal(refusal(PRESIGNED, NOW_MS + 86_400_001), "AccessDenied");
  assert.equal(refusal(PRESIGNED, NOW_MS - SKEW_MS_MAX - 1), "AccessDenied");
  for (const wrong of ["0", "604801", "-1", "1e3", ""])
    assert.equal(
      refusal({ ...PRESIGNED, query: PRESIGNED.query?.replace("86400", wrong) ?? "" }),
      "AccessDenied",
    );
});

test("signature: the time may be a Date alone, in HTTP's forms or with a zone in digits", () => {
  const at = (date: string) => {
    const headers: Record<string, string> = { host: "x", date, "x-amz-content-sha256": EMPTY };
    const names = Object.keys(headers).sort();
    const request = { method: "GET", path: "/", query: "", header: (name: string) => headers[name] ?? null };
    const text = stringToSign(TIME, SCOPE, canonicalRequest(request, names, EMPTY, false));
    const signature = hmac(signingKey(SECRET, SCOPE), text).toString("hex");
    const authorization = `${ALGORITHM} Credential=${ACCESS_KEY}/${scopeText(SCOPE)}, SignedHeaders=${names.join(";")}, Signature=${signature}`;
    return refusal({ method: "GET", path: "/", headers: { ...headers, authorization } });
  };
  for (const date of [
    "Fri, 24 May 2013 00:00:00 GMT",
    "Fri, 24 May 2013 00:00:00 -0000",
    "Fri, 24 May 2013 00:00:00 +0000",
    "Fri, 24 May 2013 01:30:00 +0130",
    "Thu, 23 May 2013 16:00:00 -0800",
    "Friday, 24-May-13 00:00:00 GMT",
  ])
    assert.equal(at(date), "genuine", date);
  assert.equal(at("Fri, 24 May 2013 00:00:01 -0000"), "SignatureDoesNotMatch");
  assert.equal(at("Fri, 24 May 2013 00:00:00 +0100"), "SignatureDoesNotMatch");
  for (const date of ["", "-0000", " +0000", "Fri, 24 May 2013 00:00:00 +2460", "Fri, 24 May 2013 00:00:00"])
    assert.equal(at(date), "AccessDenied", date);
});

test("signature: malformed and older forms are told apart", () => {
  const withAuthorization = (authorization: string): Sent => ({
    ...GET,
    headers: { ...GET.headers, authorization },
  });
  assert.equal(refusal(withAuthorization("AWS AKIA:abc=")), "InvalidRequest");
  assert.equal(refusal(withAuthorization("AWS4-ECDSA-P256-SHA256 Credential=x")), "InvalidRequest");
  assert.equal(refusal(withAuthorization("Bearer 0123456789abcdef")), "AuthorizationHeaderMalformed");
  assert.equal(refusal(withAuthorization("AWS4-HMAC-SHA256 Credential=x")), "AuthorizationHeaderMalformed");
  assert.equal(
    refusal(withAuthorization("AWS4-HMAC-SHA256 Credential=x,SignedHeaders=host,Signature=0")),
    "AuthorizationHeaderMalformed",
  );
  assert.equal(refusal({ ...GET, query: PRESIGNED.query as string }), "InvalidArgument");
});

const CHUNK_SEED: Seed = {
  signature: "4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
  key: signingKey(SECRET, SCOPE),
  scope: SCOPE,
  time: TIME,
};
const DATA = Buffer.alloc(66_560, "a");
const CHUNKED = Buffer.concat([
  Buffer.from("10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n"),
  DATA.subarray(0, 65_536),
  Buffer.from("\r\n400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n"),
  DATA.subarray(65_536),
  Buffer.from(
    "\r\n0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n",
  ),
]);
const TRAILER_SEED: Seed = {
  ...CHUNK_SEED,
  signature: "106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e",
};
const WITH_TRAILER = Buffer.concat([
  Buffer.from("10000;chunk-signature=b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2\r\n"),
  DATA.subarray(0, 65_536),
  Buffer.from("\r\n400;chunk-signature=1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7\r\n"),
  DATA.subarray(65_536),
  Buffer.from("\r\n0;chunk-signature=2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992\r\n"),
  Buffer.from("x-amz-checksum-crc32c:sOO8/Q==\r\n"),
  Buffer.from(
    "x-amz-trailer-signature:d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435\r\n\r\n",
  ),
]);

/** What a body's pieces hold, however it is cut on its way. */
function decoded(body: Uint8Array, seed: Seed | null, hasTrailer: boolean, pieceBytes: number) {
  const chunked = new ChunkedBody(seed, hasTrailer);
  const pieces: Buffer[] = [];
  for (let at = 0; at < body.length; at += pieceBytes)
    chunked.feed(body.subarray(at, at + pieceBytes), (piece) => pieces.push(Buffer.from(piece)));
  chunked.finish();
  return { bytes: Buffer.concat(pieces), trailers: chunked.trailers };
}

function chunkRefusal(body: Uint8Array, seed: Seed | null, hasTrailer = false): string {
  try {
    decoded(body, seed, hasTrailer, 10_000);
    return "genuine";
  } catch (error) {
    assert.ok(error instanceof S3Error, String(error));
    return error.code;
  }
}

test("signed chunks: the documentation's example, cut anywhere on its way", () => {
  for (const pieceBytes of [1, 7, 4096, 100_000])
    assert.deepEqual(decoded(CHUNKED, CHUNK_SEED, false, pieceBytes).bytes, DATA);
  const { bytes, trailers } = decoded(WITH_TRAILER, TRAILER_SEED, true, 1000);
  assert.deepEqual(bytes, DATA);
  assert.equal(trailers.get("x-amz-checksum-crc32c"), "sOO8/Q==");
});

test("signed chunks: what is changed, left out, repeated, exchanged or cut does not pass", () => {
  for (const at of [100, 65_700, CHUNKED.length - 10]) {
    const changed = Buffer.from(CHUNKED);
    changed[at] ^= 1;
    assert.notEqual(chunkRefusal(changed, CHUNK_SEED), "genuine", `byte ${at}`);
  }
  const second = CHUNKED.indexOf("\r\n400;") + 2;
  const last = CHUNKED.indexOf("\r\n0;chunk") + 2;
  const without = Buffer.concat([CHUNKED.subarray(0, second), CHUNKED.subarray(last)]);
  assert.equal(chunkRefusal(without, CHUNK_SEED), "SignatureDoesNotMatch");
  const twice = Buffer.concat([CHUNKED.subarray(0, last), CHUNKED.subarray(second)]);
  assert.equal(chunkRefusal(twice, CHUNK_SEED), "SignatureDoesNotMatch");
  assert.equal(chunkRefusal(CHUNKED.subarray(0, last), CHUNK_SEED), "SignatureDoesNotMatch");
  assert.equal(chunkRefusal(CHUNKED.subarray(0, last - 20), CHUNK_SEED), "SignatureDoesNotMatch");
  assert.equal(
    chunkRefusal(CHUNKED, { ...CHUNK_SEED, signature: TRAILER_SEED.signature }),
    "SignatureDoesNotMatch",
  );
  assert.equal(chunkRefusal(Buffer.concat([CHUNKED, Buffer.from("x")]), CHUNK_SEED), "InvalidRequest");
  const trailer = Buffer.from(WITH_TRAILER.toString("latin1").replace("sOO8/Q", "sOO8/R"), "latin1");
  assert.equal(chunkRefusal(trailer, TRAILER_SEED, true), "SignatureDoesNotMatch");
  assert.equal(chunkRefusal(Buffer.from("5\r\nhello\r\n0\r\n\r\n"), CHUNK_SEED), "SignatureDoesNotMatch");
});

test("unsigned chunks: a trailer comes with its announcement, and the end with its empty line", () => {
  const body = Buffer.from("5\r\nhello\r\n0\r\nx-amz-checksum-crc32:NhCmhg==\r\n\r\n");
  const { bytes, trailers } = decoded(body, null, true, 1);
  assert.equal(bytes.toString(), "hello");
  assert.equal(trailers.get("x-amz-checksum-crc32"), "NhCmhg==");
  assert.equal(chunkRefusal(body, null, false), "InvalidRequest");
  assert.equal(chunkRefusal(body.subarray(0, -2), null, true), "IncompleteBody");
  assert.equal(chunkRefusal(body.subarray(0, 9), null, true), "IncompleteBody");
  assert.equal(chunkRefusal(Buffer.from("5\r\nhelloo\r\n0\r\n\r\n"), null, true), "InvalidRequest");
  assert.equal(chunkRefusal(Buffer.from("zz\r\n"), null, true), "InvalidRequest");
  assert.equal(chunkRefusal(Buffer.alloc(2000, "1"), null, true), "InvalidRequest");
});

test("repeats: a signature may come again at once, and not later, at whichever front", () => {
  const memory = createRepeats();
  const [repeats, other] = [new Repeats(memory), new Repeats(memory)];
  const startMs = 12_345;
  const a = sha256("a");
  assert.equal(repeats.take(a, startMs), true);
  assert.equal(repeats.take(a, startMs + REPEAT_MS_MAX), true);
  assert.equal(other.take(a, startMs + REPEAT_MS_MAX), true);
  assert.equal(other.take(a, startMs + REPEAT_MS_MAX + 10), false);
  assert.equal(repeats.take(a, startMs + REPEAT_MS_MAX + 10), false);
  assert.equal(repeats.take(sha256("b"), startMs + REPEAT_MS_MAX + 10), true);
  // It is remembered for longer than it holds, also over the end of the ticks, which is 46 hours away.
  assert.equal(repeats.take(a, startMs + 2 * SKEW_MS_MAX), false);
  const lateMs = 2 ** 24 * 10 - 1000;
  assert.equal(repeats.take(sha256("late"), lateMs), true);
  assert.equal(other.take(sha256("late"), lateMs + 4000), true);
  assert.equal(other.take(sha256("late"), lateMs + 2 * SKEW_MS_MAX), false);
});

test("repeats: a hundred thousand in the time that signatures hold are remembered; the oldest make room", () => {
  const repeats = new Repeats(createRepeats());
  const names = Array.from({ length: 100_000 }, (_, number) => sha256(String(number)));
  for (const [number, name] of names.entries()) assert.ok(repeats.take(name, number));
  const lateMs = names.length + REPEAT_MS_MAX + 10;
  // The last ones first: one that is forgotten takes the place of one that was looked for already.
  const forgotten = names.reverse().filter((name) => repeats.take(name, lateMs)).length;
  assert.ok(forgotten <= 10, `${forgotten} forgotten`);
  // More in one bucket than it has places: the first of them is forgotten, and no other.
  const crowd = Array.from({ length: 9 }, (_, number) => `beef${sha256(`crowd ${number}`)}`);
  const mine = new Repeats(createRepeats());
  for (const [number, name] of crowd.entries()) assert.ok(mine.take(name, 10 * number));
  for (const name of crowd.slice(1)) assert.equal(mine.take(name, lateMs), false);
  assert.equal(mine.take(crowd[0], lateMs), true);
});

test("canonical forms: whether there is anything to encode, or the query was just read, changes nothing", (t) => {
  const random = new Random(randomSeed(t));
  const letters = [..."aZ09_.~-/&=+%!'()* :é€😀", "%2F", "%c3%a9", "%zz"];
  const word = (): string =>
    Array.from({ length: random.below(5) }, () => letters[random.below(letters.length)]).join("");
  const encoded = (text: string): string =>
    encodeURIComponent(text).replace(
      /[!'()*]/g,
      (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`,
    );
  const decoded = (text: string): string => {
    try {
      return decodeURIComponent(text);
    } catch {
      return text;
    }
  };
  const header = (): null => null;
  let before = "";
  for (let round = 0; round < 2000; round++) {
    const text = word();
    assert.equal(encodeUri(text), encoded(text));
    const path = `/${word()}`.replaceAll("+", "");
    const query = random.below(3) === 0 ? before : `${word()}&${word()}=${word()}`;
    before = query;
    const pairs = query
      .split("&")
      .filter((part) => part !== "")
      .map((part) => {
        const at = part.indexOf("=");
        const [name, value] = at < 0 ? [part, ""] : [part.slice(0, at), part.slice(at + 1)];
        return [name, value].map((half) => {
          const plain = decoded(half.replaceAll("+", " "));
          // What cannot be decoded stays as it was sent.
          return plain === half.replaceAll("+", " ") && half.includes("%") ? half : plain;
        });
      });
    assert.deepEqual(parametersOf(query), pairs);
    const segments = path.split("/").map((segment) => {
      const plain = decoded(segment);
      return plain === segment && segment.includes("%") ? segment : encoded(plain);
    });
    const lines = canonicalRequest({ method: "GET", path, query, header }, [], "", false).split("\n");
    assert.equal(lines[1], segments.join("/"));
    const sorted = pairs
      .filter(([name]) => name !== "X-Amz-Signature")
      .map(([name, value]) => [encoded(name), encoded(value)])
      .sort(([a, x], [b, y]) => (a < b ? -1 : a > b ? 1 : x < y ? -1 : x > y ? 1 : 0));
    assert.equal(lines[2], sorted.map(([name, value]) => `${name}=${value}`).join("&"));
  }
});
