// Many projects with many branches on one machine, on two pageservers, one of which dies. LAKEBED_FLEET=100x10 runs a
// hundred projects with ten branches each; without it there are a few.

import { afterAll, beforeAll, describe, expect, onTestFailed, test } from 'vitest';
import { Installation, type Json } from './installation.ts';

const [projectCount, branchCount] = (process.env['LAKEBED_FLEET'] ?? '2x10').split('x').map(Number) as [
  number,
  number,
];
const AT_ONCE = 4;
const MINUTES = 60_000;

/** `count` calls, a few at once. */
async function each(count: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  const worker = async (): Promise<void> => {
    while (next < count) await work(next++);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, worker));
}

describe(`${projectCount} projects with ${branchCount} branches each`, () => {
  let lakebed: Installation;
  const tenants: string[] = [];

  beforeAll(async () => {
    lakebed = await Installation.start({
      driver: 'auto',
      pageservers: 2,
      managerArgs: ['--node-dead', '3s'],
    });
  }, 3 * MINUTES);

  afterAll(() => lakebed?.stop(), MINUTES);

  const whereAll = async (): Promise<void> => {
    const { projects } = await lakebed.api('GET', 'projects?limit=10000');
    const { nodes } = await lakebed.api('GET', 'nodes');
    expect(nodes.reduce((sum: number, node: Json) => sum + node.tenants, 0)).toBe(projects.length);
    for (const project of projects as Json[]) {
      const { branches } = await lakebed.api('GET', `projects/${project.id}/branches`);
      const there = [await lakebed.timelines(project.tenant_id, 0).catch(() => [])];
      there.push(await lakebed.timelines(project.tenant_id, 1).catch(() => []));
      const wanted = branches.map((one: Json) => one.timeline_id).sort();
      expect(branches).toHaveLength(branchCount);
      expect(there).toContainEqual(wanted);
    }
  };

  test(
    'are made, and are what the pageservers have',
    async () => {
      onTestFailed(() => console.log(lakebed.logs));
      const begun = performance.now();
      await each(projectCount, async p => {
        const { project } = await lakebed.api('POST', 'projects?wait=true', { project: { name: `p${p}` } });
        tenants.push(project.tenant_id);
        for (let b = 1; b < branchCount; b++) {
          const body = { branch: { name: `b${b}`, ...(b % 3 === 0 ? { parent_id: `b${b - 1}` } : {}) } };
          const { branch } = await lakebed.api('POST', `projects/p${p}/branches?wait=true`, body);
          expect(branch.current_state).toBe('ready');
        }
      });
      const seconds = (performance.now() - begun) / 1000;
      const { body } = await lakebed.call('GET', 'status');
      console.log(`${body.projects} projects, ${body.branches} branches in ${seconds.toFixed(0)} s`);
      expect([body.projects, body.branches]).toEqual([projectCount, projectCount * branchCount]);
      const { nodes } = await lakebed.api('GET', 'nodes');
      const loads = nodes.map((node: Json) => node.tenants as number);
      expect(Math.abs(loads[0] - loads[1])).toBeLessThanOrEqual(1);
      await whereAll();
    },
    60 * MINUTES,
  );

  test(
    'outlive a manager that is killed, and a pageserver that is',
    async () => {
      onTestFailed(() => console.log(lakebed.logs));
      await lakebed.manager.kill('SIGKILL');
      await lakebed.manager.start();
      await lakebed.pageservers[0]!.kill('SIGKILL');
      await lakebed.until(
        async () => {
          const { nodes } = await lakebed.api('GET', 'nodes');
          const { body } = await lakebed.call('GET', 'status');
          // Nodes come in the order in which they were heard of.
          const killed = nodes.find((node: Json) => node.id === 1);
          return killed.tenants === 0 && body.operations_open === 0;
        },
        'all tenants are on the other pageserver',
        5 * MINUTES,
      );
      for (const tenant of tenants) expect(await lakebed.timelines(tenant, 1)).toHaveLength(branchCount);
      const { branch } = await lakebed.api('POST', 'projects/p0/branches?wait=true', {
        branch: { name: 'after' },
      });
      expect(branch.current_state).toBe('ready');
      await lakebed.api('DELETE', 'projects/p0/branches/after?wait=true');
      // It comes back to nothing that is its own any more.
      await lakebed.pageservers[0]!.start();
      expect(await lakebed.timelines(tenants[0]!, 0)).toEqual([]);
    },
    10 * MINUTES,
  );
});
