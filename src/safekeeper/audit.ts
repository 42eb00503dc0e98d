// The ordering promises of the acceptor, checked on every step and kept on: what may never go back, what must be
// durable before it is told, what must be gone before it is renamed. A breach is a Violation: a bug of ours. The
// timeline then stops, with its disk as the last whole step left it.
//
//   told outside       must have gone before, in the same effects or earlier ones
//   a vote's term      persist of that term
//   a flush position   flush
//   a commit position  persist of it (what is told is what the control file says)
//   a new history      truncate, if anything past the common point was there

import { assert } from '../base/assert.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { AcceptorMessage } from '../protocol/walproposer.ts';
import { type AcceptorState, flushLsnOf, type Input, type Step } from './acceptor-state.ts';
import type { ControlState } from './control-state.ts';

export interface Audit {
  /** Before its effects are carried out. */
  step(before: AcceptorState, input: Input, step: Step): void;
  /** Before a message is told: against what is on the disk. */
  told(message: AcceptorMessage, disk: ControlState, durableLsn: Lsn): void;
}

function auditStep(before: AcceptorState, _input: Input, { state, effects }: Step): void {
  checkState(state);
  let synced = before.wal.flushLsn;
  let written = before.wal.recordLsn;
  let disk = before.control;
  let truncated = false;
  for (const effect of effects) {
    switch (effect.do) {
      case 'write':
        assert(effect.at >= before.wal.writeLsn, 'a write over what is written');
        break;
      case 'flush':
        assert(effect.to <= written, 'a flush of what was not written');
        assert(effect.to >= synced, 'a flush of less than is flushed');
        synced = effect.to;
        break;
      case 'truncate':
        assert(
          effect.to >= before.memory.commitLsn,
          `truncation below commit ${formatLsn(before.memory.commitLsn)}`,
        );
        truncated = true;
        synced = written = effect.to;
        break;
      case 'persist':
        checkPersist(disk, effect.control);
        if (effect.control.termHistory !== before.control.termHistory) {
          assert(truncated || synced === before.wal.writeLsn, 'a history adopted before its log was cut');
        }
        disk = effect.control;
        break;
      case 'reply':
        if (effect.answer.kind === 'message') {
          checkTold(effect.answer.message, disk, Math.max(synced, disk.timelineStartLsn) as Lsn);
        }
        break;
    }
  }
  assert(disk === state.control, 'the control record of the state is not the one persisted');
  assert(synced === state.wal.flushLsn, 'the flush position of the state is not the one flushed');
  assert(truncated || state.wal.writeLsn >= before.wal.writeLsn, 'written WAL vanished without a truncation');
  assert(state.memory.commitLsn >= before.memory.commitLsn, 'commit went back');
}

function checkState(state: AcceptorState): void {
  const { wal, control, memory } = state;
  assert(wal.flushLsn <= wal.recordLsn, 'flush is past the last record');
  assert(wal.recordLsn <= wal.writeLsn, 'the last record is past what is written');
  assert(memory.commitLsn <= flushLsnOf(state), 'commit is past flush');
  assert(control.commitLsn <= memory.commitLsn, 'the control file is ahead of memory');
  const history = control.termHistory;
  if (history.length > 0) {
    assert(history[history.length - 1]!.term <= control.term, 'the history is ahead of the term');
  }
}

/** What the control file may never forget. */
export function checkPersist(before: ControlState, after: ControlState): void {
  assert(after.tenantId === before.tenantId && after.timelineId === before.timelineId, 'another timeline');
  assert(after.term >= before.term, `term went back from ${before.term} to ${after.term}`);
  assert(after.commitLsn >= before.commitLsn, 'the persisted commit went back');
  assert(after.membership.generation >= before.membership.generation, 'the generation went back');
}

/** Is everything this message says on disk already? */
function checkTold(message: AcceptorMessage, disk: ControlState, flushLsn: Lsn): void {
  assert(message.term <= disk.term, `term ${message.term} told, ${disk.term} persisted`);
  switch (message.kind) {
    case 'greeting-reply':
      assert(
        message.membership.generation <= disk.membership.generation,
        'membership told before it was persisted',
      );
      break;
    case 'vote-response':
      assert(message.flushLsn <= flushLsn, `flush ${formatLsn(message.flushLsn)} told before it was durable`);
      break;
    case 'append-response':
      assert(message.flushLsn <= flushLsn, `flush ${formatLsn(message.flushLsn)} told before it was durable`);
      assert(message.commitLsn <= disk.commitLsn, 'commit told before it was persisted');
      break;
  }
}

export const AUDIT: Audit = { step: auditStep, told: checkTold };
