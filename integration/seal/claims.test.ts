// Where each claim about bytes at rest and customer keys is tested. A row names the claim, and the tests that would
// fail without it. The table is checked: every test it names is there.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');

const FILES = {
  admin: 'src/seal/key-admin.test.ts',
  api: 'integration/manager/api.test.ts',
  audit: 'src/seal/audit.test.ts',
  canary: 'integration/pg/canary.test.ts',
  ciphers: 'src/seal/frame-ciphers.test.ts',
  cli: 'src/control/cli/keys.test.ts',
  control: 'src/safekeeper/put-back.test.ts',
  damage: 'integration/pageserver/damage.test.ts',
  drivers: 'src/host/keys.test.ts',
  http: 'integration/pageserver/http-api.test.ts',
  inspect: 'integration/pageserver/inspect.test.ts',
  ledger: 'integration/sim/safekeeper.ts',
  log: 'src/seal/log-file.test.ts',
  plain: 'src/seal/no-plaintext.test.ts',
  remote: 'src/pageserver/remote/remote-timeline.test.ts',
  restored: 'src/pageserver/remote/put-back.test.ts',
  revocation: 'integration/pageserver/revocation.test.ts',
  ring: 'src/seal/key-ring.test.ts',
  simulation: 'integration/sim/checker.ts',
  state: 'src/seal/key-state.test.ts',
  tidy: 'integration/tidy/tidy.test.ts',
  timelines: 'src/safekeeper/timelines.test.ts',
  trouble: 'integration/safekeeper/trouble.test.ts',
  vault: 'src/seal/disk-vault.test.ts',
  wiring: 'src/wiring.test.ts',
} as const;

type Row = readonly [claim: string, ...tests: (readonly [file: keyof typeof FILES, test: string])[]];

// biome-ignore format: rows
const CLAIMS: Readonly<Record<string, readonly Row[]>> = {
  'three levels of keys': [
    ['a KEK per tenant, made once, whoever meets it first', ['ring', 'makes a tenant’s keys at first use, and finds them again'], ['ring', 'two services that meet a new tenant at once agree on its keys']],
    ['no call of a key service on a data path', ['ring', 'asks the key service on no data path: a thousand files, one call']],
    ['a KEK is bound at its service to tenant and version', ['drivers', 'wraps and unwraps, bound to its context']],
    ['a tenant names its key; under another one it is refused', ['revocation', 'is switched off and on under a running pageserver and safekeepers']],
  ],
  'what is refused, and named': [
    ['a flipped bit, anywhere', ['vault', 'every single flipped bit of a file is refused, with its name'], ['log', 'of a synced frame in the middle is refused and named, wherever it is']],
    ['a cut, anywhere', ['vault', 'every cut of a file is refused, on opening, wherever it is'], ['log', 'of the last frame looks like a torn tail, unless the caller knows what was durable']],
    ['pieces swapped, repeated, dropped, of another file', ['vault', 'chunks swapped, repeated, or of another file'], ['log', 'frames swapped, repeated, dropped or of another log']],
    ['files swapped between names, timelines, tenants', ['vault', 'files swapped between names, timelines, tenants and directories'], ['restored', 'a layer in place of another']],
    ['an older file of any kind', ['vault', 'an older one put back is refused while the vault lives, by generation after']],
    ['an older control record of a safekeeper', ['control', 'a control record older than WAL is refused by name; a younger one has forgotten no vote']],
    ['an older WAL segment', ['control', 'WAL that ends before what was committed is refused by name']],
    ['an index of another attachment; an older one is the past, not the present', ['restored', 'the index of an earlier attachment in place of a later one'], ['restored', 'an older index of the same attachment']],
    ['an older key document, while services run and at a start', ['ring', 'a document that was edited, exchanged or put back is refused, and said so']],
    ['objects damaged on the way or in the store', ['vault', 'damaged on the way are not taken in'], ['remote', 'damaged in the store: an error that names the layer, for those who need it alone'], ['damage', 'damaged in the store: an error for the pages concerned, which names the layer; the rest is served']],
    ['a changed bag of rewrapped keys', ['admin', 'a bag that was changed is refused']],
    ['nothing else is harmed', ['timelines', 'a damaged control file is told by name and cure, and harms no other'], ['timelines', 'damaged WAL is told by segment and position, and harms no other'], ['trouble', "describe('damaged files'"]],
  ],
  'nonces': [
    ['none is used twice in a file', ['vault', 'none repeats, whatever is written again after whatever crash']],
    ['none in a log: reopened, truncated, crashed, full, failed', ['log', 'what was flushed is there after any crash, nothing else is, and no nonce repeats'], ['log', 'a full disk is not: what could not be written goes with the next flush, under another key'], ['log', 'is sealed anew under another key when that flush fails']],
    ['none by ciphers made ready ahead', ['ciphers', 'seal nothing once their stretch has ended: truncated, failed, or closed'], ['ciphers', 'fit the frame of their salt and number alone'], ['ciphers', 'seals once']],
    ['none in bags of rewrapped keys', ['admin', 'twice and thrice over: bags of bags']],
    ['none in all that simulated safekeepers write', ['ledger', 'nonces.see(path, offset, bytes)']],
  ],
  'nothing readable': [
    ['in files, logs, half written ones, objects, key store, audit', ['plain', 'holds no canary: files, logs, half written ones, objects, key store, audit']],
    ['the search finds what is there, packed as well', ['plain', 'finds the canary in every form']],
    ['of what SQL wrote, on no disk and in no object', ['inspect', 'what was written through SQL is nowhere in the clear, on no disk and in no object'], ['canary', 'a canary in tables, indexes, names and messages stays sealed']],
    ['in any write of any simulated run', ['simulation', 'plaintext of WAL in']],
    ['nobody but the host touches a disk', ['tidy', 'only host and main touch the machine']],
  ],
  'key services': [
    ['a file: made at first use, mode 0600', ['drivers', 'is made at first use, mode 0600, once, and refused when others may read it']],
    ['AWS, against a KMS API server', ['drivers', 'is served; shut within the bound once the key is disabled; and served again by itself'], ['revocation', 'AWS KMS (moto)']],
    ['Azure and Google, against stand-ins', ['drivers', 'at Azure is told apart, and the token goes to no stranger'], ['drivers', 'at Google is told apart, and damage on the way is seen']],
    ['rotated at the service, older versions open', ['drivers', 'opens after a rotation what was wrapped before it']],
    ['a driver that is not installed is named', ['drivers', 'an optional package that is not installed is named']],
  ],
  'the life of a key': [
    ['a new KEK changes what new files use, and touches no old one', ['admin', 'of a KEK changes what new files use; old ones are read as before, untouched']],
    ['a new version of the CMK rewraps KEKs alone', ['admin', 'of the CMK rewraps KEKs alone']],
    ['another CMK, for existing branches and what was detached', ['admin', 'to another CMK: everything is read on, and the old CMK is not needed any more'], ['wiring', 'moved to another customer key: parent, branch and what was detached are read on, without the old key'], ['vault', 'rebound to a branch: same chunks, new header, old name refused'], ['http', 'a branch is detached from its ancestor, once and for all']],
    ['the pass over old headers reads no data and rewrites nothing', ['admin', 'bags what the old KEK wrapped, reads no data, rewrites nothing; then the old KEK may go']],
    ['it reaches the files on the nodes’ own disks', ['wiring', 'files of a node’s own disk, written before it started, are read on when the KEK they were under is gone']],
    ['a KEK stays while anything needs it', ['admin', 'a KEK stays while a node has not caught up; a node that is gone can be forgotten'], ['admin', 'a file that was being written when the KEK was rotated is not lost']],
    ['it goes on where it stopped', ['admin', 'a long pass goes on behind its last bag']],
    ['a crash at any step leaves all readable, and the command finishes it', ['admin', '%s: nothing becomes unreadable, and running it again finishes it'], ['admin', 'shred: all or nothing can be read, and running it again finishes it']],
    ['shredded is shredded', ['admin', 'leaves no wrapped KEK anywhere, in no older document and no bag; the ring says so for good'], ['wiring', 'shredded, a tenant leaves no wrapped key on the disk of a node that runs']],
  ],
  'revocation': [
    ['the table of states', ['state', 'time past the last success plus lifetime shuts'], ['state', 'open means a success within the lifetime; leaving it always wipes; the next ask is never far']],
    ['switched off: refused, wiped, told; the neighbour untouched; back by itself', ['ring', 'switched off: refused within a poll, wiped, told, the other tenant untouched; on again: goes on by itself'], ['vault', 'open files fail while it lasts and go on after; no key is held meanwhile'], ['ciphers', 'go with the keys, and are made anew when those are back']],
    ['down, hanging, throttling: the lifetime and no longer', ['ring', '%s: works on for the lifetime and no longer']],
    ['denied and destroyed', ['ring', 'denied and destroyed shut as fast; keys are not usable in a ring that starts then']],
    ['the bound holds, whatever the service does', ['ring', 'the bound holds whatever the service does meanwhile'], ['ring', 'the refusal does not wait for a timer']],
    ['SQLSTATE 42501, HTTP 403', ['ring', 'the error is one, documented: SQLSTATE 42501, HTTP 403'], ['revocation', "toBe('42501')"]],
    ['no compute of it runs', ['api', 'a revoked key: no compute, no password; and which project it is']],
    ['keys status prints the bound', ['cli', 'prints the key, its state, the KEKs and the bound']],
  ],
  'the audit': [
    ['generate, create, unwrap', ['audit', 'for the first key of a tenant, and for each use of it']],
    ['rotate, rewrap, change, retire, with the request', ['audit', 'for a rotation of either key, a rewrap, a change and a retirement, with the request that did it']],
    ['denials, and how many', ['audit', 'for what was refused: the call, the wiping, and how often files were asked for, once a poll']],
    ['what failed', ['audit', 'for a change that did not come about'], ['audit', 'for shredding, and for shredding that failed halfway']],
    ['its file: in order, durable, losses told', ['plain', 'keeps every line in order, durably, and goes on where it ended'], ['plain', 'says what it could not write, and takes the next lines']],
    ['the same in the metrics', ['ring', 'is counted, beside the state of each tenant']],
    ['no key in it', ['ring', 'holds no key']],
    ['the commands, and who gave them', ['cli', 'rotated, rewrapped, retired, moved, shredded']],
  ],
};

describe('every claim has its test', () => {
  const texts = new Map<string, string>();
  const textOf = (file: string): string => {
    let text = texts.get(file);
    if (text === undefined) texts.set(file, (text = readFileSync(join(ROOT, file), 'utf8')));
    return text;
  };

  test.each(Object.entries(CLAIMS))('%s', (_, rows) => {
    const missing: string[] = [];
    for (const [claim, ...tests] of rows) {
      expect(tests, claim).not.toEqual([]);
      for (const [file, name] of tests) {
        if (!textOf(FILES[file]).includes(name)) missing.push(`${claim}: ${FILES[file]} has no "${name}"`);
      }
    }
    expect(missing).toEqual([]);
  });
});
