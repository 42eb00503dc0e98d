import { describe, expect, test } from 'vitest';
import { SimBlobs } from '../../integration/sim/blobs.ts';
import { SimClock } from '../../integration/sim/clock.ts';
import { SimDisk } from '../../integration/sim/disk.ts';
import { SimKeys } from '../../integration/sim/keys.ts';
import { SimRandom } from '../../integration/sim/random.ts';
import { utf8 } from '../base/bytes.ts';
import { httpStatus, isFault, sqlState } from '../base/fault.ts';
import { Metrics } from '../base/metrics.ts';
import type { AuditLine } from './audit.ts';
import { openVault } from './disk-vault.ts';
import { KeyCalls } from './key-calls.ts';
import { keyMetrics } from './key-metrics.ts';
import { type KeyEvent, KeyRing } from './key-ring.ts';
import { KEY_TIMES } from './key-state.ts';
import { blobKeyStore, cachedKeyStore } from './key-store.ts';
import type { Vault } from './vault.ts';

const A = 'aa'.repeat(16);
const B = 'bb'.repeat(16);
const MINUTE = 60_000;

function world(seed = 1) {
  const random = new SimRandom(seed);
  const clock = new SimClock();
  const kms = new SimKeys({ random: random.split('kms'), clock, latencyMs: 50 });
  const blobs = new SimBlobs({ random: random.split('blobs'), clock, latencyMs: 30 });
  const near = new SimBlobs({ random: random.split('near') });
  const disk = new SimDisk({ random: random.split('disk') });
  const lines: AuditLine[] = [];
  const events: KeyEvent[] = [];
  const store = cachedKeyStore(blobKeyStore(blobs), blobKeyStore(near));
  const { requestMs } = KEY_TIMES;
  const makeRing = (node: string): KeyRing =>
    new KeyRing({
      store,
      calls: new KeyCalls({
        services: [kms],
        clock,
        audit: { line: l => lines.push(l) },
        who: node,
        requestMs,
      }),
      random: random.split(node),
      times: KEY_TIMES,
      defaultCmk: kms.make('default'),
      node,
      told: event => events.push(event),
    });
  const ring = makeRing('node-1');
  kms.make('a');
  kms.make('b');
  const vaultOf = (tenant: string, r = ring): Vault =>
    openVault({
      disk,
      directory: tenant,
      scope: { tenant },
      keys: r.attach(tenant, `sim:${tenant[0]}`),
      random,
    });
  async function pass(ms: number): Promise<void> {
    let over = false;
    clock.at(ms, () => (over = true));
    await clock.run(clock.monotonic() + ms, () => over);
  }
  /** Runs the clock until the work is done. */
  async function done<T>(work: Promise<T>): Promise<T> {
    let over = false;
    const settled = work.then(
      value => ({ value }),
      error => ({ error }),
    );
    void settled.then(() => (over = true));
    await clock.run(clock.monotonic() + 10 * MINUTE, () => over);
    const result = await settled;
    if ('error' in result) throw result.error;
    return result.value;
  }
  return { random, clock, kms, blobs, near, disk, lines, events, ring, makeRing, vaultOf, pass, done, store };
}

type World = ReturnType<typeof world>;

/** Whether the tenant's files can be read and written at this moment, without waiting for anything. */
async function works({ done }: World, vault: Vault): Promise<boolean> {
  try {
    await done(vault.writeFile('probe', utf8('x')));
    await done(vault.readFile('probe'));
    return true;
  } catch (error) {
    expect(isFault(error, 'key-revoked'), String(error)).toBe(true);
    return false;
  }
}

describe('a ring', () => {
  test('makes a tenant’s keys at first use, and finds them again', async () => {
    const w = world();
    await w.done(w.vaultOf(A).writeFile('f', utf8('kept')));
    w.ring.close();
    const again = w.makeRing('node-2');
    expect(await w.done(w.vaultOf(A, again).readFile('f'))).toEqual(utf8('kept'));
    expect(again.status()).toMatchObject([
      { tenant: A, phase: 'open', cmk: 'sim:a', sequence: 1, keksHeld: 1 },
    ]);
  });

  test('two services that meet a new tenant at once agree on its keys', async () => {
    for (let seed = 0; seed < 10; seed++) {
      const w = world(seed);
      const other = w.makeRing('node-2');
      const [one, two] = [w.vaultOf(A), w.vaultOf(A, other)];
      await w.done(Promise.all([one.writeFile('f', utf8('1')), two.writeFile('g', utf8('2'))]));
      expect(await w.done(one.readFile('g'))).toEqual(utf8('2'));
      expect(await w.done(two.readFile('f'))).toEqual(utf8('1'));
    }
  });

  test('asks the key service on no data path: a thousand files, one call', async () => {
    const w = world();
    const vault = w.vaultOf(A);
    await w.done(vault.writeFile('f', utf8('x')));
    const before = w.kms.calls;
    for (let i = 0; i < 1000; i++) await vault.writeFile(`f${i % 10}`, utf8('x'));
    expect(w.kms.calls - before).toBe(0);
  });

  test('asks again every poll, and no oftener while all is well', async () => {
    const w = world();
    w.ring.attach(A, 'sim:a');
    await w.pass(30 * MINUTE);
    expect(w.kms.calls).toBeGreaterThanOrEqual(30);
    expect(w.kms.calls).toBeLessThanOrEqual(36);
  });
});

describe('revocation', () => {
  test('switched off: refused within a poll, wiped, told, the other tenant untouched; on again: goes on by itself', async () => {
    const w = world();
    const [a, b] = [w.vaultOf(A), w.vaultOf(B)];
    expect(await works(w, a)).toBe(true);
    expect(await works(w, b)).toBe(true);
    const open = await w.done(a.open('probe'));
    w.kms.set('a', 'disabled');
    await w.pass(MINUTE + 200);
    expect(await works(w, a)).toBe(false);
    await expect(open.read(0, 1)).rejects.toMatchObject({ code: 'key-revoked' });
    await expect(a.open('probe')).rejects.toThrow(
      `tenant ${A} cannot be read or written: its customer key is switched off`,
    );
    expect(await works(w, b)).toBe(true);
    const status = w.ring.status().find(s => s.tenant === A);
    expect(status).toMatchObject({ phase: 'shut', trouble: 'disabled', usableMs: 0, keksHeld: 0 });
    expect(w.events.filter(e => e.tenant === A).map(e => e.news)).toEqual(['opened', 'revoked']);
    w.kms.set('a', 'enabled');
    await w.pass(MINUTE + 200);
    expect(await works(w, a)).toBe(true);
    // The open file had let go of its key, and unwraps it again.
    const { opened } = w.ring.keysOf(A)!;
    expect(await open.read(0, 1)).toEqual(utf8('x'));
    expect(w.ring.keysOf(A)!.opened).toBe(opened + 1);
    await open.read(0, 1);
    expect(w.ring.keysOf(A)!.opened).toBe(opened + 1);
    expect(w.events.filter(e => e.tenant === A).map(e => e.news)).toEqual(['opened', 'revoked', 'restored']);
    expect(w.events.filter(e => e.tenant === B).map(e => e.news)).toEqual(['opened']);
  });

  test('the error is one, documented: SQLSTATE 42501, HTTP 403', async () => {
    const w = world();
    const a = w.vaultOf(A);
    await works(w, a);
    w.kms.set('a', 'disabled');
    await w.pass(2 * MINUTE);
    const error = await a.readFile('probe').catch(e => e);
    expect([error.code, sqlState(error), httpStatus(error)]).toEqual(['key-revoked', '42501', 403]);
    expect(error.hint).toContain('sim:a');
  });

  test('denied and destroyed shut as fast; keys are not usable in a ring that starts then', async () => {
    for (const what of ['denying', 'destroyed'] as const) {
      const w = world();
      const a = w.vaultOf(A);
      await works(w, a);
      if (what === 'denying') w.kms.mood = 'denying';
      else w.kms.set('a', 'destroyed');
      await w.pass(MINUTE + 200);
      expect(await works(w, a)).toBe(false);
      const started = w.vaultOf(A, w.makeRing('node-2'));
      await expect(w.done(started.readFile('probe'))).rejects.toMatchObject({ code: 'key-revoked' });
    }
  });

  test.each(['down', 'hanging', 'throttling'] as const)(
    '%s: works on for the lifetime and no longer',
    async mood => {
      const w = world();
      const a = w.vaultOf(A);
      await works(w, a);
      await w.pass(10 * MINUTE);
      const lastUse = w.clock.monotonic();
      w.kms.mood = mood;
      await w.pass(3 * MINUTE);
      expect(await works(w, a)).toBe(true);
      expect(w.events.some(e => e.news === 'waning')).toBe(true);
      await w.pass(lastUse + KEY_TIMES.lifetimeMs - w.clock.monotonic());
      expect(await works(w, a)).toBe(false);
      await w.pass(KEY_TIMES.requestMs); // a request that hangs holds up the loop, not the refusal
      expect(w.ring.status()[0]).toMatchObject({ phase: 'shut', trouble: 'unreachable', keksHeld: 0 });
      w.kms.mood = 'well';
      await w.pass(MINUTE + KEY_TIMES.requestMs);
      expect(await works(w, a)).toBe(true);
      // And nothing was asked in a tight loop meanwhile.
      expect(w.kms.calls).toBeLessThan(60);
    },
  );

  test('the bound holds whatever the service does meanwhile', async () => {
    for (let seed = 0; seed < 40; seed++) {
      const w = world(seed);
      const { random } = w;
      const a = w.vaultOf(A);
      await works(w, a);
      for (let i = 0; i < 20; i++) {
        w.kms.mood = random.pick(['well', 'well', 'down', 'hanging', 'throttling'] as const);
        await w.pass(random.below(3 * MINUTE));
      }
      // The customer turns the key off, and from here on the service does as it likes.
      w.kms.set('a', 'disabled');
      const off = w.clock.monotonic();
      while (w.clock.monotonic() < off + w.ring.boundMs) {
        w.kms.mood = random.pick(['well', 'down', 'hanging', 'throttling'] as const);
        await w.pass(Math.min(random.below(MINUTE), off + w.ring.boundMs - w.clock.monotonic()) + 1);
      }
      expect(await works(w, a), `seed ${seed}`).toBe(false);
      expect(w.ring.status()[0], `seed ${seed}`).toMatchObject({ phase: 'shut', keksHeld: 0 });
      w.ring.close();
    }
  });

  test('the refusal does not wait for a timer', async () => {
    const w = world();
    const keys = w.ring.attach(A, 'sim:a');
    await w.done(keys.ready());
    const file = await w.done(w.vaultOf(A).create('f'));
    const { usableUntil } = keys.life;
    // Time passes without any wake-up being served, as in a process that was stopped and continued.
    Object.defineProperty(w.clock, 'nowMs', { value: usableUntil, writable: true });
    await expect(file.write(utf8('x'))).rejects.toMatchObject({ code: 'key-revoked' });
    expect(keys.held.keks).toBe(0);
  });

  test('detaching wipes; nothing of the tenant works on', async () => {
    const w = world();
    const a = w.vaultOf(A);
    await works(w, a);
    const open = await w.done(a.open('probe'));
    const keys = w.ring.keysOf(A)!;
    w.ring.detach(A);
    expect(keys.held.keks).toBe(0);
    await expect(open.read(0, 1)).rejects.toMatchObject({ code: 'shutting-down' });
    const calls = w.kms.calls;
    await w.pass(10 * MINUTE);
    expect(w.kms.calls).toBe(calls);
    expect(await works(w, w.vaultOf(A))).toBe(true); // attached again
  });
});

describe('the key store', () => {
  test('away: running services go on, and start from their own copy', async () => {
    const w = world();
    const a = w.vaultOf(A);
    await works(w, a);
    w.blobs.away = true;
    await w.pass(30 * MINUTE);
    expect(await works(w, a)).toBe(true);
    w.ring.close();
    const started = w.vaultOf(A, w.makeRing('node-1'));
    expect(await w.done(started.readFile('probe'))).toEqual(utf8('x'));
  });

  test('a document that was edited, exchanged or put back is refused, and said so', async () => {
    const w = world();
    const a = w.vaultOf(A);
    await works(w, a);
    await w.done(w.vaultOf(B).writeFile('f', utf8('b')));
    const name = `keys/${A}/document-0000000001.json`;
    const good = w.blobs.objects.get(name)!;
    const text = Buffer.from(good.bytes).toString();
    const plant = (bytes: string): void =>
      void w.blobs.objects.set(name, { bytes: utf8(bytes), modifiedMs: 0 });
    const theirs = Buffer.from(w.blobs.objects.get(`keys/${B}/document-0000000001.json`)!.bytes).toString();
    for (const [what, bytes] of Object.entries({
      edited: text.replace('"node-1"', '"node-9"'),
      'another CMK': text.replace('sim:a', 'sim:b'),
      'of another tenant': theirs,
      'with the KEK of another tenant': text.replace(
        /"wrapped": "[^"]+"/,
        theirs.match(/"wrapped": "[^"]+"/)![0],
      ),
      garbage: '{',
    })) {
      plant(bytes);
      await w.pass(MINUTE + 200);
      expect(await works(w, a), what).toBe(false);
      expect(w.ring.status().find(s => s.tenant === A)?.trouble, what).toBe('tampered');
      plant(text);
      await w.pass(MINUTE + 200);
      expect(await works(w, a), what).toBe(true);
    }
    await w.done(w.ring.admin.rotateKek(A));
    await w.pass(MINUTE + 200);
    w.blobs.objects.delete(`keys/${A}/document-0000000002.json`);
    plant(text);
    await w.pass(MINUTE + 200);
    expect(await works(w, a)).toBe(false);
    // Nor does a start forget: the node's own copy knows better.
    w.ring.close();
    const started = w.makeRing('node-1');
    expect(await works(w, w.vaultOf(A, started))).toBe(false);
    expect(started.status()[0]).toMatchObject({ phase: 'shut', trouble: 'tampered' });
    expect(started.status()[0]!.reason).toContain('where document 2 was before');
  });
});

describe('the audit', () => {
  test('has a line for every call, with request and version, and for what followed', async () => {
    const w = world();
    const a = w.vaultOf(A);
    await works(w, a);
    w.kms.set('a', 'disabled');
    await w.pass(MINUTE + 200);
    w.kms.set('a', 'enabled');
    await w.pass(MINUTE + 200);
    const calls = w.lines.filter(l => ['generate', 'wrap', 'unwrap'].includes(l.event));
    expect(calls.length).toBe(w.kms.calls);
    for (const line of calls) {
      expect(line).toMatchObject({ who: 'node-1', tenant: A, cmk: 'sim:a', kek: 1 });
      expect(line.requestId).toMatch(/^sim-\d+$/);
      if (line.result === 'ok') expect(line.keyVersion).toBe('1');
    }
    expect(calls.filter(l => l.result === 'key-disabled').length).toBeGreaterThanOrEqual(1);
    expect(w.lines.map(l => l.event)).toEqual(expect.arrayContaining(['create', 'revoke', 'restore']));
    expect(w.lines.find(l => l.event === 'revoke')).toMatchObject({ tenant: A, result: 'disabled' });
  });

  test('is counted, beside the state of each tenant', async () => {
    const w = world();
    const metrics = new Metrics();
    const counted = keyMetrics(metrics);
    await works(w, w.vaultOf(A));
    counted.watch(w.ring);
    for (const line of w.lines) counted.audit.line(line);
    counted.lost(2);
    const text = metrics.exposition();
    expect(text).toContain('lakebed_key_events_total{event="generate",result="ok"} 1');
    expect(text).toContain('lakebed_key_service_seconds_count{event="generate"} 1');
    expect(text).toContain('lakebed_key_tenants{phase="open"} 1');
    expect(text).toContain(`lakebed_key_deks_made{tenant="${A}"} 1`);
    expect(text).toContain('lakebed_key_bound_seconds 360');
    expect(text).toContain('lakebed_key_audit_lost_total 2');
  });

  test('holds no key', async () => {
    const w = world();
    await works(w, w.vaultOf(A));
    const text = JSON.stringify(w.lines);
    expect(text).not.toMatch(/[0-9a-f]{64}|[A-Za-z0-9+/]{40}/);
  });
});
