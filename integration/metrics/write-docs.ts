// Writes the documents that are made from the code. `npm run docs` runs it.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { metricsDocument } from './table.ts';

const DOCS = resolve(import.meta.dirname, '../../docs');

mkdirSync(DOCS, { recursive: true });
writeFileSync(join(DOCS, 'metrics.md'), metricsDocument());
process.stdout.write('docs/metrics.md written\n');
process.exit(0);
