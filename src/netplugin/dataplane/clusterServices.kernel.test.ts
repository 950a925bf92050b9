/** Real connections to an orchestrator's services, through a real router; backends are namespaces beside it. */
import { afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { addressOf, closeAll, enterBox, inBox, provide, tcp, udp } from '../../../test/boxes.ts';
import { applied, clean, inRouter, port, state } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { received, receiver, sctpPorts, sender } from '../../../test/probe.ts';
import { type Case, exit } from '../../../test/states.ts';
import { close } from '../../linux/libc.ts';
import { createNamespace } from '../../linux/netns.ts';
import { NAMESERVER, NAMESERVER6 } from '../constants.ts';
import type { Access, ClusterService, Frontend, HostState, RuleSet } from '../state.ts';
import { type Applier, openApplier } from './applier.ts';

const ADDRESS = '10.96.0.10';
const ADDRESS6 = 'fd00:96::10';
const { hostAddress, hostAddress6, routerAddress, routerAddress6 } = exit({});
/** The host reaches the network, and has addresses of its own in it. */
const ACCESS: Access = {
  subnets: ['20.1.1.0/24', 'fd00:1::/64'],
  services: [ADDRESS, ADDRESS6],
  sources: [{ device: 'vx1001', addresses: ['20.1.1.250', 'fd00:1::250'] }],
  own: [],
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

  it.each([
    [ADDRESS, addressOf],
    [ADDRESS6, address6Of],
  ])('%s leads SCTP to the port of a backend', async (address, of) => {
    boxes();
    declare([frontend([], { protocol: 132, address, backends: [{ address: of(3), port: 8080 }] })]);
    const fds = [
      inBox(3, () => receiver(of(3), 132, 0)),
      inBox(2, () => sender({ from: of(2), to: address, protocol: 132, port: 80 }, 1)),
    ];
    try {
      await expect.poll(() => sctpPorts(received(fds[0] as number), address.includes(':'))).toEqual([8080]);
    } finally {
      for (const fd of fds) close(fd);
    }
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

  it.each(KINDS)(
    'is reached by %s from its own only backend, whatever rules say',
    async (_, protocol, connect) => {
      boxes();
      const judged = { joined: true, judgedIn: 5, judgedOut: 5 };
      const denying: RuleSet = {
        id: 5,
        name: 'denies everything',
        narrowed: [],
        decisions: [{ group: 0, rule: 1, action: 'deny', key: 'default:p:1' }],
      };
      declare(
        [
          frontend([3], { protocol }),
          frontend([], { protocol, address: ADDRESS6, backends: [{ address: address6Of(3), port: 8080 }] }),
        ],
        { ports: BOXES.map((n) => port(n, judged)), ruleSets: [denying] },
      );
      let told: string | undefined;
      void connect(2, ADDRESS)
        .then((other) => other.ask())
        .then((answer) => {
          told = answer;
        });
      const providers = [await provide(3), await provide(3, address6Of(3))];
      expect(await (await connect(3, ADDRESS)).ask()).toBe('3');
      expect(await (await connect(3, ADDRESS6, 80, address6Of(3))).ask()).toBe('3');
      expect(providers.map(({ clients }) => [...new Set(clients)])).toEqual([[NAMESERVER], [NAMESERVER6]]);
      expect(told).toBeUndefined();
    },
  );
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

  it('sends from there also where it has an address of the tenant’s by the same way, which is more like the others’', async () => {
    boxes();
    const own = ['20.1.1.250', 'fd00:1::250'];
    const given = world([frontend([3])], { access: { ...ACCESS, own } });
    applied(applier, given);
    for (const [to, from] of [
      [addressOf(3), hostAddress],
      [address6Of(3), hostAddress6],
    ])
      expect(sh(`ip route get ${to}`)).toContain(`src ${from} `);
    const { clients } = await provide(3, address6Of(3));
    expect(sh(`busybox nc -w 5 ${address6Of(3)} 8080 -e true && echo reached`)).toBe('reached\n');
    await expect.poll(() => clients, { timeout: 30_000 }).toEqual([hostAddress6]);
    expect(applied(applier, given, true)).toMatchObject({ writes: 0, repaired: [] });
  });

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

describe("a service's port of the host", () => {
  const NODE_PORT = 30_080;
  const HERE = { 4: '203.0.113.1', 6: 'fd00:203::1' } as const;
  const THERE = { 4: '203.0.113.2', 6: 'fd00:203::2' } as const;
  const FAMILIES = [
    { family: 4, end: routerAddress, of: addressOf },
    { family: 6, end: routerAddress6, of: address6Of },
  ] as const;
  const OUTSIDE = 9;
  const entrances = FAMILIES.flatMap(({ end }) =>
    (['tcp', 'udp'] as const).map((protocol) => ({
      protocol,
      hostAddress: '',
      hostPort: NODE_PORT,
      transitPort: NODE_PORT,
      address: end,
      port: NODE_PORT,
    })),
  );

  /** Those boxes answer, of both families. */
  const declareAt = (answering: readonly number[]) =>
    declare(
      FAMILIES.flatMap(({ end, of }) =>
        [6, 17].map((protocol) =>
          frontend([], {
            address: end,
            protocol,
            port: NODE_PORT,
            backends: answering.map((n) => ({ address: of(n), port: 8080 })),
          }),
        ),
      ),
      { entrances },
    );

  /** The host's neighbour in the underlay. */
  function outside(): void {
    createNamespace(`box${OUTSIDE}`);
    sh(
      `ip link add under type veth peer name under netns box${OUTSIDE}; ip link set under up; ip link set lo up`,
    );
    sh(`ip addr add ${HERE[4]}/24 dev under; ip addr add ${HERE[6]}/64 dev under nodad`);
    inBox(OUTSIDE, () => {
      sh(`ip link set lo up; ip link set under up`);
      sh(`ip addr add ${THERE[4]}/24 dev under; ip addr add ${THERE[6]}/64 dev under nodad`);
    });
  }

  it.each(KINDS)('leads from outside, of both families, by %s to who answers', async (_, __, connect) => {
    boxes();
    outside();
    declareAt([3]);
    for (const { family, of } of FAMILIES) {
      const { clients } = await provide(3, of(3));
      expect(await (await connect(OUTSIDE, HERE[family], NODE_PORT, THERE[family])).ask()).toBe('3');
      expect(new Set(clients)).toEqual(new Set([THERE[family]]));
    }
  });

  it.each(KINDS)('leads containers and the host itself, of both families, by %s', async (_, __, connect) => {
    boxes();
    outside();
    declareAt([3]);
    for (const { family, of } of FAMILIES) {
      await provide(3, of(3));
      for (const [box, from] of [
        [0, HERE[family]],
        [2, of(2)],
        [3, of(3)],
      ] as const)
        expect(await (await connect(box, HERE[family], NODE_PORT, from)).ask(), `${box}`).toBe('3');
    }
  });

  it.each(KINDS)('refuses %s of both families where nobody answers', async (_, __, connect) => {
    boxes();
    outside();
    declareAt([]);
    for (const { family } of FAMILIES)
      expect(await (await connect(OUTSIDE, HERE[family], NODE_PORT, THERE[family])).ask()).toBe(
        'ECONNREFUSED',
      );
  });

  it('leads UDP that keeps its port to another when its backend goes, of both families', async () => {
    boxes();
    outside();
    declareAt([3]);
    for (const { of } of FAMILIES) for (const n of [3, 4]) await provide(n, of(n));
    const clients = await Promise.all(
      FAMILIES.map(({ family }) => udp(OUTSIDE, HERE[family], NODE_PORT, THERE[family])),
    );
    const asked = (): Promise<string[]> => Promise.all(clients.map((client) => client.ask()));
    expect(await asked()).toEqual(['3', '3']);
    declareAt([3, 4]);
    expect(await asked()).toEqual(['3', '3']);
    declareAt([4]);
    expect(await asked()).toEqual(['4', '4']);
    declareAt([]);
    expect(await asked()).toEqual(['ECONNREFUSED', 'ECONNREFUSED']);
  });
});

describe('clients that stay', () => {
  const FAMILIES = [
    ['IPv4', ADDRESS, addressOf],
    ['IPv6', ADDRESS6, address6Of],
  ] as const;
  const staying = (
    address: string,
    of: (n: number) => string,
    list: readonly (number | null)[],
    affinity: number,
  ) =>
    frontend([], {
      address,
      affinity,
      backends: list.map((n) => (n === null ? null : { address: of(n), port: 8080 })),
    });
  const ask = async (box: number, address: string, of: (n: number) => string) =>
    (await tcp(box, address, 80, of(box))).ask();

  it.each(FAMILIES)(
    'go to one backend for as long as they come again in time, by %s',
    async (_, address, of) => {
      boxes();
      declare([staying(address, of, [3, 4, 5], 100)]);
      for (const n of [3, 4, 5]) await provide(n, of(n));
      const answers: string[] = [];
      for (let i = 0; i < 20; i++) answers.push(await ask(2, address, of));
      expect(new Set(answers).size).toBe(1);
      // Another client has a choice of its own; nobody's depends on what others have.
      const others = new Set<string>();
      for (let i = 0; i < 20; i++) others.add(await ask(4, address, of));
      expect(others.size).toBe(1);
    },
  );

  it.each(FAMILIES)(
    'go on with another backend where theirs goes, and stay with that, by %s',
    async (_, address, of) => {
      boxes();
      declare([staying(address, of, [3, 4], 100)]);
      for (const n of [3, 4, 5]) await provide(n, of(n));
      const first = Number(await ask(2, address, of));
      const rest = [3, 4].filter((n) => n !== first);
      // Its slot is nobody's; the first one always is somebody's.
      declare([staying(address, of, first === 3 ? [4] : [3], 100)]);
      expect(await ask(2, address, of)).toBe(`${rest[0]}`);
      declare([staying(address, of, first === 3 ? [4, 5] : [3, 5], 100)]);
      const answers = new Set<string>();
      for (let i = 0; i < 20; i++) answers.add(await ask(2, address, of));
      expect(answers.size).toBe(1);
    },
  );

  it('stay with who has kept its slot while others come and go', async () => {
    boxes();
    declare([staying(ADDRESS, addressOf, [3, 4, 5], 100)]);
    for (const n of [3, 4, 5]) await provide(n);
    const first = Number(await ask(2, ADDRESS, addressOf));
    declare([
      staying(
        ADDRESS,
        addressOf,
        [3, 4, 5].map((n) => (n === first || n === 3 ? n : null)),
        100,
      ),
    ]);
    for (let i = 0; i < 10; i++) expect(await ask(2, ADDRESS, addressOf)).toBe(`${first}`);
  });

  it.each(FAMILIES)(
    'draw anew when they have not come for longer, and each new connection renews it, by %s',
    async (_, address, of) => {
      boxes();
      declare([staying(address, of, [3, 4, 5], 1)]);
      for (const n of [3, 4, 5]) await provide(n, of(n));
      const answers = new Set<string>();
      const elements = () => inRouter(`nft list map inet contiv stay${address.includes(':') ? '6' : ''}`);
      await vi.waitUntil(
        async () => {
          answers.add(await ask(2, address, of));
          await vi.waitUntil(() => !elements().includes('expires'), { timeout: 20_000, interval: 100 });
          return answers.size > 1;
        },
        { timeout: 50_000, interval: 1 },
      );
    },
  );
});

describe('services for some', () => {
  it('are dropped where only other hosts have backends, and refused where none has', async () => {
    boxes();
    declare([
      frontend([], { protocol: 17, otherwise: 'drop' }),
      frontend([], { protocol: 17, port: 81, otherwise: 'refuse' }),
    ]);
    const dropped = await udp(2, ADDRESS);
    let told: string | undefined;
    void dropped.ask().then((answer) => {
      told = answer;
    });
    expect(await (await udp(2, ADDRESS, 81)).ask()).toBe('ECONNREFUSED');
    expect(told).toBeUndefined();
  });

  it('answer the clients that may ask, and nobody else', async () => {
    boxes();
    declare([frontend([3], { protocol: 17, clients: ['20.1.1.4/32', '10.0.0.0/8'] })]);
    await provide(3);
    let told: string | undefined;
    void (await udp(2, ADDRESS)).ask().then((answer) => {
      told = answer;
    });
    expect(await (await udp(4, ADDRESS)).ask()).toBe('3');
    expect(told).toBeUndefined();
  });
});

describe('when backends come and go', () => {
  it('UDP that keeps its port goes to another when its backend goes, and ends where none is left', async () => {
    boxes();
    declare([frontend([3], { protocol: 17 })]);
    for (const n of [3, 4]) await provide(n);
    const client = await udp(2, ADDRESS);
    expect(await client.ask()).toBe('3');
    declare([frontend([3, 4], { protocol: 17 })]);
    expect(await client.ask()).toBe('3');
    declare([frontend([4], { protocol: 17 })]);
    expect(await client.ask()).toBe('4');
    declare([frontend([], { protocol: 17 })]);
    expect(await client.ask()).toBe('ECONNREFUSED');
  });

  it('TCP that is open goes on, and new connections go to who is there', async () => {
    boxes();
    declare([frontend([3])]);
    for (const n of [3, 4]) await provide(n);
    const open = await tcp(2, ADDRESS);
    expect(await open.ask()).toBe('3');
    declare([frontend([4])]);
    expect(await open.ask()).toBe('3');
    expect(await (await tcp(2, ADDRESS)).ask()).toBe('4');
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
