// The text commands of both services, parsed: what a client sends as a query to a safekeeper or a pageserver.
//
//   safekeeper   START_WAL_PUSH [(proto_version 'N', allow_timeline_creation 'true'|'false')]
//                START_REPLICATION [SLOT x] [PHYSICAL] X/X [TIMELINE n] [(term='N')]
//                IDENTIFY_SYSTEM | TIMELINE_STATUS                       upper case, matched by their beginning
//                SHOW wal_segment_size | SHOW data_directory_mode        asked by Postgres's own tools
//   pageserver   pagestream_v2|pagestream_v3 TENANT TIMELINE
//                basebackup TENANT TIMELINE [LSN|latest] [--gzip] [--replica]
//                fullbackup TENANT TIMELINE [LSN [PREV_LSN]]
//                lease lsn TENANT_SHARD TIMELINE LSN                     first word in any case
//   both         set ...                                                 drivers send it on their own
//
// And what a client of a safekeeper says in its startup `options`: ids, shard, and the protocol it wants.
//
// Answers to parse_cmd and startup of safekeeper/src/handler.rs and PageServiceCmd of pageserver/src/page_service.rs.

import { Fault } from '../base/fault.ts';
import {
  parseTenantShard,
  type ShardIndex,
  type TenantId,
  type TimelineId,
  tenantId,
  timelineId,
} from '../base/ids.ts';
import { type Lsn, parseLsn } from '../base/lsn.ts';
import type { StartupParameters } from './pq-server.ts';
import type { Term } from './walproposer.ts';

export type SafekeeperCommand =
  | {
      readonly kind: 'start-wal-push';
      readonly protoVersion: number;
      readonly allowTimelineCreation: boolean;
    }
  | { readonly kind: 'start-replication'; readonly startLsn: Lsn; readonly term: Term | undefined }
  | { readonly kind: 'identify-system' }
  | { readonly kind: 'timeline-status' }
  | { readonly kind: 'show'; readonly name: string }
  | { readonly kind: 'set' };

const invalid = (message: string, hint?: string): Fault =>
  new Fault('command-unknown', message, hint ? { hint } : {});

export function parseSafekeeperCommand(text: string): SafekeeperCommand {
  if (text.startsWith('START_WAL_PUSH')) return parseStartWalPush(text);
  if (text.startsWith('START_REPLICATION')) return parseStartReplication(text);
  if (text.startsWith('IDENTIFY_SYSTEM')) return { kind: 'identify-system' };
  if (text.startsWith('TIMELINE_STATUS')) return { kind: 'timeline-status' };
  const show = /^SHOW\s+(\w+)/i.exec(text);
  if (show) return { kind: 'show', name: show[1]!.toLowerCase() };
  if (/^set\s/i.test(text)) return { kind: 'set' };
  throw invalid(`unsupported command: ${shorten(text)}`, 'A safekeeper takes replication commands only.');
}

const shorten = (text: string): string => (text.length > 100 ? `${text.slice(0, 100)}...` : text);

function parseStartWalPush(text: string): SafekeeperCommand {
  const options = /^START_WAL_PUSH\s*(?:\((.*)\))?/.exec(text)?.[1] ?? '';
  let protoVersion = 2;
  let allowTimelineCreation = true;
  for (const option of options.split(',')) {
    if (option.trim() === '') continue;
    const [key, quoted] = option.trim().split(/\s+/);
    const value = quoted?.replace(/^'|'$/g, '');
    if (value === undefined) throw invalid(`option ${key} of START_WAL_PUSH has no value`);
    if (key === 'proto_version') protoVersion = wholeNumber(value, 'proto_version');
    if (key === 'allow_timeline_creation') allowTimelineCreation = bool(value, 'allow_timeline_creation');
  }
  return { kind: 'start-wal-push', protoVersion, allowTimelineCreation };
}

const START_REPLICATION =
  /^START_REPLICATION(?: SLOT [^ ]+)?(?: PHYSICAL)? ([0-9A-Fa-f]+\/[0-9A-Fa-f]+)(?: \(term='(\d+)'\))?/;

function parseStartReplication(text: string): SafekeeperCommand {
  const match = START_REPLICATION.exec(text);
  if (!match) {
    throw invalid(`cannot parse: ${shorten(text)}`, "Try START_REPLICATION PHYSICAL 0/16B3748 (term='1').");
  }
  const term = match[2] === undefined ? undefined : wholeNumber(match[2], 'term');
  return { kind: 'start-replication', startLsn: parseLsn(match[1]!), term };
}

function wholeNumber(text: string, what: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value))
    throw invalid(`${what} is not a number: '${text}'`);
  return value;
}

function bool(text: string, what: string): boolean {
  if (text === 'true') return true;
  if (text === 'false') return false;
  throw invalid(`${what} is neither 'true' nor 'false': '${text}'`);
}

/** How a receiver of WAL wants it. */
export type StreamProtocol =
  | { readonly type: 'vanilla' }
  | {
      readonly type: 'interpreted';
      readonly format: 'protobuf' | 'bincode';
      readonly zstdLevel: number | undefined;
    };

export interface ShardParameters extends ShardIndex {
  /** Pages of 8 KiB. */
  readonly stripeSize: number;
}

/** The startup options of a safekeeper's client. */
export interface SafekeeperStartup {
  readonly tenantId: TenantId | undefined;
  readonly timelineId: TimelineId | undefined;
  readonly protocol: StreamProtocol;
  readonly shard: ShardParameters | undefined;
  readonly availabilityZone: string | undefined;
  readonly applicationName: string;
}

export function parseSafekeeperStartup(parameters: StartupParameters): SafekeeperStartup {
  const options = new Map<string, string>();
  for (const word of parameters.options) {
    const equals = word.indexOf('=');
    if (equals > 0) options.set(word.slice(0, equals), word.slice(equals + 1));
  }
  const tenant = options.get('tenant_id') ?? options.get('ztenantid');
  const timeline = options.get('timeline_id') ?? options.get('ztimelineid');
  const protocol = parseStreamProtocol(options.get('protocol'));
  return {
    tenantId: tenant === undefined ? undefined : tenantId(tenant),
    timelineId: timeline === undefined ? undefined : timelineId(timeline),
    protocol,
    shard: parseShard(options, protocol),
    availabilityZone: options.get('availability_zone'),
    applicationName: parameters.values.get('application_name') ?? '',
  };
}

function parseShard(options: Map<string, string>, protocol: StreamProtocol): ShardParameters | undefined {
  const count = options.get('shard_count');
  const number = options.get('shard_number');
  const stripeSize = options.get('shard_stripe_size');
  if (protocol.type === 'vanilla') {
    if (count ?? number ?? stripeSize) throw invalid('shard parameters belong to the interpreted protocol');
    return undefined;
  }
  if (count === undefined || number === undefined || stripeSize === undefined) {
    throw invalid(
      'the interpreted protocol needs to know the shard',
      'Give shard_count, shard_number and shard_stripe_size in options.',
    );
  }
  const shard = {
    count: wholeNumber(count, 'shard_count'),
    number: wholeNumber(number, 'shard_number'),
    stripeSize: wholeNumber(stripeSize, 'shard_stripe_size'),
  };
  if (shard.count > 255 || shard.number >= Math.max(shard.count, 1)) {
    throw invalid(`there is no shard ${shard.number} of ${shard.count}`);
  }
  return shard;
}

/** `{"type":"vanilla"}`, or interpreted with its format and compression. */
export function parseStreamProtocol(text: string | undefined): StreamProtocol {
  if (text === undefined) return { type: 'vanilla' };
  const bad = (): Fault =>
    invalid(
      `cannot parse protocol '${shorten(text)}'`,
      'It is JSON: {"type":"vanilla"} or {"type":"interpreted",...}.',
    );
  let value: { type?: unknown; args?: { format?: unknown; compression?: unknown } };
  try {
    value = JSON.parse(text) as typeof value;
  } catch {
    throw bad();
  }
  if (value?.type === 'vanilla') return { type: 'vanilla' };
  const format = value?.args?.format;
  if (value?.type !== 'interpreted' || (format !== 'protobuf' && format !== 'bincode')) throw bad();
  return { type: 'interpreted', format, zstdLevel: zstdLevel(value.args?.compression, bad) };
}

function zstdLevel(compression: unknown, bad: () => Fault): number | undefined {
  if (compression === null || compression === undefined) return undefined;
  const level = (compression as { zstd?: { level?: unknown } }).zstd?.level;
  if (typeof level !== 'number' || !Number.isInteger(level)) throw bad();
  return level;
}

/** The text form, for a client of a safekeeper. */
export function formatStreamProtocol(p: StreamProtocol): string {
  if (p.type === 'vanilla') return '{"type":"vanilla"}';
  const compression = p.zstdLevel === undefined ? null : { zstd: { level: p.zstdLevel } };
  return JSON.stringify({ type: p.type, args: { format: p.format, compression } });
}

export type PageserverCommand =
  | {
      readonly kind: 'pagestream';
      readonly version: 2 | 3;
      readonly tenantId: TenantId;
      readonly timelineId: TimelineId;
    }
  | {
      readonly kind: 'basebackup';
      readonly tenantId: TenantId;
      readonly timelineId: TimelineId;
      /** undefined is the latest. */
      readonly lsn: Lsn | undefined;
      readonly gzip: boolean;
      readonly replica: boolean;
    }
  | {
      readonly kind: 'fullbackup';
      readonly tenantId: TenantId;
      readonly timelineId: TimelineId;
      readonly lsn: Lsn | undefined;
      readonly prevLsn: Lsn | undefined;
    }
  | {
      readonly kind: 'lease-lsn';
      readonly tenantId: TenantId;
      readonly shard: ShardIndex;
      readonly timelineId: TimelineId;
      readonly lsn: Lsn;
    }
  | { readonly kind: 'set' };

export function parsePageserverCommand(text: string): PageserverCommand {
  const words = text.trim().split(/\s+/);
  const verb = words[0]!.toLowerCase();
  const args = words.slice(1);
  switch (verb) {
    case 'pagestream_v2':
    case 'pagestream_v3': {
      if (args.length !== 2) throw invalid(`${verb} takes a tenant and a timeline`);
      const version = verb.endsWith('2') ? 2 : 3;
      return { kind: 'pagestream', version, ...ids(args) };
    }
    case 'basebackup':
      return parseBasebackup(args);
    case 'fullbackup':
      if (args.length < 2 || args.length > 4) {
        throw invalid('fullbackup takes a tenant, a timeline, an LSN and the LSN before it');
      }
      return { kind: 'fullbackup', ...ids(args), lsn: optionalLsn(args[2]), prevLsn: optionalLsn(args[3]) };
    case 'lease':
      if (args[0]?.toLowerCase() !== 'lsn' || args.length !== 4) {
        throw invalid('try: lease lsn TENANT_SHARD TIMELINE LSN');
      }
      return parseLease(args);
    case 'set':
      return { kind: 'set' };
    default:
      throw invalid(
        `unsupported command: ${shorten(text)}`,
        'A pageserver takes pagestream_v2, pagestream_v3, basebackup, fullbackup and lease lsn.',
      );
  }
}

const ids = (args: readonly string[]): { tenantId: TenantId; timelineId: TimelineId } => ({
  tenantId: tenantId(args[0] ?? ''),
  timelineId: timelineId(args[1] ?? ''),
});

const optionalLsn = (text: string | undefined): Lsn | undefined =>
  text === undefined ? undefined : parseLsn(text);

function parseBasebackup(args: readonly string[]): PageserverCommand {
  if (args.length < 2) throw invalid('basebackup takes a tenant and a timeline');
  const flags = [...args.slice(2)];
  let at: Lsn | undefined;
  if (flags[0] !== undefined && !flags[0].startsWith('--')) {
    const word = flags.shift()!;
    at = word === 'latest' ? undefined : parseLsn(word);
  }
  const seen = new Set<string>();
  for (const flag of flags) {
    if ((flag !== '--gzip' && flag !== '--replica') || seen.has(flag)) {
      throw invalid(`basebackup does not take ${flag}${seen.has(flag) ? ' twice' : ''}`);
    }
    seen.add(flag);
  }
  return {
    kind: 'basebackup',
    ...ids(args),
    lsn: at,
    gzip: seen.has('--gzip'),
    replica: seen.has('--replica'),
  };
}

function parseLease(args: readonly string[]): PageserverCommand {
  const { tenant, shard } = parseTenantShard(args[1]!);
  return {
    kind: 'lease-lsn',
    tenantId: tenant,
    shard,
    timelineId: timelineId(args[2]!),
    lsn: parseLsn(args[3]!),
  };
}
