// Layers in use. A Layer stands for one file in the layer maps of its timeline; opened, it has its index and
// filter in memory. OpenLayers bounds how much of that there is over the whole process: beyond
// `openLayersBytesMax` or `openLayersMax` files, those not asked for of late are closed (a clock hand goes round and
// spares once what was used). A layer that a read is working with is pinned and stays.
//
// Where the bytes come from is the opener's business: the local file, or the object store's copy fetched first.

import type { LayerDesc } from './layer.ts';
import type { ClosableSource } from './layer-file.ts';
import { LayerFile } from './layer-file.ts';

export type OpenLayer = (desc: LayerDesc) => Promise<ClosableSource>;

let lastUid = 0;

export class Layer {
  readonly desc: LayerDesc;
  /** Unlike the name, short, and never used again: the block cache goes by it. */
  readonly uid = ++lastUid;
  /** Open, or on its way. */
  file: LayerFile | undefined;
  opening: Promise<LayerFile> | undefined;
  /** Reads under way. */
  pins = 0;
  /** Since the clock hand came by. */
  used = false;
  /** Of the clock handed to OpenLayers, at the last read; for eviction. */
  accessedMs = 0;
  reads = 0;
  /** Out of every map: closed when the last read lets go. */
  retired = false;
  private readonly opener: OpenLayer;

  constructor(desc: LayerDesc, opener: OpenLayer) {
    this.desc = desc;
    this.opener = opener;
  }

  async openFile(): Promise<LayerFile> {
    return LayerFile.open(this.desc, await this.opener(this.desc));
  }
}

export interface OpenLayersLimits {
  readonly openLayersMax: number;
  readonly openLayersBytesMax: number;
}

export class OpenLayers {
  private readonly limits: OpenLayersLimits;
  private readonly now: () => number;
  private readonly open: Layer[] = [];
  private hand = 0;
  private time = 0;
  bytes = 0;

  constructor(limits: OpenLayersLimits, now: () => number) {
    this.limits = limits;
    this.now = now;
  }

  get count(): number {
    return this.open.length;
  }

  /** A read looked at it. */
  touch(layer: Layer): void {
    layer.used = true;
    layer.reads++;
    layer.accessedMs = this.time;
  }

  /** Takes the time for the touches that follow. */
  tick(): void {
    this.time = this.now();
  }

  /** Keeps the layer open until `release`. */
  pin(layer: Layer): void {
    layer.pins++;
    layer.used = true;
  }

  release(layer: Layer): void {
    layer.pins--;
    if (layer.retired && layer.pins === 0) void this.shut(layer);
  }

  /** The open file of a pinned layer. */
  load(layer: Layer): Promise<LayerFile> {
    if (layer.file) return Promise.resolve(layer.file);
    layer.opening ??= this.openLayer(layer).finally(() => {
      layer.opening = undefined;
    });
    return layer.opening;
  }

  private async openLayer(layer: Layer): Promise<LayerFile> {
    return this.take(layer, await layer.openFile());
  }

  /** Open a layer that is in no map yet, from where it was written: its first read does not wait for that. */
  async openWritten(layer: Layer, opener: OpenLayer): Promise<void> {
    layer.used = true;
    await this.take(layer, await LayerFile.open(layer.desc, await opener(layer.desc)));
  }

  private async take(layer: Layer, file: LayerFile): Promise<LayerFile> {
    layer.file = file;
    this.open.push(layer);
    this.bytes += file.memoryBytes;
    await this.makeRoom();
    return file;
  }

  /** The layer is out of every map: close it, at once or when the last read is done. */
  retire(layer: Layer): void {
    layer.retired = true;
    if (layer.pins === 0) void this.shut(layer);
  }

  /** Close it, for its file is about to change places; the next read opens it again. */
  async forget(layer: Layer): Promise<void> {
    if (layer.opening) await layer.opening.catch(() => undefined);
    await this.shut(layer);
  }

  /** The same, unless a read is working with it: then it stays, and the answer is false. */
  async forgetIdle(layer: Layer): Promise<boolean> {
    if (layer.opening) await layer.opening.catch(() => undefined);
    if (layer.pins > 0) return false;
    await this.shut(layer);
    return true;
  }

  private async makeRoom(): Promise<void> {
    const { openLayersMax, openLayersBytesMax } = this.limits;
    let spared = 0;
    while (
      (this.open.length > openLayersMax || this.bytes > openLayersBytesMax) &&
      spared < 2 * this.open.length
    ) {
      if (this.hand >= this.open.length) this.hand = 0;
      const layer = this.open[this.hand]!;
      if (layer.pins > 0 || layer.used) {
        layer.used = false;
        this.hand++;
        spared++;
        continue;
      }
      await this.shut(layer);
    }
  }

  private async shut(layer: Layer): Promise<void> {
    const { file } = layer;
    if (!file) return;
    layer.file = undefined;
    this.open.splice(this.open.indexOf(layer), 1);
    this.bytes -= file.memoryBytes;
    await file.close();
  }
}
