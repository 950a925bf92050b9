/** Real connections to an orchestrator's services, through a real router; backends are namespaces beside it. */
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { addressOf, closeAll, enterBox, provide, tcp, udp } from '../../../test/boxes.ts';
import { applied, clean, inRouter, port, state } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { type Case, exit } from '../../../test/states.ts';
import { NAMESERVER } from '../constants.ts';
import type { Access, ClusterService, Frontend, HostState } from '../state.ts';
import { type Applier, openApplier } from './applier.ts';

const ADDRESS = '10.96.0.10';
const ADDRESS6 = 'fd00:96::10';
const { hostAddress, routerAddress } = exit({});
/** The host reaches the network, and has addresses of its own in it. */
const ACCESS: Access = {
  subnets: ['20.1.1.0/24', 'fd00:1::/64'],
  services: [ADDRESS, ADDRESS6],
  sources: [{ device: 'vx1001', addresses: ['20.1.1.250', 'fd00:1::250'] }],
};
const BOXES = [2, 3, 4, 5];
const address6Of = (n: number): string => `fd00:1::${n.toString(16)}`;

let applier: Applier;
beforeAll(isolate);
beforeEach(() => {
  applier = openApplier();
});
afterEach(() => {
  closeAll();
  clean();
});

/** TCP 80 of the service's address leads to those boxes' 8080. */
const frontend = (boxes: readonly (number | null)[], more: Partial<Frontend> = {}): Frontend => ({
  address: ADDRESS,
  protocol: 6,
  port: 80,
  backends: boxes.map((n) => (n === null ? null : { address: addressOf(n), port: 8080 })),
  otherwise: 'refuse',
  ...more,
});
const service = (...frontends: Frontend[]): ClusterService => ({
  name: 'default/web',
  addresses: [ADDRESS, ADDRESS6],
  frontends,
});
const ports = (joined: boolean) => BOXES.map((n) => port(n, { joined }));
const world = (frontends: readonly Frontend[], more: Case = {}): HostState =>
  state({ ports: ports(true), clusterServices: [service(...frontends)], ...more });
const declare = (frontends: readonly Frontend[], more: Case = {}) => applied(applier, world(frontends, more));

/** Containers 2 to 5. */
function boxes(): void {
  applied(applier, state({ ports: ports(false) }));
  for (const n of BOXES) enterBox(port(n), n);
}

const KINDS = [
  ['TCP', 6, tcp],
  ['UDP', 17, udp],
] as const;

describe('an address of a service', () => {
  it.each(KINDS)('is reached by %s, and the backend sees the client', async (_, protocol, connect) => {
    boxes();
    declare([frontend([3], { protocol })]);
    const { clients } = await provide(3);
    expect(await (await connect(2, ADDRESS)).ask()).toBe('3');
    expect(new Set(clients)).toEqual(new Set([addressOf(2)]));
  });

  it.each(KINDS)('is reached by %s over IPv6', async (_, protocol, connect) => {
    boxes();
    declare([
      frontend([], { protocol, address: ADDRESS6, backends: [{ address: address6Of(3), port: 8080 }] }),
    ]);
    const { clients } = await provide(3, address6Of(3));
    expect(await (await connect(2, ADDRESS6, 80, address6Of(2))).ask()).toBe('3');
    expect(new Set(clients)).toEqual(new Set([address6Of(2)]));
  });

  it.each(KINDS)(
    'refuses %s where nobody answers, and at ports that are none',
    async (_, protocol, connect) => {
      boxes();
      declare([frontend([], { protocol }), frontend([], { protocol, address: ADDRESS6 })]);
      for (const at of [80, 81, 53]) {
        expect(await (await connect(2, ADDRESS, at)).ask()).toBe('ECONNREFUSED');
        expect(await (await connect(2, ADDRESS6, at, address6Of(2))).ask()).toBe('ECONNREFUSED');
      }
    },
  );

  it.each(KINDS)('is reached by %s from its own only backend', async (_, protocol, connect) => {
    boxes();
    declare([frontend([3], { protocol })]);
    const { clients } = await provide(3);
    expect(await (await connect(3, ADDRESS)).ask()).toBe('3');
    expect(new Set(clients)).toEqual(new Set([NAMESERVER]));
  });
});

describe('the host itself', () => {
  it.each(KINDS)(
    'reaches containers and services by %s, and is seen by its end of the exit',
    async (_, protocol, connect) => {
      boxes();
      declare([frontend([3], { protocol })], { access: ACCESS });
      const { clients } = await provide(3);
      expect(await (await connect(0, addressOf(3), 8080, hostAddress)).ask()).toBe('3');
      expect(await (await connect(0, ADDRESS, 80, hostAddress)).ask()).toBe('3');
      expect(new Set(clients)).toEqual(new Set([hostAddress]));
    },
  );

  it.each(KINDS)('is refused by %s at once where nobody answers', async (_, protocol, connect) => {
    boxes();
    declare([frontend([], { protocol })], { access: ACCESS });
    expect(await (await connect(0, ADDRESS, 80, hostAddress)).ask()).toBe('ECONNREFUSED');
  });

  it('reaches no network for which that is not declared', async () => {
    boxes();
    declare([frontend([3])]);
    await provide(3);
    expect(sh('ip route')).not.toContain(ADDRESS);
    expect(() => sh(`ip route get ${ADDRESS}`)).toThrow(/unreachable/);
  });
});

describe('the tables of router and host', () => {
  it('are as they are declared, and verified without a difference', () => {
    const end = { protocol: 'tcp', address: routerAddress } as const;
    const all = world(
      [
        frontend([2]),
        frontend([2, null, 3], { port: 81, affinity: 30 }),
        frontend([], { port: 82, otherwise: 'drop' }),
        frontend([], { port: 83 }),
        frontend([2], { port: 84, clients: ['10.0.0.0/8', '192.0.2.0/24'] }),
        frontend([], {
          address: ADDRESS6,
          backends: [{ address: address6Of(2), port: 1 }],
          affinity: 10_800,
        }),
        frontend([2], { address: routerAddress, port: 30_080 }),
        frontend([2], { address: routerAddress, protocol: 132, port: 30_080 }),
      ],
      {
        entrances: [
          { ...end, hostAddress: '', hostPort: 30_080, transitPort: 30_080, port: 30_080 },
          { ...end, hostAddress: '198.51.100.1', hostPort: 80, transitPort: 40_000, port: 40_000 },
        ],
        access: ACCESS,
      },
    );
    boxes();
    applied(applier, all);
    expect(applied(applier, structuredClone(all))).toMatchObject({ writes: 0 });
    inRouter('nft add table inet other');
    expect(applied(applier, all, true)).toMatchObject({ writes: 0, repaired: [] });
  });
});
