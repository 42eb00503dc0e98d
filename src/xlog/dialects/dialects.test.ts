import { describe, expect, test } from 'vitest';
import { registry } from '../rmgr.ts';
import {
  ALL_DIALECTS,
  dialectOfCatalogVersion,
  dialectOfMagic,
  dialectOfMajor,
  dialectOfVersionNumber,
  NEON_DIALECTS,
  STOCK_DIALECTS,
} from './all.ts';
import { OPCODES } from './opcodes.ts';

describe('dialects', () => {
  test('every major and flavour once, each found by what it is known by', () => {
    expect(STOCK_DIALECTS.map(d => d.major)).toEqual([14, 15, 16, 17, 18]);
    expect(NEON_DIALECTS.map(d => d.major)).toEqual([14, 15, 16, 17, 18]);
    expect(new Set(STOCK_DIALECTS.map(d => d.xlogPageMagic)).size).toBe(5);
    expect(new Set(STOCK_DIALECTS.map(d => d.catalogVersion)).size).toBe(5);
    for (const d of ALL_DIALECTS) {
      expect(dialectOfMajor(d.major, d.flavour)).toBe(d);
      expect(dialectOfMagic(d.xlogPageMagic, d.flavour)).toBe(d);
      expect(dialectOfCatalogVersion(d.catalogVersion, d.flavour)).toBe(d);
      expect(dialectOfVersionNumber(d.major, d.flavour)).toBe(d);
      expect(dialectOfVersionNumber(d.major * 10000 + 5, d.flavour)).toBe(d);
    }
  });

  test('what is not known says what is', () => {
    expect(() => dialectOfMajor(13, 'stock')).toThrow('Postgres 13 is not supported');
    expect(() => dialectOfMagic(0xd10a, 'neon')).toThrow('magic 0xD10A');
    try {
      dialectOfCatalogVersion(1, 'stock');
    } catch (error) {
      expect((error as { hint: string }).hint).toBe('Known majors: 14, 15, 16, 17, 18.');
    }
  });

  test("a flavour's row differs from its stock row in Heap, Heap2, Btree and 134 alone", () => {
    for (const [i, neon] of NEON_DIALECTS.entries()) {
      const stock = STOCK_DIALECTS[i]!;
      const { flavour, rmgrs, versionText, ...rest } = neon;
      expect(stock).toMatchObject(rest);
      expect(versionText.trim()).toBe(stock.versionText.trim());
      expect(flavour).toBe('neon');
      const differing = rmgrs.flatMap((rmgr, id) => (rmgr === stock.rmgrs[id] ? [] : [id]));
      expect(differing.filter(id => ![9, 10, 11, 134].includes(id))).toEqual([]);
      expect(differing.includes(134)).toBe(neon.major >= 16);
    }
  });

  test('an operation without a row, or a row without an operation, is found at load', () => {
    const rmgrs = STOCK_DIALECTS[3]!.rmgrs.filter(r => r !== undefined);
    expect(() => registry(rmgrs, OPCODES[16])).toThrow('XLOG: a row for 0xe0, which this major never writes');
    const older = STOCK_DIALECTS[2]!.rmgrs.filter(r => r !== undefined);
    expect(() => registry(older, OPCODES[17])).toThrow('XLOG: no row for opcode 0xe0');
    expect(() => registry(older.slice(1), OPCODES[16])).toThrow('no resource manager with id 0');
  });

  test('every operation describes itself, but those of which Postgres says nothing', () => {
    const mute = new Set(['XLOG/NOOP', 'XLOG/SWITCH', 'XLOG/FPI', 'XLOG/FPI_FOR_HINT'])
      .add('Hash/SPLIT_PAGE')
      .add('Hash/SPLIT_CLEANUP');
    const silent = new Set<string>();
    for (const d of ALL_DIALECTS) {
      for (const rmgr of d.rmgrs) {
        for (const op of Object.values(rmgr?.ops ?? {})) {
          const name = `${rmgr!.name}/${op.name}`;
          if (op.describe === undefined && !mute.has(name)) silent.add(name);
        }
      }
    }
    expect([...silent]).toEqual([]);
  });
});
