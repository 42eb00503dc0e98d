// New layers on their way to the disk, as sections come from the pool. A layer's name says its keys, so files are
// planned before their contents are known: each is given the range of the parts it takes.
//
// Either all of an operation's files come to be used, or all are thrown away.

import { giveBackBuffer } from '../../base/bytes.ts';
import type { SealedWriter } from '../../seal/vault.ts';
import type { Engine } from '../engine.ts';
import { packTail } from '../jobs/flush.ts';
import { isDense, type LayerDesc } from '../layers/layer.ts';
import type { Section } from '../layers/layer-builder.ts';
import { describeLayer, type LayerIdentity } from '../layers/layer-name.ts';
import type { LayerStore } from './store.ts';

/** Handed to the writer in one go: what sealing it costs, nobody else waits longer for. */
const WRITE_BYTES = 128 * 1024;

export async function writePieces(writer: SealedWriter, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; at += WRITE_BYTES)
    await writer.write(bytes.subarray(at, at + WRITE_BYTES));
}

export class LayerOutput {
  private readonly engine: Engine;
  private readonly store: LayerStore;
  private readonly written: LayerDesc[] = [];
  private file: { identity: LayerIdentity; desc: LayerDesc; writer: SealedWriter } | undefined;
  private sections: Omit<Section, 'data'>[] = [];

  constructor(engine: Engine, store: LayerStore) {
    this.engine = engine;
    this.store = store;
  }

  /** Begin a layer: the sections that follow are its, with their data for good. */
  async begin(identity: LayerIdentity): Promise<void> {
    const desc = describeLayer(identity, this.engine.random.below(0x1_0000_0000), 0);
    this.file = { identity, desc, writer: await this.store.create(desc.name) };
    this.sections = [];
  }

  async add(section: Section): Promise<void> {
    if (section.counts.count === 0) return;
    for (const piece of section.data) {
      await writePieces(this.file!.writer, piece);
      // What a job handed back, of which the data is the rest: index and counts were taken out.
      giveBackBuffer(piece);
    }
    const { index, counts, valueCount, dataBytes } = section;
    this.sections.push({ index, counts, valueCount, dataBytes });
  }

  /** The layer is whole and durable; its bytes. A delta without a single value is not kept; a dense image tells by that. */
  async end(): Promise<number> {
    const { identity, desc, writer } = this.file!;
    if (this.sections.length === 0 && !isDense(desc)) {
      this.file = undefined;
      await writer.abort();
      return 0;
    }
    const tail = await this.engine.pool.run('tail', packTail(identity, this.sections));
    await writePieces(writer, tail);
    const bytes = await writer.finish();
    this.file = undefined;
    this.written.push({ ...desc, bytes });
    return bytes;
  }

  /** Everything that was written, to be put to use now. */
  finish(): readonly LayerDesc[] {
    return this.written;
  }

  /** Something failed: nothing of it stays. */
  async abandon(): Promise<void> {
    await this.file?.writer.abort().catch(() => undefined);
    for (const { name } of this.written) await this.store.discard(name).catch(() => undefined);
  }
}
