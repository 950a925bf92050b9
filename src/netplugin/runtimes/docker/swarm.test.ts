import { pino } from 'pino';
import { expect, it, onTestFinished } from 'vitest';
import type { SwarmReport } from '../../../protocol/messages.ts';
import { readTarget } from './driver.ts';
import type { SwarmService, SwarmState, SwarmTask } from './engine.ts';
import { followSwarm, SWARM_DRIVER } from './swarm.ts';

/** Docker as it answers a manager's agent. */
function manager({ leads = true } = {}) {
  const refused: string[] = [];
  const told: { id: string; has: Omit<SwarmReport, 'host'> }[] = [];
  const state = {
    swarm: { NodeID: 'm', ControlAvailable: true, Cluster: { ID: 'w1' }, Managers: 1 } as SwarmState,
    services: [] as SwarmService[],
    tasks: [] as SwarmTask[],
    looks: 0,
    /** What netmaster keeps still of what the Swarm has no more. */
    missed: 0,
  };
  const networks = [
    {
      Driver: SWARM_DRIVER,
      Id: 'n1',
      Name: 'web_shop',
      Options: { tenant: 'default', network: 'shop', group: 'web' },
    },
    {
      Driver: SWARM_DRIVER,
      Id: 'n2',
      Name: 'shop__default',
      EnableIPv6: true,
      Options: { tenant: 'default', network: 'shop', group: '' },
    },
    { Driver: SWARM_DRIVER, Id: 'n3', Options: {} },
  ];
  const swarm = followSwarm({
    docker: {
      info: async () => ({ Swarm: state.swarm }),
      getNode: async () => ({ ManagerStatus: { Leader: leads } }),
      listNetworks: async () => networks as never,
      listServices: async () => {
        state.looks++;
        return state.services;
      },
      listTasks: async () => state.tasks,
    },
    target: readTarget,
    mostOf: (a, b) => (a.network === b.network ? `one group of network ${a.network}` : undefined),
    refused: (line) => refused.push(line),
    offer: async () => false,
    tell: async (id, has) => {
      told.push({ id, has });
      return state.missed;
    },
    log: pino({ level: 'silent' }),
  });
  onTestFinished(swarm.close);
  const until = async (holds: () => boolean) => {
    while (!holds()) await new Promise((done) => setTimeout(done, 10));
  };
  /** What it tells after a change. */
  const tells = async () => {
    const before = told.length;
    swarm.changed();
    await until(() => told.length > before);
    return told.at(-1);
  };
  return { state, told, refused, tells, until, swarm };
}

const service = (networks: object[], virtual: object[], Mode = 'vip'): SwarmService => ({
  ID: 's1',
  Spec: { Name: 'front', EndpointSpec: { Mode }, TaskTemplate: { Networks: networks as never } },
  Endpoint: { VirtualIPs: virtual as never },
});
const TOLD = { serviceID: 's1', serviceName: 'front', tenantName: 'default', networkName: 'shop' };

it('tells of each service in each network of ours its address and aliases there', async () => {
  const { state, tells } = manager();
  state.services = [
    service(
      [{ Target: 'n1', Aliases: ['shopfront'] }, { Target: 'n2' }, { Target: 'n3' }, { Target: 'foreign' }],
      [
        { NetworkID: 'n1', Addr: '20.1.1.3/24' },
        { NetworkID: 'n2', Addr: '20.1.1.4/24' },
        { NetworkID: 'foreign', Addr: '10.0.0.2/24' },
      ],
    ),
  ];
  state.tasks = [
    {
      Status: { State: 'running' },
      NetworksAttachments: [{ Network: { ID: 'n1' }, Addresses: ['20.1.1.9/24'] }],
    },
    {
      Status: { State: 'shutdown' },
      NetworksAttachments: [{ Network: { ID: 'n1' }, Addresses: ['20.1.1.8/24'] }],
    },
  ];
  const place = { tenantName: 'default', networkName: 'shop' };
  expect(await tells()).toEqual({
    id: 'w1',
    has: {
      addresses: ['20.1.1.9', '20.1.1.3', '20.1.1.4'].map((address) => ({ ...place, address })),
      services: [
        {
          ...TOLD,
          swarmNetworkID: 'n1',
          groupName: 'web',
          virtualAddress: '20.1.1.3',
          aliases: ['shopfront'],
        },
        // Its tasks have IPv6 addresses there.
        { ...TOLD, swarmNetworkID: 'n2', virtualAddress: '20.1.1.4', ipv6: true },
      ],
    },
  });
  state.services = [service([{ Target: 'n1' }], [], 'dnsrr')];
  expect((await tells())?.has.services).toEqual([{ ...TOLD, swarmNetworkID: 'n1', groupName: 'web' }]);
});

it('looks again soon where an address is still to come, and tells nothing of that service before', async () => {
  const { state, told, tells, until } = manager();
  state.services = [service([{ Target: 'n1' }], [])];
  expect((await tells())?.has.services).toEqual([]);
  state.services = [service([{ Target: 'n1' }], [{ NetworkID: 'n1', Addr: '20.1.1.3/24' }])];
  await until(() => told.at(-1)?.has.services?.length === 1);
});

it('says once of a service on two groups of one network that its tasks cannot start, and again where that comes back', async () => {
  const { state, refused, tells } = manager();
  const line =
    'service front is on web_shop and shop__default, and its tasks can be on one group of network shop only, so none starts: leave one out, docker service update --network-rm shop__default front';
  const both = [service([{ Target: 'n1' }, { Target: 'foreign' }, { Target: 'n2' }], [])];
  state.services = both;
  await tells();
  await tells();
  expect(refused).toEqual([line]);
  state.services = [service([{ Target: 'n1' }, { Target: 'foreign' }], [])];
  await tells();
  state.services = both;
  await tells();
  expect(refused).toEqual([line, line]);
});

it('a manager that does not lead tells nothing', async () => {
  const { told, until, swarm } = manager({ leads: false });
  await until(() => swarm.id === 'w1');
  swarm.changed();
  await new Promise((done) => setTimeout(done, 100));
  expect(told).toEqual([]);
});

it('of a Swarm that ends with its only manager nothing is left, whatever comes next, and then no more is told', async () => {
  const { state, told, tells, swarm } = manager();
  await tells();
  state.swarm = { LocalNodeState: 'inactive' };
  state.missed = 1;
  const nothing = { id: 'w1', has: { addresses: [], services: [] } };
  expect(await tells()).toEqual(nothing);
  state.missed = 0;
  expect(await tells()).toEqual(nothing);
  const before = told.length;
  swarm.changed();
  await swarm.idle();
  expect(told.length).toBe(before);
});
