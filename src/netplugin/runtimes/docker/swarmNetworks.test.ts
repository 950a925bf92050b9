import { pino } from 'pino';
import { expect, it } from 'vitest';
import { openView } from '../../intent/view.ts';
import type { NetworkInspectInfo } from './engine.ts';
import { offerToSwarm, swarmNetworkName } from './swarmNetworks.ts';

/** A manager's list of networks, that changes as it is told; those `used` are kept. */
function swarm(declared: readonly string[], used: readonly string[] = []) {
  const networks: NetworkInspectInfo[] = [];
  const told: string[] = [];
  let enabled = true;
  const refused = new Set<string>();
  const docker = {
    listPlugins: async () => [{ Name: 'contiv:latest', Enabled: enabled }],
    createNetwork: async (options: object) => {
      const { Name } = options as unknown as NetworkInspectInfo;
      networks.push({ Id: `id of ${Name}`, ...options } as unknown as NetworkInspectInfo);
      return { id: `id of ${Name}` };
    },
    getNetwork: (id: string) =>
      ({
        async remove() {
          if (used.some((name) => id === `id of ${name}`)) throw new Error('in use by service front');
          networks.splice(
            networks.findIndex((n) => n.Id === id),
            1,
          );
        },
      }) as never,
  };
  /** `net1`, `blue:net1`, `web.net1`. */
  const viewOf = (names: readonly string[]) =>
    openView(
      names.map((text) => {
        const [name = '', tenantName = 'default'] = text.split(':').reverse();
        const [networkName = '', groupName] = name.split('.').reverse();
        const kind = groupName === undefined ? 'network' : 'endpointGroup';
        const subnet = networkName === 'alone' ? {} : { subnet: '20.1.1.0/24' };
        const six = ['six', 'alone'].includes(networkName) ? { ipv6Subnet: 'fd00::/64' } : {};
        const network = { ...subnet, vni: 1, ...six };
        const object = { tenantName, networkName, ...(groupName ? { groupName } : network) };
        return { kind, key: `${tenantName}:${groupName ?? networkName}`, object };
      }),
    );
  let view = viewOf(declared);
  return {
    networks,
    told,
    disable: () => {
      enabled = false;
    },
    declare: (...names: string[]) => {
      view = viewOf(names);
    },
    byHand: (Name: string, network: string, group = '') =>
      void docker.createNetwork({
        Name,
        Driver: 'contiv:latest',
        Options: { tenant: 'default', network, group },
      }),
    async offer(live = true) {
      const tell = (line: string): void => void told.push(line);
      const log = pino({ level: 'silent' });
      const how = { docker, view, vlans: false, live, refused, tell, notOffered: tell, log };
      await offerToSwarm([...networks], how);
      return networks.map((n) => n.Name).sort();
    },
  };
}

it('each network and group has a name that Swarm takes, which no network of a host has', () => {
  const name = (tenant: string, network: string, group = '') => swarmNetworkName({ tenant, network, group });
  const names = [
    name('default', 'shop'),
    name('default', 'shop', 'web'),
    name('blue', 'shop'),
    name('blue', 'shop', 'web'),
  ];
  expect(names).toEqual(['shop__default', 'web_shop', 'shop__blue', 'web_shop__blue']);
  // moby, swarmkit: manager/controlapi/common.go
  for (const each of names) expect(each).toMatch(/^[a-zA-Z0-9](?:[-_]*[A-Za-z0-9]+)*$/);
});

it('what has no IPv4 is not there, which is told once, and goes where it is made by hand', async () => {
  const { offer, byHand, declare, told } = swarm(['net1', 'alone', 'web.alone']);
  const why =
    "it has no IPv4 subnet, and Docker's Swarm gives each of its networks IPv4: make it anew with netctl net create --subnet=... --subnetv6=..., or start containers on it with docker run";
  const notOffered = `network default:alone is not offered to Docker's Swarm: ${why}`;
  expect(await offer()).toEqual(['net1__default']);
  byHand('mine', 'alone');
  expect(await offer()).toEqual(['net1__default']);
  const removed = `mine is removed from Docker's Swarm: network default:alone: ${why}`;
  expect(told).toEqual([notOffered, removed]);
  declare('net1');
  await offer();
  declare('net1', 'alone');
  await offer();
  expect(told).toEqual([notOffered, removed, notOffered]);
});

it('what is declared is there, once, and goes when it is declared no more', async () => {
  const { offer, declare, networks } = swarm(['net1', 'web.net1', 'blue:net1']);
  const all = ['net1__blue', 'net1__default', 'web_net1'];
  expect(await offer()).toEqual(all);
  expect(networks.find((n) => n.Name === 'web_net1')?.Options).toEqual({
    tenant: 'default',
    network: 'net1',
    group: 'web',
  });
  expect(await offer()).toEqual(all);
  declare('net1');
  expect(await offer(false)).toEqual(all);
  expect(await offer()).toEqual(['net1__default']);
});

it('a network with IPv6 has it in Swarm too, and so has a group in it', async () => {
  const { offer, networks } = swarm(['net1', 'six', 'web.six']);
  await offer();
  const having = networks.filter((n) => n.EnableIPv6).map((n) => n.Name);
  expect(having.sort()).toEqual(['six__default', 'web_six']);
});

it('what services use stays until they do no more, and is not made anew beside it', async () => {
  const used = ['web_net1'];
  const { offer, declare } = swarm(['net1', 'web.net1'], used);
  await offer();
  declare('net1');
  expect(await offer()).toEqual(['net1__default', 'web_net1']);
  used.pop();
  expect(await offer()).toEqual(['net1__default']);
});

it('what somebody made stays while it stands for something, and is told of when it goes', async () => {
  const { offer, byHand, declare, told } = swarm(['net1', 'web.net1']);
  byHand('own', 'net1', 'web');
  byHand('wrong', 'net1', 'no');
  expect(await offer()).toEqual(['net1__default', 'own', 'web_net1']);
  expect(told).toEqual([
    "wrong is removed from Docker's Swarm: group default:no does not exist in network net1: create it with netctl group create -t default net1 no",
  ]);
  declare();
  expect(await offer()).toEqual([]);
});

it('nothing is made or removed where the plugin is not enabled', async () => {
  const { offer, disable, declare } = swarm(['net1']);
  await offer();
  disable();
  declare('net2');
  expect(await offer()).toEqual(['net1__default']);
});
