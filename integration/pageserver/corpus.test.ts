// Recorded logs of Neon's Postgres, taken in and read back at many LSNs: every page of every relation, every length,
// SLRU page, relation map and prepared transaction must be what replay of the same log makes, and what the final
// directory holds.

import { expect, test } from 'vitest';
import { formatLsn } from '../../src/base/lsn.ts';
import { Ingest } from '../../src/pageserver/ingest.ts';
import { PgData } from '../../src/pageserver/pgdata.ts';
import { readControlFile } from '../../src/xlog/control-file.ts';
import { dialectOfMajor } from '../../src/xlog/dialects/all.ts';
import { WalReader } from '../../src/xlog/reader.ts';
import { Cluster } from '../../src/xlog/replay/cluster.ts';
import { ClusterComparison } from '../../src/xlog/replay/compare.ts';
import { Replayer } from '../../src/xlog/replay/replayer.ts';
import { corpora, NO_CORPUS, tarMembers } from '../redo/corpus.ts';
import { SimRandom } from '../sim/random.ts';
import { compareMoment, type Moment, moment } from './cluster-history.ts';
import { loadBase, readLog } from './corpus-log.ts';
import { MemoryTimeline } from './memory-timeline.ts';

const MOMENTS = 6;
const SEED = Number(process.env['SEED'] ?? 1);

const found = corpora();
test.skipIf(found.length > 0)(`skipped: ${NO_CORPUS}`, () => {});

test.each(found.map(c => [c.name, c] as const))(
  '%s: every page at several LSNs, as replay makes it',
  async (_, corpus) => {
    const dialect = dialectOfMajor(corpus.major, 'neon');
    const memory = new MemoryTimeline(dialect);
    const pgdata = new PgData(memory.timeline, dialect);
    const cluster = await loadBase(corpus, pgdata);
    const control = readControlFile(cluster.controlFile!);
    const ingest = new Ingest(pgdata);
    await ingest.load();
    const replayer = new Replayer(dialect, cluster, { trackCommitTimestamp: control.trackCommitTimestamp });
    const start = control.checkPointCopy.redo;
    const size = control.xlogSegSize;

    let records = 0;
    const lsns: number[] = [];
    await readLog(corpus, new WalReader({ start, dialect, segmentSize: size }), start, size, record => {
      lsns.push(record.endLsn);
    });
    const random = new SimRandom(SEED);
    const chosen = new Set(Array.from({ length: MOMENTS - 1 }, () => lsns[random.below(lsns.length)]!));
    chosen.add(lsns[lsns.length - 1]!);
    const moments: Moment[] = [];
    await readLog(corpus, new WalReader({ start, dialect, segmentSize: size }), start, size, async record => {
      records++;
      replayer.replay(record);
      const waits = ingest.record(record);
      if (waits !== undefined) await waits;
      if (records % 100 === 0) ingest.advance();
      if (chosen.has(record.endLsn)) moments.push(moment(cluster, record.endLsn));
    });
    ingest.advance();
    expect(replayer.mismatches).toEqual([]);
    expect(moments.length).toBe(chosen.size);
    expect(ingest.unknownRecords).toBe(0);

    let pages = 0;
    for (const then of moments) {
      const { differences, pages: compared } = await compareMoment(pgdata, then);
      expect(differences, `at ${formatLsn(then.lsn)}, seed ${SEED}`).toEqual([]);
      pages += compared;
    }
    expect(pages).toBeGreaterThan(5000);

    // A start at the end finds what the running one has.
    const again = new PgData(memory.timeline, dialect);
    await again.ready();
    expect(again.logicalSize).toBe(pgdata.logicalSize);
    expect((await compareMoment(again, moments[0]!)).differences).toEqual([]);
    expect((await compareMoment(again, moments[moments.length - 1]!)).differences).toEqual([]);

    const final = new Cluster();
    for await (const { name, bytes } of tarMembers(`${corpus.path}/final.tar.zst`)) {
      final.loadFile(name.replace(/^(\.\/)?data\//, ''), bytes.slice());
    }
    const finalControl = readControlFile(final.controlFile!);
    const comparison = new ClusterComparison(dialect, cluster, final).run(
      finalControl.checkPointCopy.nextMulti,
    );
    expect(comparison.differences).toEqual([]);
    // The checkpoint says what the final control file does, as far as it is kept exactly.
    const checkpoint = await pgdata.checkpoint(ingest.lastRecordLsn);
    const last = finalControl.checkPointCopy;
    expect(checkpoint.nextXid).toBeGreaterThanOrEqual(last.nextXid);
    expect(checkpoint.nextXid).toBeLessThan(last.nextXid + 1024);
    expect(checkpoint.nextOid).toBeGreaterThanOrEqual(last.nextOid);
    expect({ ...checkpoint, nextXid: 0, nextOid: 0 }).toMatchObject({
      nextMulti: last.nextMulti,
      nextMultiOffset: last.nextMultiOffset,
      oldestXid: last.oldestXid,
      oldestMulti: last.oldestMulti,
      redo: ingest.lastRecordLsn,
    });
    console.info(`${corpus.name}: ${records} records, ${pages} pages compared at ${moments.length} LSNs`);
  },
  300_000,
);
