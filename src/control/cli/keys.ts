// `lakebed keys rotate | rewrap | change | shred`: changes to the keys of one tenant. Each is one step in the key
// store that either happened or did not (seal/key-admin.ts); after an interruption, running it again is safe.

import { flagOption, textOption, type Verb, type VerbInput, type World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import { currentKek, type KeyDocument, parseCmk } from '../../seal/key-document.ts';
import { type RewrapProgress, retireOld, rewrapPass } from '../../seal/rewrap.ts';
import {
  ACCESS_OPTIONS,
  type Access,
  keysFor,
  localKeysOf,
  objectsOf,
  oneTenant,
  openAccess,
} from './keys-access.ts';
import { keysStatus } from './keys-status.ts';

const TENANT = [{ name: 'tenant', help: 'its id' }];

/** Opens, works, tells the result, and leaves when the audit is on the disk. */
function verbOf(
  work: (
    access: Access,
    input: VerbInput,
    world: World,
  ) => Promise<{ text: string; json: Readonly<Record<string, unknown>> }>,
): Verb['run'] {
  return async (input, world) => {
    const access = await openAccess(input, world);
    try {
      const { text, json } = await work(access, input, world);
      const shown = flagOption(input, 'json') ? JSON.stringify(json, undefined, 2) : text;
      world.terminal.write(`${shown}\n`);
      return 0;
    } finally {
      await access.drained();
    }
  };
}

const summaryOf = ({ tenant, sequence, change, cmk, keks }: KeyDocument) => ({
  tenant,
  sequence,
  change,
  cmk,
  keks: keks.map(({ version, state, keyVersion }) => ({ version, state, keyVersion })),
});

const keysRotate: Verb = {
  name: 'keys rotate',
  summary: "begin a new KEK for a tenant, or take up its customer key's newest version",
  about:
    'Without --cmk: a new key-encryption key; what is written from now on is under it, older files open as before.\n' +
    'With --cmk: the KEKs are wrapped anew by the newest version of the customer key (rotate that one in its service\n' +
    'first; a local key is rotated here). No file is touched either way.',
  arguments: TENANT,
  options: [{ flags: '--cmk', help: 'wrap the KEKs anew by the newest customer key' }, ...ACCESS_OPTIONS],
  examples: [
    { line: 'lakebed keys rotate 3f…', what: 'new files under a new KEK' },
    { line: 'lakebed keys rotate 3f… --cmk', what: 'after the customer key was rotated' },
  ],
  exitCodes: { 1: 'refused, or the key service cannot be reached: nothing has changed' },
  run: verbOf(async ({ admin }, input, world) => {
    const tenant = oneTenant(input);
    if (!flagOption(input, 'cmk')) {
      const document = await admin.rotateKek(tenant);
      const version = currentKek(document).version;
      return {
        text: `KEK ${version} seals new files of ${tenant}. Run: lakebed keys rewrap ${tenant}`,
        json: summaryOf(document),
      };
    }
    const { cmk } = await admin.load(tenant);
    await rotateLocal(world, input, cmk);
    const bar = world.terminal.progress('KEKs', 1);
    const document = await admin.rewrapKeks(tenant, (done, of) => bar.update(done / of));
    bar.stop();
    return {
      text: `${document.keks.length} KEKs of ${tenant} are wrapped by ${cmk} anew.`,
      json: summaryOf(document),
    };
  }),
};

/** A key we keep ourselves has no service to rotate it in. */
async function rotateLocal(world: World, input: VerbInput, cmk: string): Promise<void> {
  const { kind, id } = parseCmk(cmk);
  const { blobs } = await openAccess(input, world);
  const service = world.keyServices(localKeysOf(input, world), blobs).find(one => one.kind === kind);
  await service?.rotate?.(id);
}

const keysRewrap: Verb = {
  name: 'keys rewrap',
  summary: 'wrap the file keys that older KEKs wrapped by the current one, without touching data',
  about:
    'Reads the first 512 bytes of each of the tenant’s objects; goes on where an interrupted pass stopped. Nodes do the\n' +
    'same for the files on their own disks. --retire then drops the old KEKs for good, once every node has caught up.',
  arguments: TENANT,
  options: [
    { flags: '--retire', help: 'drop the old KEKs when nothing needs them any more' },
    { flags: '--forget NODE', help: 'do not wait for this node: it is gone for good', many: true },
    ...ACCESS_OPTIONS,
  ],
  examples: [
    { line: 'lakebed keys rewrap 3f…', what: 'one pass over the objects' },
    { line: 'lakebed keys rewrap 3f… --retire', what: 'and the old KEKs are gone' },
  ],
  exitCodes: { 1: 'damaged files, nodes that have not caught up, or no answer: the old KEKs stay' },
  run: verbOf(async (access, input, world) => {
    const tenant = oneTenant(input);
    const { admin, blobs } = access;
    const forget = input.options['forget'];
    for (const node of Array.isArray(forget) ? forget : []) await admin.store.removeHolder(tenant, node);
    const keys = keysFor(access, world, tenant);
    const files = objectsOf(blobs, tenant);
    let total = 0;
    for await (const _ of files.names('')) total++;
    const bar = world.terminal.progress('rewrap', total, 'files');
    const progress = (p: RewrapProgress): void => bar.update(p.seen, `${p.rewrapped} rewrapped`);
    const { signal } = world;
    try {
      const done = await rewrapPass({ keys, store: admin.store, files, signal, progress });
      if (done.refused.length > 0) throw damaged(done.refused);
      const retire = flagOption(input, 'retire');
      const document = retire
        ? await retireOld({ admin, keys, shared: [files], signal, progress })
        : keys.document!;
      const retired = document.keks.filter(kek => kek.state === 'retired').length;
      return {
        text: `${done.seen} files seen, ${done.rewrapped} rewrapped under KEK ${currentKek(document).version}${retire ? `, ${retired} KEKs retired` : ''}.`,
        json: { ...summaryOf(document), seen: done.seen, rewrapped: done.rewrapped },
      };
    } finally {
      bar.stop();
      keys.detach();
    }
  }),
};

const damaged = (names: readonly string[]): Fault =>
  new Fault('sealed-tampered', `${names.length} files are damaged: ${names.slice(0, 5).join(', ')}`, {
    hint: 'They could not be read before either. Restore or remove them; the old KEKs stay until then.',
  });

const keysChange: Verb = {
  name: 'keys change',
  summary: 'move a tenant to another customer key',
  about:
    'Its KEKs are wrapped by the new key; all its branches go on, no file is touched. Both keys must be usable while this\n' +
    'runs; the old one is not needed after every service has asked again (one poll).',
  arguments: TENANT,
  options: [
    { flags: '--to KEY', help: 'local:NAME, an AWS KMS ARN, an Azure key URL or a Google key name' },
    ...ACCESS_OPTIONS,
  ],
  examples: [
    {
      line: 'lakebed keys change 3f… --to arn:aws:kms:eu-central-1:1234:key/5d…',
      what: "to the customer's AWS key",
    },
  ],
  exitCodes: { 1: 'refused, or a key service cannot be reached: nothing has changed' },
  run: verbOf(async ({ admin }, input, world) => {
    const tenant = oneTenant(input);
    const to = textOption(input, 'to');
    if (to === undefined) throw new Fault('config-invalid', 'no key was named', { hint: 'Give --to KEY.' });
    const bar = world.terminal.progress('KEKs', 1);
    const document = await admin.changeCmk(tenant, to, (done, of) => bar.update(done / of));
    bar.stop();
    return { text: `${tenant} is under ${document.cmk} now.`, json: summaryOf(document) };
  }),
};

const keysShred: Verb = {
  name: 'keys shred',
  summary: 'destroy the keys of a tenant: nobody can ever read its data again',
  about:
    'Drops every wrapped KEK, in every document and bag. Its objects stay, and are noise. A bucket that keeps old\n' +
    'versions of objects keeps wrapped KEKs too, and so does the disk of a node that is switched off: end those, or\n' +
    'destroy the customer key in its service.',
  arguments: TENANT,
  options: [{ flags: '--confirm TENANT', help: 'the tenant id again' }, ...ACCESS_OPTIONS],
  examples: [{ line: 'lakebed keys shred 3f… --confirm 3f…', what: 'there is no way back' }],
  exitCodes: { 1: 'refused; run it again if it was interrupted' },
  run: verbOf(async ({ admin }, input) => {
    const tenant = oneTenant(input);
    if (textOption(input, 'confirm')?.toLowerCase() !== tenant) {
      throw new Fault('config-invalid', `this destroys all data of tenant ${tenant}, for ever`, {
        hint: `If that is meant: lakebed keys shred ${tenant} --confirm ${tenant}`,
      });
    }
    const document = await admin.shred(tenant);
    const copies = (await admin.store.holders(tenant)).map(({ node }) => node);
    const rest =
      copies.length === 0
        ? ''
        : `\nCopies of them, wrapped, go from these nodes as each asks again, within a poll: ${copies.join(', ')}.`;
    return { text: `The keys of ${tenant} are gone.${rest}`, json: { ...summaryOf(document), copies } };
  }),
};

export const keyVerbs: readonly Verb[] = [keysStatus, keysRotate, keysRewrap, keysChange, keysShred];
