// The key document of a tenant: its CMK and its KEKs, each wrapped by the CMK. What must be kept to read
// anything of the tenant, and what a rotation changes. Pure; key-store.ts keeps it, key-admin.ts changes it.
//
//   { "format": 1, "tenant": hex, "sequence": n, "change": what made this one, "who", "changedAt": ISO time,
//     "cmk": "aws:arn:…" | "azure:https://…" | "google:projects/…" | "local:name",
//     "keks": [ { "version": 1, "state": "old",     "createdAt", "since": sequence, "wrapped": base64, "keyVersion" },
//               { "version": 2, "state": "current", … } ],
//     "mac": hex of HMAC-SHA256 under the current KEK over all above }
//
// A document is never changed: a change is a new one with the next sequence, made only if absent, so of two who
// change it at once one wins and the other sees it (key-store.ts). Nothing in it is secret. It is authenticated by the
// current KEK; each wrapped KEK is bound to tenant and version by the CMK's encryption context. So a document
// that was edited, or whose CMK was exchanged for a stranger's, is refused; and one put back from the past is
// by whoever has seen a later sequence.
//
// KEK states: `current` seals new files; `old` opens files that it wrapped; `retired` has no wrapped bytes any
// more: every DEK it wrapped lies re-wrapped in a bag (key-bag.ts).
// A shredded document has no KEKs and no MAC: there is no key left to make one.

import { createHmac } from 'node:crypto';
import { fromHex, fromUtf8, toHex, utf8 } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import type { WrappedSecret } from '../base/ports.ts';
import { type Kek, macOf, sameMac } from './envelope.ts';

export type KekState = 'current' | 'old' | 'retired';

export interface KekEntry {
  readonly version: number;
  readonly state: KekState;
  readonly createdAt: string;
  /** The document in which it became current. */
  readonly since: number;
  /** Base64; absent once retired. */
  readonly wrapped?: string;
  /** The CMK's version that wrapped it, where the service tells. */
  readonly keyVersion?: string;
}

export type KeyChange =
  | 'created'
  | 'kek-rotated'
  | 'cmk-rotated'
  | 'cmk-changed'
  | 'kek-retired'
  | 'shredded';

export interface KeyDocument {
  readonly format: 1;
  readonly tenant: string;
  readonly sequence: number;
  readonly change: KeyChange;
  readonly who: string;
  readonly changedAt: string;
  readonly cmk: string;
  readonly keks: readonly KekEntry[];
  readonly mac?: string;
}

/** A customer key: which service keeps it, and its name there. */
export interface Cmk {
  readonly kind: string;
  readonly id: string;
}

const CMK_SHAPES: readonly [RegExp, string][] = [
  [/^arn:aws[a-z-]*:kms:/, 'aws'],
  [/^https:\/\/[^/]+\.(vault|managedhsm)\.[^/]+\/keys\//, 'azure'],
  [/^projects\/[^/]+\/locations\/[^/]+\/keyRings\/[^/]+\/cryptoKeys\/[^/]+$/, 'google'],
];

/** `kind:id`, or just an AWS ARN, an Azure key URL or a Google key name. */
export function parseCmk(text: string): Cmk {
  for (const [shape, kind] of CMK_SHAPES) if (shape.test(text)) return { kind, id: text };
  const match = /^(local|aws|azure|google|sim):(.+)$/.exec(text);
  if (match) return { kind: match[1]!, id: match[2]! };
  throw new Fault('config-invalid', `not a customer key: "${text}"`, {
    hint: 'Give local:NAME, an AWS KMS ARN, an Azure Key Vault key URL (https://VAULT.vault.azure.net/keys/NAME) or a Google key (projects/P/locations/L/keyRings/R/cryptoKeys/K).',
  });
}

export const formatCmk = (cmk: Cmk): string => `${cmk.kind}:${cmk.id}`;

export function currentKek(document: KeyDocument): KekEntry {
  const entry = document.keks.find(kek => kek.state === 'current');
  if (!entry) throw malformed(document.tenant, 'no KEK is current');
  return entry;
}

export const kekEntry = (document: KeyDocument, version: number): KekEntry | undefined =>
  document.keks.find(kek => kek.version === version);

export function wrappedOf(entry: KekEntry): WrappedSecret | undefined {
  if (entry.wrapped === undefined) return undefined;
  return {
    ciphertext: new Uint8Array(Buffer.from(entry.wrapped, 'base64')),
    keyVersion: entry.keyVersion,
    requestId: undefined,
  };
}

export function entryOf(
  version: number,
  state: KekState,
  createdAt: string,
  since: number,
  secret: WrappedSecret,
): KekEntry {
  const wrapped = Buffer.from(secret.ciphertext).toString('base64');
  const base: KekEntry = { version, state, createdAt, since, wrapped };
  return secret.keyVersion === undefined ? base : { ...base, keyVersion: secret.keyVersion };
}

const MAC_LABEL = utf8('lakebed key document');

const macKey = (kek: Kek): Uint8Array => createHmac('sha256', kek.secret).update(MAC_LABEL).digest();

/** What the MAC covers: every field but the MAC, in the order of the drawing. */
function macText(document: KeyDocument): Uint8Array {
  const { format, tenant, sequence, change, who, changedAt, cmk, keks } = document;
  const plain = keks.map(({ version, state, createdAt, since, wrapped = '', keyVersion = '' }) => [
    version,
    state,
    createdAt,
    since,
    wrapped,
    keyVersion,
  ]);
  return utf8(JSON.stringify([format, tenant, sequence, change, who, changedAt, cmk, plain]));
}

/** The document with its MAC; `current` is the KEK its current entry holds. */
export function signDocument(document: KeyDocument, current: Kek): KeyDocument {
  return { ...document, mac: toHex(macOf(macKey(current), macText(document))) };
}

export function proveDocument(document: KeyDocument, current: Kek): void {
  const mac = macOf(macKey(current), macText(document));
  if (!sameMac(mac, fromHex(document.mac ?? ''))) {
    throw new Fault(
      'sealed-tampered',
      `the key document ${document.sequence} of tenant ${document.tenant} was changed`,
      {
        hint: 'Put the document back from a copy of the key store; find out who changed it.',
      },
    );
  }
}

export const encodeDocument = (document: KeyDocument): Uint8Array =>
  utf8(`${JSON.stringify(document, undefined, 2)}\n`);

export function decodeDocument(bytes: Uint8Array, tenant: string): KeyDocument {
  let parsed: unknown;
  try {
    parsed = JSON.parse(fromUtf8(bytes));
  } catch (error) {
    throw malformed(tenant, (error as Error).message);
  }
  const document = parsed as KeyDocument;
  if (document?.format !== 1) throw malformed(tenant, `format ${document?.format}`);
  if (document.tenant !== tenant) throw malformed(tenant, `it is of tenant ${document.tenant}`);
  const sound =
    Number.isSafeInteger(document.sequence) &&
    typeof document.cmk === 'string' &&
    Array.isArray(document.keks) &&
    document.keks.every(kek => Number.isSafeInteger(kek.version) && typeof kek.state === 'string') &&
    document.keks.filter(kek => kek.state === 'current').length === (document.change === 'shredded' ? 0 : 1);
  if (!sound) throw malformed(tenant, 'fields are missing');
  return document;
}

export const isShredded = (document: KeyDocument): boolean => document.change === 'shredded';

const malformed = (tenant: string, what: string): Fault =>
  new Fault('sealed-format', `the key document of tenant ${tenant} cannot be read: ${what}`, {
    hint: 'A newer build wrote it, or it was damaged: put it back from a copy of the key store.',
  });
