// Full-page images on their way in. A record that is nothing but images (XLOG_FPI, FPI_FOR_HINT) is taken apart:
//
//   not compressed         the page itself, hole filled, pd_lsn stamped (VALUE_IMAGE): reading it takes no redo
//   compressed             a record of its own for each block, in the same form, so that a key does not carry
//                          the 32 other pages of a bulk load's record
//   a page of zeros        nothing, where the block never had a value: it reads as zeros; else a page of zeros
//   no image               nothing: full_page_writes is off, and the record changes no page
//
// In any other record images stay where they are, and the record makes its page anew. Images that are only there
// for checking (wal_consistency_checking) are cut out of what is stored:
//
//   header 24 | block headers without HAS_IMAGE | main data's header | data of blocks | main data
//
// Answers to serialized_batch.rs of Neon's wal_decoder; the layout of records is drawn in xlog/record.ts.

import { lsnHigh, lsnLow } from '../base/lsn.ts';
import { recordCrc } from '../xlog/crc32c.ts';
import { BLCKSZ, PD_UPPER } from '../xlog/page.ts';
import { type BlockRef, type WalRecord, XLOG_RECORD_HEADER_SIZE } from '../xlog/record.ts';
import { RM_BTREE_ID } from '../xlog/rmgr/btree/rows.ts';
import type { RelFork } from './directory.ts';
import type { Ingest } from './ingest.ts';
import { VALUE_IMAGE, VALUE_RECORD_INIT } from './value.ts';

const HAS_IMAGE = 0x10;
const SAME_REL = 0x80;
const XL_CRC = 20;
const BLOCK_HEADER_SIZE = 4;
const IMAGE_HEADER_SIZE = 5;
const LOCATOR_SIZE = 12;
const MAX_HEADERS = 1024;

const ZERO_PAGE = new Uint8Array(BLCKSZ);

export class IngestImages {
  private readonly ingest: Ingest;
  private readonly page = new Uint8Array(BLCKSZ);
  private readonly pageView = new DataView(this.page.buffer);
  private stripped = new Uint8Array(64 * 1024);
  private strippedView = new DataView(this.stripped.buffer);

  constructor(ingest: Ingest) {
    this.ingest = ingest;
  }

  /** A record of images alone. */
  record(record: WalRecord): void {
    const { ingest } = this;
    const lsn = record.endLsn;
    for (let id = 0; id <= record.maxBlockId; id++) {
      const block = record.blocks[id]!;
      if (!block.inUse) continue;
      const fork = ingest.forkOf(block, lsn);
      const hadValues = block.blkno < fork.peak;
      if (block.blkno >= fork.nblocks) ingest.grow(fork, block.blkno, lsn, block.applyImage);
      if (!block.applyImage || !ingest.holds(fork, block.blkno)) continue;
      if (block.imageLength === 0) {
        if (hadValues) this.put(fork, block, lsn, ZERO_PAGE);
      } else if (block.compression === 'none') {
        this.fillPage(record, block);
        this.put(fork, block, lsn, this.page);
      } else {
        const length = this.recordOfOne(record, block);
        ingest.writer.put(fork.id, block.blkno, lsn, VALUE_RECORD_INIT, 0, this.stripped, 0, length);
      }
    }
  }

  private put(fork: RelFork, block: BlockRef, lsn: number, page: Uint8Array): void {
    this.ingest.writer.put(fork.id, block.blkno, lsn, VALUE_IMAGE, 0, page, 0, BLCKSZ);
  }

  /** RestoreBlockImage, and the LSN of the record unless the page is new. */
  private fillPage(record: WalRecord, block: BlockRef): void {
    const { page, pageView } = this;
    const { imageOffset, holeOffset, holeLength, imageLength } = block;
    if (holeLength === 0) {
      page.set(record.bytes.subarray(imageOffset, imageOffset + BLCKSZ));
    } else {
      page.set(record.bytes.subarray(imageOffset, imageOffset + holeOffset));
      page.fill(0, holeOffset, holeOffset + holeLength);
      page.set(
        record.bytes.subarray(imageOffset + holeOffset, imageOffset + imageLength),
        holeOffset + holeLength,
      );
    }
    if (pageView.getUint16(PD_UPPER, true) === 0) return;
    pageView.setUint32(0, lsnHigh(record.endLsn), true);
    pageView.setUint32(4, lsnLow(record.endLsn), true);
  }

  /** Take in a record that several keys share, without the images that are only there for checking. */
  beginShared(record: WalRecord): void {
    const { writer } = this.ingest;
    if (hasChecks(record)) {
      const length = this.withoutChecks(record);
      writer.beginShared(record.endLsn, this.stripped, 0, length);
    } else {
      writer.beginShared(record.endLsn, record.bytes, record.offset, record.totalLength);
    }
  }

  // ---- records made of records ------------------------------------------------------------------------------

  /** An image and its block, and nothing else of the record; its length in `stripped`. */
  private recordOfOne(record: WalRecord, block: BlockRef): number {
    this.room(XLOG_RECORD_HEADER_SIZE + 64 + block.imageLength);
    const { stripped, strippedView } = this;
    let at = this.header(record);
    stripped[at] = 0;
    stripped[at + 1] = block.forkNum | HAS_IMAGE;
    strippedView.setUint16(at + 2, 0, true);
    strippedView.setUint16(at + 4, block.imageLength, true);
    strippedView.setUint16(at + 6, block.holeOffset, true);
    stripped[at + 8] = this.imageInfo(block);
    at += BLOCK_HEADER_SIZE + IMAGE_HEADER_SIZE;
    if (block.holeLength > 0) {
      strippedView.setUint16(at, block.holeLength, true);
      at += 2;
    }
    strippedView.setUint32(at, block.spcOid, true);
    strippedView.setUint32(at + 4, block.dbOid, true);
    strippedView.setUint32(at + 8, block.relNumber, true);
    strippedView.setUint32(at + 12, block.blkno, true);
    at += LOCATOR_SIZE + 4;
    stripped.set(record.bytes.subarray(block.imageOffset, block.imageOffset + block.imageLength), at);
    return this.close(at + block.imageLength);
  }

  /** bimg_info of a compressed image to apply. */
  private imageInfo(block: BlockRef): number {
    const bits = this.ingest.pgdata.dialect.imageBits;
    const compression = block.compression === 'none' ? 0 : bits[block.compression];
    return bits.apply | compression | (block.holeLength > 0 ? bits.hasHole : 0);
  }

  /** The record with its images to apply, and without those for checking; its length in `stripped`. */
  private withoutChecks(record: WalRecord): number {
    this.room(record.totalLength + MAX_HEADERS);
    const { stripped } = this;
    let from = record.offset + XLOG_RECORD_HEADER_SIZE;
    let at = this.header(record);
    for (let id = 0; id <= record.maxBlockId; id++) {
      const block = record.blocks[id]!;
      if (!block.inUse) continue;
      const flags = record.bytes[from + 1]!;
      const imageHeader = block.hasImage ? imageHeaderSize(block) : 0;
      const locator = (flags & SAME_REL) === 0 ? LOCATOR_SIZE : 0;
      const drop = block.hasImage && !block.applyImage;
      const kept = BLOCK_HEADER_SIZE + (drop ? 0 : imageHeader);
      stripped.set(record.bytes.subarray(from, from + kept), at);
      if (drop) stripped[at + 1] = flags & ~HAS_IMAGE;
      const rest = from + BLOCK_HEADER_SIZE + imageHeader;
      stripped.set(record.bytes.subarray(rest, rest + locator + 4), at + kept);
      from = rest + locator + 4;
      at += kept + locator + 4;
    }
    // What is left of the headers (origin, top-level xid, the main data's length) ends where the payload begins.
    const payload = firstPayload(record);
    stripped.set(record.bytes.subarray(from, payload), at);
    at += payload - from;
    for (let id = 0; id <= record.maxBlockId; id++) {
      const block = record.blocks[id]!;
      if (!block.inUse) continue;
      const start = block.applyImage ? block.imageOffset : block.dataOffset;
      const end = block.dataOffset + block.dataLength;
      stripped.set(record.bytes.subarray(start, end), at);
      at += end - start;
    }
    stripped.set(record.bytes.subarray(record.mainOffset, record.mainOffset + record.mainLength), at);
    return this.close(at + record.mainLength);
  }

  private header(record: WalRecord): number {
    this.stripped.set(record.bytes.subarray(record.offset, record.offset + XLOG_RECORD_HEADER_SIZE));
    return XLOG_RECORD_HEADER_SIZE;
  }

  /** Length and checksum, so that it is a record like any other. */
  private close(length: number): number {
    this.strippedView.setUint32(0, length, true);
    this.strippedView.setUint32(XL_CRC, recordCrc(this.stripped, this.strippedView, 0, length), true);
    return length;
  }

  private room(length: number): void {
    if (length <= this.stripped.length) return;
    this.stripped = new Uint8Array(length * 2);
    this.strippedView = new DataView(this.stripped.buffer);
  }
}

/** A split of Neon's B-tree is told its cycle id by the image of another block, whatever that is there for. */
function hasChecks(record: WalRecord): boolean {
  if (record.rmid === RM_BTREE_ID) return false;
  for (let id = 0; id <= record.maxBlockId; id++) {
    const block = record.blocks[id]!;
    if (block.inUse && block.hasImage && !block.applyImage) return true;
  }
  return false;
}

const imageHeaderSize = (block: BlockRef): number =>
  IMAGE_HEADER_SIZE + (block.compression !== 'none' && block.holeLength > 0 ? 2 : 0);

function firstPayload(record: WalRecord): number {
  for (let id = 0; id <= record.maxBlockId; id++)
    if (record.blocks[id]!.inUse) return record.blocks[id]!.imageOffset;
  return record.mainOffset;
}
