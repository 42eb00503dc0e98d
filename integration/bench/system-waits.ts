// What the sessions of a load wait for, sampled from pg_stat_activity: which part of their time goes to commits
// (the quorum of safekeepers), to pages (the pageserver), to each other's locks, and to work of their own. A run that
// stands still tells here at what.

import { type Server, session } from './system-servers.ts';

export const WAITS = ['commit', 'page', 'lock', 'client', 'other'] as const;
export type Wait = (typeof WAITS)[number];
/** Parts of the sessions' time, together 1. */
export type Waits = Readonly<Record<Wait | 'running', number>>;

const SAMPLE_MS = 250;

const SAMPLE = `select coalesce(wait_event_type || '/' || wait_event, 'running') as event, count(*)::int as n
  from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid() group by 1`;

function waitOf(event: string): Wait | 'running' {
  if (event === 'running') return event;
  if (event === 'IPC/SyncRep' || event === 'LWLock/SyncRep' || event.startsWith('IO/Wal')) return 'commit';
  if (event.startsWith('Extension/Neon/PS')) return 'page';
  if (event.startsWith('Lock/')) return 'lock';
  return event.startsWith('Client/') ? 'client' : 'other';
}

/** Runs a load, and looks on. */
export async function watched<T>(server: Server, load: () => Promise<T>): Promise<{ ran: T; waits: Waits }> {
  const counts: Record<Wait | 'running', number> = {
    ...{ commit: 0, page: 0, lock: 0, client: 0, other: 0, running: 0 },
  };
  let over = false;
  const looking = session(server, async client => {
    while (!over) {
      await new Promise(done => setTimeout(done, SAMPLE_MS));
      const { rows } = await client.query<{ event: string; n: number }>(SAMPLE);
      for (const { event, n } of rows) counts[waitOf(event)] += n;
    }
  });
  try {
    const ran = await load();
    over = true;
    await looking;
    const all = Object.values(counts).reduce((sum, n) => sum + n, 0) || 1;
    const parts = Object.entries(counts).map(([wait, n]) => [wait, n / all]);
    return { ran, waits: Object.fromEntries(parts) as Waits };
  } finally {
    over = true;
    await looking.catch(() => {});
  }
}
