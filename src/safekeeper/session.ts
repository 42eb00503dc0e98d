// One connected proposer: its messages go to the timeline in order, pageserver feedback for it waits here until
// its connection can take it.
//
// Answers to WalReceivers of safekeeper/src/receive_wal.rs.

import type { PageserverFeedback } from '../protocol/feedback.ts';
import type { AcceptorMessage, ProposerMessage } from '../protocol/walproposer.ts';
import { FeedbackBox } from './readers.ts';
import type { ProposerHandle } from './timeline-handle.ts';
import { Watch } from './watch.ts';

export interface SessionPorts {
  process(message: ProposerMessage): Promise<AcceptorMessage | undefined>;
  /** Resolves when everything taken in before is durable. */
  settle(): Promise<void>;
  forget(): void;
}

export class ProposerSession implements ProposerHandle {
  readonly id: number;
  status: 'voting' | 'streaming' = 'voting';
  private readonly ports: SessionPorts;
  private readonly box = new FeedbackBox();
  private readonly arrivals = new Watch();

  constructor(id: number, ports: SessionPorts) {
    this.id = id;
    this.ports = ports;
  }

  async process(message: ProposerMessage): Promise<AcceptorMessage | undefined> {
    const answer = await this.ports.process(message);
    if (message.kind === 'elected') this.status = 'streaming';
    return answer;
  }

  feedback(feedback: PageserverFeedback): void {
    this.box.put(feedback);
    this.arrivals.notify();
  }

  async nextFeedback(signal?: AbortSignal): Promise<PageserverFeedback> {
    for (;;) {
      const feedback = this.box.take();
      if (feedback !== undefined) return feedback;
      await this.arrivals.wait(() => !this.box.empty, signal);
    }
  }

  /** The timeline ended. */
  end(reason: unknown): void {
    this.arrivals.end(reason);
  }

  /** What came before is synced even though nobody waits for its answer: WAL received is WAL kept. */
  async close(): Promise<void> {
    this.ports.forget();
    this.arrivals.end(new Error('the session is closed'));
    await this.ports.settle().catch(() => {});
  }
}
