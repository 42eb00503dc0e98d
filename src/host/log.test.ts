import { describe, expect, test } from 'vitest';
import { Fault } from '../base/fault.ts';
import { hostLog, type LogFormat, levelOf } from './log.ts';

function written(
  format: LogFormat,
  use: (log: ReturnType<typeof hostLog>) => void,
  level = 'debug',
): string[] {
  const lines: string[] = [];
  use(hostLog({ format, level, write: line => lines.push(line) }));
  return lines;
}

describe('log', () => {
  test('plain lines carry time, level, message and fields', () => {
    const [line] = written('plain', log =>
      log.with({ timeline: 'ab' }).info('ready to serve', { port: 5454, at: 'a b' }),
    );
    expect(line).toMatch(
      /^\d{4}-\d\d-\d\dT[\d:.]+Z {2}INFO ready to serve timeline=ab port=5454 at="a b"\n$/,
    );
  });

  test('json lines carry the same by name', () => {
    const [line] = written('json', log => log.error('it broke', { big: 1n << 60n }));
    expect(JSON.parse(line!)).toMatchObject({
      level: 'ERROR',
      message: 'it broke',
      big: '1152921504606846976',
    });
  });

  test('the words of trouble appear in trouble only', () => {
    const calm = written('plain', log => {
      log.info('client said ERROR: WARNING', { query: 'ERROR WARN', error: new Fault('timeout', 'ERROR') });
      log.debug('WARN');
    });
    expect(calm.join('')).not.toMatch(/ERROR|WARN/);
    expect(written('plain', log => log.warn('x'))[0]).toContain(' WARN x');
    expect(written('plain', log => log.error('x'))[0]).toContain('ERROR x');
  });

  test('secrets are hidden by the name of their field', () => {
    const lines = written('plain', log =>
      log.warn('x', { authToken: 'abc123', password: 'abc123', Authorization: 'Bearer abc123', name: 'n' }),
    );
    expect(lines.join('')).not.toContain('abc123');
    expect(lines.join('')).toContain('name=n');
  });

  test('a Fault tells code, hint and cause without a stack', () => {
    const error = new Fault('disk-full', 'no room', {
      hint: 'Free some.',
      cause: new Fault('timeout', 'slow'),
    });
    const [line] = written('json', log => log.error('x', { error }));
    expect(JSON.parse(line!).error).toBe('no room [disk-full] Free some. <- slow [timeout]');
  });

  test('levels: RUST_LOG as launchers set it', () => {
    expect(written('plain', log => log.debug('x'), 'info')).toEqual([]);
    expect(levelOf(undefined)).toBe('info');
    expect(levelOf('debug')).toBe('debug');
    expect(levelOf('info,pageserver::tenant=debug')).toBe('info');
    expect(levelOf('pageserver=trace,warn')).toBe('warn');
  });
});
