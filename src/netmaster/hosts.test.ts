import { expect, it, onTestFinished } from 'vitest';
import { closeCluster, openCluster } from '../../test/cluster.ts';
import type { Host } from '../model/host.ts';
import { type Hosts, openHosts } from './hosts.ts';
import { type Mirror, openMirror, storeKey } from './mirror.ts';
import { openWriter } from './writer.ts';

const NODE1: Host = { name: 'node1', underlay: '192.168.1.1', version: '2.0.0' };

interface Opened {
  readonly hosts: Hosts;
  /** Of another netmaster on the same store. */
  readonly others: Hosts;
  readonly mirror: Mirror;
  /** Of the store: those that nobody has revoked, in the order in which they were granted. */
  readonly leases: string[];
  /** How many were granted. */
  granted(): number;
  revoke(lease: string): Promise<void>;
  put(host: Host, lease: string): Promise<void>;
}

async function open(): Promise<Opened> {
  const parts = await openCluster();
  onTestFinished(() => closeCluster(parts));
  const { store, mirror } = parts;
  const otherMirror = await openMirror(store);
  onTestFinished(() => otherMirror.close());
  const leases: string[] = [];
  let count = 0;
  const counting = {
    renew: store.renew,
    async grant(ttl: number) {
      const lease = await store.grant(ttl);
      leases.push(lease);
      count++;
      return lease;
    },
    async revoke(lease: string) {
      await store.revoke(lease);
      leases.splice(leases.indexOf(lease), 1);
      const { revision } = await store.list('none');
      await Promise.all([mirror, otherMirror].map(({ seen }) => seen(revision)));
    },
  };
  return {
    hosts: openHosts({ ...parts, store: counting }),
    others: openHosts({ store: counting, mirror: otherMirror, writer: openWriter(store, otherMirror) }),
    mirror,
    leases,
    granted: () => count,
    revoke: counting.revoke,
    async put(host, lease) {
      const key = storeKey('host', host.name);
      const outcome = await store.transact([], [{ key, value: host, lease }]);
      if (outcome.ok) await mirror.seen(outcome.revision);
    },
  };
}

it('heartbeats of a host that overlap leave one lease, also those to different netmasters', async () => {
  const { hosts, others, mirror, leases } = await open();
  await Promise.all([hosts, others, hosts, others].map(({ beat }) => beat(NODE1)));
  expect(leases).toHaveLength(1);
  expect(mirror.list('host')).toEqual([NODE1]);
});

it('so do those that come when the lease has just ended', async () => {
  const { hosts, others, mirror, leases, revoke } = await open();
  await hosts.beat(NODE1);
  await revoke(leases[0] as string);
  await Promise.all([hosts, others, hosts].map(({ beat }) => beat(NODE1)));
  expect(leases).toHaveLength(1);
  expect(mirror.stored('host', 'node1')?.lease).toBe(leases[0]);
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

it('heartbeats by turns to two netmasters keep one lease, which the first one granted', async () => {
  const { hosts, others, mirror, leases, granted } = await open();
  for (let turn = 0; turn < 6; turn++) await (turn % 2 === 0 ? hosts : others).beat(NODE1);
  expect(granted()).toBe(1);
  expect(mirror.stored('host', 'node1')?.lease).toBe(leases[0]);
});

it('a host whose address was kept by nobody, of an earlier version, has it kept with its next heartbeat', async () => {
  const { hosts, mirror, leases, put, revoke } = await open();
  await hosts.beat({ ...NODE1, name: 'node0', underlay: '192.168.1.200' });
  await put(NODE1, leases[0] as string);
  expect(mirror.get('underlay', NODE1.underlay)).toBeUndefined();
  await hosts.beat(NODE1);
  expect(mirror.get('underlay', NODE1.underlay)).toEqual({ host: 'node1' });
  await revoke(leases[0] as string);
  await expect.poll(() => mirror.list('underlay')).toEqual([]);
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

it('of two hosts that come at once with one underlay only one is taken, at whichever netmasters, and the other when that has gone', async () => {
  const { hosts, others, mirror, leases, revoke } = await open();
  const node2 = { ...NODE1, name: 'node2' };
  const outcomes = await Promise.allSettled([hosts.beat(NODE1), others.beat(node2)]);
  expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  const [taken, refused] = outcomes[0]?.status === 'fulfilled' ? [NODE1, node2] : [node2, NODE1];
  expect(outcomes.find(({ status }) => status === 'rejected')).toMatchObject({
    reason: { message: `host ${refused.name}: underlay 192.168.1.1 is host ${taken.name}'s already` },
  });
  expect(mirror.list('host')).toEqual([taken]);
  expect(leases).toHaveLength(1);
  await revoke(leases[0] as string);
  await hosts.beat(refused);
  expect(mirror.list('host')).toEqual([refused]);
});

it('a host whose key is another one’s is refused, in one line, also while that one is away', async () => {
  const { hosts, mirror, leases, revoke } = await open();
  const keys = [{ epoch: 1, key: `${'A'.repeat(43)}=` }];
  await hosts.beat({ ...NODE1, keys });
  const copied = { name: 'node2', underlay: '192.168.1.2', keys };
  await expect(hosts.beat(copied)).rejects.toThrow(
    /^host node2: its WireGuard key is host node1's already.* needs new ones/,
  );
  expect(mirror.get('host', 'node2')).toBeUndefined();
  await hosts.beat({ ...NODE1, keys });
  await revoke(leases[0] as string);
  await expect(hosts.beat(copied)).rejects.toThrow("is host node1's already");
  await hosts.beat({ ...NODE1, keys });
});
