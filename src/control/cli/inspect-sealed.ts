// `lakebed inspect sealed FILE`: what a sealed file claims to be, and how it is made up, without any key.

import { toHex } from '../../base/bytes.ts';
import { flagOption, type Verb } from '../../base/command.ts';
import { describeClaim, type FrameClaim, inspectSealed } from '../../seal/inspect.ts';
import { sourceOfFile } from '../../seal/sources.ts';

export const inspectSealedVerb: Verb = {
  name: 'inspect sealed',
  summary: 'what a sealed file claims to be: whose, which keys, how it is made up',
  about: 'Needs no key, decrypts nothing and proves nothing: every claim may be forged. Reads only.',
  arguments: [{ name: 'file', help: 'a layer, index, control file, WAL segment or object', many: true }],
  options: [
    { flags: '--frames', help: 'every frame of a log, a line each' },
    { flags: '--json', help: 'as JSON, a line a file' },
  ],
  examples: [
    { line: 'lakebed inspect sealed 000000010000000000000001', what: 'a WAL segment of a safekeeper' },
    { line: 'lakebed inspect sealed --frames 0000*', what: 'with its frames' },
  ],
  exitCodes: { 1: 'a file is no sealed one' },
  async run(input, { disk, terminal }) {
    const json = flagOption(input, 'json');
    for (const path of input.args) {
      const slash = path.lastIndexOf('/');
      const name = path.slice(slash + 1);
      const file = await disk(slash < 0 ? '.' : path.slice(0, Math.max(1, slash))).open(name, 'read');
      const frames: string[] = [];
      const frame = (claim: FrameClaim): void => void frames.push(describeFrame(claim));
      try {
        const source = await sourceOfFile(file);
        const claim = await inspectSealed(source, path, flagOption(input, 'frames') ? frame : undefined);
        const { header, ...rest } = claim;
        const { dek, ...identity } = header;
        const key = { kek: dek.kekVersion, dek: toHex(dek.id) };
        const text = json ? [JSON.stringify({ path, ...identity, ...key, ...rest })] : describeClaim(claim);
        terminal.write(`${[...text, ...frames].join('\n')}\n${json ? '' : '\n'}`);
        await terminal.drained();
      } finally {
        await file.close();
      }
    }
    return 0;
  },
};

const describeFrame = ({ position, offset, length, number, synced, salt }: FrameClaim): string =>
  `frame at ${position}: offsets ${offset} to ${offset + length}, number ${number} of stretch ${toHex(salt.subarray(0, 4))}, ${synced} bytes synced before`;
