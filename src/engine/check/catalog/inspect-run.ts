/**
 * What is in a file of a run of keys: its end, its blocks, its keys.
 */
import fs from "node:fs";
import { blockSeed, KEY_BLOCK_BYTES, KeyBlock } from "../../../format/keys/key-block.ts";
import { decodeRunEnd } from "../../../format/keys/run-end.ts";
import { keyText } from "../words/describe.ts";
import type { Item } from "../words/item.ts";

export function* inspectRun(file: string): Generator<Item> {
  const bytes = new Uint8Array(fs.readFileSync(file));
  const end = decodeRunEnd(bytes);
  if (typeof end === "string") {
    yield { what: "run of keys", fileBytes: bytes.length, problem: end };
    return;
  }
  const { footer } = end;
  yield { what: "run of keys", fileBytes: bytes.length, ...footer, checksum: "good" };
  const keys = new KeyBlock();
  for (let block = 0; block < footer.blocks; block++) {
    const offset = block * KEY_BLOCK_BYTES;
    const isGood = keys.read(
      bytes.subarray(offset, offset + KEY_BLOCK_BYTES),
      blockSeed(footer.salt, footer.file, block),
    );
    if (!isGood) {
      yield { what: "block", offset, checksum: "bad", problem: "the checksum does not hold" };
      continue;
    }
    yield { what: "block", offset, keys: keys.count, checksum: "good" };
    for (let i = 0; i < keys.count; i++)
      yield { what: "key", key: JSON.parse(keyText(keys.bytes.slice(keys.starts[i], keys.starts[i + 1]))) };
  }
}
