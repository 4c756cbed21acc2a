/** Certificates for tests, made anew each time: an authority of its own, and a server's certificate for 127.0.0.1 and localhost. */
import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";
import fs from "node:fs";
import path from "node:path";

// DER, as far as a certificate needs it (RFC 5280; tags from X.690).
const der = (tag: number, ...content: Uint8Array[]): Buffer => {
  const body = Buffer.concat(content);
  if (body.length < 128) return Buffer.concat([Buffer.from([tag, body.length]), body]);
  // In as few bytes as it takes: BoringSSL insists.
  const length = body.length < 256 ? [0x81, body.length] : [0x82, body.length >> 8, body.length & 255];
  return Buffer.concat([Buffer.from([tag, ...length]), body]);
};
const sequence = (...content: Uint8Array[]) => der(0x30, ...content);
const integer = (value: number) => der(0x02, Buffer.from([value]));
const octets = (content: Uint8Array) => der(0x04, content);
const bits = (content: Uint8Array, unused = 0) => der(0x03, Buffer.from([unused]), content);
const flag = der(0x01, Buffer.from([0xff]));
const identifier = (dotted: string) => {
  const [first, second, ...rest] = dotted.split(".").map(Number);
  const bytes = [first * 40 + second];
  for (const part of rest) {
    const groups = [part & 127];
    for (let left = part >> 7; left > 0; left >>= 7) groups.unshift((left & 127) | 128);
    bytes.push(...groups);
  }
  return der(0x06, Buffer.from(bytes));
};
const name = (text: string) =>
  sequence(der(0x31, sequence(identifier("2.5.4.3"), der(0x0c, Buffer.from(text)))));
// UTCTime has two digits of the year; RFC 5280 wants it until 2049.
const time = (ms: number) =>
  der(0x17, Buffer.from(new Date(ms).toISOString().replace(/^..|[-:T]|\.\d+/g, "")));
const extension = (id: string, content: Uint8Array, critical = false) =>
  sequence(identifier(id), ...(critical ? [flag] : []), octets(content));

const ECDSA_WITH_SHA256 = sequence(identifier("1.2.840.10045.4.3.2"));
const DAY_MS = 24 * 3600 * 1000;

function certificate(
  serial: number,
  issuer: string,
  subject: string,
  publicKey: KeyObject,
  signer: KeyObject,
  extensions: Uint8Array[],
): string {
  const content = sequence(
    der(0xa0, integer(2)),
    integer(serial),
    ECDSA_WITH_SHA256,
    name(issuer),
    sequence(time(Date.now() - DAY_MS), time(Date.now() + DAY_MS)),
    name(subject),
    publicKey.export({ type: "spki", format: "der" }),
    der(0xa3, sequence(...extensions)),
  );
  const whole = sequence(content, ECDSA_WITH_SHA256, bits(sign("sha256", content, signer)));
  const lines = whole
    .toString("base64")
    .match(/.{1,64}/g)
    ?.join("\n");
  return `-----BEGIN CERTIFICATE-----\n${lines}\n-----END CERTIFICATE-----\n`;
}

export interface TestCertificates {
  /** The authority's certificate, PEM. */
  authority: string;
  /** Files with PEM. */
  authorityFile: string;
  certificateFile: string;
  keyFile: string;
}

/**
 * Writes an authority, a certificate and its key into `folder`.
 * @param usage the only extended key usage of the certificate; left out: any
 */
export function makeCertificates(folder: string, usage?: string): TestCertificates {
  const authorityKeys = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const serverKeys = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const authorityName = "minivault test authority";
  const authority = certificate(
    1,
    authorityName,
    authorityName,
    authorityKeys.publicKey,
    authorityKeys.privateKey,
    [
      extension("2.5.29.19", sequence(flag), true),
      extension("2.5.29.15", bits(Buffer.from([0x06]), 1), true),
    ],
  );
  const server = certificate(2, authorityName, "localhost", serverKeys.publicKey, authorityKeys.privateKey, [
    extension(
      "2.5.29.17",
      sequence(der(0x82, Buffer.from("localhost")), der(0x87, Buffer.from([127, 0, 0, 1]))),
    ),
    ...(usage === undefined ? [] : [extension("2.5.29.37", sequence(identifier(usage)))]),
  ]);
  const files = {
    authorityFile: path.join(folder, "authority.pem"),
    certificateFile: path.join(folder, "server.pem"),
    keyFile: path.join(folder, "server-key.pem"),
  };
  fs.writeFileSync(files.authorityFile, authority);
  fs.writeFileSync(files.certificateFile, server);
  fs.writeFileSync(files.keyFile, serverKeys.privateKey.export({ type: "pkcs8", format: "pem" }), {
    mode: 0o600,
  });
  return { authority, ...files };
}
