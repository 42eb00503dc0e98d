import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  FSM_SLOTS_PER_PAGE,
  fsmBlockOf,
  fsmLogicalToPhysical,
  fsmRebuildPage,
  fsmTruncatePage,
  fsmTruncation,
  VM_HEAPBLOCKS_PER_PAGE,
  vmBlockOf,
  vmClear,
  vmStatus,
  vmTruncatePage,
  vmTruncation,
} from './derived.ts';
import { BLCKSZ, newPage, type Page } from './page.ts';

// Postgres judges these in integration/pg/maps.test.ts; here is what its relations are too small to show.

const heapBlock = fc.integer({ min: 0, max: 0xfffffffe });
const FP_NODES = 28;
const LEAVES = FP_NODES + 4095;

describe('visibility map', () => {
  test('a page covers 32672 heap blocks, two bits each after the header', () => {
    expect(VM_HEAPBLOCKS_PER_PAGE).toBe(32672);
    fc.assert(
      fc.property(heapBlock, fc.constantFrom(2, 3), (blk, flags) => {
        const page = newPage();
        page.bytes.fill(0xff, 24);
        expect(vmClear(page, blk, flags)).toBe(true);
        expect(vmStatus(page, blk)).toBe(3 & ~flags);
        expect(vmClear(page, blk, flags)).toBe(false);
        const inPage = blk - vmBlockOf(blk) * 32672;
        const byte = 24 + (inPage >> 2);
        expect(page.bytes[byte]).toBe(0xff & ~(flags << ((inPage & 3) * 2)));
        page.bytes[byte] = 0xff;
        expect(page.bytes.subarray(24).every(b => b === 0xff)).toBe(true);
      }),
    );
  });

  test('a cut forgets what lies from the first block on that goes', () => {
    fc.assert(
      fc.property(heapBlock, blk => {
        const { nblocks, cutBlock } = vmTruncation(blk);
        if (blk % 32672 === 0) expect([nblocks, cutBlock]).toEqual([blk / 32672, undefined]);
        else expect([nblocks, cutBlock]).toEqual([vmBlockOf(blk) + 1, vmBlockOf(blk)]);
        const page = newPage();
        page.bytes.fill(0xff);
        vmTruncatePage(page, blk);
        const first = vmBlockOf(blk) * 32672;
        for (const other of [first, blk - 1])
          if (other >= first && other < blk) expect(vmStatus(page, other)).toBe(3);
        for (const other of [blk, blk + 1, first + 32671]) {
          if (vmBlockOf(other) === vmBlockOf(blk)) expect(vmStatus(page, other)).toBe(other < blk ? 3 : 0);
        }
        expect(page.bytes.subarray(0, 24).every(b => b === 0xff)).toBe(true);
      }),
    );
  });
});

describe('free space map', () => {
  test('pages are laid out depth first', () => {
    // Root, then its first child, then that child's 4069 leaves, then the next child, ...
    expect(FSM_SLOTS_PER_PAGE).toBe(4069);
    expect(fsmLogicalToPhysical(2, 0)).toBe(0);
    expect(fsmLogicalToPhysical(1, 0)).toBe(1);
    expect(fsmLogicalToPhysical(0, 0)).toBe(2);
    expect(fsmLogicalToPhysical(0, 4068)).toBe(4070);
    expect(fsmLogicalToPhysical(1, 1)).toBe(4071);
    expect(fsmLogicalToPhysical(0, 4069)).toBe(4072);
    expect(fsmLogicalToPhysical(1, 2)).toBe(4071 + 4070);
    fc.assert(
      fc.property(fc.nat(4068), fc.nat(200), (leaf, middle) => {
        expect(fsmLogicalToPhysical(0, middle * 4069 + leaf)).toBe(
          fsmLogicalToPhysical(1, middle) + 1 + leaf,
        );
      }),
    );
    expect(fsmBlockOf(4069 * 4069)).toBe(4072);
    expect(fsmTruncation(4069 * 4069)).toEqual({ nblocks: 4072 });
    expect(fsmTruncation(4069 * 4069 + 1)).toEqual({ nblocks: 4073, cutBlock: 4072 });
  });

  const maxima = (page: Page): void => {
    for (let node = 0; node < 4095; node++) {
      const children = [2 * node + 1, 2 * node + 2].filter(n => FP_NODES + n < BLCKSZ);
      const largest = Math.max(0, ...children.map(n => page.bytes[FP_NODES + n]!));
      expect(page.bytes[FP_NODES + node]).toBe(largest);
    }
  };

  test('a cut empties slots and the tree follows', () => {
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 4068 }), fc.nat(255), (slots, seed) => {
        const page = newPage();
        for (let at = LEAVES; at < BLCKSZ; at++) page.bytes[at] = (at * 31 + seed) % 251;
        fsmRebuildPage(page);
        maxima(page);
        const kept = page.bytes.slice(LEAVES, LEAVES + slots);
        fsmTruncatePage(page, 4069 * 3 + slots);
        maxima(page);
        expect(page.bytes.slice(LEAVES, LEAVES + slots)).toEqual(kept);
        expect(page.bytes.subarray(LEAVES + slots).every(b => b === 0)).toBe(true);
      }),
      { numRuns: 20 },
    );
  });

  test('a cut that changes nothing leaves the tree as it is, wrong or not', () => {
    const page = newPage();
    page.bytes[FP_NODES] = 77;
    fsmTruncatePage(page, 10);
    expect(page.bytes[FP_NODES]).toBe(77);
  });
});
