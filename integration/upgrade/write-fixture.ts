// Makes the upgrade fixture of a version: node integration/upgrade/write-fixture.ts v1.2.3

import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { FIXTURES, writeFixture } from './fixture.ts';

const version = process.argv[2];
if (!version || !/^v\d+\.\d+\.\d+$/.test(version)) {
  process.stderr.write('Name the version: node integration/upgrade/write-fixture.ts v1.2.3\n');
  process.exit(1);
}
const dir = mkdtempSync(join(tmpdir(), 'lakebed-fixture-'));
const into = join(FIXTURES, version);
mkdirSync(into, { recursive: true });
const bytes = await writeFixture(dir, into);
rmSync(dir, { recursive: true, force: true });
process.stdout.write(`${into}: ${bytes} bytes\n`);
process.exit(0);
