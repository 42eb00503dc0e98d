import { expect, test } from 'vitest';
import { parseToml, parseTomlValue, toToml } from './toml.ts';

test('a file with tables, and an inline value', () => {
  const table = parseToml('id = 7\n[tenant_config]\npitr_interval = "7 days"\n', 'pageserver.toml');
  expect(table).toEqual({ id: 7, tenant_config: { pitr_interval: '7 days' } });
  expect(parseTomlValue('{local_path="/data/x"}', '--remote-storage')).toEqual({ local_path: '/data/x' });
  expect(parseToml(toToml(table), 'again')).toEqual(table);
});

test('what is no TOML is told with file and line', () => {
  expect(() => parseToml('a = 1\nb = = 2\n', 'pageserver.toml')).toThrow(/^pageserver\.toml, line 2: /);
});
