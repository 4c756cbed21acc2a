/**
 * The cluster's keys: what nodes sign with. One signs; all that are given are accepted, so that a key can be
 * exchanged node by node, without a pause.
 *
 * HMAC-SHA256 (RFC 2104) is made here of two one-shot hashes: for the short texts that are signed with every
 * request and answer, that takes half the time of Node.js' Hmac objects.
 */
import { createHmac, createSecretKey, hash, type KeyObject, timingSafeEqual } from "node:crypto";

/** Bytes of a MAC, and its characters in base64url. */
export const MAC_BYTES = 32;
export const MAC_CHARACTERS = 43;
/** One that signs, and one that is on its way in or out. */
export const KEYS_MAX = 2;

const BLOCK_BYTES = 64;
/** A longer text takes the ordinary way. */
const TEXT_BYTES_MAX = 4096;
const PURPOSE = "minivault: requests between nodes";

/** Two MACs that are compared. */
const EXPECTED = Buffer.alloc(MAC_CHARACTERS);
const SENT = Buffer.alloc(MAC_CHARACTERS);

/** One key, made of a shared secret, but never that itself: clients may send it as it is. */
export class SigningKey {
  /** For MACs over pieces of a stream. */
  readonly object: KeyObject;
  private readonly inner = Buffer.alloc(BLOCK_BYTES + TEXT_BYTES_MAX, 0x36);
  private readonly outer = Buffer.alloc(BLOCK_BYTES + MAC_BYTES, 0x5c);

  constructor(secret: string) {
    if (secret === "") throw new Error("the shared key is empty");
    const bytes = createHmac("sha256", secret).update(PURPOSE).digest();
    this.object = createSecretKey(bytes);
    for (const [at, byte] of bytes.entries()) {
      this.inner[at] ^= byte;
      this.outer[at] ^= byte;
    }
  }

  /** HMAC-SHA256 of a text, in base64url. */
  mac(text: string): string {
    const { inner, outer } = this;
    // UTF-8 takes up to three bytes for each unit of a string.
    if (text.length * 3 > TEXT_BYTES_MAX)
      return createHmac("sha256", this.object).update(text).digest("base64url");
    const end = BLOCK_BYTES + inner.write(text, BLOCK_BYTES);
    // As text of one character for each byte: a third cheaper than a buffer.
    outer.write(hash("sha256", inner.subarray(0, end), "binary"), BLOCK_BYTES, "latin1");
    return hash("sha256", outer, "base64url");
  }

  /** Whether `sent` is the text's MAC; takes the same time whatever differs. */
  holds(text: string, sent: string): boolean {
    if (sent.length !== MAC_CHARACTERS) return false;
    EXPECTED.write(this.mac(text), "latin1");
    SENT.write(sent, "latin1");
    return timingSafeEqual(EXPECTED, SENT);
  }
}

/** The keys of this process. */
export class KeyRing {
  private keys: readonly SigningKey[];

  /** @param secrets one or two; the first signs */
  constructor(secrets: readonly string[]) {
    this.keys = keysOf(secrets);
  }

  /** What new requests are signed with. */
  get signing(): SigningKey {
    return this.keys[0];
  }

  /** The key with which the text has this MAC; null: none of ours. */
  find(text: string, mac: string): SigningKey | null {
    return this.keys.find((key) => key.holds(text, mac)) ?? null;
  }

  /** Other keys in place of those before, from the next request on. */
  renew(secrets: readonly string[]): void {
    this.keys = keysOf(secrets);
  }
}

function keysOf(secrets: readonly string[]): SigningKey[] {
  if (secrets.length === 0 || secrets.length > KEYS_MAX) throw new Error(`there are ${secrets.length} keys`);
  return secrets.map((secret) => new SigningKey(secret));
}
