import { pino } from 'pino';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import type { EndpointGroup } from '../../../model/endpointGroup.ts';
import { openView, type View, type WatchedNetwork } from '../../intent/view.ts';
import type { Driver } from './driver.ts';
import type { Docker, NetworkInspectInfo } from './engine.ts';
import {
  DRIVER,
  followOffer,
  planNetworks,
  presentNetworks,
  startOffer,
  wantedNetworks,
} from './networks.ts';

type Writable<T> = { [K in keyof T]: T[K] extends ReadonlyMap<infer A, infer B> ? Map<A, B> : T[K] };

function network(name: string, more: Partial<WatchedNetwork> = {}): WatchedNetwork {
  return { tenantName: 'default', networkName: name, subnet: '20.1.1.0/24', vni: 1, ...more };
}

const group = (groupName: string, networkName: string, tenantName = 'default'): EndpointGroup => ({
  tenantName,
  groupName,
  networkName,
});

const view = (
  networks: readonly WatchedNetwork[],
  groups: readonly EndpointGroup[] = [],
): Pick<Writable<View>, 'networks' | 'groups'> & View => ({
  ...openView(),
  networks: new Map(networks.map((n) => [`${n.tenantName}:${n.networkName}`, n])),
  groups: new Map(groups.map((g) => [`${g.tenantName}:${g.groupName}`, g])),
});

/** Debian's 20.10, on a host without an uplink. */
const OLD = { vlans: false, ipv6Alone: false };
const names = (of: View): string[] => [...wantedNetworks(of, OLD).keys()].sort();

describe('the names offered to Docker', () => {
  it('for a network of tenant default are its own', () => {
    expect(names(view([network('contiv-net')]))).toEqual(['contiv-net']);
  });

  it('for a network of another tenant end in the tenant', () => {
    expect(names(view([network('contiv-net', { tenantName: 'blue' })]))).toEqual(['contiv-net/blue']);
  });

  it('for a group are group.network and its 1.x name', () => {
    expect(names(view([network('net1')], [group('web', 'net1')]))).toEqual(['net1', 'web', 'web.net1']);
    expect(names(view([network('net1', { tenantName: 'blue' })], [group('web', 'net1', 'blue')]))).toEqual([
      'net1/blue',
      'web.net1/blue',
      'web/blue',
    ]);
  });

  it('keep tenants apart that use the same names', () => {
    const both = view(
      [network('net1'), network('net1', { tenantName: 'blue' })],
      [group('web', 'net1'), group('web', 'net1', 'blue')],
    );
    expect(names(both)).toEqual(['net1', 'net1/blue', 'web', 'web.net1', 'web.net1/blue', 'web/blue']);
    expect(wantedNetworks(both, OLD).get('web/blue')).toMatchObject({
      tenant: 'blue',
      network: 'net1',
      group: 'web',
    });
    expect(wantedNetworks(both, OLD).get('web')).toMatchObject({
      tenant: 'default',
      network: 'net1',
      group: 'web',
    });
    expect(wantedNetworks(both, OLD).get('net1')).toMatchObject({
      tenant: 'default',
      network: 'net1',
      group: '',
    });
  });

  it('are none for a group whose network is not known, and none for vlan where none acts', () => {
    expect(names(view([], [group('web', 'net1')]))).toEqual([]);
    const vlan = view([network('net1', { encap: 'vlan' })], [group('web', 'net1')]);
    expect(names(vlan)).toEqual([]);
    expect([...wantedNetworks(vlan, { ...OLD, vlans: true }).keys()].sort()).toEqual([
      'net1',
      'web',
      'web.net1',
    ]);
  });

  it('carry the subnet and the gateway, of both families', () => {
    const config = (more: Partial<WatchedNetwork>) =>
      wantedNetworks(view([network('n', more)]), OLD).get('n')?.config;
    expect(config({})).toEqual([{ Subnet: '20.1.1.0/24' }]);
    expect(config({ subnet: '20.1.1.10-20.1.1.20/24', gateway: '20.1.1.254' })).toEqual([
      { Subnet: '20.1.1.0/24', Gateway: '20.1.1.254' },
    ]);
    expect(config({ ipv6Subnet: 'fd00:1::/64', ipv6Gateway: 'fd00:1::1' })).toEqual([
      { Subnet: '20.1.1.0/24' },
      { Subnet: 'fd00:1::/64', Gateway: 'fd00:1::1' },
    ]);
  });
});

// ---- against a Docker that refuses on command

interface DockerNetwork {
  Id: string;
  Name: string;
  Driver: string;
  Labels: Record<string, string>;
  Options?: Record<string, string>;
}

const refused = (statusCode: number): Error =>
  Object.assign(new Error(`status ${statusCode}`), { statusCode });

interface CreateOptions extends DockerNetwork {
  IPAM: unknown;
  Options: Record<string, string>;
  EnableIPv6: boolean;
}

/** As much of Docker's API as the offer uses. */
interface FakeDocker {
  networks: Map<string, DockerNetwork>;
  /** Ids that containers hold. */
  busy: Set<string>;
  down: boolean;
  created: CreateOptions[];
  /** How often it was asked for its list. */
  listed: number;
  api: string;
  version(): Promise<{ Version: string; ApiVersion: string }>;
  listNetworks(): Promise<DockerNetwork[]>;
  createNetwork(options: CreateOptions): Promise<{ id: string }>;
  getNetwork(id: string): { remove(): Promise<void> };
  names(): string[];
}

function fakeDocker(foreign: DockerNetwork[] = []): FakeDocker {
  const networks = new Map(foreign.map((n) => [n.Id, n]));
  const docker: FakeDocker = {
    networks,
    busy: new Set(),
    down: false,
    created: [],
    listed: 0,
    api: '1.41',
    version: async () => ({ Version: '20.10.24', ApiVersion: docker.api }),
    async listNetworks() {
      docker.listed++;
      if (docker.down) throw new Error('no Docker');
      return [...networks.values()];
    },
    async createNetwork(options) {
      if ([...networks.values()].some((n) => n.Name === options.Name)) throw refused(409);
      docker.created.push(options);
      const Id = `id${docker.created.length}`;
      networks.set(Id, { Id, Name: options.Name, Driver: options.Driver, Labels: options.Labels });
      return { id: Id };
    },
    getNetwork: (id) => ({
      async remove() {
        if (docker.busy.has(id)) throw refused(403);
        if (!networks.delete(id)) throw refused(404);
      },
    }),
    names: () => [...networks.values()].map((n) => n.Name).sort(),
  };
  return docker;
}

function offering(of: View, docker = fakeDocker(), live = () => true, learn: Driver['learn'] = () => {}) {
  const log = pino({ level: 'silent' });
  const offer = startOffer(docker as unknown as Docker, { view: of, live }, log, learn, () => {}, false);
  onTestFinished(() => offer.close());
  return { offer, docker };
}

describe('the offer', () => {
  it('tells the driver of all its networks that Docker has, also of those that users made', async () => {
    const made = { tenant: 'default', network: 'net1', group: '' };
    const docker = fakeDocker([
      { Id: 'd1', Name: 'mine', Driver: DRIVER, Labels: {}, Options: made },
      { Id: 'd2', Name: 'bridge', Driver: 'bridge', Labels: {}, Options: made },
    ]);
    const learn = vi.fn();
    const { offer } = offering(view([]), docker, () => true, learn);
    await offer.settled();
    expect(learn.mock.calls).toEqual([['d1', made]]);
  });

  it('withdraws nothing before netmaster is heard, as a copy may be older than what Docker has', async () => {
    let live = false;
    const docker = fakeDocker();
    const first = offering(view([network('net1'), network('net2')]), docker).offer;
    await first.settled();
    const [id] = docker.networks.keys();
    const intent = view([network('net2', { subnet: '20.9.9.0/24' }), network('net3')]);
    const { offer } = offering(intent, docker, () => live);
    await offer.settled();
    expect(docker.names()).toEqual(['net1', 'net2', 'net3']);
    intent.networks.set('default:net1', network('net1'));
    live = true;
    offer.changed();
    await offer.settled();
    expect(docker.names()).toEqual(['net1', 'net2', 'net3']);
    expect([...docker.networks.keys()][0]).toBe(id);
    expect(docker.created.at(-1)).toMatchObject({ Name: 'net2' });
  });

  it('goes by what is declared when Docker answers, not when it was asked', async () => {
    const docker = fakeDocker();
    await offering(view([network('net1')]), docker).offer.settled();
    const list = docker.listNetworks;
    const { promise, resolve } = Promise.withResolvers<void>();
    docker.listNetworks = () => promise.then(list);
    const intent = view([]);
    const { offer } = offering(intent, docker);
    intent.networks.set('default:net1', network('net1'));
    resolve();
    await offer.settled();
    expect([docker.names(), docker.created.length]).toEqual([['net1'], 1]);
  });

  it('creates what is wanted, with what both drivers need to tell it', async () => {
    const { offer, docker } = offering(
      view([network('net1', { tenantName: 'blue' })], [group('web', 'net1', 'blue')]),
    );
    await offer.settled();
    expect(docker.names()).toEqual(['net1/blue', 'web.net1/blue', 'web/blue']);
    const target = { tenant: 'blue', network: 'net1', group: 'web' };
    expect(docker.created.find((n) => n.Name === 'web/blue')).toMatchObject({
      Driver: DRIVER,
      EnableIPv6: false,
      Options: target,
      IPAM: { Driver: DRIVER, Options: target, Config: [{ Subnet: '20.1.1.0/24' }] },
    });
  });

  it('follows intent', async () => {
    const intent = view([network('net1')]);
    const { offer, docker } = offering(intent);
    await offer.settled();
    intent.networks.set('default:net2', network('net2'));
    offer.changed();
    await offer.settled();
    expect(docker.names()).toEqual(['net1', 'net2']);
    intent.networks.delete('default:net1');
    offer.changed();
    await offer.settled();
    expect(docker.names()).toEqual(['net2']);
  });

  it('makes a network anew that came back with another subnet', async () => {
    const intent = view([network('net1')]);
    const { offer, docker } = offering(intent);
    await offer.settled();
    intent.networks.set('default:net1', network('net1', { subnet: '20.9.9.0/24' }));
    offer.changed();
    await offer.settled();
    expect(docker.names()).toEqual(['net1']);
    expect(docker.created.at(-1)?.IPAM).toMatchObject({ Config: [{ Subnet: '20.9.9.0/24' }] });
  });

  it('makes nothing twice', async () => {
    const { offer, docker } = offering(view([network('net1')]));
    await offer.settled();
    offer.changed();
    await offer.settled();
    expect(docker.created).toHaveLength(1);
  });

  it('costs a change the networks that it is about, not the list of all', async () => {
    const intent = view([network('net1')]);
    const { offer, docker } = offering(intent);
    await offer.settled();
    const { listed } = docker;
    for (let i = 0; i < 100; i++) {
      intent.groups.set(`default:g${i}`, group(`g${i}`, 'net1'));
      offer.changed();
      await offer.settled();
    }
    expect([docker.created.length, docker.listed]).toEqual([201, listed]);
  });

  it('offers anew what somebody removed', async () => {
    vi.useFakeTimers();
    onTestFinished(() => {
      vi.useRealTimers();
    });
    const { offer, docker } = offering(view([network('net1')]));
    await offer.settled();
    docker.networks.clear();
    await vi.advanceTimersByTimeAsync(20_000);
    expect(docker.names()).toEqual(['net1']);
  });

  it('offers anew what was removed as soon as Docker tells, and takes no list for it', async () => {
    const { offer, docker } = offering(view([network('net1'), network('net2')]));
    await offer.settled();
    const { listed } = docker;
    for (let round = 0; round < 3; round++) {
      const gone = [...docker.networks.values()];
      docker.networks.clear();
      for (const { Id, Name } of gone) offer.removed(Id, Name);
      await offer.settled();
      expect(docker.names()).toEqual(['net1', 'net2']);
    }
    expect(docker.listed).toBe(listed);
  });

  it('offers anew what was removed while Docker’s list was on its way', async () => {
    const { offer, docker } = offering(view([network('net1')]));
    await offer.settled();
    const [gone] = docker.networks.values();
    const list = docker.listNetworks;
    docker.listNetworks = async () => {
      docker.listNetworks = list;
      const old = await list();
      docker.networks.clear();
      offer.removed(gone?.Id ?? '', 'net1');
      return old;
    };
    offer.renewed();
    await offer.settled();
    await vi.waitFor(() => expect(docker.names()).toEqual(['net1']), { timeout: 20_000 });
  });

  it('offers its own as soon as another network of that name is removed', async () => {
    const docker = fakeDocker([{ Id: 'c', Name: 'net1', Driver: 'bridge', Labels: {} }]);
    const { offer } = offering(view([network('net1')]), docker);
    await offer.settled();
    docker.networks.clear();
    offer.removed('c', 'net1');
    await offer.settled();
    expect([...docker.networks.values()]).toMatchObject([{ Name: 'net1', Driver: DRIVER }]);
  });

  it('makes nothing again that it has itself withdrawn, when Docker tells of it', async () => {
    const intent = view([network('net1')]);
    const { offer, docker } = offering(intent);
    await offer.settled();
    intent.networks.set('default:net1', network('net1', { subnet: '20.9.9.0/24' }));
    offer.changed();
    await offer.settled();
    offer.removed('id1', 'net1');
    await offer.settled();
    expect([docker.created.length, docker.names()]).toEqual([2, ['net1']]);
  });

  it('leaves networks of others alone, of our driver too', async () => {
    const theirs = [
      { Id: 'a', Name: 'bridge', Driver: 'bridge', Labels: {} },
      { Id: 'b', Name: 'mine', Driver: DRIVER, Labels: {} },
      { Id: 'c', Name: 'net1', Driver: 'bridge', Labels: {} },
    ];
    const { offer, docker } = offering(view([network('net1'), network('net2')]), fakeDocker(theirs));
    await offer.settled();
    expect(docker.names()).toEqual(['bridge', 'mine', 'net1', 'net2']);
    expect(docker.networks.get('c')?.Driver).toBe('bridge');
  });

  it('says once that Docker has another network of a name, and offers its own when that one is gone', async () => {
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const docker = fakeDocker([{ Id: 'c', Name: 'net1', Driver: 'bridge', Labels: {} }]);
    const lines: string[] = [];
    const told: string[] = [];
    const log = pino({ level: 'warn' }, { write: (line) => void lines.push(line) });
    const offer = startOffer(
      docker as unknown as Docker,
      { view: view([network('net1')]), live: () => true },
      log,
      () => {},
      (line) => told.push(line),
      false,
    );
    onTestFinished(() => offer.close());
    await offer.settled();
    await vi.advanceTimersByTimeAsync(60_000);
    expect(lines).toEqual([expect.stringContaining('Docker has another network of this name')]);
    docker.networks.clear();
    await vi.advanceTimersByTimeAsync(20_000);
    expect(docker.networks.size).toBe(1);
    expect(told).toEqual([
      expect.stringMatching(/^net1 is not offered to Docker, which has another network of this name/),
      'net1 is offered to Docker now',
    ]);
  });

  it('has networks of IPv6 alone where Docker can have them, and tells once where it can not', async () => {
    const { subnet: _, ...none } = network('six', { ipv6Subnet: 'fd00:6::/64', ipv6Gateway: 'fd00:6::1' });
    const of = view([network('net1'), none], [group('web', 'six')]);
    const docker = fakeDocker();
    const told: string[] = [];
    const tell = (line: string): void => void told.push(line);
    const log = pino({ level: 'silent' });
    const offer = startOffer(
      docker as unknown as Docker,
      { view: of, live: () => true },
      log,
      () => {},
      tell,
      false,
    );
    onTestFinished(() => offer.close());
    await offer.settled();
    expect(docker.names()).toEqual(['net1']);
    expect(docker.created[0]).not.toHaveProperty('EnableIPv4');
    expect(offer.problems).toEqual([]);
    offer.changed();
    await offer.settled();
    expect(told).toEqual([
      "network default:six is not offered to Docker: it has no IPv4 subnet, and Docker 20.10.24 gives each network IPv4; for containers of Docker's have 28 or newer on this host, or make the network anew with --subnet",
    ]);
    // Another Docker, which answers anew.
    docker.api = '1.48';
    offer.renewed();
    offer.changed();
    await offer.settled();
    expect(docker.names()).toEqual(['net1', 'six', 'web', 'web.six']);
    expect(docker.created.find((n) => n.Name === 'web.six')).toMatchObject({
      EnableIPv4: false,
      EnableIPv6: true,
      IPAM: { Config: [{ Subnet: 'fd00:6::/64', Gateway: 'fd00:6::1' }] },
    });
    expect(offer.problems).toEqual([]);
  });

  it('withdraws a network that containers hold when they are gone', async () => {
    const intent = view([network('net1')]);
    const { offer, docker } = offering(intent);
    await offer.settled();
    const [id = ''] = docker.networks.keys();
    docker.busy.add(id);
    intent.networks.clear();
    offer.changed();
    await offer.settled();
    expect(docker.names()).toEqual(['net1']);
    docker.busy.clear();
    offer.changed();
    await offer.settled();
    expect(docker.names()).toEqual([]);
  });

  it('waits for a Docker that is away, and settles meanwhile', async () => {
    vi.useFakeTimers();
    onTestFinished(() => {
      vi.useRealTimers();
    });
    const docker = fakeDocker();
    docker.down = true;
    const { offer } = offering(view([network('net1')]), docker);
    await offer.settled();
    expect(docker.names()).toEqual([]);
    docker.down = false;
    await vi.advanceTimersByTimeAsync(20_000);
    expect(docker.names()).toEqual(['net1']);
  });

  it('settles only when what was known at the call is offered', async () => {
    const intent = view([network('net1')]);
    const { offer, docker } = offering(intent);
    // While the first round is on its way.
    intent.networks.set('default:net2', network('net2'));
    offer.changed();
    await offer.settled();
    expect(docker.names()).toEqual(['net1', 'net2']);
  });

  it('lets nobody wait for the list that is taken now and then', async () => {
    vi.useFakeTimers();
    onTestFinished(() => {
      vi.useRealTimers();
    });
    const { offer, docker } = offering(view([network('net1')]));
    await offer.settled();
    const { promise, resolve } = Promise.withResolvers<DockerNetwork[]>();
    docker.listNetworks = () => promise;
    await vi.advanceTimersByTimeAsync(20_000);
    await offer.settled();
    resolve([...docker.networks.values()]);
  });

  it('offers the others where Docker refuses one', async () => {
    const docker = fakeDocker();
    const create = docker.createNetwork;
    docker.createNetwork = async (options) => {
      if (options.Name === 'net1') throw refused(500);
      return create(options);
    };
    const { offer } = offering(view([network('net1'), network('net2')]), docker);
    await offer.settled();
    expect(docker.names()).toEqual(['net2']);
  });
});

describe('the plan', () => {
  const made = (n: WatchedNetwork): NetworkInspectInfo[] => {
    const of = view([n]);
    const plan = planNetworks(presentNetworks([]), wantedNetworks(of, OLD), true);
    return plan.create.map(
      ({ name, ...rest }) =>
        ({
          Id: `id-${name}`,
          Name: name,
          Driver: DRIVER,
          Labels: {
            'io.contiv.network': JSON.stringify([rest.tenant, rest.network, rest.group, rest.config]),
          },
        }) as unknown as NetworkInspectInfo,
    );
  };
  const planned = (listed: NetworkInspectInfo[], wanted: View, live = true) => {
    const { remove, create, shadowed } = planNetworks(
      presentNetworks(listed),
      wantedNetworks(wanted, OLD),
      live,
    );
    return { remove: remove.map(({ id }) => id), create: create.map(({ name }) => name), shadowed };
  };
  const NOTHING = { remove: [], create: [], shadowed: [] };

  it('is nothing where all is there', () => {
    expect(planned(made(network('a')), view([network('a')]))).toEqual(NOTHING);
  });

  it('removes what nobody wants, and makes anew what is another by now', () => {
    const other = view([network('a', { subnet: '20.9.9.0/24' }), network('c')]);
    expect(planned([...made(network('a')), ...made(network('b'))], other)).toEqual({
      remove: ['id-a', 'id-b'],
      create: ['a', 'c'],
      shadowed: [],
    });
  });

  it('removes nothing before netmaster is heard', () => {
    const other = view([network('a', { subnet: '20.9.9.0/24' }), network('c')]);
    expect(planned([...made(network('a')), ...made(network('b'))], other, false)).toEqual({
      ...NOTHING,
      create: ['c'],
    });
  });

  it('takes no name that another network has, and leaves it alone', () => {
    const theirs = { Id: 'x', Name: 'a', Driver: 'bridge', Labels: {} } as unknown as NetworkInspectInfo;
    expect(planned([theirs], view([network('a'), network('b')]))).toEqual({
      ...NOTHING,
      create: ['b'],
      shadowed: ['a'],
    });
  });
});

it('the offer is concerned by networks and groups, and by nothing else', async () => {
  const { offer } = offering(view([]));
  const follower = followOffer(offer, { changed() {}, idle: async () => {} });
  const concerns = (kind: string): boolean =>
    follower.changed({ type: 'view', objects: [{ kind, key: 'x', object: {} }], listed: false });
  expect(['network', 'endpointGroup', 'rule', 'policy', 'endpoint'].map(concerns)).toEqual([
    true,
    true,
    false,
    false,
    false,
  ]);
  await follower.settled();
});
