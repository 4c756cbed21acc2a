/** The end of a run's file: its fences, and a footer (FORMAT.md, "Keys in order"). Pure. */
import { hash32 } from "../../util/hash.ts";
import { BYTE_ORDER_MARK } from "../offsets.ts";
import { Fences } from "./fences.ts";
import { KEY_BLOCK_BYTES } from "./key-block.ts";

const RUN_MAGIC = "MINIKEYS";
const RUN_FORM = 1;
export const RUN_FOOTER_BYTES = 64;
const FOOTER = {
  form: 8,
  byteOrder: 12,
  salt: 16,
  file: 20,
  blocks: 24,
  keys: 28,
  fenceBytes: 36,
  fenceChecksum: 40,
  checksum: 60,
} as const;

/** What the end of a run's file says of it. */
export interface RunFooter {
  /** First word of the store's id, signed. */
  salt: number;
  /** Number of the file. */
  file: number;
  blocks: number;
  keys: number;
}

/** Fences and footer: what follows the blocks. */
export function encodeRunEnd({ salt, file, blocks, keys }: RunFooter, fences: Fences): Uint8Array {
  const encoded = fences.encode();
  const end = new Uint8Array(encoded.length + RUN_FOOTER_BYTES);
  end.set(encoded);
  const view = new DataView(end.buffer, encoded.length);
  for (let i = 0; i < 8; i++) view.setUint8(i, RUN_MAGIC.charCodeAt(i));
  view.setUint32(FOOTER.form, RUN_FORM, true);
  view.setUint32(FOOTER.byteOrder, BYTE_ORDER_MARK, true);
  view.setInt32(FOOTER.salt, salt, true);
  view.setUint32(FOOTER.file, file, true);
  view.setUint32(FOOTER.blocks, blocks, true);
  view.setUint32(FOOTER.keys, keys, true);
  view.setUint32(FOOTER.fenceBytes, encoded.length, true);
  view.setInt32(FOOTER.fenceChecksum, hash32(encoded, file), true);
  view.setInt32(FOOTER.checksum, hash32(end.subarray(encoded.length, end.length - 4), 0), true);
  return end;
}

/**
 * Reads the end of a run's file.
 * @param bytes the whole file
 * @returns what is wrong with it, for a person, if something is
 */
export function decodeRunEnd(bytes: Uint8Array): { footer: RunFooter; fences: Fences } | string {
  const at = bytes.length - RUN_FOOTER_BYTES;
  if (at < 0) return "it is shorter than a footer";
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, RUN_FOOTER_BYTES);
  for (let i = 0; i < 8; i++) if (view.getUint8(i) !== RUN_MAGIC.charCodeAt(i)) return "it has no footer";
  if (
    view.getInt32(FOOTER.checksum, true) !==
    hash32(Uint8Array.prototype.slice.call(bytes, at, at + FOOTER.checksum), 0)
  )
    return "the footer's checksum does not hold";
  if (view.getUint32(FOOTER.form, true) !== RUN_FORM) return "it has another form";
  if (view.getUint32(FOOTER.byteOrder, true) !== BYTE_ORDER_MARK) return "it has another byte order";
  const footer: RunFooter = {
    salt: view.getInt32(FOOTER.salt, true),
    file: view.getUint32(FOOTER.file, true),
    blocks: view.getUint32(FOOTER.blocks, true),
    keys: view.getUint32(FOOTER.keys, true),
  };
  const fenceBytes = view.getUint32(FOOTER.fenceBytes, true);
  if (footer.blocks * KEY_BLOCK_BYTES + fenceBytes !== at) return "its parts do not add up to its size";
  const encoded = Uint8Array.prototype.slice.call(bytes, at - fenceBytes, at);
  if (hash32(encoded, footer.file) !== view.getInt32(FOOTER.fenceChecksum, true))
    return "the checksum of its fences does not hold";
  const fences = Fences.decode(encoded, footer.blocks);
  return fences === null ? "its fences cannot be read" : { footer, fences };
}
