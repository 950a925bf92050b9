import { describe, expect, it } from 'vitest';
import type { Endpoint } from '../../model/endpoint.ts';
import type { SwarmService } from '../../model/swarmService.ts';
import { SERVICE_LABEL } from '../../model/swarmTask.ts';
import { openView, type View, type WatchedNetwork } from '../intent/view.ts';
import { createNames, type NameAnswer, pointedAddress } from './lookup.ts';

const CALLER = '20.1.1.1';

/** `20.1.1.7` in network net1 of tenant default on host node1, running; what a test is about is said. */
function endpoint(address: string, more: Partial<Endpoint> = {}): Endpoint {
  return {
    endpointID: `${more.tenantName ?? ''}${more.networkName ?? ''}${address}`,
    tenantName: 'default',
    networkName: 'net1',
    ipAddress: [address],
    macAddress: '02:02:00:00:00:00',
    homingHost: 'node1',
    status: 'running',
    ...more,
  };
}

interface World {
  readonly swarmServices?: readonly Partial<SwarmService>[];
  /** `net1`, `blue:net1`. Default: net1. */
  readonly networks?: readonly (string | Partial<WatchedNetwork>)[];
  /** `group.network`, `blue:group.network`. */
  readonly groups?: readonly string[];
  readonly endpoints?: readonly Endpoint[];
  /** `lb.network at address`, `blue:lb.network at address`. */
  readonly services?: readonly string[];
  /** Live ones. */
  readonly hosts?: readonly string[];
  readonly draining?: readonly string[];
}

function view({
  networks = ['net1'],
  groups = [],
  endpoints = [],
  services = [],
  swarmServices = [],
  hosts = ['node1'],
  draining = [],
}: World): View {
  const split = (text: string): [string, string] => {
    const [a = '', b] = text.split(':');
    return b === undefined ? ['default', a] : [a, b];
  };
  const nets = networks.map((given, i): WatchedNetwork => {
    if (typeof given !== 'string')
      return { tenantName: 'default', networkName: 'net1', subnet: '20.1.1.0/24', vni: 1, ...given };
    const [tenantName, networkName] = split(given);
    return { tenantName, networkName, subnet: `20.1.${i + 1}.0/24`, vni: i + 1 };
  });
  return openView([
    ...nets.map((n) => ({ kind: 'network', key: `${n.tenantName}:${n.networkName}`, object: n })),
    ...groups.map((text) => {
      const [tenantName, rest] = split(text);
      const [groupName = '', networkName = ''] = rest.split('.');
      return {
        kind: 'endpointGroup',
        key: `${tenantName}:${groupName}`,
        object: { tenantName, groupName, networkName },
      };
    }),
    ...services.map((text) => {
      const [named = '', vip] = text.split(' at ');
      const [tenantName, rest] = split(named);
      const [serviceName = '', networkName = ''] = rest.split('.');
      const object = { tenantName, serviceName, networkName, vip, selectors: ['a=b'], ports: ['80:80:TCP'] };
      return { kind: 'serviceLB', key: `${tenantName}:${serviceName}`, object };
    }),
    ...swarmServices.map((given) => {
      const of = { serviceID: 's1', swarmNetworkID: 'n1', swarm: 'w1', serviceName: 'front' };
      const object: SwarmService = { ...of, tenantName: 'default', networkName: 'net1', ...given };
      return { kind: 'swarmService', key: `${object.serviceID}:${object.swarmNetworkID}`, object };
    }),
    ...[endpoint(CALLER), ...endpoints].map((e) => ({ kind: 'endpoint', key: e.endpointID, object: e })),
    ...hosts.map((name) => ({ kind: 'host', key: name, object: { name, underlay: '192.0.2.1' } })),
    ...draining.map((key) => ({ kind: 'draining', key, object: { since: 1 } })),
  ]);
}

/** What the caller, a container of net1 in tenant default, is answered. */
function ask(
  world: World,
  name: string,
  type = 'A',
  { client = CALLER, tenant = 'default' } = {},
): NameAnswer {
  const names = createNames();
  names.update(view(world), undefined);
  return names.answer(tenant, client, { name, type });
}

const found = (...addresses: string[]): NameAnswer => ({ kind: 'addresses', addresses });
const all = (answer: NameAnswer): string[] =>
  answer.kind === 'addresses' ? [...answer.addresses].sort() : [];
const UNKNOWN: NameAnswer = { kind: 'unknown' };
const EMPTY: NameAnswer = { kind: 'empty' };
const FORWARD: NameAnswer = { kind: 'forward' };

describe('a name', () => {
  const container = endpoint('20.1.1.2', { containerName: 'web' });
  const alias = endpoint('20.1.1.3', { containerName: 'c3', aliases: ['web'] });
  const group = endpoint('20.1.1.4', { containerName: 'c4', groupName: 'web' });

  it('means the container, before an alias and a group', () => {
    expect(ask({ groups: ['web.net1'], endpoints: [group, alias, container] }, 'web')).toEqual(
      found('20.1.1.2'),
    );
  });

  it('has the addresses of both families where any record is asked for, and an address its name', () => {
    const dual = endpoint('20.1.1.2', { containerName: 'web', ipAddress: ['20.1.1.2', 'fd00::2'] });
    expect(all(ask({ endpoints: [dual] }, 'web', 'ANY'))).toEqual(['20.1.1.2', 'fd00::2']);
    expect(ask({ endpoints: [dual] }, '2.1.1.20.in-addr.arpa', 'ANY')).toEqual({
      kind: 'pointer',
      name: 'web.net1',
    });
  });

  it('means an alias before a group', () => {
    expect(ask({ groups: ['web.net1'], endpoints: [group, alias] }, 'web')).toEqual(found('20.1.1.3'));
  });

  it('means the group where nothing else has it: all its members', () => {
    const other = endpoint('20.1.1.5', { groupName: 'web', homingHost: 'node2' });
    const answer = ask({ groups: ['web.net1'], endpoints: [group, other], hosts: ['node1', 'node2'] }, 'web');
    expect(all(answer)).toEqual(['20.1.1.4', '20.1.1.5']);
  });

  it('means all containers that share an alias', () => {
    const second = endpoint('20.1.1.5', { aliases: ['web'] });
    expect(all(ask({ endpoints: [alias, second] }, 'web'))).toEqual(['20.1.1.3', '20.1.1.5']);
  });

  it('is the same in any case, and with a dot at the end', () => {
    const world: World = {
      networks: ['Net1'],
      endpoints: [endpoint('20.1.1.2', { containerName: 'Web', networkName: 'Net1' })],
    };
    for (const name of ['web', 'WEB', 'wEb.', 'Web.net1', 'WEB.NET1.', 'web.Net1.DEFAULT'])
      expect(ask(world, name, 'A', { client: '20.1.1.2' }), name).toEqual(found('20.1.1.2'));
  });
});

describe("a name of Swarm's service", () => {
  const task = (address: string, more: Partial<Endpoint> = {}): Endpoint =>
    endpoint(address, { labels: { [SERVICE_LABEL]: 's1' }, ...more });
  const endpoints = [
    task('20.1.1.2', { containerName: 'front.1.x' }),
    task('20.1.1.3'),
    task('20.1.1.4', { status: 'paused' }),
    task('20.1.1.5', { groupName: 'db' }),
    task('20.1.1.6', { labels: { [SERVICE_LABEL]: 's2' } }),
  ];
  const tasks = ['20.1.1.2', '20.1.1.3'];

  it('means its virtual address, in this network by its aliases too, and with tasks. before it its tasks', () => {
    const world = { endpoints, swarmServices: [{ virtualAddress: '20.1.1.200', aliases: ['Shop'] }] };
    for (const name of ['front', 'front.net1', 'shop']) expect(ask(world, name)).toEqual(found('20.1.1.200'));
    for (const name of ['tasks.front', 'tasks.shop', 'tasks.front.net1'])
      expect(all(ask(world, name)), name).toEqual(tasks);
    expect(ask(world, 'front', 'AAAA')).toEqual(EMPTY);
    expect(ask(world, '200.1.1.20.in-addr.arpa', 'PTR')).toEqual({ kind: 'pointer', name: 'front.net1' });
    expect(ask(world, 'front.1.x')).toEqual(found('20.1.1.2'));
  });

  it('means its virtual address of IPv6 too, where it has one', () => {
    const [six] = [{ virtualAddress: '20.1.1.200', ipv6VirtualAddress: 'fd00:1::200' }];
    const world = {
      networks: [{ ipv6Subnet: 'fd00:1::/64' }],
      endpoints: [task('20.1.1.2', { ipAddress: ['20.1.1.2', 'fd00:1::2'] })],
      swarmServices: [six],
    };
    expect(ask(world, 'front')).toEqual(found('20.1.1.200'));
    expect(ask(world, 'front', 'AAAA')).toEqual(found('fd00:1::200'));
    expect(ask(world, 'tasks.front', 'AAAA')).toEqual(found('fd00:1::2'));
    const reversed = `${[...'fd000001'.padEnd(29, '0'), ...'200'].reverse().join('.')}.ip6.arpa`;
    expect(ask(world, reversed, 'PTR')).toEqual({ kind: 'pointer', name: 'front.net1' });
  });

  it('means its tasks where it has none', () => {
    const world = { endpoints, swarmServices: [{ aliases: ['shop'] }] };
    for (const name of ['front', 'shop', 'tasks.front', 'tasks.shop'])
      expect(all(ask(world, name)), name).toEqual(tasks);
  });

  it('means the address also where no task runs; without one there is nothing', () => {
    expect(ask({ swarmServices: [{ virtualAddress: '20.1.1.200' }] }, 'front')).toEqual(found('20.1.1.200'));
    expect(ask({ swarmServices: [{}] }, 'front')).toEqual(EMPTY);
  });
});

describe('a service', () => {
  const services = ['Shop.net1 at 20.1.1.100', 'far.net2 at 20.1.2.100', 'blue:hidden.net1 at 20.1.1.101'];
  const networks = ['net1', 'net2', 'blue:net1'];
  const world: World = { networks, services };

  it('has its virtual address, also without a provider, in any case of letters, and no IPv6 address', () => {
    for (const name of ['shop', 'SHOP', 'shop.net1', 'shop.net1.default'])
      expect(ask(world, name), name).toEqual(found('20.1.1.100'));
    expect(ask(world, 'shop', 'AAAA')).toEqual(EMPTY);
  });

  it("is found in the caller's network, and in another of the tenant by that one's name", () => {
    expect(ask(world, 'far')).toEqual(UNKNOWN);
    expect(ask(world, 'far.net2')).toEqual(found('20.1.2.100'));
    expect(ask(world, 'hidden')).toEqual(UNKNOWN);
  });

  it('comes after containers and aliases, before a group', () => {
    const container = endpoint('20.1.1.2', { containerName: 'shop' });
    const alias = endpoint('20.1.1.3', { containerName: 'c3', aliases: ['shop'] });
    const member = endpoint('20.1.1.4', { groupName: 'shop' });
    expect(ask({ ...world, endpoints: [container] }, 'shop')).toEqual(found('20.1.1.2'));
    expect(ask({ ...world, endpoints: [alias] }, 'shop')).toEqual(found('20.1.1.3'));
    expect(ask({ ...world, groups: ['shop.net1'], endpoints: [member] }, 'shop')).toEqual(
      found('20.1.1.100'),
    );
  });

  it('is what its address points to', () => {
    const pointer = (address: string, type = 'PTR') =>
      ask(world, `${address.split('.').reverse().join('.')}.in-addr.arpa`, type);
    expect(pointer('20.1.1.100')).toEqual({ kind: 'pointer', name: 'Shop.net1' });
    expect(pointer('20.1.2.100')).toEqual({ kind: 'pointer', name: 'far.net2' });
    expect(pointer('20.1.1.100', 'A')).toEqual(EMPTY);
    expect(pointer('20.1.1.101')).toEqual(UNKNOWN);
  });
});

describe('a single label', () => {
  const elsewhere = endpoint('20.1.2.2', { networkName: 'net2', containerName: 'web' });
  const networks = ['net1', 'net2'];

  it("is looked up in the caller's network only", () => {
    expect(ask({ networks, endpoints: [elsewhere] }, 'web')).toEqual(UNKNOWN);
  });

  it("is looked up in all of the caller's networks", () => {
    const one = endpoint('20.1.1.9', { containerID: 'c', containerName: 'me' });
    const two = endpoint('20.1.2.9', { containerID: 'c', containerName: 'me', networkName: 'net2' });
    const world = { networks, endpoints: [elsewhere, one, two] };
    expect(ask(world, 'web', 'A', { client: '20.1.1.9' })).toEqual(found('20.1.2.2'));
    expect(ask(world, 'web', 'A', { client: '20.1.2.9' })).toEqual(found('20.1.2.2'));
  });

  it('that nobody has is NXDOMAIN, not asked outside', () => {
    expect(ask({}, 'nobody')).toEqual(UNKNOWN);
    expect(ask({}, 'nobody', 'AAAA')).toEqual(UNKNOWN);
    expect(ask({}, 'nobody', 'MX')).toEqual(UNKNOWN);
  });

  it('is unknown to a caller that is no endpoint', () => {
    const world = { endpoints: [endpoint('20.1.1.2', { containerName: 'web' })] };
    expect(ask(world, 'web', 'A', { client: '203.0.113.1' })).toEqual(UNKNOWN);
  });
});

describe('name.network', () => {
  const web = endpoint('20.1.2.2', { networkName: 'net2', containerName: 'web' });
  const world = { networks: ['net1', 'net2'], endpoints: [web] };

  it('finds it in any network of the tenant', () => {
    expect(ask(world, 'web.net2')).toEqual(found('20.1.2.2'));
    expect(ask(world, 'web.net2.default')).toEqual(found('20.1.2.2'));
  });

  it('is NXDOMAIN where the network has no such name', () => {
    expect(ask(world, 'web.net1')).toEqual(UNKNOWN);
    expect(ask(world, 'web.net1.default')).toEqual(UNKNOWN);
  });

  it('is asked outside where there is no such network', () => {
    for (const name of ['web.net3', 'example.org', 'web.net2.blue', 'www.example.org', 'a.web.net2.default'])
      expect(ask(world, name), name).toEqual(FORWARD);
    expect(ask(world, '.')).toEqual(FORWARD);
  });

  it('may have dots, as names and aliases of Docker may; one of a network comes first', () => {
    const world: World = {
      networks: ['net1', 'net2'],
      endpoints: [
        endpoint('20.1.1.2', { containerName: 'shop_web.1', aliases: ['api.example.com', 'db.net2'] }),
        endpoint('20.1.2.3', { networkName: 'net2', containerName: 'db' }),
        endpoint('20.1.2.4', { networkName: 'net2', aliases: ['far.example.com'] }),
      ],
    };
    for (const name of ['shop_web.1', 'shop_web.1.net1', 'shop_web.1.net1.default', 'API.example.com'])
      expect(ask(world, name)).toEqual(found('20.1.1.2'));
    expect(ask(world, 'db.net2')).toEqual(found('20.1.2.3'));
    for (const name of ['far.example.com', 'www.example.com', 'a.b.net1'])
      expect(ask(world, name)).toEqual(FORWARD);
    expect(ask(world, 'far.example.com.net2')).toEqual(found('20.1.2.4'));
  });
});

describe('a type', () => {
  const both = endpoint('20.1.1.2', { containerName: 'web', ipAddress: ['20.1.1.2', 'fd00:1::2'] });
  const v4 = endpoint('20.1.1.3', { containerName: 'old' });

  it('A gets IPv4, AAAA gets IPv6', () => {
    expect(ask({ endpoints: [both] }, 'web', 'A')).toEqual(found('20.1.1.2'));
    expect(ask({ endpoints: [both] }, 'web', 'AAAA')).toEqual(found('fd00:1::2'));
  });

  it('that a known name does not have is an empty answer', () => {
    expect(ask({ endpoints: [v4] }, 'old', 'AAAA')).toEqual(EMPTY);
    expect(ask({ endpoints: [both] }, 'web', 'MX')).toEqual(EMPTY);
    expect(ask({ endpoints: [both] }, 'web.net1', 'TXT')).toEqual(EMPTY);
  });

  it('of a group without members is an empty answer too', () => {
    expect(ask({ groups: ['web.net1'] }, 'web')).toEqual(EMPTY);
  });
});

describe('health', () => {
  const member = (address: string, status: Endpoint['status'], more: Partial<Endpoint> = {}) =>
    endpoint(address, { groupName: 'web', status, ...more });
  const group = (...endpoints: Endpoint[]) => all(ask({ groups: ['web.net1'], endpoints }, 'web'));

  it('leaves paused and merely created containers out', () => {
    expect(
      group(member('20.1.1.2', 'running'), member('20.1.1.3', 'paused'), member('20.1.1.4', 'created')),
    ).toEqual(['20.1.1.2']);
    expect(group(member('20.1.1.3', 'paused'))).toEqual([]);
  });

  it('leaves unhealthy ones out while there is a healthy one', () => {
    expect(group(member('20.1.1.2', 'running'), member('20.1.1.3', 'unhealthy'))).toEqual(['20.1.1.2']);
  });

  it('takes unhealthy ones where there is no other', () => {
    expect(
      group(member('20.1.1.2', 'unhealthy'), member('20.1.1.3', 'unhealthy'), member('20.1.1.4', 'paused')),
    ).toEqual(['20.1.1.2', '20.1.1.3']);
  });

  it('leaves out what ran on a dead host', () => {
    expect(
      group(member('20.1.1.2', 'running'), member('20.1.1.3', 'running', { homingHost: 'dead' })),
    ).toEqual(['20.1.1.2']);
  });

  it('leaves out what is on a drained host while there is a healthy one elsewhere, in names, aliases and groups', () => {
    const both = [
      member('20.1.1.2', 'running', { aliases: ['task'], containerName: 'a' }),
      member('20.1.1.3', 'running', { aliases: ['task'], containerName: 'b', homingHost: 'node2' }),
      member('20.1.1.4', 'unhealthy', { homingHost: 'node3' }),
    ];
    const named = (name: string, ...draining: string[]) =>
      all(ask({ groups: ['web.net1'], endpoints: both, hosts: ['node1', 'node2', 'node3'], draining }, name));
    for (const name of ['web', 'task', 'task.net1']) {
      expect(named(name), name).toEqual(['20.1.1.2', '20.1.1.3']);
      expect(named(name, 'node2'), name).toEqual(['20.1.1.2']);
      expect(named(name, 'node1', 'node2'), name).toEqual(['20.1.1.2', '20.1.1.3']);
    }
    expect(named('b', 'node2'), 'nobody else has the name').toEqual(['20.1.1.3']);
  });

  it('a paused container leaves its name to the group', () => {
    const paused = endpoint('20.1.1.2', { containerName: 'web', status: 'paused' });
    expect(group(paused, member('20.1.1.3', 'running'))).toEqual(['20.1.1.3']);
  });
});

describe('members', () => {
  const members = Array.from({ length: 10 }, (_, i) => endpoint(`20.1.1.${i + 10}`, { groupName: 'web' }));

  /** How often each address came first in 10,000 lookups, with a change of the view every `changes`. */
  function firsts(changes: number): number[] {
    const names = createNames();
    const current = view({ groups: ['web.net1'], endpoints: members });
    const count = new Map<string, number>();
    for (let i = 0; i < 10_000; i++) {
      if (i % changes === 0) names.update(current, undefined);
      const answer = names.answer('default', CALLER, { name: 'web', type: 'A' });
      const first = answer.kind === 'addresses' ? (answer.addresses[0] ?? '') : '';
      count.set(first, (count.get(first) ?? 0) + 1);
    }
    return [...count.values()];
  }

  it('come first equally often: 10,000 lookups over ten members within 10%', () => {
    const counts = firsts(10_000);
    expect(counts).toHaveLength(10);
    for (const count of counts) {
      expect(count).toBeGreaterThanOrEqual(900);
      expect(count).toBeLessThanOrEqual(1100);
    }
  });

  it('come first equally often for a client that asks for both families each time', () => {
    const names = createNames();
    const dual = members.map((m, i) => ({ ...m, ipAddress: [...m.ipAddress, `fd00::${i + 1}`] }));
    names.update(view({ groups: ['web.net1'], endpoints: dual }), undefined);
    const firsts = { A: new Set<string | undefined>(), AAAA: new Set<string | undefined>() };
    for (let i = 0; i < members.length; i++)
      for (const type of ['A', 'AAAA'] as const) {
        const answer = names.answer('default', CALLER, { name: 'web', type });
        firsts[type].add(answer.kind === 'addresses' ? answer.addresses[0] : undefined);
      }
    expect(firsts.A.size).toBe(members.length);
    expect(firsts.AAAA.size).toBe(members.length);
  });

  it('come first about equally often also while the view changes all the time', () => {
    const counts = firsts(3);
    expect(counts).toHaveLength(10);
    // Chance: the starts of 3,333 tables are drawn; six standard deviations.
    for (const count of counts) expect(Math.abs(count - 1000)).toBeLessThan(330);
  });

  it('are all in each answer, once', () => {
    const names = createNames();
    names.update(view({ groups: ['web.net1'], endpoints: members }), undefined);
    for (let i = 0; i < 20; i++)
      expect(all(names.answer('default', CALLER, { name: 'web', type: 'A' }))).toEqual(
        members.map((m) => m.ipAddress[0]),
      );
  });
});

describe('an address by PTR', () => {
  const world: World = {
    networks: [{ ipv6Subnet: 'fd00:1::/64' }],
    endpoints: [
      endpoint('20.1.1.2', { containerName: 'web', ipAddress: ['20.1.1.2', 'fd00:1::2'] }),
      endpoint('20.1.1.3'),
    ],
  };
  const v6 = (last: string) => `${last}.${'0.'.repeat(23)}1.0.0.0.0.0.d.f.ip6.arpa`;

  it('is the name of its container and network', () => {
    expect(ask(world, '2.1.1.20.in-addr.arpa', 'PTR')).toEqual({ kind: 'pointer', name: 'web.net1' });
    expect(ask(world, v6('2'), 'PTR')).toEqual({ kind: 'pointer', name: 'web.net1' });
    expect(ask(world, v6('2').toUpperCase(), 'PTR')).toEqual({ kind: 'pointer', name: 'web.net1' });
  });

  it('is NXDOMAIN where it is free, or has no name yet', () => {
    expect(ask(world, '9.1.1.20.in-addr.arpa', 'PTR')).toEqual(UNKNOWN);
    expect(ask(world, '3.1.1.20.in-addr.arpa', 'PTR')).toEqual(UNKNOWN);
    expect(ask(world, v6('9'), 'PTR')).toEqual(UNKNOWN);
  });

  it('is empty for other types', () => {
    expect(ask(world, '2.1.1.20.in-addr.arpa', 'A')).toEqual(EMPTY);
  });

  it('outside all subnets is asked outside', () => {
    for (const name of [
      '8.8.8.8.in-addr.arpa',
      '1.20.in-addr.arpa',
      '300.1.1.20.in-addr.arpa',
      v6('2').replace('d.f', 'e.f'),
    ])
      expect(ask(world, name, 'PTR'), name).toEqual(FORWARD);
  });

  it('is read from both forms', () => {
    expect(pointedAddress('3.1.1.20.in-addr.arpa')).toBe('20.1.1.3');
    expect(pointedAddress(v6('2'))).toBe('fd00:1::2');
    expect(pointedAddress('1.20.in-addr.arpa')).toBeUndefined();
    expect(pointedAddress('x.1.1.20.in-addr.arpa')).toBeUndefined();
  });
});

describe('two tenants', () => {
  const blue = { tenantName: 'blue' };
  const world: World = {
    networks: [{}, { ...blue, vni: 2 }],
    groups: ['db.net1', 'blue:db.net1'],
    endpoints: [
      endpoint('20.1.1.2', { containerName: 'web' }),
      endpoint(CALLER, { ...blue }),
      endpoint('20.1.1.3', { ...blue, containerName: 'web' }),
      endpoint('20.1.1.4', { ...blue, containerName: 'secret', groupName: 'db' }),
    ],
  };

  it('with equal networks, names and addresses see each their own', () => {
    expect(ask(world, 'web')).toEqual(found('20.1.1.2'));
    expect(ask(world, 'web', 'A', { tenant: 'blue' })).toEqual(found('20.1.1.3'));
    expect(ask(world, 'web.net1.blue', 'A', { tenant: 'blue' })).toEqual(found('20.1.1.3'));
  });

  it("learn nothing of the other's", () => {
    expect(ask(world, 'secret')).toEqual(UNKNOWN);
    expect(ask(world, 'secret.net1')).toEqual(UNKNOWN);
    expect(ask(world, 'secret.net1.blue')).toEqual(FORWARD);
    expect(ask(world, 'db')).toEqual(EMPTY);
    expect(ask(world, '4.1.1.20.in-addr.arpa', 'PTR')).toEqual(UNKNOWN);
  });
});

describe('a change', () => {
  const web = endpoint('20.1.1.2', { containerName: 'web' });
  const change = (kind: string, object: unknown) => [{ kind, key: 'x', object }];

  it('of an endpoint shows at once', () => {
    const names = createNames();
    const question = { name: 'web', type: 'A' };
    names.update(view({}), undefined);
    expect(names.answer('default', CALLER, question)).toEqual(UNKNOWN);
    names.update(view({ endpoints: [web] }), change('endpoint', web));
    expect(names.answer('default', CALLER, question)).toEqual(found('20.1.1.2'));
    names.update(
      view({ endpoints: [{ ...web, status: 'paused' }] }),
      change('endpoint', { ...web, status: 'paused' }),
    );
    expect(names.answer('default', CALLER, question)).toEqual(UNKNOWN);
    names.update(view({ endpoints: [web] }), change('endpoint', web));
    names.update(view({}), change('endpoint', null));
    expect(names.answer('default', CALLER, question)).toEqual(UNKNOWN);
  });

  it("of a host's drain shows at once, as the end of it", () => {
    const names = createNames();
    const endpoints = [
      endpoint('20.1.1.2', { groupName: 'web' }),
      endpoint('20.1.1.3', { groupName: 'web', homingHost: 'node2' }),
    ];
    const world = { groups: ['web.net1'], endpoints, hosts: ['node1', 'node2'] };
    const web = () => all(names.answer('default', CALLER, { name: 'web', type: 'A' }));
    names.update(view(world), undefined);
    expect(web()).toEqual(['20.1.1.2', '20.1.1.3']);
    names.update(view({ ...world, draining: ['node2'] }), change('draining', { since: 1 }));
    expect(web()).toEqual(['20.1.1.2']);
    names.update(view(world), change('draining', null));
    expect(web()).toEqual(['20.1.1.2', '20.1.1.3']);
  });

  it("of a host's life shows at once", () => {
    const names = createNames();
    names.update(view({ endpoints: [web] }), undefined);
    names.answer('default', CALLER, { name: 'web', type: 'A' });
    names.update(view({ endpoints: [web], hosts: [] }), change('host', null));
    expect(names.answer('default', CALLER, { name: 'web', type: 'A' })).toEqual(UNKNOWN);
    names.update(view({ endpoints: [web] }), change('host', { name: 'node1', underlay: '192.0.2.1' }));
    expect(names.answer('default', CALLER, { name: 'web', type: 'A' })).toEqual(found('20.1.1.2'));
  });
});
