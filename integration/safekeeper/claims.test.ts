// Where each claim of the safekeeper protocol is tested: greeting to membership, files, HTTP and the command line.
// A row names the claim, and the tests that would fail without it. The table is checked: every test it names is there.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');

const FILES = {
  acceptor: 'src/safekeeper/acceptor.test.ts',
  api: 'integration/safekeeper/api.test.ts',
  auth: 'integration/safekeeper/auth.test.ts',
  codec: 'src/protocol/walproposer-codec.test.ts',
  commands: 'src/protocol/commands.test.ts',
  compute: 'integration/safekeeper/compute.test.ts',
  control: 'src/safekeeper/control-state.test.ts',
  controls: 'integration/sim/negative-controls.test.ts',
  flags: 'src/base/flags.test.ts',
  frame: 'src/protocol/pq-frame.test.ts',
  hostile: 'integration/safekeeper/hostile.test.ts',
  interpreted: 'integration/safekeeper/interpreted.test.ts',
  jwt: 'src/protocol/jwt.test.ts',
  launcher: 'integration/launcher/launcher.test.ts',
  plans: 'src/safekeeper/plans.test.ts',
  port: 'integration/safekeeper/protocol.test.ts',
  replication: 'src/protocol/replication.test.ts',
  serve: 'src/protocol/pq-serve.test.ts',
  server: 'src/protocol/pq-server.test.ts',
  settings: 'src/safekeeper/settings.test.ts',
  snapshot: 'src/safekeeper/snapshot.test.ts',
  store: 'src/safekeeper/wal-store.test.ts',
  streaming: 'integration/safekeeper/streaming.test.ts',
  terms: 'src/safekeeper/term-history.test.ts',
  timeline: 'src/safekeeper/timeline.test.ts',
  timelines: 'src/safekeeper/timelines.test.ts',
  trouble: 'integration/safekeeper/trouble.test.ts',
} as const;

type Row = readonly [claim: string, ...tests: (readonly [file: keyof typeof FILES, test: string])[]];

// biome-ignore format: rows
const CLAIMS: Readonly<Record<string, readonly Row[]>> = {
  'the Postgres port': [
    ['the first packet is 8 to 10000 bytes', ['frame', 'startup packets: 8 to 10000 bytes']],
    ['SSL and GSS requests are answered S or N', ['server', 'SSL and GSS are answered N where there is no TLS, and startup follows'], ['server', 'with TLS: SSLRequest asks for it, a plain startup is refused, early data is refused']],
    ['TLS from the first byte is taken', ['serve', 'from the first byte']],
    ['a cancel request is read and ends', ['server', 'a cancel request ends the connection']],
    ['a plain startup is refused where TLS is configured', ['auth', 'without TLS nobody gets in'], ['serve', 'a plain client is refused with a sentence']],
    ['parameters that are told; no key for cancel requests', ['port', 'parameters that clients look for, and none besides'], ['server', 'parameters and options are told, the greeting ends in ReadyForQuery']],
    ['a token is asked for as a password in clear', ['server', 'nothing is served before the password was right'], ['auth', "describe('Postgres port'"]],
    ['extended queries, as far as drivers need them', ['server', 'extended: the stored text comes with Execute, ReadyForQuery with Sync alone']],
    ['errors carry XX000, and the connection goes on', ['port', 'an unknown command is an error with SQLSTATE XX000, and the connection goes on']],
    ['ten minutes of silence end a connection', ['port', 'a connection that is silent for too long is cut']],
    ['options split at white space, a backslash escapes', ['server', 'options: white space splits, a backslash takes the next as it is']],
    ['a copy ends by 00000, XX000, CopyDone or without a word', ['serve', 'COPY BOTH echoes, and its four ends'], ['port', 'ends without a word when the timeline is closed'], ['port', 'that may not make the timeline ends without a word']],
    ['frames of a copy: XLogData, keepalive, replies', ['replication', 'the sender’s messages'], ['replication', 'the receiver’s messages']],
  ],
  'who connects, and what they may': [
    ['option keys, old spellings, shards with the interpreted protocol only', ['commands', 'startup options'], ['commands', 'startup options that do not go together']],
    ['scopes: the node, one tenant, nothing else', ['auth', "describe('Postgres port'"], ['auth', "describe('HTTP'"], ['jwt', 'permission']],
    ['the second port takes tenant tokens alone', ['auth', 'the tenant-only port takes tokens of single tenants only']],
    ['permission is asked per command', ['port', 'without tenant and timeline a command is refused, with the options to give'], ['auth', 'about another tenant the answer does not tell what is there']],
  ],
  'commands': [
    ['forms of START_WAL_PUSH and START_REPLICATION; anything else is an error', ['commands', 'START_WAL_PUSH (proto_version'], ['commands', 'refused: %s']],
    ['IDENTIFY_SYSTEM tells flush or commit by who asks; TIMELINE_STATUS', ['streaming', 'IDENTIFY_SYSTEM and TIMELINE_STATUS']],
    ['TIMELINE_STATUS has no rows where nothing is', ['streaming', 'an unknown timeline is an error before the copy; the connection goes on']],
    ['the system identifier is the one of the compute, 0 before one came', ['streaming', 'a standby of stock Postgres follows a log that was pushed'], ['port', 'a missing timeline is made by the greeting, with all positions 0 and no members']],
  ],
  'messages of proposer and acceptor': [
    ['version 3, big-endian, and version 2, little-endian, byte for byte', ['codec', 'golden bytes']],
    ['a generation without members, a member twice, bytes left over are errors', ['codec', 'a configuration with a generation and no members, or a member twice'], ['codec', 'bytes left over']],
    ['at most 131072 bytes of WAL, and as many as the range', ['codec', 'an append whose length is not its range, or too long'], ['acceptor', 'must be as long as it says, and no longer than 128 KiB']],
    ['version 2 cannot speak to a timeline with generations', ['codec', 'version 2 cannot carry a generation'], ['port', 'protocol 2 knows no generations: a timeline that uses them refuses its greeting']],
    ['unknown feedback is skipped by its length', ['codec', 'unknown feedback names are skipped by their length']],
  ],
  'replication': [
    ['without a term up to commit, with one up to flush and until it changes', ['streaming', 'with a term it streams what is flushed, and ends when the term changes'], ['timeline', 'for flush in a term ends when the term does']],
    ['before the first segment is an error; its beginning is made up', ['streaming', 'from the beginning of the first segment: page headers are made up before the timeline'], ['timeline', 'before the beginning gives what a base backup would hold there']],
    ['what was removed comes from the object store', ['api', 'whole segments go up once, the partial one after a while; WAL that was removed is read back']],
    ['chunks are contiguous, at most 128 KiB, end at pages or at the end', ['streaming', 'is contiguous, ends chunks at pages, and equals what was pushed']],
    ['a keepalive after a second, asking for a reply', ['streaming', 'keepalives ask for a reply after a second without WAL']],
    ['a pageserver with everything is sent home, where nothing was committed too', ['streaming', 'a pageserver that has everything is sent home once no compute is left'], ['port', 'a pageserver where nothing was ever committed']],
    ['replicas and donors are not', ['port', 'not a replica, whatever it has; and nobody who streams in a term']],
    ['the interpreted stream: batches, forms, compression, shards, metadata', ['interpreted', 'every block of every record is told, with the record or the page'], ['interpreted', 'every form carries the same'], ['interpreted', 'four shards hold together what one would, each its own'], ['interpreted', 'over a socket: batches, keepalives, and the shard it was asked for']],
    ['feedback of pageservers reaches every compute and raises remote_consistent_lsn', ['timeline', "what standbys need goes with every answer, and a pageserver's position to every compute"], ['port', 'feedback of a pageserver comes unasked, on the last AppendResponse']],
    ['standbys: the lowest apply position, the lowest valid xmin, epoch and xid turned', ['streaming', 'what standbys say reaches the compute’s answers'], ['replication', 'a hot standby’s xmin travels as xid, epoch; zero xid is none']],
  ],
  'state': [
    ['flush is a record boundary, and durable', ['acceptor', 'tells a record boundary as flushed, whatever was written past it'], ['store', 'ends at record boundaries, whatever the chunks']],
    ['flush is never below the start of the timeline', ['acceptor', 'tells the start of the timeline as flushed where there is no WAL yet']],
    ['the last log term and the history told are those reached by flush', ['acceptor', 'tells the history of the WAL there is, not the one adopted ahead of it'], ['terms', 'an entry counts from its own position on']],
    ['bytes that are no WAL are refused', ['store', 'that is no WAL is refused before it is kept'], ['hostile', 'bytes that are no WAL are refused before they are kept']],
  ],
  'greeting': [
    ['makes a missing timeline where allowed, all positions 0', ['port', 'a missing timeline is made by the greeting, with all positions 0 and no members'], ['port', 'that may not make the timeline ends without a word']],
    ['never one that was deleted', ['port', 'of a deleted timeline is refused: it is not made again'], ['api', 'made by a controller, with members; again is nothing; deleted stays deleted']],
    ['tenant, timeline, major and segment size must be these', ['acceptor', 'the tenant and the timeline must be these'], ['acceptor', 'the major must be the one known; minor versions may differ'], ['acceptor', 'any major is taken where none is known'], ['acceptor', 'the segment size must be equal']],
    ['the system identifier is kept, unless it is 0', ['acceptor', 'a known system identifier is kept, persisted before the reply; 0 (sync) changes nothing']],
    ['a higher generation is adopted by members, refused by others', ['acceptor', 'a higher generation is adopted by a member and refused by others'], ['acceptor', 'a generation adopted by a greeting answers the appends of the old one first']],
  ],
  'vote': [
    ['of another generation is an error', ['acceptor', 'of another generation is refused'], ['controls', 'a message of another generation is refused']],
    ['syncs all that is written first', ['acceptor', 'syncs what is written first, and tells where it ends'], ['controls', 'a vote is told after a sync']],
    ['is one a term, persisted before it is told', ['acceptor', 'is given once a term, for a term higher than any voted for'], ['acceptor', 'is persisted before it is told; a refusal persists nothing'], ['controls', 'one vote a term'], ['controls', 'the term is persisted before the vote is told']],
    ['tells the peer horizon of memory as truncate_lsn', ['acceptor', 'tells the peer horizon of memory as truncate_lsn']],
  ],
  'election': [
    ['of a higher term raises the term, of a lower one is ignored', ['acceptor', 'of a higher term raises the term, persisted before anything else'], ['acceptor', 'of a lower term is ignored without a word']],
    ['starts where both sides compute the logs to part', ['acceptor', 'must start where this node computes the logs to part'], ['terms', 'is never past either log, and both hold the same before it'], ['terms', 'one term with two beginnings is refused']],
    ['never cuts committed WAL', ['acceptor', 'never truncates committed WAL']],
    ['cuts WAL first, and persists the history second', ['acceptor', 'cuts WAL first and persists the history second'], ['controls', 'WAL is cut before its new history is persisted'], ['controls', 'an elected leader truncates'], ['controls', 'the history is persisted at the election']],
    ['the first one sets where all begins', ['acceptor', 'on a timeline without a start sets all that begins there']],
    ['is not answered', ['acceptor', 'is not answered with a message']],
    ['a cut log ends there, over restarts and crashes', ['store', 'anywhere, then other WAL from there on, across restarts'], ['store', 'a truncation leaves the log whole, cut or not yet']],
    ['after a start no append before it', ['acceptor', 'needs an election since the start'], ['controls', 'an append waits for the election of its term']],
  ],
  'append': [
    ['of another generation is an error', ['acceptor', 'of another generation is refused, whatever its term']],
    ['of a lower term is answered with the term alone, of a higher one is an error', ['acceptor', 'of a lower term is answered with our term and no positions'], ['acceptor', 'of a higher term is refused: nobody was elected here'], ['controls', 'an append of a lower term is refused']],
    ['leaves no gap and overwrites nothing', ['acceptor', 'must begin where WAL ends: no gap, no overwrite, heartbeats included']],
    ['commit is what is told and durable, never back', ['acceptor', 'raises commit to what is announced and durable, never back'], ['controls', 'commit is no further than what is durable here']],
    ['the peer horizon never goes back', ['acceptor', 'raises the peer horizon, never back']],
    ['is answered after its sync, several by one', ['acceptor', 'is answered after its sync, and heartbeats are answered'], ['timeline', 'that come together share one sync, and the last is answered'], ['timeline', 'are not answered while their sync is under way'], ['controls', 'an append is told after its sync']],
    ['tells the persisted commit, which goes out at once where the term begins', ['acceptor', 'tells the persisted commit, not the one of memory'], ['acceptor', "persists commit before the reply when it first reaches the term's start"], ['compute', 'sync-safekeepers finds the end, again and again, and elections follow one another']],
    ['else it is saved a segment behind, or after a while', ['acceptor', 'commit that ran a whole segment ahead of the control file is saved after the answer'], ['timeline', 'saves the control file when memory has been ahead of it for a while']],
    ['without bytes is a heartbeat, and answered', ['acceptor', 'is answered after its sync, and heartbeats are answered']],
    ['a switch pads the segment with ordinary bytes', ['store', 'a switch counts as a boundary once its padding is written']],
    ['the leader commits in its own term only, by a majority, from the newest log', ['controls', 'a leader may not commit by entries of previous terms alone'], ['controls', 'a majority votes and acknowledges'], ['controls', 'the donor has the newest log by term']],
    ['real computes of protocol 2 and 3 are served', ['compute', 'protocol %i: a commit is on every safekeeper'], ['compute', 'one of three away: commits go on']],
  ],
  'membership': [
    ['switches to higher generations alone, and only a member', ['api', 'membership switches to higher generations only, exclusion removes the copy']],
    ['no append of the old generation is answered after the switch', ['acceptor', 'a membership switch answers the old generation first, and no append of it afterwards']],
    ['a joint configuration needs both majorities', ['terms', 'of both sets, where there are two'], ['controls', 'a joint configuration needs both majorities'], ['controls', 'new members have what the old ones had before they take over']],
    ['the record is version 9 while generations are not used', ['control', 'is version 9 while generations are not used, which does not know when it was made'], ['control', 'comes back as it went, with generations in version 10']],
  ],
  'peers': [
    ['commit of a peer counts in the same last term', ['acceptor', "a peer's commit counts only when it ends in our last term"]],
    ['other positions are raised, and saved a segment ahead', ['acceptor', 'positions of peers are raised, never lowered, and saved once a segment ahead']],
    ['recovery is from those ahead whose term had a leader', ['plans', 'is from those ahead whose term had a leader we can stand in for'], ['api', 'a safekeeper that was away catches up from its peers when no compute is there']],
    ['the broker is told, and discovery answered', ['api', 'positions travel: a subscriber hears of every safekeeper, and discovery is answered']],
  ],
  'files': [
    ['the id is for life; the lock keeps others out', ['launcher', 'the id is for life; --init only writes it; two on one directory are refused']],
    ['older control records are read; damage is found', ['control', 'version %i'], ['control', 'any changed byte is found'], ['control', 'any cut is found']],
    ['a timeline appears whole or not at all', ['timelines', 'one being made or deleted when the machine stops is there whole or not at all']],
    ['a torn tail is found and cut at a record', ['store', 'all that was flushed is there, and what is torn is cut at a record']],
    ['a failed sync ends the timeline', ['timeline', 'a failed sync ends the timeline for good, and no other'], ['controls', 'a sync keeps']],
    ['damage is named with its cure, and harms no other timeline', ['trouble', 'damaged files'], ['timelines', 'a damaged control file is told by name and cure, and harms no other'], ['store', 'of committed WAL is a Fault that names the file and the cure']],
    ['a full disk holds the compute back', ['trouble', 'holds the compute back with an error, and goes on when there is room']],
  ],
  'removal, offload, eviction': [
    ['the horizon is the least of what is persisted', ['plans', 'goes as far as everybody is through, by what is persisted'], ['plans', 'takes the segments before the one the horizon lies in']],
    ['removal waits for a snapshot', ['snapshot', 'keeps WAL from being removed until it is over']],
    ['active: a compute, a pageserver behind, backup behind', ['plans', 'a timeline is active while a compute is there, or pageserver or backup are behind']],
    ['one uploader, chosen alike by all', ['plans', 'is done by one, chosen alike by all, among those that have the WAL and are not far behind']],
    ['whole segments in order; partial ones by name', ['plans', 'takes whole committed segments, in order, from where backup stands'], ['plans', 'is named by segment, term, flush, commit and node']],
    ['idle timelines lose local WAL and get it back', ['plans', 'waits for everything'], ['trouble', 'lose their local WAL to the object store, and get it back when somebody comes']],
  ],
  'create, delete, pull, copy': [
    ['created again is nothing; deleted leaves a tombstone', ['api', 'made by a controller, with members; again is nothing; deleted stays deleted'], ['timelines', 'are made once, found again, and deleted for good']],
    ['an excluded copy goes, and may come back with a higher generation', ['timelines', 'an excluded copy goes, unless it knows better; a higher generation may come back']],
    ['a tenant goes with all it has', ['api', 'a whole tenant'], ['timelines', 'a deleted tenant takes all with it, the damaged ones too, and none is made anew']],
    ['a snapshot is one log or none, of 1000 segments at most', ['snapshot', 'is cut off when the term changes on the way'], ['snapshot', 'is cut off when the leader voted for before takes over on the way: the term is the same'], ['snapshot', 'of more than 1000 segments is refused'], ['plans', 'goes by the other node in a snapshot for it']],
    ['pulled from the newest log, of enough peers, by members', ['plans', 'a copy is pulled from the newest log, then the highest term, then the highest commit'], ['api', 'pulled from the most advanced peer, it is the same log'], ['api', 'pulling refuses when too few peers answer, or when we are no member']],
    ['copied up to an LSN', ['api', 'copied up to an LSN']],
  ],
  'HTTP and the command line': [
    ['every path, and who may call it', ['auth', "describe('HTTP'"], ['auth', '%s is open'], ['api', 'every path that Neon has']],
    ['status of a timeline, lists, metrics by name', ['api', 'tells terms, positions, who writes and who reads'], ['api', 'lists, utilization, a missing timeline, the document'], ['api', 'the metrics that others rely on']],
    ['digest, term bump, checkpoint, patch', ['api', 'digests agree over all nodes'], ['api', 'a bumped term stops the compute of the older one'], ['api', 'the control record can be patched by name']],
    ['flags, their defaults, the last one wins, unknown ones are noted', ['settings', 'without any flag'], ['launcher', 'the last occurrence of a flag wins'], ['flags', 'unknown flags are noted, with what looks like their value']],
    ['signals end the process', ['launcher', 'starts and stops']],
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
