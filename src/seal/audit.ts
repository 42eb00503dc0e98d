// The audit of keys: one line of JSON for every time a customer's key is used or anything about keys is decided.
//
//   { "at": ISO time, "event", "who", "tenant", "purpose", "cmk", "keyVersion", "kek": version, "result": "ok" | code,
//     "requestId": the key service's, "ms": how long it took, "message" }
//
//   generate wrap unwrap     a call of the key service (one line each, failures too)
//   create rotate rewrap-keks change retire rewrap shred     something was changed, by whom; with the version of the
//                            customer's key and the request that made the new wrapped key, where there is one
//   deny                     files were asked for while the tenant's keys may not be used: one line a poll, with how often
//   revoke restore           a tenant's keys were wiped, opened again
//
// No line holds a secret or a name of a user's making. Wrapping a DEK under a KEK is no event: it happens for
// every file, in memory, and the metrics count it. The lines go to a file of their own, in order, each synced
// before the next is taken up; if that file cannot be written, key operations go on and the metrics tell.

import { utf8 } from '../base/bytes.ts';
import type { Disk, DiskFile } from '../base/ports.ts';

export type AuditEvent =
  | 'generate'
  | 'wrap'
  | 'unwrap'
  | 'create'
  | 'rotate'
  | 'rewrap-keks'
  | 'change'
  | 'retire'
  | 'rewrap'
  | 'shred'
  | 'deny'
  | 'revoke'
  | 'restore';

export interface AuditLine {
  readonly at: string;
  readonly event: AuditEvent;
  /** The node, or the person at the command line. */
  readonly who: string;
  readonly tenant: string;
  readonly purpose: string;
  readonly cmk: string;
  readonly keyVersion?: string | undefined;
  readonly kek?: number | undefined;
  readonly result: string;
  readonly requestId?: string | undefined;
  readonly ms?: number | undefined;
  readonly message?: string | undefined;
}

export interface Audit {
  line(line: AuditLine): void;
}

/** Lines that wait for the disk; past this many the oldest wait no longer and are counted as lost. */
const WAITING_MAX = 10_000;
const NEWLINE = 0x0a;

export class AuditFile implements Audit {
  private readonly disk: Disk;
  private readonly path: string;
  private readonly failed: (error: unknown, lines: number) => void;
  private file: DiskFile | undefined;
  private end = 0;
  private waiting: Uint8Array[] = [];
  private writing: Promise<void> | undefined;

  constructor(disk: Disk, path: string, failed: (error: unknown, lines: number) => void) {
    this.disk = disk;
    this.path = path;
    this.failed = failed;
  }

  line(line: AuditLine): void {
    if (this.waiting.length >= WAITING_MAX) {
      this.waiting.shift();
      this.failed(new Error('the audit file is too slow'), 1);
    }
    this.waiting.push(utf8(`${JSON.stringify(line)}\n`));
    this.writing ??= this.drain().finally(() => (this.writing = undefined));
  }

  private async drain(): Promise<void> {
    while (this.waiting.length > 0) {
      const lines = this.waiting;
      this.waiting = [];
      try {
        const file = this.file ?? (await this.open());
        await file.writeDurably(this.end, lines);
        for (const line of lines) this.end += line.length;
      } catch (error) {
        this.failed(error, lines.length);
        await this.file?.close().catch(() => undefined);
        this.file = undefined;
      }
    }
  }

  private async open(): Promise<DiskFile> {
    const directory = this.path.slice(0, Math.max(0, this.path.lastIndexOf('/')));
    if (directory !== '') await this.disk.makeDirectory(directory);
    const file = await this.disk.open(this.path, 'create');
    await this.disk.syncDirectory(directory);
    this.end = await file.size();
    // A line torn by a crash stays a line of its own.
    const last = await file.read(Math.max(0, this.end - 1), 1);
    if (this.end > 0 && last[0] !== NEWLINE) {
      await file.write(this.end, Uint8Array.of(NEWLINE));
      this.end++;
    }
    this.file = file;
    return file;
  }

  /** Resolves when every line so far is on the disk, or was given up. */
  async drained(): Promise<void> {
    while (this.writing) await this.writing;
  }
}

/** Several audits as one. */
export const auditAll = (audits: readonly Audit[]): Audit => ({
  line(line) {
    for (const audit of audits) audit.line(line);
  },
});
