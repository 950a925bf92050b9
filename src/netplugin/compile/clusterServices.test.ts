import { describe, expect, it } from 'vitest';
import { parseSubnet, type Subnet } from '../../model/address.ts';
import type { Backend, ClusterService } from '../../model/clusterService.ts';
import type { Frontend } from '../state.ts';
import { compileClusterServices } from './clusterServices.ts';
import { openMemo } from './memo.ts';
import { arrangeKept } from './services.ts';

type Declared = Backend;
const backend = (n: number, more: Partial<Declared> = {}): Declared =>
  ({
    address: `20.1.1.${n}`,
    port: 8080,
    host: 'node1',
    ready: true,
    serving: true,
    terminating: false,
    ...more,
  }) as Declared;

const dead = (n: number): Declared => backend(n, { ready: false, serving: false });

const SERVICE = (backends: Declared[], more: Partial<ClusterService> = {}): ClusterService => ({
  namespaceName: 'shop',
  serviceName: 'web',
  tenantName: 'default',
  addresses: ['10.96.0.10'],
  ports: [{ protocol: 6, port: 80, nodePort: 30_080, backends }],
  ...more,
});
const compiled = (
  services: readonly ClusterService[],
  memo = openMemo(),
  taken = new Set<string>(),
  draining: ReadonlySet<string> = new Set(),
  open: readonly Subnet[] = [],
) =>
  compileClusterServices(
    {
      tenant: 'default',
      services,
      host: 'node1',
      zone: undefined,
      draining,
      routerAddress: '100.127.0.1',
      routerAddress6: 'fd6f::1',
      taken,
      open,
    },
    memo,
  );
const at = (services: ReturnType<typeof compiled>, address: string): Frontend | undefined =>
  services.services.flatMap((s) => s.frontends).find((f) => f.address === address);
const addresses = (f: Frontend | undefined): (string | undefined)[] | undefined =>
  f?.backends.map((b) => b?.address);

describe('where a service is asked', () => {
  const far = backend(3, { host: 'node2' });

  it('at its addresses, and by its node port at the end of the exit', () => {
    const all = compiled([SERVICE([backend(2), far])]);
    expect(addresses(at(all, '10.96.0.10'))).toEqual(['20.1.1.2', '20.1.1.3']);
    expect(at(all, '100.127.0.1')).toMatchObject({ protocol: 6, port: 30_080, otherwise: 'refuse' });
    expect(all.entrances).toEqual([
      {
        protocol: 'tcp',
        hostAddress: '',
        hostPort: 30_080,
        transitPort: 30_080,
        address: '100.127.0.1',
        port: 30_080,
      },
    ]);
  });

  it.each([
    ['internalTraffic', '10.96.0.10', '100.127.0.1'],
    ['externalTraffic', '100.127.0.1', '10.96.0.10'],
  ] as const)('with %s local only by backends of this host', (field, local, other) => {
    const all = compiled([SERVICE([backend(2), far], { [field]: 'local' })]);
    expect(addresses(at(all, local))).toEqual(['20.1.1.2']);
    expect(addresses(at(all, other))).toEqual(['20.1.1.2', '20.1.1.3']);
    const elsewhere = compiled([SERVICE([far], { [field]: 'local' })]);
    expect(at(elsewhere, local)).toMatchObject({ backends: [], otherwise: 'drop' });
    const nowhere = compiled([SERVICE([dead(3)], { [field]: 'local' })]);
    expect(at(nowhere, local)).toMatchObject({ backends: [], otherwise: 'refuse' });
  });

  it('while a host is drained, on the others; its own where no other is ready, and again when it is not', () => {
    const memo = openMemo();
    const at10 = (services: ClusterService[], ...draining: string[]) => {
      const found = addresses(at(compiled(services, memo, new Set(), new Set(draining)), '10.96.0.10'));
      memo.forgetUnused();
      return found?.sort(); // which has which slot means nothing
    };
    expect(at10([SERVICE([backend(2), far])])).toEqual(['20.1.1.2', '20.1.1.3']);
    expect(at10([SERVICE([backend(2), far])], 'node2')).toEqual(['20.1.1.2']);
    expect(at10([SERVICE([dead(2), far])], 'node2')).toEqual(['20.1.1.3']);
    expect(at10([SERVICE([backend(2), far])], 'node1', 'node2')).toEqual(['20.1.1.2', '20.1.1.3']);
    expect(at10([SERVICE([backend(2), far])])).toEqual(['20.1.1.2', '20.1.1.3']);
  });

  it('by each version of IP with the backends of that', () => {
    const both = SERVICE([backend(2), backend(2, { address: 'fd00:1::2' })], {
      addresses: ['10.96.0.10', 'fd00:96::10'],
    });
    const all = compiled([both]);
    expect(addresses(at(all, '10.96.0.10'))).toEqual(['20.1.1.2']);
    expect(addresses(at(all, 'fd00:96::10'))).toEqual(['fd00:1::2']);
    expect(all.entrances.map((e) => e.address)).toEqual(['100.127.0.1', 'fd6f::1']);
  });

  it('at its own addresses from outside too where these are opened, by clients that may ask it there, and not by the host itself', () => {
    const web = SERVICE([backend(2), far], {
      externalTraffic: 'local',
      sourceRanges: ['10.0.0.0/8'],
      addresses: ['10.96.0.10', 'fd00:96::10'],
      ports: [{ protocol: 6, port: 80, backends: [backend(2), far] }],
    });
    const open = [parseSubnet('10.96.0.0/16') as Subnet];
    const all = compiled([web], openMemo(), new Set(), new Set(), open);
    expect(all.entrances).toMatchObject([{ hostAddress: '10.96.0.10', hostPort: 80, arriving: true }]);
    expect(addresses(at(all, '10.96.0.10'))).toEqual(['20.1.1.2', '20.1.1.3']);
    expect(at(all, '100.127.0.1')).toMatchObject({
      clients: ['10.0.0.0/8'],
      backends: [{ address: '20.1.1.2', port: 8080 }],
    });
    expect(compiled([web]).entrances).toEqual([]);
  });

  it('at external addresses: from inside all backends, from outside by a place that no other change moves', () => {
    const web = SERVICE([], {
      externalTraffic: 'local',
      externalAddresses: ['198.51.100.1'],
      sourceRanges: ['10.0.0.0/8'],
      ports: [{ protocol: 6, port: 80, backends: [backend(2), far] }],
    });
    const all = compiled([web]);
    expect(addresses(at(all, '198.51.100.1'))).toEqual(['20.1.1.2', '20.1.1.3']);
    const [entrance] = all.entrances;
    expect(entrance).toMatchObject({ hostAddress: '198.51.100.1', hostPort: 80 });
    expect(at(all, '100.127.0.1')).toMatchObject({
      port: entrance?.transitPort,
      clients: ['10.0.0.0/8'],
      backends: [{ address: '20.1.1.2', port: 8080 }],
    });
    const others = Array.from({ length: 50 }, (_, i) => ({
      ...web,
      serviceName: `a${i}`,
      addresses: [`10.96.1.${i}`],
      externalAddresses: [`198.51.101.${i}`],
    }));
    const more = compiled([...others, web]);
    expect(more.entrances.find((e) => e.hostAddress === '198.51.100.1')).toEqual(entrance);
    expect(new Set(more.entrances.map((e) => e.transitPort)).size).toBe(51);
    const moved = compiled([web], openMemo(), new Set([`tcp 4 ${entrance?.transitPort}`]));
    expect(moved.entrances[0]?.transitPort).not.toBe(entrance?.transitPort);
  });

  it('is the same part for as long as nothing of it changes', () => {
    const memo = openMemo();
    const [one, two] = [
      SERVICE([backend(2)], { serviceName: 'one' }),
      SERVICE([backend(3)], {
        serviceName: 'two',
        addresses: ['10.96.0.11'],
        ports: [{ protocol: 6, port: 80, backends: [backend(3)] }],
      }),
    ];
    const before = compiled([one, two], memo);
    memo.forgetUnused();
    const after = compiled(
      [one, { ...two, ports: [{ protocol: 6, port: 80, backends: [backend(4)] }] }],
      memo,
    );
    expect(after.services[0]).toBe(before.services[0]);
    expect(after.services[1]).not.toBe(before.services[1]);
    expect(after.entrances).toBe(before.entrances);
  });
});

describe('slots that clients are remembered by', () => {
  it.each<[(string | undefined)[], string[], (string | undefined)[]]>([
    [[], ['a', 'b'], ['a', 'b']],
    [
      ['a', 'b', 'c'],
      ['a', 'c'],
      ['a', undefined, 'c'],
    ],
    [
      ['a', undefined, 'c'],
      ['a', 'c', 'd'],
      ['a', 'd', 'c'],
    ],
    [
      ['a', 'b', 'c'],
      ['a', 'b'],
      ['a', 'b'],
    ],
    // The first is somebody's always.
    [
      ['a', 'b', 'c'],
      ['b', 'c'],
      ['c', 'b'],
    ],
    // Too few of them taken.
    [
      ['a', 'b', 'c', 'd', 'e'],
      ['a', 'e'],
      ['a', 'e'],
    ],
    [['a'], [], []],
  ])('%j become, for %j, %j', (before, wanted, after) => {
    expect(arrangeKept(before, wanted)).toEqual(after);
  });
});
