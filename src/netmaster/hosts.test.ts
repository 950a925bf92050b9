import { expect, it, onTestFinished } from 'vitest';
import { closeCluster, openCluster } from '../../test/cluster.ts';
import type { Host } from '../model/host.ts';
import { type Hosts, openHosts } from './hosts.ts';
import type { Mirror } from './mirror.ts';

const NODE1: Host = { name: 'node1', underlay: '192.168.1.1', version: '2.0.0' };

interface Opened {
  readonly hosts: Hosts;
  readonly mirror: Mirror;
  /** Of the store, in the order in which they were granted. */
  readonly leases: string[];
  revoke(lease: string): Promise<void>;
}

async function open(): Promise<Opened> {
  const parts = await openCluster();
  onTestFinished(() => closeCluster(parts));
  const { store, mirror } = parts;
  const leases: string[] = [];
  const counting = {
    renew: store.renew,
    async grant(ttl: number) {
      const lease = await store.grant(ttl);
      leases.push(lease);
      return lease;
    },
  };
  return { hosts: openHosts({ ...parts, store: counting }), mirror, leases, revoke: store.revoke };
}

it('heartbeats of a host that overlap get one lease', async () => {
  const { hosts, mirror, leases } = await open();
  await Promise.all([NODE1, NODE1, NODE1, NODE1].map(hosts.beat));
  expect(leases).toHaveLength(1);
  expect(mirror.list('host')).toEqual([NODE1]);
});

it('so do those that come when the lease has just ended', async () => {
  const { hosts, mirror, leases, revoke } = await open();
  await hosts.beat(NODE1);
  await revoke(leases[0] as string);
  await Promise.all([NODE1, NODE1, NODE1].map(hosts.beat));
  expect(leases).toHaveLength(2);
  expect(mirror.list('host')).toEqual([NODE1]);
});

it('a heartbeat writes only what has changed, on the same lease', async () => {
  const { hosts, mirror, leases } = await open();
  await hosts.beat(NODE1);
  const { revision } = mirror;
  await hosts.beat(NODE1);
  expect(mirror.revision).toBe(revision);
  const updated = { ...NODE1, version: '2.0.1' };
  await hosts.beat(updated);
  expect(mirror.list('host')).toEqual([updated]);
  expect(leases).toHaveLength(1);
});

it('another host of the name is refused while the first one lives', async () => {
  const { hosts, mirror, leases, revoke } = await open();
  await hosts.beat(NODE1);
  const moved = { ...NODE1, underlay: '192.168.1.9' };
  await expect(hosts.beat(moved)).rejects.toThrow('host node1: is alive with underlay 192.168.1.1');
  await hosts.beat(NODE1);
  expect(mirror.list('host')).toEqual([NODE1]);
  await revoke(leases[0] as string);
  await hosts.beat(moved);
  expect(mirror.list('host')).toEqual([moved]);
});

it('one and the same agent may say that its host has another address now, and another agent of the name may not', async () => {
  const { hosts, mirror, leases } = await open();
  const here = { ...NODE1, run: 'a' };
  const moved = { ...here, underlay: '192.168.1.9' };
  await hosts.beat(here);
  await hosts.beat(moved);
  expect(mirror.list('host')).toEqual([moved]);
  expect(leases).toHaveLength(1);
  for (const run of ['b', undefined])
    await expect(hosts.beat({ ...NODE1, ...(run && { run }) })).rejects.toThrow('is alive with underlay');
  // Its old address is free for another host at once, its new one is not.
  await hosts.beat({ ...NODE1, name: 'node2', run: 'b' });
  await expect(hosts.beat({ ...moved, name: 'node3', run: 'c' })).rejects.toThrow("is host node1's already");
});

it('of two hosts that come at once with one underlay only one is taken, and the other when that has gone', async () => {
  const { hosts, mirror, leases, revoke } = await open();
  const node2 = { ...NODE1, name: 'node2' };
  const outcomes = await Promise.allSettled([NODE1, node2].map(hosts.beat));
  expect(outcomes).toMatchObject([
    { status: 'fulfilled' },
    { reason: { message: "host node2: underlay 192.168.1.1 is host node1's already" } },
  ]);
  expect(mirror.list('host')).toEqual([NODE1]);
  await revoke(leases[0] as string);
  await hosts.beat(node2);
  expect(mirror.list('host')).toEqual([node2]);
});
