import { expect, test } from 'vitest';
import { SmallCluster } from '../../integration/pageserver/small-cluster.ts';
import type { Log } from '../base/ports.ts';
import { pg17 } from '../xlog/dialects/17.ts';
import { TimelineSink } from './timeline-sink.ts';

const REL = { spcOid: 1663, dbOid: 5, relNumber: 16384 };

test('records of a manager that is not known are told of, once for each manager', async () => {
  const cluster = await SmallCluster.make(pg17);
  const told: unknown[] = [];
  const note = (_message: string, fields?: object): void => void told.push(fields);
  const log: Log = { debug: note, info: note, warn: note, error: note, with: () => log };
  const { ingest } = cluster;
  const { timeline, dialect } = ingest.pgdata;
  const sink = new TimelineSink({
    timeline,
    dialect,
    ingest: async () => ingest,
    log,
    remoteConsistentLsn: () => 0,
  });
  await sink.open();
  let lsn = 1000;
  for (const rmid of [10, 200, 200, 201, 200]) {
    const info = rmid === 10 ? 0 : 0x10;
    const blocks = [{ id: 0, ...REL, blkno: 0, willInit: true, data: new Uint8Array(8) }];
    await cluster.take({ rmid, info, main: new Uint8Array(3), blocks }, (lsn += 80));
    sink.commit();
  }
  expect(told).toEqual([
    { manager: 200, before: '0/488' },
    { manager: 201, before: '0/528' },
  ]);
});
