// What pg_waldump says about transaction records. Cold code.
//
// Mirrors xact_desc of xactdesc.c, including the order in which it tells things: an abort's origin comes before
// its dropped statistics, a commit's after everything else. Minors of 15 to 17 from before mid-2025 leave a
// prepare's dropped statistics out; here they are told, as later ones do.

import type { WalRecord } from '../record.ts';
import {
  describeInvalidations,
  type InvalNames,
  lsnAt,
  relPathAt,
  SIZE_OF_INVAL_MESSAGE,
  timestamptzToStr,
} from './desc.ts';
import { arrayEnd, mainAt, readText } from './main-data.ts';
import {
  parsePrepareRecord,
  parseXactRecord,
  SIZE_OF_RELFILELOCATOR,
  XACT_COMPLETION_APPLY_FEEDBACK,
  XACT_COMPLETION_FORCE_SYNC_COMMIT,
  XACT_COMPLETION_UPDATE_RELCACHE_FILE,
  type XactLayout,
  XactRecord,
} from './xact-record.ts';

/** How a major's transaction records are laid out and printed. */
export interface XactShape extends XactLayout {
  readonly versionDirectory: string;
  readonly invalNames: InvalNames;
  /** Aborts and prepares print their origin, commits that a standby's answer is asked for (15+). */
  readonly tellsOrigins: boolean;
}

/** xact_desc_relations */
function relations(view: DataView, label: string, at: number, count: number, shape: XactShape): string {
  if (count === 0) return '';
  let text = `; ${label}:`;
  for (let i = 0; i < count; i++)
    text += ` ${relPathAt(view, at + i * SIZE_OF_RELFILELOCATOR, 0, shape.versionDirectory)}`;
  return text;
}

const xids = (view: DataView, at: number, count: number): string => {
  let text = '';
  for (let i = 0; i < count; i++) text += ` ${view.getUint32(at + i * 4, true)}`;
  return text;
};

/** xact_desc_subxacts */
const subxacts = (view: DataView, at: number, count: number): string =>
  count === 0 ? '' : `; subxacts:${xids(view, at, count)}`;

/** xact_desc_stats: the object's id is 32 bits wide, or 64 (18). */
function stats(view: DataView, label: string, at: number, count: number, itemSize: number): string {
  if (count === 0) return '';
  let text = `; ${label}dropped stats:`;
  for (let i = 0; i < count; i++) {
    const item = at + i * itemSize;
    const object = itemSize === 16 ? view.getBigUint64(item + 8, true) : view.getUint32(item + 8, true);
    text += ` ${view.getInt32(item, true)}/${view.getUint32(item + 4, true)}/${object}`;
  }
  return text;
}

const origin = (record: WalRecord, at: number): string =>
  `; origin: node ${record.origin}, lsn ${lsnAt(record.view, at)}, ` +
  `at ${timestamptzToStr(record.view.getBigInt64(at + 8, true))}`;

/** What commits and aborts begin with. */
function head(record: WalRecord, xact: XactRecord, shape: XactShape): string {
  const { view } = record;
  return (
    (xact.twophaseXid === 0 ? '' : `${xact.twophaseXid}: `) +
    timestamptzToStr(view.getBigInt64(record.mainOffset, true)) +
    relations(view, 'rels', xact.relsAt, xact.nrels, shape) +
    subxacts(view, xact.subxactsAt, xact.nsubxacts)
  );
}

/** xact_desc_commit */
export function describeCommit(record: WalRecord, shape: XactShape): string {
  const xact = parseXactRecord(new XactRecord(), record, shape, true);
  const { view } = record;
  const relcacheInit = xact.has(XACT_COMPLETION_UPDATE_RELCACHE_FILE)
    ? { dbId: xact.dbId, tsId: xact.tsId }
    : undefined;
  return (
    head(record, xact, shape) +
    stats(view, '', xact.statsAt, xact.nstats, shape.statsItemSize) +
    describeInvalidations(view, xact.msgsAt, xact.nmsgs, relcacheInit, shape.invalNames) +
    (shape.tellsOrigins && xact.has(XACT_COMPLETION_APPLY_FEEDBACK) ? '; apply_feedback' : '') +
    (xact.has(XACT_COMPLETION_FORCE_SYNC_COMMIT) ? '; sync' : '') +
    (xact.hasOrigin ? origin(record, xact.originAt) : '')
  );
}

/** xact_desc_abort */
export function describeAbort(record: WalRecord, shape: XactShape): string {
  const xact = parseXactRecord(new XactRecord(), record, shape, false);
  return (
    head(record, xact, shape) +
    (shape.tellsOrigins && xact.hasOrigin ? origin(record, xact.originAt) : '') +
    stats(record.view, '', xact.statsAt, xact.nstats, shape.statsItemSize)
  );
}

/** xact_desc_prepare */
export function describePrepare(record: WalRecord, shape: XactShape): string {
  const prepare = parsePrepareRecord(record, shape);
  const { view } = record;
  const at = record.mainOffset;
  const relcacheInit = prepare.initFileInval ? { dbId: prepare.database, tsId: 0 } : undefined;
  return (
    `gid ${readText(record, prepare.gidAt, prepare.gidEnd)}: ` +
    timestamptzToStr(view.getBigInt64(at + 16, true)) +
    relations(view, 'rels(commit)', prepare.commitrelsAt, prepare.ncommitrels, shape) +
    relations(view, 'rels(abort)', prepare.abortrelsAt, prepare.nabortrels, shape) +
    stats(view, 'commit ', prepare.commitstatsAt, prepare.ncommitstats, shape.statsItemSize) +
    stats(view, 'abort ', prepare.abortstatsAt, prepare.nabortstats, shape.statsItemSize) +
    subxacts(view, prepare.subxactsAt, prepare.nsubxacts) +
    describeInvalidations(view, prepare.invalmsgsAt, prepare.ninvalmsgs, relcacheInit, shape.invalNames) +
    (shape.tellsOrigins && record.origin !== 0 ? origin(record, prepare.originAt) : '')
  );
}

/** xact_desc_assignment */
export function describeAssignment(record: WalRecord): string {
  const at = mainAt(record, 8, 'xl_xact_assignment');
  const { view } = record;
  const count = view.getInt32(at + 4, true);
  arrayEnd(record, at + 8, count, 4, 'subxacts');
  return `xtop ${view.getUint32(at, true)}: subxacts:${xids(view, at + 8, count)}`;
}

/** XLOG_XACT_INVALIDATIONS */
export function describeInvalidation(record: WalRecord, shape: XactShape): string {
  const at = mainAt(record, 4, 'xl_xact_invals');
  const count = record.view.getInt32(at, true);
  arrayEnd(record, at + 4, count, SIZE_OF_INVAL_MESSAGE, 'invalidation messages');
  return describeInvalidations(record.view, at + 4, count, undefined, shape.invalNames);
}
