import fc from 'fast-check';
import { expect, it, onTestFinished } from 'vitest';
import { closeCluster, openCluster } from '../../test/cluster.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { Kind } from '../model/kind.ts';
import { kindByName } from '../model/kinds.ts';
import { trackAcknowledgements } from './acknowledgements.ts';
import { decideForgetting } from './endings.ts';
import { decideEndpoint, decideEndpointRemoval, decideRelease, decideReserve } from './endpoints.ts';
import { decideWrite, readObject, remove } from './intent.ts';
import { openMirror, storeKey } from './mirror.ts';
import { openWriter } from './writer.ts';

/** Network n (10.1.0.0/29: 10.1.0.1 to 10.1.0.6) with groups a and b, of hosts that have applied all of it. */
async function cluster(...hosts: string[]) {
  const parts = await openCluster();
  onTestFinished(() => closeCluster(parts));
  const { store, mirror, writer } = parts;
  const acknowledgements = trackAcknowledgements(mirror);
  const create = async (kindName: string, key: string, object: Record<string, unknown>) => {
    const kind = kindByName.get(kindName);
    if (kind === undefined) throw new Error(kindName);
    const full = readObject(kind, key, { tenantName: 'default', ...object });
    return (await writer.write(() => decideWrite(kind, key, full, 'post', mirror))).answer;
  };
  const drop = async (kindName: string, key: string) => {
    const kind = kindByName.get(kindName);
    if (kind !== undefined) await remove(kind, key, writer);
  };
  const live = (name: string) =>
    store.transact([], [{ key: storeKey('host', name), value: { name, underlay: name } }]);
  const die = (name: string) => store.transact([], [{ key: storeKey('host', name), value: undefined }]);
  for (const name of hosts) await live(name);
  await create('network', 'default:n', { networkName: 'n', subnet: '10.1.0.0/29' });
  for (const groupName of ['a', 'b'])
    await create('endpointGroup', `default:${groupName}`, { groupName, networkName: 'n' });
  const settle = async (...names: string[]) => {
    await mirror.seen((await store.list('/none')).revision);
    for (const name of names) acknowledgements.applied(name, mirror.revision);
  };
  await settle(...hosts);

  const place = (host: string, groupName: string | undefined) => ({
    tenantName: 'default',
    networkName: 'n',
    ...(groupName && { groupName }),
    host,
  });
  return {
    ...parts,
    create,
    drop,
    live,
    die,
    settle,
    reserve: async (host: string, group?: string, address?: string) =>
      (
        await writer.write(() =>
          decideReserve(mirror, { ...place(host, group), family: 4, ...(address && { address }) }),
        )
      ).answer.address,
    attach: async (id: string, host: string, address: string, group?: string) => {
      const { host: homingHost, ...where } = place(host, group);
      const endpoint: Endpoint = {
        ...where,
        homingHost,
        endpointID: id,
        ipAddress: [address],
        macAddress: '02:02:0a:01:00:02',
        status: 'running',
      };
      await writer.write(() => decideEndpoint(mirror, endpoint));
    },
    detach: async (id: string, host: string, address: string) => {
      await writer.write(() => decideEndpointRemoval(mirror, id));
      await writer.write(() => decideRelease(mirror, 'default:n', address, host));
    },
  };
}

/** 10.1.0.2 was of group a on node1, and node2 has not heard that it is no more. */
async function ended() {
  const c = await cluster('node1', 'node2');
  expect(await c.reserve('node1', 'a', '10.1.0.2')).toBe('10.1.0.2');
  await c.attach('old', 'node1', '10.1.0.2', 'a');
  await c.attach('victim', 'node2', '10.1.0.6');
  await c.settle('node1', 'node2');
  await c.detach('old', 'node1', '10.1.0.2');
  await c.settle('node1');
  return c;
}

it('an address is in no other group, and nowhere else, while a host has not applied that it ended; then it is, at once', async () => {
  const c = await ended();
  await expect(c.reserve('node1', 'b', '10.1.0.2')).rejects.toMatchObject({
    status: 423,
    message:
      "network default:n: address 10.1.0.2 was group default:a's, and node2 may still go by that, having not applied its end: try again, or choose another",
  });
  await expect(c.reserve('node2', 'a', '10.1.0.2')).rejects.toThrow('node2 may still go by that');
  await expect(c.reserve('node1', undefined, '10.1.0.2')).rejects.toThrow('node2 may still go by that');
  await c.settle('node2');
  expect(await c.reserve('node1', 'b', '10.1.0.2')).toBe('10.1.0.2');
  expect((await c.store.list(storeKey('ended', ''))).entries).toEqual([]);
});

it('a container that is started anew where it was, in its group, has its address again whoever is late', async () => {
  const c = await ended();
  expect(await c.reserve('node1', 'a', '10.1.0.2')).toBe('10.1.0.2');
});

it('it is passed over where any will do, and said where there is no other', async () => {
  const c = await ended();
  const others = [
    await c.reserve('node1', 'b'),
    await c.reserve('node1', 'b'),
    await c.reserve('node1', 'b'),
  ];
  others.push(await c.reserve('node1', 'b'));
  expect(others.sort()).toEqual(['10.1.0.1', '10.1.0.3', '10.1.0.4', '10.1.0.5']);
  await expect(c.reserve('node1', 'b')).rejects.toThrow(
    /address 10\.1\.0\.2 was group default:a's, and node2/,
  );
  expect(await c.reserve('node1', 'a')).toBe('10.1.0.2');
});

it('a host that is dead counts while it has endpoints: it may go on with what it knew', async () => {
  const c = await ended();
  await c.die('node2');
  await c.settle();
  await expect(c.reserve('node1', 'b', '10.1.0.2')).rejects.toThrow(
    'choose another, or where node2 is gone for good remove its endpoints (netctl endpoint rm)',
  );
  // It judges a member of the same group as it should.
  expect(await c.reserve('node1', 'a', '10.1.0.2')).toBe('10.1.0.2');
  await c.detach('none', 'node1', '10.1.0.2');
  // What was reserved and came to nothing has changed nothing of that.
  await expect(c.reserve('node1', 'b', '10.1.0.2')).rejects.toThrow('node2 may still go by that');
});

it('and no more when they are removed; one that comes back counts until it has applied what it missed', async () => {
  const c = await ended();
  await c.die('node2');
  await c.live('node2');
  await c.settle();
  await expect(c.reserve('node1', 'b', '10.1.0.2')).rejects.toThrow('node2 may still go by that');
  await c.die('node2');
  await c.settle();
  await c.writer.write(() => decideEndpointRemoval(c.mirror, 'victim'));
  await c.settle('node1');
  expect(await c.reserve('node1', 'b', '10.1.0.2')).toBe('10.1.0.2');
});

it('a netmaster that starts anew knows it from its store, and forgets what all have applied', async () => {
  const c = await ended();
  const mirror = await openMirror(c.store);
  onTestFinished(() => mirror.close());
  const acknowledgements = trackAcknowledgements(mirror);
  const writer = openWriter(c.store, mirror);
  const request = {
    tenantName: 'default',
    networkName: 'n',
    groupName: 'b',
    family: 4,
    host: 'node1',
  } as const;
  const ask = () => writer.write(() => decideReserve(mirror, { ...request, address: '10.1.0.2' }));
  await expect(ask()).rejects.toThrow('node1, node2 may still go by that');
  acknowledgements.applied('node1', mirror.revision);
  expect((await writer.write(() => decideForgetting(mirror))).answer).toBe(0);
  acknowledgements.applied('node2', mirror.revision);
  expect((await writer.write(() => decideForgetting(mirror))).answer).toBe(1);
  expect((await c.store.list(storeKey('ended', ''))).entries).toEqual([]);
  expect((await ask()).answer.address).toBe('10.1.0.2');
});

it('it stays so when the network goes and another of the tenant has its subnet', async () => {
  const c = await cluster('node1', 'node2');
  await c.create('network', 'default:m', { networkName: 'm', subnet: '10.2.0.0/29' });
  await c.reserve('node1', undefined, '10.1.0.2');
  await c.attach('old', 'node1', '10.1.0.2', 'a');
  await c.settle('node1', 'node2');
  await c.detach('old', 'node1', '10.1.0.2');
  await c.settle('node1');
  for (const group of ['a', 'b']) await c.drop('endpointGroup', `default:${group}`);
  await c.drop('network', 'default:n');
  await c.create('network', 'default:n', { networkName: 'n', subnet: '10.1.0.0/28' });
  await expect(c.reserve('node1', undefined, '10.1.0.2')).rejects.toThrow("was group default:a's");
});

it('nor is a service given it, nor an endpoint what was a service, nor a network the tag of another', async () => {
  const c = await ended();
  const service = (serviceName: string, ipAddress?: string) =>
    c.create('serviceLB', `default:${serviceName}`, {
      serviceName,
      networkName: 'n',
      selectors: ['x=y'],
      ports: ['80:80:TCP'],
      ...(ipAddress && { ipAddress }),
    });
  await expect(service('s', '10.1.0.2')).rejects.toThrow(
    "service default:s: address 10.1.0.2 was group default:a's",
  );
  await service('s', '10.1.0.3');
  await c.settle('node1', 'node2');
  await c.drop('serviceLB', 'default:s');
  await c.settle('node1');
  await expect(c.reserve('node1', 'a', '10.1.0.3')).rejects.toThrow("was service default:s's, and node2");

  const other = await c.create('network', 'default:m', {
    networkName: 'm',
    subnet: '10.2.0.0/29',
    pktTag: 77,
  });
  expect(other).toMatchObject({ vni: 77 });
  await c.settle('node1', 'node2');
  await c.drop('network', 'default:m');
  const k = { networkName: 'k', subnet: '10.3.0.0/29' };
  await expect(c.create('network', 'default:k', { ...k, pktTag: 77 })).rejects.toThrow(
    "network default:k: pktTag 77 was network default:m's, and node1, node2 may still go by that",
  );
  await c.settle('node1', 'node2');
  expect(await c.create('network', 'default:k', { ...k, pktTag: 77 })).toMatchObject({ vni: 77 });
});

it('a tag that hosts may go by is passed over where any will do', async () => {
  const c = await cluster('node1');
  const made = await c.create('network', 'default:m', { networkName: 'm', subnet: '10.2.0.0/29' });
  await c.settle('node1');
  await c.drop('network', 'default:m');
  const next = await c.create('network', 'default:k', { networkName: 'k', subnet: '10.3.0.0/29' });
  expect(next.vni).not.toBe(made.vni);
  await c.settle('node1');
  const third = await c.create('network', 'default:l', { networkName: 'l', subnet: '10.4.0.0/29' });
  expect(third.vni).toBe(made.vni);
});

it('a group has a VLAN of its own in an ACI fabric, for good, and nobody else while hosts may go by it', async () => {
  const c = await cluster('node1');
  const group = (groupName: string, more: object = {}) =>
    c.create('endpointGroup', `default:${groupName}`, { groupName, networkName: 'lan', ...more });
  const settings = { name: 'global', vlans: '5-8' };
  const set = async (more: object) => {
    const kind = kindByName.get('global') as Kind;
    const object = readObject(kind, 'global', { ...settings, ...more });
    await c.writer.write(() => decideWrite(kind, 'global', object, 'post', c.mirror));
  };
  await set({});
  await c.create('network', 'default:lan', { networkName: 'lan', encap: 'vlan', subnet: '10.2.0.0/24' });
  expect(await group('old')).not.toHaveProperty('vlan');
  await set({ networkInfraType: 'aci' });
  // Its containers go on by the VLAN that they have.
  expect(await group('old', { cfgdTag: 'x' })).not.toHaveProperty('vlan');
  expect(await group('web')).toMatchObject({ vlan: 6 });
  expect(await group('web', { cfgdTag: 'x' })).toMatchObject({ vlan: 6 });
  expect(await group('db', { pktTag: 8 })).toMatchObject({ vlan: 8 });
  expect(
    await c.create('endpointGroup', 'default:c', { groupName: 'c', networkName: 'n' }),
  ).not.toHaveProperty('vlan');
  await expect(group('other', { pktTag: 8 })).rejects.toThrow(
    'group default:other: pktTag 8 is taken by group default:db; choose another, or none to be given a free one',
  );
  await expect(group('other', { pktTag: 5 })).rejects.toThrow('pktTag 5 is taken by network default:lan');
  const wide = { networkName: 'wide', encap: 'vlan', subnet: '10.3.0.0/24' };
  await expect(c.create('network', 'default:wide', { ...wide, pktTag: 6 })).rejects.toThrow(
    'network default:wide: pktTag 6 is taken by group default:web',
  );
  await group('third');
  await expect(group('fourth')).rejects.toThrow(
    'group default:fourth: all vlan tags of the global range 5-8 are taken',
  );
  await c.settle('node1');
  await c.drop('endpointGroup', 'default:web');
  await expect(group('fourth', { pktTag: 6 })).rejects.toThrow(
    "group default:fourth: pktTag 6 was group default:web's, and node1 may still go by that",
  );
  await c.settle('node1');
  expect(await group('fourth')).toMatchObject({ vlan: 6 });
});

it('an endpoint does not change its group in place', async () => {
  const c = await cluster('node1');
  await c.attach('ep', 'node1', '10.1.0.2', 'a');
  await expect(c.attach('ep', 'node1', '10.1.0.2', 'b')).rejects.toThrow(
    'endpoint ep: is in group default:a and cannot move to group default:b',
  );
});

it('whatever hosts, containers and acknowledgements do, no kernel has another meaning of an address than its owner', async () => {
  const names = ['node1', 'node2', 'node3'];
  const step = fc.record({
    what: fc.constantFrom('start', 'startAt', 'end', 'apply', 'apply', 'die', 'live'),
    host: fc.constantFrom(...names),
    group: fc.constantFrom('a', 'b'),
    number: fc.integer({ min: 1, max: 6 }),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 60, maxLength: 60 }), async (steps) => {
      const c = await cluster(...names);
      /** What each host's kernel has: group by address. */
      const kernels = new Map(names.map((n) => [n, new Map<string, string>()]));
      const running = new Map<string, { host: string; group: string; address: string }>();
      let count = 0;
      const apply = async (host: string) => {
        await c.settle(host);
        const now = c.mirror.list<Endpoint>('endpoint');
        const runs = now.some((e) => e.homingHost === host);
        const groups = now.map((e) => [e.ipAddress[0] as string, e.groupName as string] as const);
        kernels.set(host, new Map(runs ? groups : []));
      };
      for (const { what, host, group, number } of steps) {
        const lives = c.mirror.get('host', host) !== undefined;
        if (what === 'die' && lives) await c.die(host);
        else if (what === 'live' && !lives) await c.live(host);
        else if (what === 'apply' && lives) await apply(host);
        else if (what.startsWith('start') && lives) {
          const asked = what === 'startAt' ? `10.1.0.${number}` : undefined;
          const address = await c.reserve(host, group, asked).catch((error) => {
            if (![409, 423].includes(error.status)) throw error;
          });
          if (address === undefined) continue;
          const id = `ep${++count}`;
          await c.attach(id, host, address, group);
          // The first one gets a router, made of what netmaster has now.
          if (![...running.values()].some((r) => r.host === host)) await apply(host);
          running.set(id, { host, group, address });
        } else if (what === 'end' && lives) {
          const [id, found] = [...running].find(([, r]) => r.host === host) ?? [];
          if (id === undefined || found === undefined) continue;
          running.delete(id);
          // With the last one the router has gone before netmaster hears of it.
          if (![...running.values()].some((r) => r.host === host)) kernels.set(host, new Map());
          await c.detach(id, host, found.address);
        }
        await c.settle();
        const homes = new Set([...running.values()].map((r) => r.host));
        for (const [name, kernel] of kernels) {
          if (c.mirror.get('host', name) === undefined && !homes.has(name)) continue;
          for (const { address, group: is } of running.values())
            expect(kernel.get(address) ?? is, `${address} on ${name}`).toBe(is);
        }
      }
    }),
    { numRuns: 100 },
  );
});
