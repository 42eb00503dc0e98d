// What goes on in any case, every now and then: the broker's news between peers, the saving of control files, peers
// that catch up with each other, removal of WAL that the pageserver and the object store have; and a process whose
// disk failed is started anew.

import { INVALID_LSN, type Lsn } from '../../src/base/lsn.ts';
import { firstSegmentToKeep } from '../../src/safekeeper/removal-plan.ts';
import type { PeerInfo } from '../../src/safekeeper/timeline-handle.ts';
import { recoverFromPeer } from './peer-recovery.ts';
import type { SimRandom } from './random.ts';
import { addressOf, SEGMENT_BYTES, type SimSafekeeper } from './safekeeper.ts';
import type { Stage } from './stage.ts';

export class Upkeep {
  private readonly stage: Stage;
  private readonly random: SimRandom;
  peerRecoveries = 0;

  constructor(stage: Stage, random: SimRandom) {
    this.stage = stage;
    this.random = random;
  }

  /** The broker's news, the keeping of control files, removal of WAL: every now and then. */
  start(): void {
    const { random, stage } = this;
    const { clock } = stage;
    clock.at(150 + random.below(200), () => {
      for (const node of this.stage.nodes) {
        const { timeline } = node;
        if (node.up) this.stage.try(node.all!.tick());
        const failedHalfway = node.all?.damaged().some(({ fault }) => fault.code === 'disk-failed');
        if (timeline === undefined && !failedHalfway) continue;
        if (timeline === undefined || timeline.signal.aborted) {
          // Its disk failed, under way or as a timeline was made: the process is started anew.
          node.kill();
          this.stage.bootLater(node, 50);
          continue;
        }
        if (random.chance(0.7)) this.tellPeers(node.id);
        if (random.chance(0.1)) this.consume(node);
        if (this.stage.luck.peerRecovery && random.chance(0.2)) this.recoverFromPeer(node);
      }
      this.start();
    });
  }

  private tellPeers(id: number): void {
    const info = this.infoOf(this.stage.nodes[id - 1]!);
    for (const peer of this.stage.nodes) {
      if (peer.id === id || this.random.chance(0.2)) continue;
      this.stage.clock.at(this.random.below(80), () => {
        const { timeline } = peer;
        if (timeline !== undefined && !timeline.signal.aborted) this.stage.try(timeline.recordPeer(info));
      });
    }
  }

  /** With what the broker said a while ago. */
  private recoverFromPeer(node: SimSafekeeper): void {
    const peers = this.stage.nodes
      .filter(other => other.timeline !== undefined)
      .map(other => this.infoOf(other));
    const { random, stage } = this;
    const { clock, nodes } = stage;
    const work = async (): Promise<void> => {
      await clock.sleep(random.below(100));
      const bytes = await recoverFromPeer(node, { clock, random, nodes }, peers);
      if (bytes === 0) return;
      this.stage.trace(`${node.address} has caught up by ${bytes} bytes`);
      this.peerRecoveries++;
    };
    this.stage.try(work());
  }

  private infoOf(node: SimSafekeeper): PeerInfo {
    const { id } = node;
    const { control, memory, flushLsn, lastLogTerm } = node.timeline!.status();
    return {
      nodeId: id,
      term: control.term,
      lastLogTerm,
      flushLsn,
      ...memory,
      localStartLsn: control.localStartLsn,
      pgAddress: addressOf(id),
      httpAddress: addressOf(id),
    };
  }

  /** The pageserver and the object store have some WAL: it may go here. */
  private consume(node: SimSafekeeper): void {
    const { timeline } = node;
    const status = timeline!.status();
    const { commitLsn } = status.memory;
    if (commitLsn === INVALID_LSN) return;
    const backupLsn = (commitLsn - (commitLsn % SEGMENT_BYTES)) as Lsn;
    const work = async (): Promise<void> => {
      await timeline!.setBackupLsn(backupLsn);
      await timeline!.recordPeer({
        ...status.memory,
        nodeId: 99,
        term: 0,
        lastLogTerm: 0,
        flushLsn: INVALID_LSN,
        commitLsn: INVALID_LSN,
        backupLsn,
        remoteConsistentLsn: commitLsn,
        localStartLsn: INVALID_LSN,
        pgAddress: '',
        httpAddress: '',
      });
      await timeline!.checkpoint();
      const { control, flushLsn } = timeline!.status();
      await timeline!.removeSegmentsBelow(firstSegmentToKeep({ control, flushLsn, laggardLsn: undefined }));
    };
    this.stage.try(work());
  }
}
