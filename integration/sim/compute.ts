// A compute: one proposer after another (each ends with a restart, as a background worker does), one stretch of
// WAL of its own, and somebody who writes.

import type { Lsn } from '../../src/base/lsn.ts';
import { ModelWal } from './model-wal.ts';
import { Proposer } from './proposer.ts';
import type { ComputeState, ProposerOptions } from './proposer-options.ts';

export interface ComputeOptions extends Omit<ProposerOptions, 'compute' | 'onRestart' | 'onSynced'> {
  readonly restartMs: number;
  /** Mean time between two records. */
  readonly writeMs: number;
  readonly recordBytesMax: number;
  /** Chance that a record is a switch: the rest of the segment is left empty. */
  readonly switches: number;
  readonly onSynced?: (lsn: Lsn) => void;
}

export class Compute {
  readonly name: string;
  private readonly options: ComputeOptions;
  private readonly state: ComputeState = { wal: undefined, mineLastElectedTerm: 0 };
  private proposer: Proposer | undefined;
  private sequence = 0;
  alive = true;
  /** How often its proposer began anew, and why last. */
  restarts = 0;
  lastRestart = '';
  syncedAt: Lsn | undefined;

  constructor(options: ComputeOptions) {
    this.options = options;
    this.name = options.name;
  }

  start(): void {
    this.launch();
    if (!this.options.sync) this.writeLater();
  }

  kill(): void {
    this.alive = false;
    this.proposer?.stop();
  }

  get elected(): boolean {
    return this.alive && (this.proposer?.isElected ?? false);
  }

  get term(): number {
    return this.proposer?.term ?? 0;
  }

  get commitLsn(): Lsn {
    return this.proposer?.commitLsn ?? (0 as Lsn);
  }

  get written(): Lsn {
    return this.state.wal?.end ?? (0 as Lsn);
  }

  private launch(): void {
    if (!this.alive) return;
    const { clock, restartMs } = this.options;
    this.proposer = new Proposer({
      ...this.options,
      compute: this.state,
      onRestart: why => {
        this.restarts++;
        this.lastRestart = why;
        clock.at(restartMs, () => this.launch());
      },
      onSynced: lsn => {
        this.alive = false;
        this.syncedAt = lsn;
        this.options.onSynced?.(lsn);
      },
    });
    this.proposer.start();
  }

  private writeLater(): void {
    const { clock, random, writeMs } = this.options;
    clock.at(random.unit() * 2 * writeMs, () => {
      if (!this.alive) return;
      this.write();
      this.writeLater();
    });
  }

  private write(): void {
    const { random, recordBytesMax, switches } = this.options;
    if (this.proposer === undefined || !this.proposer.isElected) return;
    if (random.chance(switches)) {
      this.proposer.produceSwitch();
      return;
    }
    const count = 1 + random.below(3);
    for (let i = 0; i < count; i++) {
      const size = 40 + random.below(random.chance(0.2) ? recordBytesMax : 300);
      this.proposer.produce(ModelWal.payload(`${this.name}.${this.proposer.term}`, this.sequence++, size));
    }
  }
}
