// A customer switches a key off under running services: within the bound reads, writes and new computes of that tenant
// fail with the documented error, through connections that are open as well and for pages that lie in memory; a
// neighbour notices nothing; a restart meanwhile starts without it; and when the key is back, so is the tenant, by
// itself. With a key in a file, and with one in AWS KMS as moto serves it.

import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { CreateKeyCommand, DisableKeyCommand, EnableKeyCommand, KMSClient } from '@aws-sdk/client-kms';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { tenantId } from '../../src/base/ids.ts';
import { type Lsn, parseLsn } from '../../src/base/lsn.ts';
import { ServerError } from '../../src/protocol/pq-client.ts';
import { readControlFile } from '../../src/xlog/control-file.ts';
import { type Moto, startMoto } from '../moto.ts';
import { StockPostgres } from '../pg/stock.ts';
import { loadCluster } from './cluster-history.ts';
import { hexId, type PageStream, StockLog, until, Whole, type WholePageserver } from './whole.ts';

const MAJOR = 16;
const POLL_MS = 500;
/** A busy machine must be able to ask again within it. */
const LIFETIME_MS = 30_000;
/** The machine may be busy: what is measured is reported, what is asserted has room. */
const SLACK_MS = 5000;
const PG_CLASS = { spcOid: 1663, dbOid: 5, relNumber: 1259, forkNum: 0 };

let moto: Moto | string;
let postgres: StockPostgres;
let whole: Whole | undefined;

beforeAll(async () => {
  moto = await startMoto();
  postgres = await StockPostgres.create(MAJOR, { settings: { autovacuum: 'off', wal_keep_size: '1GB' } });
}, 300_000);
afterEach(async () => {
  await whole?.stop();
  whole = undefined;
});
afterAll(async () => {
  await postgres?.destroy();
  if (typeof moto !== 'string') await moto.stop();
});

interface Switch {
  readonly cmk: string;
  off(): Promise<void>;
  on(): Promise<void>;
}

/** A key in a file: who edits the file is obeyed. */
async function fileSwitch(directory: string): Promise<Switch> {
  const path = join(directory, 'acme.json');
  const set = async (state: string): Promise<void> => {
    writeFileSync(path, JSON.stringify({ ...JSON.parse(readFileSync(path, 'utf8')), state }));
  };
  return { cmk: 'local:acme', off: () => set('disabled'), on: () => set('enabled') };
}

const kmsEnv = ({ endpoint, credentials }: Moto): Record<string, string> => ({
  AWS_ACCESS_KEY_ID: credentials.accessKeyId,
  AWS_SECRET_ACCESS_KEY: credentials.secretAccessKey,
  AWS_REGION: 'us-east-1',
  AWS_ENDPOINT_URL_KMS: endpoint,
});

async function kmsSwitch({ endpoint, credentials }: Moto): Promise<Switch> {
  const client = new KMSClient({ region: 'us-east-1', endpoint, credentials });
  const { KeyMetadata } = await client.send(new CreateKeyCommand({}));
  const { KeyId, Arn } = KeyMetadata!;
  return {
    cmk: Arn!,
    off: async () => void (await client.send(new DisableKeyCommand({ KeyId }))),
    on: async () => void (await client.send(new EnableKeyCommand({ KeyId }))),
  };
}

/** One page, as an open stream answers. */
async function pageOver(stream: PageStream, lsn: number): Promise<string> {
  const [answer] = await stream.ask(lsn, [{ kind: 'get-page', rel: PG_CLASS, blkno: 0 }]);
  return answer!.kind === 'error' ? answer!.message : answer!.kind;
}

const REFUSED = /cannot be read or written: its customer key is switched off/;

async function sqlStateOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return 'it went well';
  } catch (error) {
    return error instanceof ServerError ? error.sqlState : `${error}`;
  }
}

async function backup(pageserver: WholePageserver, tenant: string, timeline: string): Promise<void> {
  const client = await pageserver.client();
  try {
    for await (const _ of client.copyOut(`basebackup ${tenant} ${timeline}`));
  } finally {
    client.destroy();
  }
}

interface Work {
  /** The ends of records: safekeepers acknowledge no others. */
  readonly middle: Lsn;
  readonly end: Lsn;
  log(to: Lsn): StockLog;
}

/** Some more of it, where an import leaves off. */
async function work(began: Lsn): Promise<Work> {
  await postgres.start();
  await postgres.sql('create table if not exists t as select i from generate_series(1, 5000) i');
  const [{ lsn }] = await postgres.sql('select pg_current_wal_insert_lsn() as lsn');
  await postgres.sql('insert into t select i from generate_series(1, 5000) i');
  await postgres.stop();
  const control = readControlFile((await loadCluster(postgres.dataDirectory)).controlFile!);
  const directory = join(postgres.dataDirectory, 'pg_wal');
  const log = (to: Lsn): StockLog => new StockLog(directory, MAJOR, control.systemIdentifier, began, to);
  return { log, middle: parseLsn(lsn), end: control.checkPoint as Lsn };
}

describe.each(['a file', 'AWS KMS (moto)'])('a key in %s', kind => {
  test('is switched off and on under a running pageserver and safekeepers', async context => {
    const inKms = kind !== 'a file';
    if (inKms && typeof moto === 'string') return context.skip(`skipped: revocation in AWS KMS: ${moto}`);
    whole = await Whole.start({
      env: {
        LAKEBED_KEY_POLL: `${POLL_MS}ms`,
        LAKEBED_KEY_LIFETIME: `${LIFETIME_MS}ms`,
        ...(inKms ? kmsEnv(moto as Moto) : {}),
      },
    });
    const w = whole;
    await w.during(async () => {
      const [pageserver] = w.pageservers as [WholePageserver];
      const [acme, other] = [tenantId(hexId()), tenantId(hexId())];
      const timeline = hexId();
      const key = inKms ? await kmsSwitch(moto as Moto) : await fileSwitch(join(w.dir, 'keys'));
      await pageserver.attach(acme, 1, { encryption_key: key.cmk });
      await pageserver.attach(other, 1);
      // To be under another key than it is under is refused, before anything changes.
      const elsewhere = {
        mode: 'AttachedSingle',
        generation: 1,
        tenant_conf: { encryption_key: 'local:else' },
      };
      expect((await pageserver.call('PUT', `tenant/${acme}/location_config`, elsewhere)).status).toBe(409);
      for (const tenant of [acme, other]) {
        await pageserver.importData(tenant, timeline, postgres.dataDirectory, MAJOR);
      }
      const began = (await pageserver.lastRecordLsn(acme, timeline)) as Lsn;
      const { log, middle, end } = await work(began);
      for (const tenant of [acme, other]) await w.push(tenant, timeline, log(middle));
      const caughtUp = (tenant: string, lsn: number) => async (): Promise<boolean> =>
        (await pageserver.lastRecordLsn(tenant, timeline)) >= lsn;
      for (const tenant of [acme, other]) await until(caughtUp(tenant, middle));
      const [ours, theirs] = await Promise.all(
        [acme, other].map(tenant => pageserver.pages(tenant, timeline)),
      );
      expect(await pageOver(ours!, began)).toBe('get-page');

      await key.off();
      const off = performance.now();
      await until(async () => REFUSED.test(await pageOver(ours!, began)), POLL_MS + LIFETIME_MS + SLACK_MS);
      console.info(
        `a key in ${kind}: pages in memory were refused after ${Math.round(performance.now() - off)} ms` +
          ` (bound ${POLL_MS + LIFETIME_MS} ms)`,
      );
      const path = (tenant: string): string => `tenant/${tenant}/timeline/${timeline}`;
      const page = (tenant: string): Promise<number> =>
        pageserver.call('GET', `${path(tenant)}/getpage?key=0000000100000000`).then(({ status }) => status);
      expect(await page(acme)).toBe(403);
      expect(await sqlStateOf(backup(pageserver, acme, timeline))).toBe('42501');
      const branch = { new_timeline_id: hexId(), ancestor_timeline_id: timeline };
      expect((await pageserver.call('POST', `tenant/${acme}/timeline`, branch)).status).toBe(403);
      // Safekeepers, each of which asks for itself: nothing of this tenant is committed while it lasts.
      const shut = async (): Promise<boolean> => {
        const texts = w.safekeepers.map(sk =>
          fetch(`http://127.0.0.1:${sk.httpPort}/metrics`).then(r => r.text()),
        );
        return (await Promise.all(texts)).every(text => /lakebed_key_tenants{phase="shut"} [1-9]/.test(text));
      };
      await until(shut, POLL_MS + LIFETIME_MS + SLACK_MS);
      const refused = w.push(acme, timeline, log(end)).then(
        () => 'pushed',
        () => 'refused',
      );
      // The neighbour: open connections, new ones, writes.
      expect(await pageOver(theirs!, began)).toBe('get-page');
      expect(await page(other)).toBe(200);
      expect(await sqlStateOf(backup(pageserver, other, timeline))).toBe('it went well');
      await w.push(other, timeline, log(end));
      await until(caughtUp(other, end));
      expect(await Promise.race([refused, new Promise(done => setTimeout(done, POLL_MS, 'waits'))])).not.toBe(
        'pushed',
      );

      // A start while the key is off: the neighbour is served, the tenant is refused and not unknown.
      await pageserver.kill('SIGKILL');
      await pageserver.start();
      await until(async () => (await page(other)) === 200);
      expect((await pageserver.call('GET', `tenant/${acme}`)).status).toBe(403);
      expect(await sqlStateOf(backup(pageserver, acme, timeline))).toBe('42501');

      await key.on();
      const on = performance.now();
      await until(async () => (await page(acme)) === 200);
      console.info(`a key in ${kind}: back after ${Math.round(performance.now() - on)} ms, after a restart`);
      expect(await refused).toBe('pushed');
      await until(caughtUp(acme, end));
      expect(await sqlStateOf(backup(pageserver, acme, timeline))).toBe('it went well');
      ours!.close();
      theirs!.close();

      // Once more without a restart: the same connection is answered again.
      const again = await pageserver.pages(acme, timeline);
      await key.off();
      await until(async () => REFUSED.test(await pageOver(again, began)), POLL_MS + LIFETIME_MS + SLACK_MS);
      await key.on();
      await until(async () => (await pageOver(again, began)) === 'get-page');
      again.close();
    });
  }, 300_000);
});
