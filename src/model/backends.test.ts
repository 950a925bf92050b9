import { describe, expect, it } from 'vitest';
import { select, zoneOf } from './backends.ts';
import type { Backend } from './clusterService.ts';

const backend = (n: number, more: Partial<Backend> = {}): Backend =>
  ({
    address: `20.1.1.${n}`,
    port: 8080,
    host: 'node1',
    ready: true,
    serving: true,
    terminating: false,
    ...more,
  }) as Backend;
const ending = (n: number, more: Partial<Backend> = {}): Backend =>
  backend(n, { ready: false, terminating: true, ...more });
const dead = (n: number): Backend => backend(n, { ready: false, serving: false });
const numbers = (list: readonly Backend[]): number[] => list.map((b) => Number(b.address.split('.')[3]));

describe('who answers', () => {
  it.each<[string, Backend[], number[], number[]]>([
    ['those that are ready', [backend(2), dead(3), ending(4), backend(5, { host: 'node2' })], [2, 5], [2]],
    ['those that end, where none is ready', [dead(2), ending(3), ending(4, { host: 'node2' })], [3, 4], [3]],
    [
      'here those that end, while others are ready elsewhere',
      [ending(2), backend(3, { host: 'node2' })],
      [3],
      [2],
    ],
    ['nobody where none serves', [dead(2)], [], []],
    [
      'those that are meant for this host',
      [backend(2, { forHosts: ['node1'] }), backend(3, { host: 'node2', forHosts: ['node2'] })],
      [2],
      [2],
    ],
    [
      'those of its zone, where none is meant for it',
      [
        backend(2, { host: 'node2', forHosts: ['node2'], forZones: ['a'] }),
        backend(3, { host: 'node3', forHosts: ['node3'], forZones: ['b'] }),
      ],
      [2],
      [],
    ],
    [
      'all, where one has no hint',
      [backend(2, { forZones: ['b'] }), backend(3, { host: 'node2' })],
      [2, 3],
      [2],
    ],
    ['all, where no hint is for its zone', [backend(2, { forZones: ['b'] })], [2], [2]],
    [
      'those that end whatever they are meant for',
      [ending(2, { forZones: ['b'] }), ending(3, { forZones: ['a'] })],
      [2, 3],
      [2, 3],
    ],
  ])('%s', (_, backends, cluster, local) => {
    const selection = select(backends, 'node1', 'a', new Set());
    expect(numbers(selection.cluster)).toEqual(cluster);
    expect(numbers(selection.local)).toEqual(local);
    expect(selection.any).toBe(cluster.length > 0);
  });

  it.each<[string, Backend[], number[], number[], string]>([
    [
      'what is on a drained host is left out',
      [backend(2), backend(3, { host: 'node2' })],
      [2],
      [2],
      'those that are ready; what is on node2 counts as ending, as that is being drained',
    ],
    [
      'it answers where nobody else is ready, with what ends',
      [dead(2), ending(4), backend(3, { host: 'node2' })],
      [4, 3],
      [4],
      'none is ready: those that end and still answer; what is on node2 counts as ending, as that is being drained',
    ],
  ])('%s', (_, backends, cluster, local, why) => {
    const selection = select(backends, 'node1', undefined, new Set(['node2']));
    expect(numbers(selection.cluster)).toEqual(cluster);
    expect(numbers(selection.local)).toEqual(local);
    expect(selection.why).toBe(why);
    expect(select(backends, 'node2', undefined, new Set(['node2']))).toMatchObject({
      local: [{ address: '20.1.1.3' }],
      localReady: 0,
    });
  });

  it("whose zone is this host's, whatever runs here says", () => {
    const service = {
      namespaceName: 'shop',
      serviceName: 'web',
      tenantName: 'default',
      addresses: ['10.96.0.10'],
      ports: [
        {
          protocol: 6,
          port: 80,
          backends: [backend(2, { host: 'node2', zone: 'b' }), backend(3, { zone: 'a' })],
        },
      ],
    };
    expect(zoneOf('node1', [service])).toBe('a');
    expect(zoneOf('node3', [service])).toBeUndefined();
  });
});
