// The control record on disk: written aside, synced, renamed, and the directory synced, by Vault.writeFile. So at
// every moment the file is either the old record or the new one. Nothing is told before `persist` resolved.
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

  private constructor(vault: Vault, state: ControlState) {
    this.vault = vault;
    this.state = state;
  }

  /** Reads the record; damage is a Fault that names the file and what to do. */
  static async load(vault: Vault): Promise<ControlFile> {
    let bytes: Uint8Array;
    try {
      bytes = await vault.readFile(CONTROL_FILE_NAME);
    } catch (error) {
      if (isFault(error) && (error.kind === 'corrupt' || error.kind === 'missing'))
        throw unreadable(vault, error);
      throw error;
    }
    try {
      return new ControlFile(vault, decodeControlState(bytes).state);
    } catch (error) {
      throw isFault(error) ? unreadable(vault, error) : error;
    }
  }

  /** The first record of a timeline. */
  static async create(vault: Vault, state: ControlState): Promise<ControlFile> {
    await vault.writeFile(CONTROL_FILE_NAME, encodeControlState(state));
    return new ControlFile(vault, state);
  }

  async persist(state: ControlState): Promise<void> {
    checkPersist(this.state, state);
    await this.vault.writeFile(CONTROL_FILE_NAME, encodeControlState(state));
    this.state = state;
  }
}

function unreadable(vault: Vault, cause: Fault): Fault {
  const { tenant, timeline } = vault.scope;
  return new Fault('safekeeper-control', `${tenant}/${timeline}/${CONTROL_FILE_NAME}: ${cause.message}`, {
    hint: 'Other timelines are not affected. Delete this timeline here alone (only_local=true) and fetch it from a peer (pull_timeline), or put back a copy of its directory.',
    cause,
  });
}
