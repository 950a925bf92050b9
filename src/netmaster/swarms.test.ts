import { beforeEach, expect, it, onTestFinished } from 'vitest';
import { closeCluster, openCluster } from '../../test/cluster.ts';
import type { Endpoint } from '../model/endpoint.ts';
import { kindByName } from '../model/kinds.ts';
import type { SwarmService } from '../model/swarmService.ts';
import {
  decideCollection,
  decideEndpoint,
  decideEndpointRemoval,
  decideRelease,
  decideReserve,
  decideSwarmRelease,
} from './endpoints.ts';
import { decideDelete, decideWrite, readObject } from './intent.ts';
import { applySwarmServices, decideSwarm, type Unlisted } from './swarms.ts';

const NETWORK = 'default:n';
const SWARM = 'swarm1';
const place = { tenantName: 'default', networkName: 'n' };

/** Network n (10.1.0.0/29), and what managers and hosts ask for in it. */
async function cluster(ipv6Subnet?: string) {
  const parts = await openCluster();
  onTestFinished(() => closeCluster(parts));
  const { mirror, writer } = parts;
  const kind = kindByName.get('network');
  if (kind === undefined) throw new Error('network');
  const network = readObject(kind, NETWORK, {
    ...place,
    subnet: '10.1.0.0/29',
    ...(ipv6Subnet && { ipv6Subnet }),
  });
  await writer.write(() => decideWrite(kind, NETWORK, network, 'post', mirror));
  const unlisted: Unlisted = new Map();
  const reserve = async (host: string, more: { address?: string; swarm?: string }) =>
    (await writer.write(() => decideReserve(mirror, { ...place, family: 4, host, ...more }))).answer.address;
  return {
    services: () => [...mirror.entries<SwarmService>('swarmService')].map(([, { object }]) => object),
    serve: (services: Omit<SwarmService, 'swarm'>[], id = SWARM) =>
      applySwarmServices(id, services, { mirror, writer }),
    remove: () => writer.write(() => decideDelete(kind, NETWORK, mirror)),
    revision: () => mirror.revision,
    taken: () => Object.fromEntries([...mirror.addresses(NETWORK)].map(([a, { object }]) => [a, object])),
    allocate: (address?: string, swarm = SWARM) => reserve('m', { swarm, ...(address && { address }) }),
    free: (address: string) => writer.write(() => decideSwarmRelease(mirror, NETWORK, address)),
    onHost: (host: string, address?: string) => reserve(host, address === undefined ? {} : { address }),
    offHost: (host: string, address: string) =>
      writer.write(() => decideRelease(mirror, NETWORK, address, host)),
    attach: (id: string, homingHost: string, address: string) => {
      const endpoint: Endpoint = {
        ...place,
        endpointID: id,
        homingHost,
        ipAddress: [address],
        macAddress: '02:02:00:00:00:01',
        status: 'running',
      };
      return writer.write(() => decideEndpoint(mirror, endpoint));
    },
    detach: (id: string) => writer.write(() => decideEndpointRemoval(mirror, id)),
    collect: async (seen: Map<string, { revision: number; at: number }>, now: number) =>
      (await writer.write(() => decideCollection(mirror, seen, 1000, now))).answer,
    tell: async (addresses: string[], now: number, id = SWARM) =>
      (
        await writer.write(() => {
          const has = { addresses: addresses.map((address) => ({ ...place, address })) };
          return decideSwarm(mirror, id, has, unlisted, 1000, now);
        })
      ).answer,
  };
}

let c: Awaited<ReturnType<typeof cluster>>;
beforeEach(async () => {
  c = await cluster();
});

it('what Swarm keeps is nobody else’s, and not collected, until it is given back', async () => {
  expect(await c.allocate()).toBe('10.1.0.2');
  await expect(c.allocate('10.1.0.3')).resolves.toBe('10.1.0.3');
  expect(await c.onHost('node1')).toBe('10.1.0.4');
  await c.offHost('node1', '10.1.0.4');
  const seen = new Map();
  expect([await c.collect(seen, 0), await c.collect(seen, 9999)]).toEqual([0, 0]);
  await c.free('10.1.0.2');
  await c.free('10.1.0.3');
  await c.free('10.1.0.3');
  expect(c.taken()).toEqual({});
});

it('another manager that leads asks for all again, and nothing changes', async () => {
  await c.allocate();
  await c.onHost('node1', '10.1.0.2');
  await c.attach('e1', 'node1', '10.1.0.2');
  const before = c.taken();
  expect(await c.allocate('10.1.0.2')).toBe('10.1.0.2');
  expect(c.taken()).toEqual(before);
});

it('it stays Swarm’s while a task has it on one host, then on another', async () => {
  await c.allocate();
  for (const host of ['node1', 'node2']) {
    expect(await c.onHost(host, '10.1.0.2')).toBe('10.1.0.2');
    await c.attach(`on ${host}`, host, '10.1.0.2');
    await expect(c.onHost('node3', '10.1.0.2')).rejects.toThrow('10.1.0.2 is in use');
    await c.detach(`on ${host}`);
    await c.offHost(host, '10.1.0.2');
    expect(c.taken()).toEqual({ '10.1.0.2': { swarm: SWARM } });
  }
});

it('given back before its host has done with it, it is free after both', async () => {
  await c.allocate();
  await c.onHost('node1', '10.1.0.2');
  await c.attach('e1', 'node1', '10.1.0.2');
  await c.free('10.1.0.2');
  expect(c.taken()).toEqual({ '10.1.0.2': { host: 'node1', endpoint: 'e1' } });
  await c.detach('e1');
  await c.offHost('node1', '10.1.0.2');
  expect(c.taken()).toEqual({});
});

it('given back when its task is no more, it is free, also where its host never says so; what that says late changes nothing', async () => {
  await c.allocate();
  await c.onHost('node1', '10.1.0.2');
  await c.free('10.1.0.2');
  expect(c.taken()).toEqual({});
  await c.allocate('10.1.0.2');
  await c.offHost('node1', '10.1.0.2');
  expect(c.taken()).toEqual({ '10.1.0.2': { swarm: SWARM } });
});

it('what a Swarm has no more, by its leader, is free after the grace period; another Swarm’s is not', async () => {
  for (const swarm of [SWARM, SWARM, 'swarm2']) await c.allocate(undefined, swarm);
  expect(await c.tell(['10.1.0.2'], 0)).toBe(1);
  expect(await c.tell(['10.1.0.2', '10.1.0.3'], 900)).toBe(0);
  expect(await c.tell(['10.1.0.2'], 1500)).toBe(1);
  expect(await c.tell(['10.1.0.2'], 2501)).toBe(0);
  expect(c.taken()).toEqual({ '10.1.0.2': { swarm: SWARM }, '10.1.0.4': { swarm: 'swarm2' } });
});

it('what was reserved before its Swarm was known is the Swarm’s that has it', async () => {
  await c.allocate(undefined, '');
  await c.allocate(undefined, '');
  await c.tell(['10.1.0.2'], 0);
  await c.tell(['10.1.0.2'], 9999);
  expect(c.taken()).toMatchObject({ '10.1.0.2': { swarm: SWARM }, '10.1.0.3': { swarm: '' } });
});

const FRONT = { ...place, serviceID: 's1', swarmNetworkID: 'n1', serviceName: 'front' };

it('services are as their Swarm has them; what is so already is not written, and another Swarm’s stay', async () => {
  const [virtualAddress] = [await c.allocate(), await c.allocate(undefined, 'swarm2')];
  const front = { ...FRONT, virtualAddress, aliases: ['shop'] };
  await c.serve([front, { ...FRONT, serviceID: 's2' }]);
  await c.serve([{ ...FRONT, serviceID: 's3' }], 'swarm2');
  expect(c.services()).toEqual([
    { ...front, swarm: SWARM },
    { ...FRONT, serviceID: 's2', swarm: SWARM },
    { ...FRONT, serviceID: 's3', swarm: 'swarm2' },
  ]);
  const before = c.revision();
  await c.serve([front, { ...FRONT, serviceID: 's2' }]);
  expect(c.revision()).toBe(before);
  await c.serve([{ ...FRONT, aliases: ['other'] }]);
  expect(c.services()).toEqual([
    { ...FRONT, aliases: ['other'], swarm: SWARM },
    { ...FRONT, serviceID: 's3', swarm: 'swarm2' },
  ]);
});

it('what is not declared, or has an address that is not its Swarm’s, is left out, and the others are there', async () => {
  const [own, foreign] = [await c.allocate(), await c.allocate(undefined, 'swarm2')];
  await c.serve([
    { ...FRONT, networkName: 'no' },
    { ...FRONT, serviceID: 's2', groupName: 'no' },
    { ...FRONT, serviceID: 's3', virtualAddress: foreign },
    { ...FRONT, serviceID: 's4', virtualAddress: '10.1.0.5' },
    { ...FRONT, serviceID: 's5', virtualAddress: own },
  ]);
  expect(c.services().map((s) => s.serviceID)).toEqual(['s5']);
});

it('a service whose tasks have IPv6 has one address of it more while it lives: as long as it has the other, and nobody else’s', async () => {
  const six = await cluster('fd00:1::/64');
  const [virtualAddress, other] = [await six.allocate(), await six.allocate()];
  const front = { ...FRONT, virtualAddress, ipv6: true };
  const back = { ...FRONT, serviceID: 's2', virtualAddress: other, ipv6: true };
  const given = () => six.services().map((s) => s.ipv6VirtualAddress);
  await six.serve([front, { ...back, ipv6: false }]);
  expect(given()).toEqual(['fd00:1::2', undefined]);
  expect(six.taken()['fd00:1::2']).toEqual({ service: 's1:n1' });
  // Another change of it, and another one who gets one.
  await six.serve([{ ...front, aliases: ['shop'] }, back]);
  expect(given()).toEqual(['fd00:1::2', 'fd00:1::3']);
  await expect(six.attach('e', 'h', 'fd00:1::2')).rejects.toThrow(
    "address fd00:1::2 belongs to service front of Docker's Swarm",
  );
  // Names are answered with tasks from now on: it has neither.
  const { virtualAddress: _, ...dnsrr } = front;
  await six.serve([dnsrr, back]);
  expect(given()).toEqual([undefined, 'fd00:1::3']);
  expect(Object.keys(six.taken()).filter((a) => a.includes(':'))).toEqual(['fd00:1::3']);
  await six.serve([]);
  expect(Object.keys(six.taken()).filter((a) => a.includes(':'))).toEqual([]);
});

it('where no address of IPv6 is free, or the network has none, the service is there without', async () => {
  const small = await cluster('fd00:1::/126');
  for (const n of ['1', '2', '3']) await small.attach(`e${n}`, 'h', `fd00:1::${n}`);
  for (const of of [small, c]) {
    await of.serve([{ ...FRONT, virtualAddress: await of.allocate(), ipv6: true }]);
    expect(of.services().length).toBe(1);
    expect(of.services()[0]).not.toHaveProperty('ipv6VirtualAddress');
  }
});

it('a network that a service of Swarm’s is in stays', async () => {
  await c.serve([FRONT]);
  await expect(c.remove()).rejects.toThrow('swarmService');
});
