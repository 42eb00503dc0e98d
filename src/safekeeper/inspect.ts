// A window on a safekeeper's data directory: reads only, believes little, and goes on past damage. It may be looked
// through while the safekeeper runs; what is being written just then may seem torn.
//
//   without keys    what each file claims to be, and whether that fits where it lies
//   with keys       the control record; every frame of WAL proven; where whole records end
//
// What is wrong is told as `problems`, each naming its file. Nothing here ends at the first of them.

import { Fault, isFault } from '../base/fault.ts';
import { type TenantId, type TimelineId, tenantId, timelineId } from '../base/ids.ts';
import { formatLsn, type Lsn } from '../base/lsn.ts';
import type { Disk } from '../base/ports.ts';
import { inspectSealed, type LogClaim, type SealedClaim } from '../seal/inspect.ts';
import { sourceOfFile } from '../seal/sources.ts';
import type { Vault } from '../seal/vault.ts';
import { parseSegmentFileName, segmentStart } from '../xlog/segment.ts';
import { ControlFile } from './control-file.ts';
import { CONTROL_FILE_NAME, type ControlState } from './control-state.ts';
import type { TimelineKey } from './timeline-handle.ts';
import { isBadWal, WalScan } from './wal-scan.ts';

const READ_BYTES = 1024 * 1024;
/** Of a directory whose control record cannot be read. */
const USUAL_SEGMENT_SIZE = 16 * 1024 * 1024;

export interface InspectedSegment {
  readonly name: string;
  readonly segno: number;
  readonly from: Lsn;
  readonly to: Lsn;
  readonly sealedBytes: number;
  readonly log: LogClaim;
  /** Every frame was opened; undefined without keys. */
  readonly proven: boolean | undefined;
}

export interface InspectedTimeline {
  readonly key: TimelineKey;
  readonly control: ControlState | undefined;
  readonly segments: readonly InspectedSegment[];
  /** With keys: where whole records end. */
  readonly recordEnd: Lsn | undefined;
  readonly problems: readonly string[];
}

export interface InspectedSafekeeper {
  readonly nodeId: string | undefined;
  readonly timelines: readonly TimelineKey[];
  /** Half made or half deleted: the next start removes them. */
  readonly temporary: readonly string[];
  readonly problems: readonly string[];
}

const isId = (name: string): boolean => /^[0-9a-f]{32}$/.test(name);
const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

export async function inspectSafekeeper(disk: Disk): Promise<InspectedSafekeeper> {
  const names = await disk.list('').catch((error: unknown) => {
    throw new Fault('config-invalid', `the data directory cannot be read: ${messageOf(error)}`, {
      hint: 'Name the directory that the safekeeper was given with -D.',
    });
  });
  const problems: string[] = [];
  const orTold = async <T>(what: string, work: Promise<T>): Promise<T | undefined> => {
    try {
      return await work;
    } catch (error) {
      problems.push(`${what}: ${messageOf(error)}`);
      return undefined;
    }
  };
  const timelines: TimelineKey[] = [];
  for (const tenant of names.filter(isId)) {
    for (const timeline of ((await orTold(tenant, disk.list(tenant))) ?? []).filter(isId)) {
      timelines.push({ tenantId: tenantId(tenant), timelineId: timelineId(timeline) });
    }
  }
  let nodeId: string | undefined;
  if (!names.includes('safekeeper.id')) problems.push('safekeeper.id is missing: is this a data directory?');
  else {
    const id = await orTold('safekeeper.id', disk.readFile('safekeeper.id'));
    nodeId = id && new TextDecoder().decode(id).trim();
  }
  const temporary = names.includes('tmp') ? await orTold('tmp', disk.list('tmp')) : [];
  return { nodeId, timelines, temporary: temporary ?? [], problems };
}

/** One timeline; with a vault of its directory, opened and proven. */
export async function inspectTimeline(
  disk: Disk,
  key: TimelineKey,
  vault?: Vault,
): Promise<InspectedTimeline> {
  const look = new TimelineLook(disk, key, vault);
  await look.run();
  const { control, segments, recordEnd, problems } = look;
  return { key, control, segments, recordEnd, problems };
}

class TimelineLook {
  control: ControlState | undefined;
  readonly segments: InspectedSegment[] = [];
  recordEnd: Lsn | undefined;
  readonly problems: string[] = [];
  private readonly disk: Disk;
  private readonly key: TimelineKey;
  private readonly vault: Vault | undefined;
  private scan: WalScan | undefined;

  constructor(disk: Disk, key: TimelineKey, vault: Vault | undefined) {
    this.disk = disk;
    this.key = key;
    this.vault = vault;
  }

  private get directory(): string {
    return `${this.key.tenantId}/${this.key.timelineId}`;
  }

  private get segmentSize(): number {
    return this.control?.server.walSegSize ?? USUAL_SEGMENT_SIZE;
  }

  async run(): Promise<void> {
    let names: readonly string[];
    try {
      names = await this.disk.list(this.directory);
    } catch (error) {
      this.problems.push(messageOf(error));
      return;
    }
    await this.readControl(names);
    for (const name of names.filter(n => n !== CONTROL_FILE_NAME)) {
      const parsed = parseSegmentFileName(name, this.segmentSize);
      if (parsed === undefined || parsed.partial) {
        // A file half made by a crash, or somebody else's: neither is ever read.
        this.problems.push(`${name}: no file of a safekeeper, or one half made`);
        continue;
      }
      try {
        await this.readSegment(name, parsed.segno);
      } catch (error) {
        this.problems.push(`${name}: ${messageOf(error)}`);
      }
    }
    this.recordEnd ??= this.scan?.boundary;
    this.checkEnds();
  }

  private async readControl(names: readonly string[]): Promise<void> {
    if (!names.includes(CONTROL_FILE_NAME)) {
      this.problems.push(`${CONTROL_FILE_NAME} is missing`);
      return;
    }
    try {
      await this.claimOf(CONTROL_FILE_NAME);
      if (!this.vault) return;
      this.control = (await ControlFile.load(this.vault)).state;
      const { commitLsn, server } = this.control;
      if (commitLsn > 0) this.scan = new WalScan(commitLsn, server.walSegSize, server.pgVersion);
    } catch (error) {
      this.problems.push(`${CONTROL_FILE_NAME}: ${messageOf(error)}`);
    }
  }

  private async claimOf(name: string): Promise<SealedClaim> {
    const file = await this.disk.open(`${this.directory}/${name}`, 'read');
    try {
      const claim = await inspectSealed(await sourceOfFile(file), name);
      const { tenant, timeline, name: claimed } = claim.header;
      if (tenant !== this.key.tenantId || timeline !== this.key.timelineId || claimed !== name) {
        this.problems.push(`${name}: belongs elsewhere, to ${tenant}/${timeline ?? 'none'}/${claimed}`);
      }
      return claim;
    } finally {
      await file.close();
    }
  }

  private async readSegment(name: string, segno: number): Promise<void> {
    const { header, log, sealedBytes } = await this.claimOf(name);
    if (!log) throw new Fault('sealed-tampered', 'a whole file where a log should be');
    const start = segmentStart(segno, this.segmentSize);
    const from = (start + header.origin) as Lsn;
    const before = this.segments.at(-1);
    if (before && before.to !== from) {
      this.problems.push(`between ${before.name} and ${name}: WAL ends at ${formatLsn(before.to)}`);
    }
    let to = (start + log.end) as Lsn;
    let proven: boolean | undefined;
    if (this.vault) {
      proven = false;
      try {
        to = await this.prove(this.vault, name, start);
        proven = true;
      } catch (error) {
        this.problems.push(`${name}: ${messageOf(error)}`);
        // The records that follow can be found no more.
        this.scan = undefined;
      }
    }
    if (log.tail === 'other bytes')
      this.problems.push(`${name}: something torn from byte ${log.position} on`);
    this.segments.push({ name, segno, from, to, sealedBytes, log, proven });
  }

  /** Reads all there is; where it ends. */
  private async prove(vault: Vault, name: string, start: Lsn): Promise<Lsn> {
    const file = await this.disk.open(`${this.directory}/${name}`, 'read');
    try {
      const log = await vault.openLogSource(name, await sourceOfFile(file));
      for (let at = log.origin; at < log.length; ) {
        const bytes = await log.read(at, Math.min(READ_BYTES, log.length - at));
        this.scanFrom((start + at) as Lsn, bytes);
        at += bytes.length;
      }
      return (start + log.length) as Lsn;
    } finally {
      await file.close();
    }
  }

  /** Records are followed from the committed position on, as a start does. */
  private scanFrom(lsn: Lsn, bytes: Uint8Array): void {
    if (!this.scan || lsn + bytes.length <= this.scan.position) return;
    if (lsn > this.scan.position) {
      this.scan = undefined;
      return;
    }
    try {
      this.scan.push(bytes.subarray(this.scan.position - lsn));
    } catch (error) {
      if (!isBadWal(error)) throw error;
      this.problems.push(`records end at ${formatLsn(this.scan.boundary)}: ${error.message}`);
      this.recordEnd = this.scan.boundary;
      this.scan = undefined;
    }
  }

  private checkEnds(): void {
    const { control } = this;
    if (!control || control.eviction.kind === 'offloaded') return;
    const end = this.segments.at(-1)?.to;
    if (control.commitLsn > control.localStartLsn && (end ?? 0) < control.commitLsn) {
      this.problems.push(
        `WAL is committed up to ${formatLsn(control.commitLsn)} and ends at ${end === undefined ? 'nothing' : formatLsn(end)}`,
      );
    }
  }
}

/** Which timelines, by `TENANT`, `TENANT/TIMELINE`, or all. */
export function chosenTimelines(all: readonly TimelineKey[], names: readonly string[]): TimelineKey[] {
  if (names.length === 0) return [...all];
  return names.flatMap(name => {
    const found = all.filter(k => k.tenantId === name || `${k.tenantId}/${k.timelineId}` === name);
    if (found.length > 0) return found;
    throw new Fault('timeline-missing', `${name} is not here`, {
      hint: `Name a TENANT or TENANT/TIMELINE; there are ${all.length} timelines.`,
    });
  });
}

/** `TENANT/TIMELINE` as typed. */
export function parseTimelineKey(text: string): TimelineKey {
  const [tenant = '', timeline = '', ...rest] = text.split('/');
  try {
    if (rest.length > 0) throw new Fault('config-invalid', 'too many parts');
    return { tenantId: tenantId(tenant) as TenantId, timelineId: timelineId(timeline) as TimelineId };
  } catch (error) {
    if (!isFault(error)) throw error;
    throw new Fault('config-invalid', `"${text}" is not TENANT/TIMELINE`, {
      hint: 'Each is 32 hex digits; `lakebed inspect safekeeper DIR` lists what there is.',
    });
  }
}
