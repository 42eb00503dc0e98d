import { expect, test } from 'vitest';
import type { SealedLog, Vault } from '../seal/vault.ts';
import { segmentFileName } from '../xlog/segment.ts';
import { Segments } from './segments.ts';

const SIZE = 1024 * 1024;

test('a segment that is being closed is opened only when that is done', async () => {
  const told: string[] = [];
  let finishClosing = (): void => undefined;
  const vault = {
    list: async () => [3, 4].map(segno => segmentFileName(1, segno, SIZE)),
    log: async (name: string) => {
      told.push(`open ${name.slice(-1)}`);
      const close = (): Promise<void> => {
        told.push(`close ${name.slice(-1)}`);
        return new Promise(resolve => (finishClosing = resolve));
      };
      return { name, close } as unknown as SealedLog;
    },
  } as unknown as Vault;
  const segments = await Segments.list(vault, SIZE);
  await segments.use(3, async () => undefined);
  const closed = segments.closeIdle(0);
  await new Promise(done => setTimeout(done, 5));

  const again = segments.use(3, async () => told.push('read 3'));
  await segments.use(4, async () => told.push('read 4'));
  await new Promise(done => setTimeout(done, 5));
  expect(told).toEqual(['open 3', 'close 3', 'open 4', 'read 4']);
  finishClosing();
  await closed;
  await again;
  expect(told.slice(4)).toEqual(['open 3', 'read 3']);
});
