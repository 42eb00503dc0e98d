// A bag of re-wrapped DEKs. When a KEK is rotated, files keep their headers: the DEKs that the old KEK wrapped are
// wrapped anew, by the new KEK, into bags beside the key document. So an object in a store is never rewritten
// for a rotation (a store can only replace it whole), a file on a disk stays the same bytes as its object, and
// the pass costs the first 512 bytes of each file.
//
//   { "format": 1, "tenant": hex, "kek": version, "domain": what was walked, "number": n, "through": last name seen,
//     "done": whether the walk ended with it,
//     "deks": [ [id hex, nonce hex, wrapped base64] … ],
//     "mac": hex of HMAC-SHA256 under that KEK over all above }
//
// A wrapped DEK is bound to its id, its tenant and its KEK (envelope.ts), wherever it lies. A bag is written once,
// whole; its number and `through` are also the progress of the pass: after a crash the next one goes on there.

import { createHmac } from 'node:crypto';
import { fromHex, fromUtf8, toHex, utf8 } from '../base/bytes.ts';
import { Fault } from '../base/fault.ts';
import { type Kek, macOf, sameMac, type WrappedDek } from './envelope.ts';

export const BAG_DEKS_MAX = 4096;

export interface KeyBag {
  readonly format: 1;
  readonly tenant: string;
  /** The KEK that wraps what is in it. */
  readonly kek: number;
  readonly domain: string;
  readonly number: number;
  readonly through: string;
  readonly done: boolean;
  /** Files looked at by this pass so far. */
  readonly seen: number;
  readonly deks: readonly (readonly [id: string, nonce: string, sealed: string])[];
  readonly mac?: string;
}

const MAC_LABEL = utf8('lakebed key bag');

function macOfBag(bag: KeyBag, kek: Kek): Uint8Array {
  const { format, tenant, domain, number, through, done, seen, deks } = bag;
  const key = createHmac('sha256', kek.secret).update(MAC_LABEL).digest();
  return macOf(
    key,
    utf8(JSON.stringify([format, tenant, bag.kek, domain, number, through, done, seen, deks])),
  );
}

export const signBag = (bag: KeyBag, kek: Kek): KeyBag => ({ ...bag, mac: toHex(macOfBag(bag, kek)) });

export function proveBag(bag: KeyBag, kek: Kek): void {
  if (sameMac(macOfBag(bag, kek), fromHex(bag.mac ?? ''))) return;
  throw new Fault(
    'sealed-tampered',
    `bag ${bag.number} of ${bag.domain}, tenant ${bag.tenant}, was changed`,
    {
      hint: 'Put it back from a copy of the key store; while the old KEK is not retired, removing it and rewrapping again also does.',
    },
  );
}

export const bagEntry = (dek: WrappedDek): [string, string, string] => [
  toHex(dek.id),
  toHex(dek.nonce),
  Buffer.from(dek.sealed).toString('base64'),
];

/** The DEKs of a bag by id. */
export function* deksOf(bag: KeyBag): Generator<[string, WrappedDek]> {
  for (const [id, nonce, sealed] of bag.deks) {
    const bytes = new Uint8Array(Buffer.from(sealed, 'base64'));
    yield [id, { kekVersion: bag.kek, id: fromHex(id), nonce: fromHex(nonce), sealed: bytes }];
  }
}

export const encodeBag = (bag: KeyBag): Uint8Array => utf8(JSON.stringify(bag));

export function decodeBag(bytes: Uint8Array, name: string): KeyBag {
  let bag: KeyBag | undefined;
  try {
    bag = JSON.parse(fromUtf8(bytes)) as KeyBag;
  } catch {
    bag = undefined;
  }
  if (bag?.format === 1 && Array.isArray(bag.deks)) return bag;
  throw new Fault('sealed-format', `the key bag ${name} cannot be read`, {
    hint: 'A newer build wrote it, or it was damaged: put it back from a copy of the key store.',
  });
}
