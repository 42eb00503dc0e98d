// A big sealed file on its way to the disk: sealed chunk by chunk as the bytes come, written in the background.
//
// One write is under way while the next chunks are sealed, so that sealing hides behind the disk; no more than
// BATCH_BYTES wait besides. The file gets its name when `finish` resolves, and not before.
//
// The disk gets it in steps of BULK_SYNC_BYTES (base/ports.ts says why).

import { assert } from '../base/assert.ts';
import { giveBack } from '../base/bytes.ts';
import { BULK_SYNC_BYTES, type DiskFile } from '../base/ports.ts';
import type { Aead } from './aead.ts';
import type { DataKey } from './file-keys.ts';
import { ChunkSealer } from './sealed-file.ts';
import type { SealedWriter } from './vault.ts';

/** Sealed bytes gathered for one write. */
const BATCH_BYTES = 512 * 1024;

export interface FileWriterOptions {
  readonly aead: Aead;
  readonly chunkBytes: number;
  readonly header: Uint8Array;
  readonly key: DataKey;
  readonly file: DiskFile;
  /** Gives the synced file its name. */
  keep(): Promise<void>;
  drop(): Promise<void>;
}

export class FileWriter implements SealedWriter {
  private readonly options: FileWriterOptions;
  private readonly sealer: ChunkSealer;
  private batch: Uint8Array[];
  private batchBytes: number;
  private position = 0;
  private synced = 0;
  private underWay: Promise<void> = Promise.resolve();
  private failure: { error: unknown } | undefined;
  private ended = false;

  constructor(options: FileWriterOptions) {
    this.options = options;
    this.sealer = new ChunkSealer(options.aead, options.chunkBytes);
    this.batch = [options.header];
    this.batchBytes = options.header.length;
  }

  async write(bytes: Uint8Array): Promise<void> {
    assert(!this.ended, 'a write after the end of a sealed file');
    const secrets = this.options.key.now() ?? (await this.options.key.get());
    // In parts, so that a large piece is written while the rest of it is sealed.
    for (let at = 0; at < bytes.length; at += BATCH_BYTES) {
      const before = this.batch.length;
      const part = bytes.length <= BATCH_BYTES ? bytes : bytes.subarray(at, at + BATCH_BYTES);
      this.sealer.push(secrets.seal, part, this.batch);
      for (let i = before; i < this.batch.length; i++) this.batchBytes += this.batch[i]!.length;
      if (this.batchBytes >= BATCH_BYTES) await this.send();
    }
  }

  /** Hands the batch to the disk once the one before has been written. */
  private async send(): Promise<void> {
    await this.underWay;
    if (this.failure) throw this.failure.error;
    const { batch, position } = this;
    this.position += this.batchBytes;
    this.batch = [];
    this.batchBytes = 0;
    this.underWay = this.put(position, batch, this.position).catch(error => {
      this.failure = { error };
    });
  }

  private async put(position: number, batch: readonly Uint8Array[], end: number): Promise<void> {
    const { file } = this.options;
    await file.writev(position, batch);
    // Sealed chunks are ours alone, and there are many of them.
    for (const piece of batch) giveBack(piece);
    if (end - this.synced < BULK_SYNC_BYTES) return;
    await file.sync();
    this.synced = end;
  }

  async finish(): Promise<number> {
    assert(!this.ended, 'a sealed file is finished once');
    const { file, key } = this.options;
    const secrets = key.now() ?? (await key.get());
    this.ended = true;
    try {
      this.sealer.finish(secrets.seal, this.batch);
      await this.send();
      await this.underWay;
      if (this.failure) throw this.failure.error;
      await file.sync();
      await file.close();
      await this.options.keep();
      return this.sealer.size;
    } catch (error) {
      await this.underWay;
      await this.options.drop();
      throw error;
    } finally {
      key.release();
    }
  }

  async abort(): Promise<void> {
    if (this.ended) return;
    this.ended = true;
    await this.underWay;
    this.options.key.release();
    await this.options.drop();
  }
}
