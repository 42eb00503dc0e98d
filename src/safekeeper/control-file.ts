// The control record on disk: written aside, synced, renamed, and the directory synced, by Vault.writeFile. So at
// every moment the file is either the old record or the new one. Nothing is told before `persist` resolved.
//
// Each record is of a generation, counted up, which the sealed file carries; and every frame of WAL notes the generation
// that was on the disk when it was sealed. An older record put back while nobody looked is so found out at the next
// start: WAL knows of a newer one. A vote cast since then may have been in that one, and must not be cast twice.
//
// Answers to FileStorage of safekeeper/src/control_file.rs.

import { Fault, isFault } from '../base/fault.ts';
import type { Vault } from '../seal/vault.ts';
import { checkPersist } from './audit.ts';
import {
  CONTROL_FILE_NAME,
  type ControlState,
  decodeControlState,
  encodeControlState,
} from './control-state.ts';

export class ControlFile {
  private readonly vault: Vault;
  /** As last persisted. */
  state: ControlState;
  generation: number;

  private constructor(vault: Vault, state: ControlState, generation: number) {
    this.vault = vault;
    this.state = state;
    this.generation = generation;
  }

  /** Reads the record; damage is a Fault that names the file and what to do. */
  static async load(vault: Vault): Promise<ControlFile> {
    let found: { bytes: Uint8Array; generation: number };
    try {
      found = await vault.readGeneration(CONTROL_FILE_NAME);
    } catch (error) {
      if (isFault(error) && (error.kind === 'corrupt' || error.kind === 'missing'))
        throw unreadable(vault, error);
      throw error;
    }
    try {
      return new ControlFile(vault, decodeControlState(found.bytes).state, found.generation);
    } catch (error) {
      throw isFault(error) ? unreadable(vault, error) : error;
    }
  }

  /** The first record of a timeline. */
  static async create(vault: Vault, state: ControlState): Promise<ControlFile> {
    await vault.writeFile(CONTROL_FILE_NAME, encodeControlState(state), { generation: 1 });
    return new ControlFile(vault, state, 1);
  }

  /** WAL notes that a record of this generation was on the disk. */
  expectSince(generation: number): void {
    if (generation <= this.generation) return;
    const what = `it is record ${this.generation}, and WAL was written under record ${generation}: an older one was put back`;
    throw unreadable(this.vault, new Fault('sealed-tampered', what));
  }

  async persist(state: ControlState): Promise<void> {
    checkPersist(this.state, state);
    const generation = this.generation + 1;
    await this.vault.writeFile(CONTROL_FILE_NAME, encodeControlState(state), { generation });
    this.state = state;
    this.generation = generation;
  }
}

function unreadable(vault: Vault, cause: Fault): Fault {
  const { tenant, timeline } = vault.scope;
  return new Fault('safekeeper-control', `${tenant}/${timeline}/${CONTROL_FILE_NAME}: ${cause.message}`, {
    hint: 'Other timelines are not affected. Delete this timeline here alone (only_local=true) and fetch it from a peer (pull_timeline), or put back a copy of its directory.',
    cause,
  });
}
