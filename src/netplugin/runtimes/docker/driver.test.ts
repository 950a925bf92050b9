import fs from 'node:fs';
import path from 'node:path';
import { pino } from 'pino';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { temporaryFolder } from '../../../../test/folder.ts';
import { macOf } from '../../../model/address.ts';
import type { Endpoint } from '../../../model/endpoint.ts';
import { DUMMY_GATEWAY, DUMMY_GATEWAY6, NAMESERVER, NAMESERVER6 } from '../../constants.ts';
import { insideOf } from '../../endpoints/inside.ts';
import { type Attachment, openView, type WatchedNetwork } from '../../intent/view.ts';
import type { Publication } from '../../state.ts';
import { keepPublications, type Publications, type WantedPublication } from '../publish.ts';
import type { Attached, Endpoints } from '../runtime.ts';
import { createDriver, type Driver, NO_INTERFACE } from './driver.ts';
import { UNTOLD } from './stopped.ts';

const NETWORKS: WatchedNetwork[] = [
  { tenantName: 'default', networkName: 'net1', subnet: '20.1.1.0/24', gateway: '20.1.1.254', vni: 1 },
  { tenantName: 'default', networkName: 'range', subnet: '20.1.2.10-20.1.2.20/24', vni: 2 },
  {
    tenantName: 'blue',
    networkName: 'dual',
    subnet: '20.1.3.0/24',
    gateway: '20.1.3.254',
    ipv6Subnet: 'fd00:3::/64',
    ipv6Gateway: 'fd00:3::1',
    vni: 3,
  },
  { tenantName: 'default', networkName: 'six', ipv6Subnet: 'fd00:6::/64', ipv6Gateway: 'fd00:6::1', vni: 5 },
  { tenantName: 'blue', networkName: 'inner', subnet: '20.1.4.0/24', ipv6Subnet: 'fd00:4::/64', vni: 4 },
];

/** The agent as the driver sees it; `asked` says what it was asked for. */
function fakeEndpoints() {
  const attachments = new Map<string, Attachment>();
  const asked: unknown[][] = [];
  const listeners: ((endpoint: string, had: Attachment | undefined) => void)[] = [];
  const fake = {
    asked,
    attachments,
    /** Refuses the next call of this name. */
    refuse: {} as { reserve?: string; attach?: string; publish?: string },
    networks: new Map(NETWORKS.map((n) => [`${n.tenantName}:${n.networkName}`, n])),
  };
  const check = (name: keyof typeof fake.refuse): void => {
    const message = fake.refuse[name];
    if (message !== undefined) throw new Error(message);
  };
  const endpoints: Endpoints = {
    host: 'node1',
    view: { ...openView(), networks: fake.networks },
    live: () => true,
    ready: () => true,
    portOf: () => undefined,
    attachments,
    async reserve(request, insistence) {
      asked.push(insistence === 'of a stopped one' ? ['reserve', request, insistence] : ['reserve', request]);
      check('reserve');
      return {
        address: request.address ?? (request.family === 6 ? 'fd00:3::2' : '20.1.1.1'),
        prefixLength: request.family === 6 ? 64 : 24,
      };
    },
    addressBefore: () => undefined,
    async release(network, address) {
      asked.push(['release', network, address]);
    },
    swarmHas: async () => 0,
    async releaseOfSwarm(network, address) {
      asked.push(['release of Swarm', network, address]);
    },
    async attach(joining) {
      check('attach');
      const { endpoint, sandbox } = joining;
      attachments.set(endpoint.endpointID, { ...joining, phase: 'joined' });
      const { endpointID, tenantName, networkName } = endpoint;
      const network = fake.networks.get(`${tenantName}:${networkName}`) as WatchedNetwork;
      const before = [...attachments.values()].filter(
        (a) => a.sandbox === sandbox && a.endpoint.endpointID !== endpointID,
      );
      return {
        peer: `cc-${endpointID}`,
        inside: insideOf(network, joining, before, fake),
      } as unknown as Attached;
    },
    missing: async () => [],
    async publish(id, publications) {
      check('publish');
      attachments.set(id, { ...(attachments.get(id) as Attachment), publications });
    },
    async describe() {},
    async detach(id) {
      asked.push(['detach', id]);
      const had = attachments.get(id);
      attachments.delete(id);
      for (const listener of listeners) listener(id, had);
    },
    onDetach: (listener) => void listeners.push(listener),
  };
  return { ...fake, endpoints };
}

/** Claims without sockets. */
function fakePublications() {
  const held = new Map<string, readonly WantedPublication[]>();
  let taken: string | undefined;
  const publications: Publications = {
    claim(endpoint, wanted) {
      if (taken !== undefined) throw new Error(taken);
      held.set(endpoint, wanted);
      return wanted.map(({ lastPort: _, ...p }) => p);
    },
    free(endpoint) {
      held.delete(endpoint);
    },
  };
  return {
    publications,
    held,
    refuse(message: string) {
      taken = message;
    },
  };
}

let folder: string;
let agent: ReturnType<typeof fakeEndpoints>;
let ports: ReturnType<typeof fakePublications>;
let driver: Driver;
/** What the container that starts had, and whose endpoints went. */
let former: string | undefined;
let left: string[];
/** Names that it was asked for by. */
let startsAs: (string | undefined)[];
/** Networks of Swarm's, and why. */
let refused: string[];
const stopped = {
  keep: ({ endpoint }: Attachment) => void left.push(endpoint.endpointID),
  async addressIn(_target: unknown, _family: unknown, name?: string) {
    startsAs.push(name);
    return former;
  },
};

function start(): void {
  keepPublications(ports.publications, agent.endpoints, pino({ level: 'silent' }));
  driver = createDriver({
    endpoints: agent.endpoints,
    publications: ports.publications,
    stopped,
    folder,
    log: pino({ level: 'silent' }),
    swarmId: () => 'swarm1',
    refusedOfSwarm: (network, why) => void refused.push(`${network}: ${why}`),
  });
}

afterEach(() => driver.close());
beforeEach(() => {
  former = undefined;
  left = [];
  startsAs = [];
  refused = [];
  folder = temporaryFolder();
  agent = fakeEndpoints();
  ports = fakePublications();
  start();
});

/** A call of dockerd. */
async function call(name: string, request: unknown = {}): Promise<Record<string, unknown>> {
  const found = driver.calls.get(name);
  if (found === undefined) throw new Error(`no call ${name}`);
  return found(request as never);
}

const options = (network: string, tenant = 'default', group = '') => ({ network, tenant, group });
const requestPool = (of: object, V6 = false) => call('IpamDriver.RequestPool', { Options: of, Pool: '', V6 });
const createNetwork = (id: string, of: object) =>
  call('NetworkDriver.CreateNetwork', { NetworkID: id, Options: { 'com.docker.network.generic': of } });

/** From CreateNetwork to Join, as dockerd does it; answers Join's. */
async function run(
  id: string,
  of: { network: string; tenant: string; group: string },
  { addresses = ['20.1.1.2/24'], sandbox = `/run/docker/netns/${id}` } = {},
): Promise<Record<string, unknown>> {
  const NetworkID = `docker-${of.tenant}-${of.network}`;
  await createNetwork(NetworkID, of);
  const [Address, AddressIPv6] = addresses;
  await call('NetworkDriver.CreateEndpoint', {
    NetworkID,
    EndpointID: id,
    Interface: { Address, AddressIPv6 },
  });
  return call('NetworkDriver.Join', { NetworkID, EndpointID: id, SandboxKey: sandbox });
}

describe('capabilities', () => {
  it('are those of a network and an IPAM driver, local to the host', async () => {
    expect(await call('Plugin.Activate')).toEqual({ Implements: ['NetworkDriver', 'IpamDriver'] });
    expect(await call('NetworkDriver.GetCapabilities')).toEqual({
      Scope: 'local',
      ConnectivityScope: 'global',
      GwAllocChecker: true,
    });
    expect(await call('IpamDriver.GetCapabilities')).toEqual({
      RequiresMACAddress: false,
      RequiresRequestReplay: false,
    });
  });
});

describe('RequestPool', () => {
  it('answers the subnet and the gateway of the network, by an id that stays the same', async () => {
    const answer = await requestPool(options('net1'));
    expect(answer).toEqual({
      PoolID: 'default:net1::4',
      Pool: '20.1.1.0/24',
      Data: { 'com.docker.network.gateway': '20.1.1.254/24' },
    });
    start();
    expect(await requestPool(options('net1'))).toEqual(answer);
  });

  it('answers another id for each group and family', async () => {
    const ids = [
      await requestPool(options('dual', 'blue')),
      await requestPool(options('dual', 'blue', 'web')),
      await requestPool(options('dual', 'blue'), true),
      await requestPool(options('dual', 'blue', 'web'), true),
    ].map((answer) => answer.PoolID);
    expect(new Set(ids).size).toBe(4);
  });

  it('answers the IPv6 subnet and gateway', async () => {
    expect(await requestPool(options('dual', 'blue'), true)).toMatchObject({
      Pool: 'fd00:3::/64',
      Data: { 'com.docker.network.gateway': 'fd00:3::1/64' },
    });
  });

  it('answers the whole subnet of a range, and no gateway where there is none', async () => {
    expect(await requestPool(options('range'))).toMatchObject({ Pool: '20.1.2.0/24', Data: {} });
    expect(await requestPool(options('inner', 'blue'), true)).toMatchObject({ Data: {} });
  });

  it('refuses a network that does not exist, by the command that makes it', async () => {
    await expect(requestPool(options('nowhere', 'blue'))).rejects.toThrow(
      'network blue:nowhere does not exist: create it with netctl net create nowhere -t blue --subnet=...',
    );
  });

  it('refuses IPv6 where the network has none', async () => {
    await expect(requestPool(options('net1'), true)).rejects.toThrow(
      'network default:net1 has no IPv6 subnet',
    );
  });

  it('refuses IPv4 where the network has none, by what asks for it', async () => {
    await expect(requestPool(options('six'))).rejects.toThrow(
      'network default:six has no IPv4 subnet, and Docker asks for one where a network is not made with --ipv4=false --ipv6, as from 28 on it can be',
    );
    expect(await requestPool(options('six'), true)).toMatchObject({ Pool: 'fd00:6::/64' });
  });

  it('refuses a network that was made without us, by how it is made', async () => {
    await expect(call('IpamDriver.RequestPool', { Pool: '10.0.0.0/8' })).rejects.toThrow(
      /netplugin networks are declared with netctl net create/,
    );
    await expect(createNetwork('id', {})).rejects.toThrow(
      /netplugin networks are declared with netctl net create/,
    );
  });
});

describe('RequestAddress', () => {
  const request = async (of: object, more: object = {}, V6 = false) =>
    call('IpamDriver.RequestAddress', { PoolID: (await requestPool(of, V6)).PoolID, Address: '', ...more });

  it('reserves the next one of the network at netmaster', async () => {
    expect(await request(options('net1'))).toEqual({ Address: '20.1.1.1/24', Data: {} });
    expect(agent.asked).toEqual([['reserve', { tenantName: 'default', networkName: 'net1', family: 4 }]]);
  });

  it('names the group, whose pool counts', async () => {
    await request(options('dual', 'blue', 'web'));
    expect(agent.asked).toEqual([
      ['reserve', { tenantName: 'blue', networkName: 'dual', groupName: 'web', family: 4 }],
    ]);
  });

  it('reserves the address that the user gave', async () => {
    expect(await request(options('net1'), { Address: '20.1.1.77' })).toMatchObject({
      Address: '20.1.1.77/24',
    });
    expect(agent.asked).toMatchObject([['reserve', { address: '20.1.1.77' }]]);
  });

  it('answers IPv6 as /128: the container sends everything to the gateway', async () => {
    expect(await request(options('dual', 'blue'), {}, true)).toMatchObject({ Address: 'fd00:3::2/128' });
    expect(agent.asked).toMatchObject([['reserve', { family: 6 }]]);
  });

  it('reserves the one that the container had before it stopped, or the next one where that is taken', async () => {
    former = '20.1.1.7';
    await call('IpamDriver.RequestAddress', { PoolID: 'default:net1::4' });
    expect(agent.asked).toMatchObject([['reserve', { address: '20.1.1.7' }]]);
    agent.refuse.reserve = 'address 20.1.1.7 is in use';
    await expect(call('IpamDriver.RequestAddress', { PoolID: 'default:net1::4' })).rejects.toThrow();
    expect(agent.asked.slice(1)).toEqual([
      ['reserve', expect.objectContaining({ address: '20.1.1.7' })],
      ['reserve', { tenantName: 'default', networkName: 'net1', family: 4 }, 'of a stopped one'],
    ]);
  });

  it('asks for what any that has stopped had, where it cannot be told whether one of those starts', async () => {
    former = UNTOLD;
    await call('IpamDriver.RequestAddress', { PoolID: 'default:net1::4' });
    const wanted = { tenantName: 'default', networkName: 'net1', family: 4 };
    expect(agent.asked).toEqual([['reserve', wanted, 'of a stopped one']]);
  });

  it('from Docker 29 on says whose it is, which the endpoint has as its name when it joins', async () => {
    const named = { Options: { 'com.docker.network.endpoint.name': 'web' } };
    await request(options('net1'));
    await request(options('net1'), named);
    expect(startsAs).toEqual([undefined, 'web']);
    await run('ep1', options('net1'), { addresses: ['20.1.1.1/24'] });
    expect(agent.attachments.get('ep1')?.endpoint).toMatchObject({ containerName: 'web' });
    // Of the next one with this address it is told anew, or not.
    await run('ep2', options('net1'), { addresses: ['20.1.1.1/24'] });
    expect(agent.attachments.get('ep2')?.endpoint).not.toHaveProperty('containerName');
    await request(options('net1'), named);
    await call('IpamDriver.ReleaseAddress', { PoolID: 'default:net1::4', Address: '20.1.1.1' });
    await run('ep3', options('net1'), { addresses: ['20.1.1.1/24'] });
    expect(agent.attachments.get('ep3')?.endpoint).not.toHaveProperty('containerName');
  });

  it('for the gateway reserves nothing, and is a dummy where there is none', async () => {
    const gateway = { Options: { RequestAddressType: 'com.docker.network.gateway' } };
    expect(await request(options('net1'), gateway)).toMatchObject({ Address: '20.1.1.254/24' });
    expect(await request(options('dual', 'blue'), gateway, true)).toMatchObject({ Address: 'fd00:3::1/64' });
    expect(await request(options('range'), gateway)).toMatchObject({ Address: `${DUMMY_GATEWAY}/24` });
    expect(await request(options('inner', 'blue'), gateway, true)).toMatchObject({
      Address: `${DUMMY_GATEWAY6}/64`,
    });
    expect(agent.asked).toEqual([]);
  });

  it("passes netmaster's refusal on", async () => {
    agent.refuse.reserve = 'network default:net1: all addresses of 20.1.1.0/24 are taken';
    await expect(request(options('net1'))).rejects.toThrow('all addresses of 20.1.1.0/24 are taken');
  });

  it('works after a restart with the id of before', async () => {
    const { PoolID } = await requestPool(options('dual', 'blue', 'web'), true);
    start();
    await call('IpamDriver.RequestAddress', { PoolID, Address: '' });
    expect(agent.asked).toMatchObject([['reserve', { tenantName: 'blue', groupName: 'web', family: 6 }]]);
  });
});

describe('in Swarm mode', () => {
  const pool = (AddressSpace: string) =>
    call('IpamDriver.RequestPool', { AddressSpace, Options: options('net1'), Pool: '20.1.1.0/24' });

  it('the network is allocated with all that its nodes are to know', async () => {
    const request = { NetworkID: 'n1', IPv4Data: [{ Pool: '20.1.1.0/24' }] };
    expect(await call('NetworkDriver.AllocateNetwork', { ...request, Options: { network: 'net1' } })).toEqual(
      {
        Options: { tenant: 'default', network: 'net1', group: '' },
      },
    );
    await expect(
      call('NetworkDriver.AllocateNetwork', { ...request, Options: { network: 'no' } }),
    ).rejects.toThrow('network default:no does not exist: create it with netctl net create no');
  });

  it('a network that stands for nothing is refused by its id, which only the driver is told', async () => {
    for (const [Options, why] of [
      [{ network: 'no' }, 'network default:no does not exist: create it with netctl net create no'],
      [
        { network: 'net1', group: 'no' },
        'group default:no does not exist in network net1: create it with netctl',
      ],
      [{}, 'name one: --opt network=NAME --ipam-driver contiv:latest'],
    ] as const) {
      if ('network' in Options)
        expect(await call('IpamDriver.RequestPool', { AddressSpace: 'contiv-swarm', Options })).toMatchObject(
          {
            Pool: '192.0.2.0/24',
          },
        );
      await expect(
        call('NetworkDriver.AllocateNetwork', { NetworkID: 'n1', IPv4Data: [], Options }),
      ).rejects.toThrow(why);
      expect(refused.pop()).toMatch(/^n1: /);
    }
    await expect(
      call('IpamDriver.RequestPool', { AddressSpace: 'contiv-node', Options: { network: 'no' } }),
    ).rejects.toThrow('network default:no does not exist');
  });

  it('addresses of another address management than ours are refused', async () => {
    const request = { NetworkID: 'n1', IPv4Data: [{ Pool: '10.0.1.0/24' }], Options: { network: 'net1' } };
    await expect(call('NetworkDriver.AllocateNetwork', request)).rejects.toThrow(
      'addresses of network default:net1 are of 20.1.1.0/24, not of 10.0.1.0/24: give --ipam-driver contiv:latest',
    );
  });

  it('a manager reserves for its Swarm and a node for itself, and each gives back its own', async () => {
    former = '20.1.1.77'; // of a container that was stopped: none of Swarm's business
    for (const [space, Address] of [
      ['contiv-swarm', ''],
      ['contiv-node', '20.1.1.1'],
    ] as const) {
      const { PoolID } = await pool(space);
      await call('IpamDriver.RequestAddress', { PoolID, Address });
      await call('IpamDriver.ReleaseAddress', { PoolID, Address: '20.1.1.1' });
    }
    const wanted = { tenantName: 'default', networkName: 'net1', family: 4 };
    expect(agent.asked).toEqual([
      ['reserve', { ...wanted, swarm: 'swarm1' }],
      ['release of Swarm', 'default:net1', '20.1.1.1'],
      ['reserve', { ...wanted, address: '20.1.1.1' }],
      ['release', 'default:net1', '20.1.1.1'],
    ]);
  });
});

describe('ReleaseAddress', () => {
  it('releases an address, never a gateway', async () => {
    const { PoolID } = await requestPool(options('net1'));
    for (const Address of ['20.1.1.254', DUMMY_GATEWAY, DUMMY_GATEWAY6, '20.1.1.2'])
      await call('IpamDriver.ReleaseAddress', { PoolID, Address });
    expect(agent.asked).toEqual([['release', 'default:net1', '20.1.1.2']]);
  });

  it('releases also where the network has gone', async () => {
    const { PoolID } = await requestPool(options('net1'));
    agent.networks.clear();
    await call('IpamDriver.ReleaseAddress', { PoolID, Address: '20.1.1.2' });
    expect(agent.asked).toEqual([['release', 'default:net1', '20.1.1.2']]);
  });
});

describe('GwAllocCheck', () => {
  const check = (of: object) =>
    call('NetworkDriver.GwAllocCheck', { Options: { 'com.docker.network.generic': of } });

  it('of a family without a gateway says that Docker must give it none', async () => {
    expect(await check(options('dual', 'blue'))).toEqual({ SkipIPv4: false, SkipIPv6: false });
    expect(await check(options('net1'))).toEqual({ SkipIPv4: false, SkipIPv6: true });
    expect(await check(options('inner', 'blue'))).toEqual({ SkipIPv4: true, SkipIPv6: true });
  });

  it('refuses what is not declared, in the words of the calls that follow', async () => {
    await expect(check(options('nowhere'))).rejects.toThrow('network default:nowhere does not exist');
    await expect(check({})).rejects.toThrow(/netplugin networks are declared with netctl net create/);
  });
});

describe('CreateEndpoint', () => {
  const create = (given: object) =>
    call('NetworkDriver.CreateEndpoint', { NetworkID: 'n1', EndpointID: 'ep1', Interface: given });
  beforeEach(async () => {
    await createNetwork('n1', options('net1'));
  });

  it('of a network without gateway keeps which ports lead nowhere, for people to see', async () => {
    const portmap = { 'com.docker.network.portmap': [{ Proto: 6, Port: 80, HostPort: 8080 }] };
    for (const [network, id] of [
      ['range', 'shut'],
      ['net1', 'open'],
    ] as const) {
      await call('NetworkDriver.CreateNetwork', {
        NetworkID: network,
        Options: { 'com.docker.network.generic': { network } },
      });
      const address = network === 'range' ? '20.1.2.10/24' : '20.1.1.7/24';
      await call('NetworkDriver.CreateEndpoint', {
        NetworkID: network,
        EndpointID: id,
        Interface: { Address: address },
        Options: portmap,
      });
      await call('NetworkDriver.Join', { NetworkID: network, EndpointID: id, SandboxKey: `/run/${id}` });
    }
    expect(agent.attachments.get('shut')?.endpoint.notPublished).toEqual(['8080->80/tcp']);
    expect(agent.attachments.get('open')?.endpoint).not.toHaveProperty('notPublished');
  });

  it('answers the MAC address that goes with the address', async () => {
    expect(await create({ Address: '20.1.1.2/24' })).toEqual({
      Interface: { MacAddress: '02:02:14:01:01:02' },
    });
    expect(macOf('255.0.16.1')).toBe('02:02:ff:00:10:01');
  });

  it('answers none where the user gave one: Docker takes that for an error', async () => {
    expect(await create({ Address: '20.1.1.2/24', MacAddress: '02:00:00:00:00:09' })).toEqual({
      Interface: {},
    });
    await call('NetworkDriver.Join', { NetworkID: 'n1', EndpointID: 'ep1', SandboxKey: '/run/s' });
    expect(agent.attachments.get('ep1')?.endpoint.macAddress).toBe('02:00:00:00:00:09');
  });

  it('refuses an endpoint without an IPv4 address', async () => {
    for (const given of [{}, { AddressIPv6: 'fd00:3::2/128' }, { Address: '' }])
      await expect(create(given)).rejects.toThrow(
        'endpoint ep1: Docker gave no IPv4 address; use the IPAM driver netplugin',
      );
  });

  it('refuses a Docker network that it does not know', async () => {
    await expect(
      call('NetworkDriver.CreateEndpoint', { NetworkID: 'stranger', EndpointID: 'ep1', Interface: {} }),
    ).rejects.toThrow('Docker network stranger is not known to netplugin: remove it with docker network rm');
  });

  it('refuses a network that was deleted meanwhile', async () => {
    agent.networks.clear();
    await expect(create({ Address: '20.1.1.2/24' })).rejects.toThrow('network default:net1 does not exist');
  });
});

describe('Join', () => {
  it('attaches the endpoint and answers its device and gateway', async () => {
    expect(await run('ep1', options('net1', 'default', 'web'))).toEqual({
      InterfaceName: { SrcName: 'cc-ep1', DstPrefix: 'eth' },
      Gateway: '20.1.1.254',
      GatewayIPv6: '',
      StaticRoutes: [
        { Destination: '20.1.1.254/32', RouteType: 1, NextHop: '' },
        { Destination: `${NAMESERVER}/32`, RouteType: 0, NextHop: '20.1.1.254' },
        { Destination: '20.1.1.0/25', RouteType: 0, NextHop: '20.1.1.254' },
        { Destination: '20.1.1.128/25', RouteType: 0, NextHop: '20.1.1.254' },
      ],
      DisableGatewayService: false,
    });
    expect(agent.attachments.get('ep1')).toEqual({
      endpoint: {
        endpointID: 'ep1',
        tenantName: 'default',
        networkName: 'net1',
        groupName: 'web',
        ipAddress: ['20.1.1.2'],
        macAddress: '02:02:14:01:01:02',
        homingHost: 'node1',
        status: 'running',
      } satisfies Endpoint,
      phase: 'joined',
      publications: [],
      runtime: 'docker',
      stub: true,
      sandbox: '/run/docker/netns/ep1',
    });
  });

  it('in a network without gateway answers none, keeps docker_gwbridge away and leads to the nameserver', async () => {
    expect(await run('ep1', options('range'), { addresses: ['20.1.2.10/24'] })).toMatchObject({
      Gateway: '',
      DisableGatewayService: true,
      StaticRoutes: [
        { Destination: `${NAMESERVER}/32`, RouteType: 1, NextHop: '' },
        { Destination: '20.1.2.0/25', RouteType: 0, NextHop: NAMESERVER },
        { Destination: '20.1.2.128/25', RouteType: 0, NextHop: NAMESERVER },
      ],
    });
  });

  it('with IPv6 leads to the gateway by the device, and to the subnet by the gateway', async () => {
    expect(
      await run('ep1', options('dual', 'blue'), { addresses: ['20.1.3.2/24', 'fd00:3::2/128'] }),
    ).toMatchObject({
      Gateway: '20.1.3.254',
      GatewayIPv6: 'fd00:3::1',
      StaticRoutes: [
        { Destination: '20.1.3.254/32', RouteType: 1, NextHop: '' },
        { Destination: `${NAMESERVER}/32`, RouteType: 0, NextHop: '20.1.3.254' },
        { Destination: '20.1.3.0/25', RouteType: 0, NextHop: '20.1.3.254' },
        { Destination: '20.1.3.128/25', RouteType: 0, NextHop: '20.1.3.254' },
        { Destination: 'fd00:3::1/128', RouteType: 1, NextHop: '' },
        { Destination: 'fd00:3::/64', RouteType: 0, NextHop: 'fd00:3::1' },
      ],
    });
  });

  it('with IPv6 but no gateway leads to the subnet by the nameserver address', async () => {
    expect(
      await run('ep1', options('inner', 'blue'), { addresses: ['20.1.4.2/24', 'fd00:4::2/128'] }),
    ).toMatchObject({
      GatewayIPv6: '',
      StaticRoutes: [
        { Destination: `${NAMESERVER}/32`, RouteType: 1 },
        { Destination: '20.1.4.0/25', RouteType: 0, NextHop: NAMESERVER },
        { Destination: '20.1.4.128/25', RouteType: 0, NextHop: NAMESERVER },
        { Destination: `${NAMESERVER6}/128`, RouteType: 1 },
        { Destination: 'fd00:4::/64', RouteType: 0, NextHop: NAMESERVER6 },
      ],
    });
  });

  it('in a network of IPv6 alone answers its gateway, and keeps docker_gwbridge away', async () => {
    expect(await run('ep1', options('six'), { addresses: ['', 'fd00:6::2/128'] })).toMatchObject({
      Gateway: '',
      GatewayIPv6: 'fd00:6::1',
      DisableGatewayService: true,
      StaticRoutes: [
        { Destination: 'fd00:6::1/128', RouteType: 1, NextHop: '' },
        { Destination: 'fd00:6::/64', RouteType: 0, NextHop: 'fd00:6::1' },
      ],
    });
    expect(agent.attachments.get('ep1')?.endpoint.ipAddress).toEqual(['fd00:6::2']);
  });

  it('refuses a second group of one network, by what to do, before anything is made', async () => {
    await run('ep1', options('net1', 'default', 'web'), { sandbox: '/run/s' });
    const first = agent.attachments.get('ep1') as Attachment;
    agent.attachments.set('ep1', { ...first, endpoint: { ...first.endpoint, containerName: 'shop' } });
    await expect(
      run('ep2', options('net1', 'default', 'db'), { addresses: ['20.1.1.3/24'], sandbox: '/run/s' }),
    ).rejects.toThrow(
      'the container is on web.net1 already, and can be on one group of network default:net1 only: to have it on db.net1, first docker network disconnect web.net1 shop, or of a service docker service update --network-rm',
    );
    expect([...agent.attachments.keys()]).toEqual(['ep1']);
    await run('ep3', options('net1', 'default', 'db'), { addresses: ['20.1.1.3/24'], sandbox: '/run/t' });
  });

  it('refuses a second network whose subnet overlaps, of another tenant, in IPv4 and in IPv6', async () => {
    await run('ep1', options('dual', 'blue'), {
      addresses: ['20.1.3.2/24', 'fd00:3::2/128'],
      sandbox: '/run/s',
    });
    for (const [subnet, ipv6Subnet, shared] of [
      ['20.1.0.0/16', '', '20.1.0.0/16'],
      ['20.1.3.10-20.1.3.20/24', '', '20.1.3.10-20.1.3.20/24'],
      ['20.7.0.0/16', 'fd00::/16', 'fd00::/16'],
    ] as const) {
      agent.networks.set('red:same', {
        ...(NETWORKS[0] as WatchedNetwork),
        tenantName: 'red',
        networkName: 'same',
        subnet,
        ...(ipv6Subnet ? { ipv6Subnet } : {}),
      });
      await expect(run('ep2', options('same', 'red'), { sandbox: '/run/s' })).rejects.toThrow(
        `the container is on dual/blue already, and can be on one network of subnet ${shared} only: to have it on same/red, first docker network disconnect dual/blue NAME, or of a service docker service update --network-rm`,
      );
    }
    expect([...agent.attachments.keys()]).toEqual(['ep1']);
  });

  it('of an endpoint that is to have no interface attaches nothing, also after a restart', async () => {
    await createNetwork('n1', options('net1'));
    await call('NetworkDriver.CreateEndpoint', {
      NetworkID: 'n1',
      EndpointID: 'ep1',
      Interface: { Address: '20.1.1.2/24' },
      Options: { [NO_INTERFACE]: 'true' },
    });
    start();
    expect(driver.hasNoInterface('ep1')).toBe(true);
    const join = { NetworkID: 'n1', EndpointID: 'ep1', SandboxKey: '/run/s' };
    expect(await call('NetworkDriver.Join', join)).toEqual({ DisableGatewayService: true });
    expect(agent.attachments.size).toBe(0);
    await call('NetworkDriver.DeleteEndpoint', { NetworkID: 'n1', EndpointID: 'ep1' });
    expect(driver.hasNoInterface('ep1')).toBe(false);
  });

  it('of a second network gives no route twice: Docker would fail', async () => {
    const first = await run('ep1', options('range'), { addresses: ['20.1.2.10/24'], sandbox: '/run/s' });
    const second = await run('ep2', options('inner', 'blue'), {
      addresses: ['20.1.4.2/24', 'fd00:4::2/128'],
      sandbox: '/run/s',
    });
    const all = [first, second].flatMap((answer) =>
      (answer.StaticRoutes as { Destination: string }[]).map((r) => r.Destination),
    );
    expect(new Set(all).size).toBe(all.length);
    expect(all).toContain(`${NAMESERVER}/32`);
  });

  it('of a second network with the first IPv6 of the container leads to its next hop', async () => {
    await run('ep1', options('net1'), { sandbox: '/run/s' });
    const { StaticRoutes } = await run('ep2', options('inner', 'blue'), {
      addresses: ['20.1.4.2/24', 'fd00:4::2/128'],
      sandbox: '/run/s',
    });
    expect(StaticRoutes).toEqual([
      { Destination: `${NAMESERVER6}/128`, RouteType: 1, NextHop: '' },
      { Destination: 'fd00:4::/64', RouteType: 0, NextHop: NAMESERVER6 },
    ]);
  });

  it('of another container gives it its own routes', async () => {
    await run('ep1', options('range'), { addresses: ['20.1.2.10/24'] });
    expect((await run('ep2', options('range'), { addresses: ['20.1.2.11/24'] })).StaticRoutes).toHaveLength(
      3,
    );
  });

  it('refuses an endpoint that was not created here', async () => {
    await createNetwork('n1', options('net1'));
    await expect(
      call('NetworkDriver.Join', { NetworkID: 'n1', EndpointID: 'stranger', SandboxKey: '/run/s' }),
    ).rejects.toThrow('endpoint stranger was not created on this host');
  });

  it("passes the agent's refusal on", async () => {
    agent.refuse.attach = 'network with tag 1: another VXLAN device of this host has this VNI already';
    await expect(run('ep1', options('net1'))).rejects.toThrow('another VXLAN device of this host');
  });
});

describe('published ports', () => {
  const PORTS = { 'com.docker.network.portmap': [{ Proto: 6, Port: 80, HostPort: 8080, HostPortEnd: 8080 }] };
  const program = (id: string, of: object = PORTS) =>
    call('NetworkDriver.ProgramExternalConnectivity', { NetworkID: 'n', EndpointID: id, Options: of });
  const published = (id: string): readonly Publication[] | undefined =>
    agent.attachments.get(id)?.publications;

  it('are claimed and led to the container', async () => {
    await run('ep1', options('net1'));
    await program('ep1');
    expect(published('ep1')).toEqual([
      { protocol: 'tcp', hostAddress: '', hostPort: 8080, address: '20.1.1.2', port: 80 },
    ]);
    expect(ports.held.has('ep1')).toBe(true);
  });

  it('are none for a container that publishes nothing', async () => {
    await run('ep1', options('net1'));
    await program('ep1', {});
    expect(published('ep1')).toEqual([]);
  });

  it('that are taken refuse the container, by the port', async () => {
    ports.refuse('cannot publish tcp 0.0.0.0:8080: port 8080 is taken on this host');
    await run('ep1', options('net1'));
    await expect(program('ep1')).rejects.toThrow('port 8080 is taken on this host');
    expect(published('ep1')).toEqual([]);
  });

  it('are free again when the kernel refuses them', async () => {
    await run('ep1', options('net1'));
    agent.refuse.publish = 'no rule set';
    await expect(program('ep1')).rejects.toThrow('no rule set');
    expect(ports.held.size).toBe(0);
  });

  it('are free again when the container stops, and when it is deleted', async () => {
    for (const [id, name] of [
      ['ep1', 'RevokeExternalConnectivity'],
      ['ep2', 'DeleteEndpoint'],
    ] as const) {
      await run(id, options('net1'));
      await program(id);
      await call(`NetworkDriver.${name}`, { NetworkID: 'n', EndpointID: id });
      expect(ports.held.has(id)).toBe(false);
      expect(published(id) ?? []).toEqual([]);
    }
  });

  it('are free again when the agent finds the container gone, of which Docker said nothing', async () => {
    await run('ep1', options('net1'));
    await program('ep1');
    await agent.endpoints.detach('ep1');
    expect(ports.held.has('ep1')).toBe(false);
  });

  it('of a container that has not joined are refused', async () => {
    await expect(program('stranger')).rejects.toThrow('endpoint stranger has not joined on this host');
  });
});

describe('the end of a container', () => {
  it('detaches its endpoint', async () => {
    await run('ep1', options('net1'));
    await call('NetworkDriver.Leave', { NetworkID: 'n', EndpointID: 'ep1' });
    await call('NetworkDriver.DeleteEndpoint', { NetworkID: 'n', EndpointID: 'ep1' });
    expect(agent.asked).toEqual([['detach', 'ep1']]);
  });

  it('may be told twice, and of one that never joined', async () => {
    for (let i = 0; i < 2; i++) {
      await call('NetworkDriver.RevokeExternalConnectivity', { NetworkID: 'n', EndpointID: 'ep1' });
      await call('NetworkDriver.Leave', { NetworkID: 'n', EndpointID: 'ep1' });
      expect(await call('NetworkDriver.DeleteEndpoint', { NetworkID: 'n', EndpointID: 'ep1' })).toEqual({});
    }
  });
});

describe('a restart', () => {
  it('knows the Docker networks of before, and not the deleted ones', async () => {
    await createNetwork('n1', options('dual', 'blue', 'web'));
    await createNetwork('n2', options('net1'));
    await call('NetworkDriver.DeleteNetwork', { NetworkID: 'n2' });
    start();
    expect(driver.target('n1')).toEqual({ tenant: 'blue', network: 'dual', group: 'web' });
    expect(driver.target('n2')).toBeUndefined();
  });

  it('between CreateEndpoint and Join goes on where it was', async () => {
    await createNetwork('n1', options('net1'));
    await call('NetworkDriver.CreateEndpoint', {
      NetworkID: 'n1',
      EndpointID: 'ep1',
      Interface: { Address: '20.1.1.2/24' },
    });
    start();
    await call('NetworkDriver.Join', { NetworkID: 'n1', EndpointID: 'ep1', SandboxKey: '/run/s' });
    expect(agent.attachments.get('ep1')?.endpoint).toMatchObject({
      ipAddress: ['20.1.1.2'],
      macAddress: '02:02:14:01:01:02',
    });
  });

  it('claims the ports of running containers again', async () => {
    await run('ep1', options('net1'));
    await call('NetworkDriver.ProgramExternalConnectivity', {
      EndpointID: 'ep1',
      Options: { 'com.docker.network.portmap': [{ Proto: 6, Port: 80, HostPort: 8080 }] },
    });
    ports = fakePublications();
    start();
    expect(ports.held.get('ep1')).toMatchObject([{ hostPort: 8080 }]);
  });

  it('starts although another process has taken such a port meanwhile', async () => {
    await run('ep1', options('net1'));
    agent.attachments.set('ep1', {
      ...(agent.attachments.get('ep1') as Attachment),
      publications: [{ protocol: 'tcp', hostAddress: '', hostPort: 8080, address: '20.1.1.2', port: 80 }],
    });
    ports.refuse('taken');
    expect(start).not.toThrow();
  });

  it('with a torn state file is refused by its name', () => {
    fs.writeFileSync(path.join(folder, 'docker.json'), '{"networks":[["n1"');
    expect(start).toThrow(/docker\.json: not JSON/);
  });
});

describe('information on an endpoint', () => {
  it('names its host, nothing for a stranger', async () => {
    await run('ep1', options('net1'));
    const info = (id: string) => call('NetworkDriver.EndpointOperInfo', { EndpointID: id });
    expect(await info('ep1')).toEqual({ Value: { 'io.contiv.host': 'node1' } });
    expect(await info('stranger')).toEqual({ Value: {} });
  });
});

it('whose file is lost learns from Docker what its networks stand for, and keeps it', async () => {
  await createNetwork('d1', options('net1'));
  fs.rmSync(path.join(folder, 'docker.json'));
  start();
  expect(driver.target('d1')).toBeUndefined();
  driver.learn('d1', options('net1', 'default', 'web'));
  driver.learn('d1', options('other'));
  driver.learn('d2', {});
  await driver.close();
  start();
  expect(driver.target('d1')).toEqual(options('net1', 'default', 'web'));
  expect(driver.target('d2')).toBeUndefined();
});
