// A page from what is stored about it: the base, then each newer value in the order in which the log made them.
//
//   base      VALUE_IMAGE, or VALUE_RECORD_INIT, or a page in hand (the page cache's), or nothing: zeros
//   edits     VALUE_RECORD by redo of the one block, VALUE_EDIT by edit.ts
//
// A chain without a base belongs to a block whose relation was cut or dropped: redo leaves such a page as it is,
// zeros, as Postgres's recovery does (xlogutils.c, log_invalid_page); `baseless` counts them.
//
// Answers to: walredo.rs of the pageserver and walredoproc.c of pgxn/neon_walredo, without the other process.

import { assert, Violation } from '../base/assert.ts';
import type { Lsn } from '../base/lsn.ts';
import type { Dialect } from '../xlog/dialect.ts';
import { BLCKSZ, type Page } from '../xlog/page.ts';
import { decodeRecord, WalRecord } from '../xlog/record.ts';
import { redoBlock } from '../xlog/redo.ts';
import { isBase, VALUE_BYTES, VALUE_EDIT, VALUE_IMAGE, VALUE_RECORD, VALUE_RECORD_INIT } from './value.ts';
import type { ValueList } from './value-list.ts';

/** One of our own small edits, carried out (edit.ts). */
export type ApplyEdit = (page: Page, bytes: Uint8Array, offset: number, length: number, lsn: number) => void;

export interface PageRedo {
  readonly dialect: Dialect;
  readonly applyEdit: ApplyEdit;
}

export class Reconstructor {
  private readonly redo: PageRedo;
  private readonly record = new WalRecord();
  /** The view of the buffer that the value before lay in: chains lie in few buffers. */
  private viewed: Uint8Array = new Uint8Array(0);
  private view = new DataView(this.viewed.buffer);
  /** Chains met that had edits and no base. */
  baseless = 0;

  constructor(redo: PageRedo) {
    this.redo = redo;
  }

  /**
   * Bring `page` to the newest of `values`. It holds the page as it stood at `values.floor`, or is of any content
   * when there is no floor.
   */
  page(values: ValueList, page: Page): void {
    let oldest = values.count - 1;
    const hasBase = oldest >= 0 && isBase(values.kind[oldest]!);
    if (!hasBase && values.floor < 0) {
      page.bytes.fill(0);
      if (oldest >= 0) this.baseless++;
    }
    for (; oldest >= 0; oldest--) this.apply(values, oldest, page);
    this.viewed = NO_BYTES;
  }

  private apply(values: ValueList, i: number, page: Page): void {
    const bytes = values.bytes[i]!;
    const offset = values.offset[i]!;
    const length = values.length[i]!;
    switch (values.kind[i]) {
      case VALUE_IMAGE:
        assert(length === BLCKSZ, 'an image is one page');
        page.bytes.set(bytes.subarray(offset, offset + BLCKSZ));
        return;
      case VALUE_RECORD:
      case VALUE_RECORD_INIT:
        this.applyRecord(bytes, offset, values.lsn[i]!, values.blockId[i]!, page);
        return;
      case VALUE_EDIT:
        this.redo.applyEdit(page, bytes, offset, length, values.lsn[i]!);
        return;
      case VALUE_BYTES:
        throw new Violation('plain bytes stored under a page key');
      default:
        throw new Violation(`unknown kind of value ${values.kind[i]}`);
    }
  }

  private applyRecord(bytes: Uint8Array, offset: number, lsn: number, blockId: number, page: Page): void {
    if (bytes !== this.viewed) {
      this.viewed = bytes;
      this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    const { dialect } = this.redo;
    const endLsn = lsn as Lsn;
    // Where the record began is not kept; it serves messages alone.
    decodeRecord(this.record, bytes, this.view, offset, endLsn, endLsn, dialect.imageBits);
    redoBlock(dialect, page, this.record, this.record.block(blockId));
  }
}

const NO_BYTES = new Uint8Array(0);
