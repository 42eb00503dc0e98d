// How the garbage collector counts buffers. V8 asks for a whole collection of the heap after every 64 MB of new
// buffers, however many of them are gone again: a pageserver that takes in 100 MB of WAL a second makes five times that
// in buffers, and stopped eight times a second for a heap of 10 MB. Counted with the heap, and given the heap's room to
// grow, they are collected a fifth as often; the process holds a few hundred MB more at its most.
//
// The young generation's size, which also matters, can only be set as Node starts: see bin/pageserver. A Node that no
// longer has the flag says so and goes on.

import { setFlagsFromString } from 'node:v8';

export function countBuffersWithTheHeap(): void {
  setFlagsFromString('--external-memory-accounted-in-global-limit');
}
