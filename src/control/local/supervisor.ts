// Keeps the processes of one machine alive: started in order, each until it answers, restarted when one ends that
// should not, stopped in the opposite order.
//
// A role that dies is started again after a pause that doubles from 100 ms to 10 s, and starts small again once it has
// lived for a minute. A role that does not become ready at the first start is no crash but trouble: the end of its
// log is told, and nothing is left running.

import { fromUtf8 } from '../../base/bytes.ts';
import type { World } from '../../base/command.ts';
import { Fault } from '../../base/fault.ts';
import type { Running } from '../../base/ports.ts';
import type { RoleSpec } from './layout.ts';
import { recordRoles } from './processes.ts';

const READY_MS = 90_000;
const STOP_MS = 15_000;
/** What a daemon that refuses to start says last: why, and the way out. */
const LAST_WORDS = /(?:^|\n)lakebed [\w-]+: ([^\n]+)(?:\n {2}([^\n]+))?\n?$/;
const POLL_MS = 25;
const PAUSE_FIRST_MS = 100;
const PAUSE_MAX_MS = 10_000;
const HEALTHY_MS = 60_000;
const LOG_TAIL = 2000;

interface Role {
  /** In the order of asking for its start. */
  readonly sequence: number;
  readonly spec: RoleSpec;
  running: Running;
  pauseMs: number;
}

export type RoleEvent = (name: string, what: string) => void;

export class Supervisor {
  private readonly world: World;
  private readonly data: string;
  private readonly onEvent: RoleEvent;
  private readonly roles: Role[] = [];
  private asked = 0;
  private recorded: Promise<void> = Promise.resolve();
  private stopping = false;

  constructor(world: World, data: string, onEvent: RoleEvent) {
    this.world = world;
    this.data = data;
    this.onEvent = onEvent;
  }

  /** Start a role and wait until it answers. */
  async start(spec: RoleSpec): Promise<void> {
    const sequence = this.asked++;
    const disk = this.world.disk('/');
    await disk.makeDirectory(spec.directory.slice(1));
    for (const [name, text] of Object.entries(spec.files)) {
      const file = await disk.open(`${spec.directory.slice(1)}/${name}`, 'create');
      await file.truncate(0);
      await file.write(0, new TextEncoder().encode(text));
      await file.close();
    }
    const role: Role = { sequence, spec, running: this.launch(spec), pauseMs: PAUSE_FIRST_MS };
    this.roles.push(role);
    await this.record();
    await this.untilReady(role);
    void this.watch(role);
  }

  private launch(spec: RoleSpec): Running {
    const log = `${spec.directory}/${spec.name}.log`;
    return this.world.programs.start(spec.program, spec.args, { directory: spec.directory, log });
  }

  private async untilReady(role: Role): Promise<void> {
    const { clock } = this.world;
    const end = clock.monotonic() + READY_MS;
    let ended: string | undefined;
    void role.running.ended.then(how => (ended = how));
    while (!(await this.answers(role.spec.statusUrl))) {
      if (ended === undefined && clock.monotonic() < end) {
        await clock.sleep(POLL_MS, this.world.signal);
        continue;
      }
      const said = ended === undefined ? undefined : LAST_WORDS.exec(await this.logTail(role.spec));
      if (said)
        throw new Fault('role-failed', `${role.spec.name}: ${said[1]}`, said[2] ? { hint: said[2] } : {});
      const how = ended === undefined ? `does not answer after ${READY_MS / 1000} s` : `ended (${ended})`;
      throw new Fault('role-failed', `${role.spec.name} ${how}:\n${await this.logTail(role.spec)}`, {
        hint: `All of its log is in ${role.spec.directory}/${role.spec.name}.log.`,
      });
    }
  }

  private async answers(url: string): Promise<boolean> {
    try {
      const reply = await this.world.http.request({ method: 'GET', url, timeoutMs: 2000 });
      for await (const _ of reply.body);
      return reply.status >= 200 && reply.status < 300;
    } catch (error) {
      if (error instanceof Fault) return false;
      throw error;
    }
  }

  private async logTail(spec: RoleSpec): Promise<string> {
    const bytes = await this.world.disk('/').readFile(`${spec.directory.slice(1)}/${spec.name}.log`);
    return fromUtf8(bytes.subarray(Math.max(0, bytes.length - LOG_TAIL))).trim();
  }

  /** Start the role again whenever it ends, until the supervisor stops. */
  private async watch(role: Role): Promise<void> {
    const { clock } = this.world;
    for (;;) {
      const startedMs = clock.monotonic();
      const how = await role.running.ended;
      if (this.stopping) return;
      if (clock.monotonic() - startedMs > HEALTHY_MS) role.pauseMs = PAUSE_FIRST_MS;
      this.onEvent(role.spec.name, `ended (${how}); starting it again`);
      await clock.sleep(role.pauseMs);
      if (this.stopping) return;
      role.pauseMs = Math.min(role.pauseMs * 2, PAUSE_MAX_MS);
      role.running = this.launch(role.spec);
      await this.record();
    }
  }

  /** Who runs, for whoever comes after a supervisor that was killed; one after the other, the newest last. */
  private record(): Promise<void> {
    this.recorded = this.recorded.then(() => {
      const roles = this.roles.toSorted((a, b) => a.sequence - b.sequence);
      const processes = roles.map(({ spec, running }) => ({ name: spec.name, pid: running.pid }));
      return recordRoles(this.world, this.data, processes);
    });
    return this.recorded;
  }

  /** Everything down, what was asked for last first. */
  async stop(): Promise<void> {
    this.stopping = true;
    for (const role of this.roles.toSorted((a, b) => b.sequence - a.sequence)) {
      role.running.kill('SIGTERM');
      const over = new AbortController();
      const late = this.world.clock.sleep(STOP_MS, over.signal).then(
        () => 'late',
        () => 'over',
      );
      const how = await Promise.race([role.running.ended, late]);
      // A timer that is left would keep this process for its whole time.
      over.abort(new Error('it has ended'));
      if (how !== 'late') continue;
      role.running.kill('SIGKILL');
      await role.running.ended;
    }
  }
}
