// Waiting for a condition to become true: those who wait are asked again whenever something changed. No polling,
// no timer; a wait ends by its condition, its own signal, or the end of what it watches.

interface Waiter {
  /** True when the wait is over; throws to fail it. */
  readonly done: () => boolean;
  readonly resolve: () => void;
  readonly reject: (reason: unknown) => void;
  readonly detach: () => void;
}

export class Watch {
  private readonly waiters = new Set<Waiter>();
  private ended: { readonly reason: unknown } | undefined;

  get size(): number {
    return this.waiters.size;
  }

  /** Resolves once `done` says true; fails with what it throws, with the signal's reason, or with the end's. */
  wait(done: () => boolean, signal?: AbortSignal): Promise<void> {
    return new Promise((resolve, reject) => {
      if (this.ended !== undefined) throw this.ended.reason;
      signal?.throwIfAborted();
      if (done()) {
        resolve();
        return;
      }
      const onAbort = (): void => {
        this.waiters.delete(waiter);
        reject(signal!.reason);
      };
      signal?.addEventListener('abort', onAbort, { once: true });
      const detach = (): void => signal?.removeEventListener('abort', onAbort);
      const waiter: Waiter = { done, resolve, reject, detach };
      this.waiters.add(waiter);
    });
  }

  /** Resolves at the next `notify`. */
  next(signal?: AbortSignal): Promise<void> {
    let first = true;
    return this.wait(() => {
      const over = !first;
      first = false;
      return over;
    }, signal);
  }

  /** Something changed. */
  notify(): void {
    for (const waiter of this.waiters) {
      try {
        if (!waiter.done()) continue;
        this.finish(waiter);
        waiter.resolve();
      } catch (error) {
        this.finish(waiter);
        waiter.reject(error);
      }
    }
  }

  /** Nothing will change any more: every wait, now and later, fails with this reason. */
  end(reason: unknown): void {
    if (this.ended !== undefined) return;
    this.ended = { reason };
    for (const waiter of this.waiters) {
      this.finish(waiter);
      waiter.reject(reason);
    }
  }

  private finish(waiter: Waiter): void {
    this.waiters.delete(waiter);
    waiter.detach();
  }
}
