// Which compute a first packet means, and what is left of the packet.

import { describe, expect, test } from 'vitest';
import { Builder, Cursor } from '../../base/bytes.ts';
import { isFault } from '../../base/fault.ts';
import { type Route, type RouteSettings, routeOf } from './route.ts';

const PROTOCOL_3_2 = 196610;

function packet(parameters: Record<string, string>): { code: number; body: Uint8Array } {
  const b = new Builder(64);
  for (const [name, value] of Object.entries(parameters)) b.cstr(name).cstr(value);
  b.u8(0);
  return { code: PROTOCOL_3_2, body: b.finish() };
}

function forwarded(route: Route): Record<string, string> {
  const c = new Cursor(route.startup);
  expect(c.u32()).toBe(route.startup.length);
  expect(c.u32()).toBe(PROTOCOL_3_2);
  const all: Record<string, string> = {};
  for (let name = c.cstr(); name !== ''; name = c.cstr()) all[name] = c.cstr();
  expect(c.left).toBe(0);
  return all;
}

const route = (
  parameters: Record<string, string>,
  serverName?: string,
  settings: RouteSettings = {},
): Route => routeOf(packet(parameters), serverName, settings);

const refusal = (work: () => unknown): string => {
  try {
    work();
  } catch (e) {
    if (isFault(e, 'route-unknown')) return e.message;
    throw e;
  }
  return 'not refused';
};

describe('the compute is named by', () => {
  test('the first label of the server name', () => {
    expect(route({ user: 'u' }, 'ep-calm-sea-1.db.example').target).toBe('ep-calm-sea-1');
    expect(route({ user: 'u' }, 'ep-calm-sea-1-pooler.db.example').target).toBe('ep-calm-sea-1');
  });

  test('a server name of our domain alone, where one is set', () => {
    const settings = { domain: 'db.example', defaultTarget: 'main' };
    expect(route({ user: 'u' }, 'ep-1.db.example', settings).target).toBe('ep-1');
    expect(route({ user: 'u' }, 'ep-1.elsewhere.example', settings).target).toBe('main');
    expect(route({ user: 'u' }, 'localhost', settings).target).toBe('main');
  });

  test('an option, which is taken out while others stay as they were', () => {
    const options = '-c search_path=a\\ b endpoint=ep-2 -c x=1';
    const found = route({ user: 'u', options, application_name: 'psql' });
    expect(found.target).toBe('ep-2');
    expect(forwarded(found)).toEqual({
      user: 'u',
      options: '-c search_path=a\\ b -c x=1',
      application_name: 'psql',
    });
    expect(forwarded(route({ user: 'u', options: 'project=ep-2' }))).toEqual({ user: 'u' });
  });

  test('what follows the last @ of the database', () => {
    const found = route({ user: 'u', database: 'shop@shop/feature-x' });
    expect(found).toMatchObject({ target: 'shop/feature-x', database: 'shop', user: 'u' });
    expect(forwarded(found)).toEqual({ user: 'u', database: 'shop' });
  });

  test('the default, the database then being what it says', () => {
    const found = route({ user: 'u' }, undefined, { defaultTarget: 'main' });
    expect(found).toMatchObject({ target: 'main', database: 'u' });
    expect(forwarded(found)).toEqual({ user: 'u' });
  });
});

test('a database with an @ stays whole when the compute is named otherwise', () => {
  const found = route({ user: 'u', database: 'a@b', options: 'endpoint=ep-1' });
  expect(found).toMatchObject({ target: 'ep-1', database: 'a@b' });
  expect(forwarded(found)).toEqual({ user: 'u', database: 'a@b' });
});

test('two names that disagree, none at all, and what cannot be a name are refused', () => {
  expect(refusal(() => route({ user: 'u', options: 'endpoint=ep-2' }, 'ep-1.db.example'))).toMatch(/'ep-1'/);
  expect(refusal(() => route({ user: 'u' }))).toMatch(/which compute/);
  expect(refusal(() => route({ user: 'u', database: 'db@../../etc' }))).toMatch(/cannot be/);
});
