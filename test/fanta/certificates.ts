/**
 * Certificates for tests, made as they are needed: no file is kept, no program is called, nothing is secret.
 *
 * Node makes keys and signs, but has no words for X.509. A certificate is a handful of nested values, each written as a
 * tag, a length and its bytes (DER, ITU-T X.690); what goes where says RFC 5280, section 4.1.
 */

import { generateKeyPairSync, type KeyObject, sign } from "node:crypto";

export interface Certificate {
  /** PEM. */
  readonly cert: string;
  /** PEM. */
  readonly key: string;
}

/** One that signs others. */
export class Authority implements Certificate {
  readonly cert: string;
  readonly key: string;
  readonly #name: string;
  readonly #private: KeyObject;
  #serial = 1;

  constructor(name: string) {
    const { publicKey, privateKey } = keys();
    this.#name = name;
    this.#private = privateKey;
    this.key = pem(privateKey);
    this.cert = this.#certify(name, publicKey, [extension(basicConstraints, seq(boolean(true)))]);
  }

  /** A certificate for a server or a client: `names` are host names and IPv4 addresses, if it has any. */
  issue(name: string, names: readonly string[] = []): Certificate {
    const { publicKey, privateKey } = keys();
    const extensions = names.length === 0 ? [] : [extension(subjectAltName, seq(...names.map(generalName)))];
    return {
      cert: this.#certify(name, publicKey, extensions),
      key: pem(privateKey),
    };
  }

  #certify(subject: string, publicKey: KeyObject, extensions: readonly Buffer[]): string {
    const algorithm = seq(oid(ecdsaWithSha256));
    const toBeSigned = seq(
      tagged(0xa0, integer(2)), // Version 3.
      integer(this.#serial++),
      algorithm,
      named(this.#name),
      seq(time("200101000000Z"), time("491231235959Z")),
      named(subject),
      publicKey.export({ type: "spki", format: "der" }),
      ...(extensions.length === 0 ? [] : [tagged(0xa3, seq(...extensions))]),
    );
    const signature = sign("sha256", toBeSigned, this.#private);
    const der = seq(toBeSigned, algorithm, tagged(0x03, Buffer.of(0), signature));
    const lines = der.toString("base64").match(/.{1,64}/g) ?? [];
    return ["-----BEGIN CERTIFICATE-----", ...lines, "-----END CERTIFICATE-----", ""].join("\n");
  }
}

const ecdsaWithSha256 = [1, 2, 840, 10045, 4, 3, 2];
const commonName = [2, 5, 4, 3];
const basicConstraints = [2, 5, 29, 19];
const subjectAltName = [2, 5, 29, 17];

function keys(): { publicKey: KeyObject; privateKey: KeyObject } {
  return generateKeyPairSync("ec", { namedCurve: "P-256" });
}

function pem(key: KeyObject): string {
  return key.export({ type: "pkcs8", format: "pem" }) as string;
}

function tagged(tag: number, ...parts: readonly Buffer[]): Buffer {
  const content = Buffer.concat(parts);
  const { length } = content;
  const lengths = length < 0x80 ? [length] : length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
  return Buffer.concat([Buffer.of(tag, ...lengths), content]);
}

function seq(...parts: readonly Buffer[]): Buffer {
  return tagged(0x30, ...parts);
}

function boolean(value: boolean): Buffer {
  return tagged(0x01, Buffer.of(value ? 0xff : 0));
}

/** From 0 to 127, which is all that is needed. */
function integer(value: number): Buffer {
  return tagged(0x02, Buffer.of(value));
}

function time(utc: string): Buffer {
  return tagged(0x17, Buffer.from(utc));
}

function oid([first = 0, second = 0, ...rest]: readonly number[]): Buffer {
  // Seven bits a byte; all but the last byte of a number have the eighth.
  const bytes = rest.flatMap((number) => {
    const groups = [number & 0x7f];
    for (let left = number >> 7; left > 0; left >>= 7) groups.unshift((left & 0x7f) | 0x80);
    return groups;
  });
  return tagged(0x06, Buffer.of(40 * first + second, ...bytes));
}

function named(name: string): Buffer {
  return seq(tagged(0x31, seq(oid(commonName), tagged(0x0c, Buffer.from(name)))));
}

function extension(what: readonly number[], value: Buffer): Buffer {
  return seq(oid(what), tagged(0x04, value));
}

function generalName(name: string): Buffer {
  const address = /^\d+\.\d+\.\d+\.\d+$/.test(name);
  return address ? tagged(0x87, Buffer.from(name.split(".").map(Number))) : tagged(0x82, Buffer.from(name));
}
