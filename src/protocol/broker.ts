// What travels through the storage broker: safekeepers tell where each of their timelines is, pageservers listen.
// The messages of Neon's proto3 package `storage_broker`, by field number:
//
//   TenantTimelineId              tenant_id bytes 1 | timeline_id bytes 2              16 bytes each
//   SafekeeperTimelineInfo        safekeeper_id 1 | id 2 | last_log_term 3 | flush_lsn 4 | commit_lsn 5 | backup_lsn 6 |
//                                 remote_consistent_lsn 7 | peer_horizon_lsn 8 | local_start_lsn 9 | connstr 10 |
//                                 availability_zone? 11 | term 12 | http_connstr 13 | standby_horizon 14 | https? 15
//   SafekeeperDiscoveryRequest    id 1
//   SafekeeperDiscoveryResponse   safekeeper_id 1 | id 2 | commit_lsn 3 | connstr 4 | availability_zone? 5 | standby_horizon 6
//   TypedMessage                  type 1 | info? 2 | request? 3 | response? 4
//   SubscribeSafekeeperInfoRequest   oneof: all 1 | id 2
//   SubscribeByFilterRequest      types rep 1 { type 1 } | filter? 2 { enabled 1 | id 2 }
//
// Answers to storage_broker/proto/broker.proto.

import { Fault } from '../base/fault.ts';
import { idToBytes, type TenantId, type TimelineId } from '../base/ids.ts';
import type { Lsn } from '../base/lsn.ts';
import { INVALID_LSN } from '../base/lsn.ts';
import { ProtoReader, ProtoWriter } from './protobuf.ts';

export const BROKER_SERVICE = '/storage_broker.BrokerService';

export interface TenantTimelineId {
  readonly tenantId: TenantId;
  readonly timelineId: TimelineId;
}

export interface SafekeeperTimelineInfo {
  readonly safekeeperId: number;
  readonly id: TenantTimelineId | undefined;
  readonly lastLogTerm: number;
  readonly flushLsn: Lsn;
  readonly commitLsn: Lsn;
  readonly backupLsn: Lsn;
  readonly remoteConsistentLsn: Lsn;
  readonly peerHorizonLsn: Lsn;
  readonly localStartLsn: Lsn;
  readonly safekeeperConnstr: string;
  readonly availabilityZone: string | undefined;
  readonly term: number;
  readonly httpConnstr: string;
  /** The least apply position of connected standbys; 0 is none. */
  readonly standbyHorizon: Lsn;
  readonly httpsConnstr: string | undefined;
}

export interface DiscoveryRequest {
  readonly id: TenantTimelineId | undefined;
}

export interface DiscoveryResponse {
  readonly safekeeperId: number;
  readonly id: TenantTimelineId | undefined;
  readonly commitLsn: Lsn;
  readonly safekeeperConnstr: string;
  readonly availabilityZone: string | undefined;
  readonly standbyHorizon: Lsn;
}

export const MESSAGE_TYPE = { info: 2, discoveryRequest: 3, discoveryResponse: 4 } as const;

export interface TypedMessage {
  readonly type: number;
  readonly info?: SafekeeperTimelineInfo | undefined;
  readonly discoveryRequest?: DiscoveryRequest | undefined;
  readonly discoveryResponse?: DiscoveryResponse | undefined;
}

/** `id` undefined is all timelines. */
export interface SubscribeInfo {
  /** Neither form of the key was given: to be refused. */
  readonly missingKey: boolean;
  readonly id: TenantTimelineId | undefined;
}

export interface SubscribeByFilter {
  readonly types: readonly number[];
  readonly enabled: boolean;
  readonly id: TenantTimelineId | undefined;
}

function writeId(w: ProtoWriter, field: number, id: TenantTimelineId | undefined): void {
  if (!id) return;
  w.message(field, inner => {
    inner.alwaysBytes(1, idToBytes(id.tenantId)).alwaysBytes(2, idToBytes(id.timelineId));
  });
}

function readId(r: ProtoReader): TenantTimelineId {
  let tenantId = '';
  let timelineId = '';
  while (r.next()) {
    if (r.field === 1) tenantId = r.id();
    else if (r.field === 2) timelineId = r.id();
    else r.skip();
  }
  // An id of no bytes is left out by proto3; it is as wrong as any other that is not 16 bytes.
  if (!tenantId || !timelineId) throw new Fault('protocol-violation', 'a tenant or timeline id is missing');
  return { tenantId: tenantId as TenantId, timelineId: timelineId as TimelineId };
}

export function writeInfo(info: SafekeeperTimelineInfo): Uint8Array {
  const w = new ProtoWriter(160);
  infoFields(w, info);
  return w.finish();
}

function infoFields(w: ProtoWriter, info: SafekeeperTimelineInfo): void {
  w.uint(1, info.safekeeperId);
  writeId(w, 2, info.id);
  w.uint(3, info.lastLogTerm).uint(4, info.flushLsn).uint(5, info.commitLsn).uint(6, info.backupLsn);
  w.uint(7, info.remoteConsistentLsn).uint(8, info.peerHorizonLsn).uint(9, info.localStartLsn);
  w.text(10, info.safekeeperConnstr);
  if (info.availabilityZone !== undefined) w.alwaysText(11, info.availabilityZone);
  w.uint(12, info.term).text(13, info.httpConnstr).uint(14, info.standbyHorizon);
  if (info.httpsConnstr !== undefined) w.alwaysText(15, info.httpsConnstr);
}

export const readInfo = (bytes: Uint8Array): SafekeeperTimelineInfo => infoOf(new ProtoReader(bytes));

type Writable<T> = { -readonly [K in keyof T]: T[K] };

function infoOf(r: ProtoReader): SafekeeperTimelineInfo {
  const info: Writable<SafekeeperTimelineInfo> = {
    safekeeperId: 0,
    id: undefined,
    lastLogTerm: 0,
    flushLsn: INVALID_LSN,
    commitLsn: INVALID_LSN,
    backupLsn: INVALID_LSN,
    remoteConsistentLsn: INVALID_LSN,
    peerHorizonLsn: INVALID_LSN,
    localStartLsn: INVALID_LSN,
    safekeeperConnstr: '',
    availabilityZone: undefined,
    term: 0,
    httpConnstr: '',
    standbyHorizon: INVALID_LSN,
    httpsConnstr: undefined,
  };
  const fields: Record<number, () => void> = {
    1: () => (info.safekeeperId = r.uint()),
    2: () => (info.id = readId(r.message())),
    3: () => (info.lastLogTerm = r.uint()),
    4: () => (info.flushLsn = r.lsn()),
    5: () => (info.commitLsn = r.lsn()),
    6: () => (info.backupLsn = r.lsn()),
    7: () => (info.remoteConsistentLsn = r.lsn()),
    8: () => (info.peerHorizonLsn = r.lsn()),
    9: () => (info.localStartLsn = r.lsn()),
    10: () => (info.safekeeperConnstr = r.text()),
    11: () => (info.availabilityZone = r.text()),
    12: () => (info.term = r.uint()),
    13: () => (info.httpConnstr = r.text()),
    14: () => (info.standbyHorizon = r.lsn()),
    15: () => (info.httpsConnstr = r.text()),
  };
  while (r.next()) (fields[r.field] ?? (() => r.skip()))();
  return info;
}

function writeDiscoveryResponse(w: ProtoWriter, d: DiscoveryResponse): void {
  w.uint(1, d.safekeeperId);
  writeId(w, 2, d.id);
  w.uint(3, d.commitLsn).text(4, d.safekeeperConnstr);
  if (d.availabilityZone !== undefined) w.alwaysText(5, d.availabilityZone);
  w.uint(6, d.standbyHorizon);
}

function readDiscoveryResponse(r: ProtoReader): DiscoveryResponse {
  const found: Writable<DiscoveryResponse> = {
    safekeeperId: 0,
    id: undefined,
    commitLsn: INVALID_LSN,
    safekeeperConnstr: '',
    availabilityZone: undefined,
    standbyHorizon: INVALID_LSN,
  };
  while (r.next()) {
    if (r.field === 1) found.safekeeperId = r.uint();
    else if (r.field === 2) found.id = readId(r.message());
    else if (r.field === 3) found.commitLsn = r.lsn();
    else if (r.field === 4) found.safekeeperConnstr = r.text();
    else if (r.field === 5) found.availabilityZone = r.text();
    else if (r.field === 6) found.standbyHorizon = r.lsn();
    else r.skip();
  }
  return found;
}

export function writeTypedMessage(m: TypedMessage): Uint8Array {
  const w = new ProtoWriter(192);
  w.uint(1, m.type);
  const { info, discoveryRequest, discoveryResponse } = m;
  if (info) w.message(2, inner => infoFields(inner, info));
  if (discoveryRequest) w.message(3, inner => writeId(inner, 1, discoveryRequest.id));
  if (discoveryResponse) w.message(4, inner => writeDiscoveryResponse(inner, discoveryResponse));
  return w.finish();
}

export function readTypedMessage(bytes: Uint8Array): TypedMessage {
  const r = new ProtoReader(bytes);
  const m: Writable<TypedMessage> = { type: 0 };
  while (r.next()) {
    if (r.field === 1) m.type = r.uint();
    else if (r.field === 2) m.info = infoOf(r.message());
    else if (r.field === 3) m.discoveryRequest = { id: readOnlyId(r.message()) };
    else if (r.field === 4) m.discoveryResponse = readDiscoveryResponse(r.message());
    else r.skip();
  }
  return m;
}

function readOnlyId(r: ProtoReader): TenantTimelineId | undefined {
  let id: TenantTimelineId | undefined;
  while (r.next()) {
    if (r.field === 1) id = readId(r.message());
    else r.skip();
  }
  return id;
}

export function writeSubscribeInfo(id: TenantTimelineId | undefined): Uint8Array {
  const w = new ProtoWriter(48);
  if (id) writeId(w, 2, id);
  else w.message(1, () => {});
  return w.finish();
}

export function readSubscribeInfo(bytes: Uint8Array): SubscribeInfo {
  const r = new ProtoReader(bytes);
  let missingKey = true;
  let id: TenantTimelineId | undefined;
  while (r.next()) {
    if (r.field === 1) {
      missingKey = false;
      id = undefined;
      r.skip();
    } else if (r.field === 2) {
      missingKey = false;
      id = readId(r.message());
    } else r.skip();
  }
  return { missingKey, id };
}

export function writeSubscribeByFilter(s: SubscribeByFilter): Uint8Array {
  const w = new ProtoWriter(64);
  for (const type of s.types) w.message(1, inner => inner.uint(1, type));
  if (s.enabled || s.id) {
    w.message(2, inner => {
      inner.bool(1, s.enabled);
      writeId(inner, 2, s.id);
    });
  }
  return w.finish();
}

export function readSubscribeByFilter(bytes: Uint8Array): SubscribeByFilter {
  const r = new ProtoReader(bytes);
  const found = { types: [] as number[], enabled: false, id: undefined as TenantTimelineId | undefined };
  while (r.next()) {
    if (r.field === 1) found.types.push(readType(r.message()));
    else if (r.field === 2) readFilter(r.message(), found);
    else r.skip();
  }
  return found;
}

function readType(r: ProtoReader): number {
  let type = 0;
  while (r.next()) {
    if (r.field === 1) type = r.uint();
    else r.skip();
  }
  return type;
}

function readFilter(r: ProtoReader, into: { enabled: boolean; id: TenantTimelineId | undefined }): void {
  while (r.next()) {
    if (r.field === 1) into.enabled = r.bool();
    else if (r.field === 2) into.id = readId(r.message());
    else r.skip();
  }
}
