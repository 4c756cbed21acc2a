/**
 * Values on their way into an archive: read as a GET reads them, small ones a few ahead of their turn, large
 * ones in pieces at it.
 */
import type { ArchivedValue } from "../../archive/member.ts";
import type { ClusterAccess, Consistency } from "../../cluster/node/access.ts";
import { isInline } from "../../cluster/wire/values.ts";
import { endOf } from "../../format/end.ts";
import { metadataOf } from "../../format/fields/metadata.ts";
import { sumsText } from "../../format/fields/sums.ts";
import { JSON_PREFIX, JSON_SUFFIX } from "../../format/offsets.ts";
import { etagMillis, etagOf, etagText } from "../../format/version.ts";
import type { Found } from "../../shards/vault/vault.ts";
import { copyOf } from "../../util/bytes.ts";
import { VaultError } from "../../util/errors.ts";
import { JSON_TYPE } from "../../util/header-text.ts";
import { CHUNK_BYTES } from "../../util/limits.ts";
import { FRAME_BYTES, innerText } from "../../value/stored.ts";
import type { FrontContext } from "../http/context.ts";
import {
  demandSound,
  findInCluster,
  findInVault,
  type OpenValue,
  openValue,
  pieceReady,
  type Range,
} from "./find.ts";

/** A value as it goes into an archive. */
export interface Outgoing {
  value: ArchivedValue;
  /** Its bytes, where they are at hand. */
  bytes: Uint8Array | null;
  /** Else they are to be read from here. */
  open: OpenValue | null;
}

/** What is said of a value, wherever it is. */
type Described = Pick<Found, "json" | "contentType" | "trailer" | "valueBytes">;

export class OutgoingValues {
  private readonly context: FrontContext;
  private readonly cluster: ClusterAccess | null;
  private readonly consistency: Consistency;

  constructor(context: FrontContext, consistency: Consistency | null) {
    this.context = context;
    this.cluster = context.cluster;
    this.consistency = consistency ?? this.cluster?.consistency ?? "quorum";
  }

  /**
   * Reads a key.
   * @returns null: it is absent. "large": its turn is to be awaited, then `readLarge`
   * @throws VaultError why that cannot be known, or that it is damaged
   */
  async read(key: Uint8Array): Promise<Outgoing | "large" | null> {
    if (this.cluster === null)
      return findInVault(this.context, key, (found) => {
        if (found.state === "absent") return null;
        demandSound(found);
        if (found.valueBytes > CHUNK_BYTES) return "large";
        return atHand(key, etagOf(found.etag), found, found.copy());
      });
    const answer = await findInCluster(this.cluster, key, this.consistency);
    if (answer.state !== "found") return null;
    const { value, ballot } = answer;
    return isInline(value) ? atHand(key, etagText(ballot), value, copyOf(value.bytes)) : "large";
  }

  /** Opens a key whose value is to be sent now, whatever its size. */
  async readLarge(key: Uint8Array): Promise<Outgoing | null> {
    const open = await openValue(
      this.context,
      key,
      (found) => ({ value: archivedOf(key, etagOf(found.etag), found), ...innerRange(found) }),
      this.consistency,
    );
    return open === null ? null : { value: open.value, bytes: null, open };
  }
}

function atHand(key: Uint8Array, etag: string, described: Described, stored: Uint8Array): Outgoing {
  const bytes = described.json ? innerText(stored) : stored;
  return { value: archivedOf(key, etag, described), bytes, open: null };
}

/** Where the value of a key lies in what is stored of it, which is JSON in its envelope. */
export function innerRange({ json, valueBytes }: Pick<Found, "json" | "valueBytes">): Range {
  return json
    ? { start: JSON_PREFIX.length, end: valueBytes - JSON_SUFFIX.length }
    : { start: 0, end: valueBytes };
}

export function archivedOf(key: Uint8Array, etag: string, described: Described): ArchivedValue {
  const { json, contentType, trailer, valueBytes } = described;
  return {
    key,
    etag: etag.slice(1, -1),
    versionMs: etagMillis(etag),
    json,
    contentType: json ? JSON_TYPE : contentType,
    metadata: metadataOf(trailer)
      .map(([name, value]) => `${name}: ${value}\n`)
      .join(""),
    sums: sumsText(trailer),
    end: endOf(trailer),
    bytes: json ? valueBytes - FRAME_BYTES : valueBytes,
  };
}

/**
 * The bytes of an open value, each piece good until the next one is asked for. Closes the reader.
 * @throws VaultError("corrupt") also of the piece before, where the disk could not give all of it
 */
export async function* viewsOf({ reader, start, end }: OpenValue): AsyncGenerator<Uint8Array> {
  try {
    for (let offset = start; offset < end; ) {
      await pieceReady(reader, offset);
      const piece = reader.read(offset);
      const length = Math.min(piece.length, end - offset);
      yield length === piece.length ? piece : piece.subarray(0, length);
      if (reader.holds?.(offset, offset + length) === false) throw new VaultError("corrupt");
      offset += length;
    }
  } finally {
    reader.close();
  }
}

/** As `viewsOf`, in copies that are known to be whole. */
export async function* piecesOf(open: OpenValue): AsyncGenerator<Uint8Array> {
  let last: Uint8Array | null = null;
  for await (const view of viewsOf(open)) {
    // Whoever has asked for the next one has found the last one whole.
    if (last !== null) yield last;
    last = copyOf(view);
  }
  if (last !== null) yield last;
}
