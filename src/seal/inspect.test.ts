import { describe, expect, test } from 'vitest';
import { SimDisk } from '../../integration/sim/disk.ts';
import { SimFileKeys } from '../../integration/sim/file-keys.ts';
import { SimRandom } from '../../integration/sim/random.ts';
import { utf8 } from '../base/bytes.ts';
import { openVault } from './disk-vault.ts';
import { describeClaim, type FrameClaim, inspectSealed } from './inspect.ts';
import { sourceOf } from './sources.ts';

const TENANT = '11'.repeat(16);
const TIMELINE = '22'.repeat(16);

function setup() {
  const random = new SimRandom(1);
  const disk = new SimDisk({ random });
  const keys = new SimFileKeys(TENANT, random);
  const scope = { tenant: TENANT, timeline: TIMELINE };
  return { disk, vault: openVault({ disk, directory: 'd', scope, keys, random }) };
}

describe('without a key', () => {
  test('a file says whose it is and how large, and whether it was cut', async () => {
    const { disk, vault } = setup();
    await vault.writeFile('layer', new Uint8Array(100_000), { generation: 7 });
    const bytes = await disk.readFile('d/layer');
    const claim = await inspectSealed(sourceOf(bytes), 'x');
    expect(claim.header).toMatchObject({
      kind: 'file',
      name: 'layer',
      tenant: TENANT,
      timeline: TIMELINE,
      generation: 7,
    });
    expect(claim.file).toEqual({ chunks: 4, plaintextBytes: 100_000, whole: true });
    expect(describeClaim(claim).join('\n')).toContain('100000 bytes in 4 chunks of 32768');
    const cut = await inspectSealed(sourceOf(bytes.subarray(0, 512 + 32_784 + 16)), 'x');
    expect(cut.file?.whole).toBe(false);
    await expect(inspectSealed(sourceOf(utf8('not sealed')), 'x')).rejects.toMatchObject({
      code: 'sealed-tampered',
    });
  });

  test('a log shows its frames, stretches and truncations, past damage as far as it can', async () => {
    const { disk, vault } = setup();
    const log = await vault.log('seg', { create: true, origin: 50, reserve: 3000 });
    for (const text of ['first', 'second', 'third']) {
      log.append([utf8(text)]);
      await log.flush();
    }
    await log.truncate(57);
    log.append([utf8('x')]);
    await log.flush();
    const frames: FrameClaim[] = [];
    const bytes = await disk.readFile('d/seg');
    const claim = await inspectSealed(sourceOf(bytes), 'seg', frame => frames.push(frame));
    expect(claim.log).toMatchObject({ frames: 5, stretches: 2, truncations: 1, end: 58, tail: 'zeros' });
    expect(frames.map(f => [f.offset, f.length, f.number])).toEqual([
      [50, 5, 0],
      [55, 6, 1],
      [61, 5, 2],
      [57, 0, 0],
      [57, 1, 1],
    ]);
    expect(describeClaim(claim).join('\n')).toContain(
      'offsets 50 to 58 in 5 frames, 2 stretches, 1 truncations',
    );
    bytes[frames[2]!.position] = 0;
    const damaged = await inspectSealed(sourceOf(bytes), 'seg');
    expect(damaged.log).toMatchObject({ frames: 2, tail: 'other bytes' });
  });
});
