import { expect, test } from 'vitest';
import { lsn } from '../../base/lsn.ts';
import { relKey } from '../../base/rel.ts';
import { WalRecord } from '../record.ts';
import { InvalidPages } from './invalid-pages.ts';

const rel = { spcOid: 1663, dbOid: 5, relNumber: 16384 };
const main = relKey(1663, 5, 16384, 0);
const vm = relKey(1663, 5, 16384, 2);

function missing(...references: [fork: string, blkno: number, at: number][]): InvalidPages {
  const pages = new InvalidPages();
  const record = new WalRecord();
  for (const [fork, blkno, at] of references) {
    record.lsn = lsn(at);
    pages.add(fork, blkno, record);
  }
  return pages;
}

test('a page is remembered with the first record that missed it', () => {
  const pages = missing([main, 3, 0x100], [main, 3, 0x200], [vm, 0, 0x300]);
  expect(pages.remaining()).toEqual([
    '1663/5/16384.0 block 3, missed at 0/100',
    '1663/5/16384.2 block 0, missed at 0/300',
  ]);
});

test('a cut explains what lies behind it, in its fork', () => {
  const pages = missing([main, 3, 8], [main, 4, 8], [main, 5, 8], [vm, 4, 8]);
  pages.forgetFrom(rel, 0, 4);
  expect(pages.remaining()).toEqual([
    '1663/5/16384.0 block 3, missed at 0/8',
    '1663/5/16384.2 block 4, missed at 0/8',
  ]);
});

test('a drop explains all forks, of that relation alone', () => {
  const other = relKey(1663, 5, 16385, 0);
  const pages = missing([main, 3, 8], [vm, 0, 8], [other, 1, 8]);
  pages.forgetRelation(rel);
  expect(pages.remaining()).toEqual(['1663/5/16385.0 block 1, missed at 0/8']);
});

test('a dropped database explains its relations, and not those of one whose number begins the same', () => {
  const pages = missing([main, 3, 8], [relKey(1663, 55, 16384, 0), 1, 8], [relKey(16630, 5, 16384, 0), 2, 8]);
  pages.forgetDatabase(1663, 5);
  expect(pages.remaining()).toEqual([
    '1663/55/16384.0 block 1, missed at 0/8',
    '16630/5/16384.0 block 2, missed at 0/8',
  ]);
});

test('what nothing explains is told in part when it is much', () => {
  const pages = missing(...Array.from({ length: 100 }, (_, i): [string, number, number] => [main, i, 8]));
  expect(pages.remaining()).toHaveLength(20);
});
