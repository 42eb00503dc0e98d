// Key configurations: a customer key under a name, bound to projects. Changing one's key moves its projects to the new
// key; one that a project is bound to is not deleted.

import { Fault } from '../../../base/fault.ts';
import { formatCmk, parseCmk } from '../../../seal/key-document.ts';
import type { Manager } from '../manager.ts';
import type { Change, KeyConfig, Operation, Project } from '../model.ts';
import { checkName, petName } from '../names.ts';
import type { NewOperation } from '../operations/step.ts';
import type { Store } from '../store.ts';

export function findKey(store: Store, name: string): KeyConfig {
  const found = store.get('keys', name) ?? [...store.all('keys').values()].find(key => key.name === name);
  if (found) return found;
  throw new Fault('key-config-missing', `there is no key "${name}"`, {
    hint: 'GET /api/v2/keys lists them.',
  });
}

export interface KeyInput {
  readonly name: string;
  readonly cmk: string;
}

/** An ARN has slashes; a name may be one. */
const keyName = (name: string): string => checkName(name.replaceAll('/', ':'), 'key');

function refuseTaken(store: Store, name: string, id?: string): void {
  const other = [...store.all('keys').values()].find(key => key.name === name);
  if (other && other.id !== id) throw new Fault('name-taken', `there is a key "${name}" already`);
}

export function newKey({ store, random, clock }: Manager, input: KeyInput): KeyConfig {
  const name = keyName(input.name);
  refuseTaken(store, name);
  const now = clock.now();
  const cmk = formatCmk(parseCmk(input.cmk));
  return { id: `key-${petName(random)}`, name, cmk, createdAt: now, updatedAt: now };
}

export async function createKey(manager: Manager, input: KeyInput): Promise<KeyConfig> {
  const row = newKey(manager, input);
  await manager.commit([{ put: 'keys', row }]);
  return row;
}

export const projectsOf = (store: Store, key: KeyConfig): Project[] =>
  [...store.all('projects').values()].filter(project => project.keyId === key.id);

export async function changeKeyConfig(
  manager: Manager,
  key: KeyConfig,
  input: Partial<KeyInput>,
): Promise<{ key: KeyConfig; operations: readonly Operation[] }> {
  const name = input.name === undefined ? key.name : keyName(input.name);
  refuseTaken(manager.store, name, key.id);
  const cmk = input.cmk === undefined ? key.cmk : formatCmk(parseCmk(input.cmk));
  const set = { name, cmk, updatedAt: manager.clock.now() };
  const moved: NewOperation[] =
    cmk === key.cmk
      ? []
      : projectsOf(manager.store, key).map(project => ({
          projectId: project.id,
          action: 'change_key',
          details: { from: key.cmk, to: cmk, keyId: key.id },
        }));
  const changes: Change[] = [{ patch: 'keys', id: key.id, set }];
  return { key: { ...key, ...set }, operations: await manager.open(moved, changes) };
}

export async function deleteKey(manager: Manager, key: KeyConfig): Promise<void> {
  const bound = projectsOf(manager.store, key);
  if (bound.length > 0) {
    throw new Fault(
      'in-use',
      `key ${key.name} is bound to ${bound.length} projects, ${bound[0]!.name} among them`,
      {
        hint: 'Move them to another key first, or delete them.',
      },
    );
  }
  await manager.commit([{ remove: 'keys', id: key.id }]);
}
