// Promises we make to ourselves. A broken one is a bug of ours: it is thrown as a Violation, never caught to
// go on. In a timeline it poisons the timeline; elsewhere it ends the process. Expected trouble is a Fault
// (fault.ts) instead.

export class Violation extends Error {
  override readonly name = 'Violation';
}

export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new Violation(message);
}

export function unreachable(value: never): never {
  throw new Violation(`unreachable: ${JSON.stringify(value)}`);
}
