import fc from 'fast-check';
import { expect, it, onTestFinished } from 'vitest';
import { closeCluster, openCluster } from '../../test/cluster.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { Reserve } from '../model/host.ts';
import { kindByName } from '../model/kinds.ts';
import { trackAcknowledgements } from './acknowledgements.ts';
import { applySet, readSet } from './batch.ts';
import { decideForgetting } from './endings.ts';
import {
  decideCollection,
  decideEndpoint,
  decideEndpointRemoval,
  decideRelease,
  decideReserve,
} from './endpoints.ts';
import { decideWrite, readObject, remove } from './intent.ts';
import { storeKey } from './mirror.ts';
import { givingBack, keepReserves, openReserves, RESERVED } from './reserves.ts';
import { decideDrain, decideHostRemoval } from './roster.ts';

interface Options {
  readonly subnet?: string;
  readonly hosts?: readonly string[];
  /** Which hosts apply what they are waited for. */
  heeds?(host: string): boolean;
}

/** Network n with group a, and group p that has a pool of its own, of hosts that live. */
async function cluster({
  subnet = '10.1.0.0/24',
  hosts = ['node1', 'node2'],
  heeds = () => true,
}: Options = {}) {
  const parts = await openCluster();
  let isOpen = true;
  const close = async (): Promise<void> => {
    if (isOpen) await closeCluster(parts);
    isOpen = false;
  };
  onTestFinished(close);
  const { store, mirror } = parts;
  const acknowledgements = trackAcknowledgements(mirror);
  const applied: string[] = [];
  const writer = givingBack(parts.writer, mirror, {
    async wait(revision) {
      for (const host of hosts.filter(heeds)) {
        acknowledgements.applied(host, revision);
        applied.push(host);
      }
      return [];
    },
  });
  const create = async (kindName: string, key: string, object: Record<string, unknown>) => {
    const kind = kindByName.get(kindName);
    if (kind === undefined) throw new Error(kindName);
    const full = readObject(kind, key, { tenantName: 'default', ...object });
    return (await writer.write(() => decideWrite(kind, key, full, 'post', mirror))).answer;
  };
  const live = (name: string) => {
    const value = { name, underlay: name };
    const keys = [storeKey('host', name), storeKey('registration', name)];
    return store.transact(
      [],
      keys.map((key) => ({ key, value })),
    );
  };
  const die = (name: string) => store.transact([], [{ key: storeKey('host', name), value: undefined }]);
  for (const name of hosts) await live(name);
  await create('network', 'default:n', { networkName: 'n', subnet });
  await create('endpointGroup', 'default:a', { groupName: 'a', networkName: 'n' });
  const seen = async () => mirror.seen((await store.list('/none')).revision);
  await seen();
  const place = (groupName?: string) => ({
    tenantName: 'default',
    networkName: 'n',
    ...(groupName && { groupName }),
  });
  const reserve = async (host: string, address?: string, groupName?: string) =>
    (
      await writer.write(() =>
        decideReserve(mirror, { ...place(groupName), host, family: 4, ...(address && { address }) }),
      )
    ).answer.address;
  const attach = (id: string, homingHost: string, ipAddress: string[], groupName?: string) => {
    const endpoint: Endpoint = {
      ...place(groupName),
      homingHost,
      endpointID: id,
      ipAddress,
      macAddress: '02:02:0a:01:00:02',
      status: 'running',
    };
    return writer.write(() => decideEndpoint(mirror, endpoint));
  };
  return {
    ...parts,
    close,
    writer,
    create,
    live,
    die,
    seen,
    reserve,
    attach,
    acknowledgements,
    applied,
    run: async (id: string, host: string, groupName?: string) => {
      const address = await reserve(host, undefined, groupName);
      await attach(id, host, [address], groupName);
      return address;
    },
    detach: async (id: string, host: string, address: string) => {
      await writer.write(() => decideEndpointRemoval(mirror, id));
      await writer.write(() => decideRelease(mirror, 'default:n', address, host));
    },
    drop: async (kindName: string, key: string) => {
      const kind = kindByName.get(kindName);
      if (kind !== undefined) await remove(kind, key, writer);
    },
    keep: () => keepReserves(mirror, writer),
    reserveOf: (host: string): string[] =>
      (mirror.get<Reserve>('reserve', `${host}/default:n`)?.addresses ?? []).map(({ address }) => address),
  };
}

it('a host has some of each pool that its containers use, from its second half, of both families; the next container has the next address all the same', async () => {
  const c = await cluster();
  await c.create('network', 'default:six', {
    networkName: 'six',
    subnet: '10.2.0.0/24',
    ipv6Subnet: 'fd00::/64',
  });
  await c.create('endpointGroup', 'default:p', {
    groupName: 'p',
    networkName: 'n',
    ipPool: '10.1.0.100-10.1.0.119',
  });
  expect(await c.keep()).toBe(0);
  await c.run('web', 'node1');
  await c.run('pooled', 'node1', 'p');
  const ipAddress = ['10.2.0.9', 'fd00::9'];
  const six = { tenantName: 'default', networkName: 'six', homingHost: 'node1', ipAddress };
  const endpoint = { ...six, endpointID: 'six', macAddress: '02:02:0a:01:00:02', status: 'running' } as const;
  await c.writer.write(() => decideEndpoint(c.mirror, endpoint));
  expect(await c.keep()).toBe(4 * RESERVED);
  expect(c.mirror.get('reserve', 'node1/default:n')).toEqual({
    host: 'node1',
    network: 'default:n',
    addresses: [
      ...['10.1.0.129', '10.1.0.130', '10.1.0.131', '10.1.0.132'].map((address) => ({ address })),
      ...['10.1.0.111', '10.1.0.112', '10.1.0.113', '10.1.0.114'].map((address) => ({
        address,
        groupName: 'p',
      })),
    ],
  });
  expect(c.mirror.get<Reserve>('reserve', 'node1/default:six')?.addresses.at(-1)?.address).toBe(
    'fd00::8000:0:0:5',
  );
  expect(c.reserveOf('node2')).toEqual([]);
  expect(await c.keep()).toBe(0);
  expect(await c.run('next', 'node2')).toBe('10.1.0.3');
});

it('they are no endpoint’s and stay, however long; a container that had one is registered, and the host gets another', async () => {
  const c = await cluster();
  await c.run('web', 'node1');
  await c.keep();
  const collected = await c.writer.write(() => decideCollection(c.mirror, new Map(), -1, 0));
  expect(collected.answer).toBe(0);
  await c.writer.write(() => decideRelease(c.mirror, 'default:n', '10.1.0.129', 'node1'));
  expect(c.reserveOf('node1')).toHaveLength(RESERVED);
  await c.attach('own', 'node1', ['10.1.0.130'], 'a');
  expect(c.reserveOf('node1')).toEqual(['10.1.0.129', '10.1.0.131', '10.1.0.132']);
  expect(await c.keep()).toBe(1);
  expect(c.reserveOf('node1')).toContain('10.1.0.133');
  // The host might have given it to a container already, and not told yet.
  expect(await c.reserve('node1', '10.1.0.131')).toBe('10.1.0.131');
  expect(c.applied).toContain('node1');
});

it('they are given up where no container is left, the host is drained or removed, or the network goes', async () => {
  const c = await cluster();
  const address = await c.run('web', 'node1');
  await c.run('db', 'node2');
  await c.keep();
  await c.detach('web', 'node1', address);
  await c.keep();
  expect([c.reserveOf('node1'), c.reserveOf('node2').length]).toEqual([[], RESERVED]);
  await c.writer.write(() => decideDrain(c.mirror, 'node2'));
  await c.keep();
  expect(c.reserveOf('node2')).toEqual([]);

  await c.run('web', 'node1');
  await c.keep();
  await c.die('node1');
  await c.seen();
  await c.keep();
  expect(c.reserveOf('node1'), 'a host that is away may be using them').toHaveLength(RESERVED);
  await c.writer.write(() => decideHostRemoval(c.mirror, 'node1'));
  expect(c.mirror.list('reserve')).toEqual([]);
  expect([...c.mirror.addresses('default:n').values()].some(({ object }) => object.reserve)).toBe(false);
});

it('a network that goes takes them with it, and one of its addresses is nobody’s before the host has heard of that', async () => {
  const c = await cluster({ heeds: () => false });
  const address = await c.run('web', 'node1');
  await c.keep();
  const [own = ''] = c.reserveOf('node1');
  await c.detach('web', 'node1', address);
  await c.drop('endpointGroup', 'default:a');
  await c.drop('network', 'default:n');
  expect(c.mirror.list('reserve')).toEqual([]);
  await c.create('network', 'default:n', { networkName: 'n', subnet: '10.1.0.0/24' });
  c.acknowledgements.applied('node2', c.mirror.revision);
  await expect(c.reserve('node2', own)).rejects.toMatchObject({
    status: 423,
    message: `network default:n: address ${own} was in reserve, and node1 may still go by that, having not applied its end: try again, or choose another`,
  });
  c.acknowledgements.applied('node1', c.mirror.revision);
  expect(await c.reserve('node2', own)).toBe(own);
});

it('the host that had one is waited for as long as it is known, also where it does not live and no endpoint is left of it', async () => {
  const c = await cluster({ heeds: () => false });
  const address = await c.run('web', 'node1');
  await c.keep();
  const [own = ''] = c.reserveOf('node1');
  await c.detach('web', 'node1', address);
  await c.keep();
  expect(c.reserveOf('node1')).toEqual([]);
  await c.die('node1');
  await c.seen();
  c.acknowledgements.applied('node2', c.mirror.revision);
  await c.writer.write(() => decideForgetting(c.mirror));
  await expect(c.reserve('node2', own)).rejects.toMatchObject({
    status: 423,
    message: expect.stringContaining('where node1 is gone for good remove it (netctl host rm)'),
  });
  await c.writer.write(() => decideHostRemoval(c.mirror, 'node1'));
  expect(await c.reserve('node2', own)).toBe(own);
});

it('half of a pool stays free of them, and a pool that containers fill has none: who needs the last address gets it', async () => {
  const hosts = ['node1', 'node2', 'node3', 'node4'];
  const c = await cluster({ subnet: '10.1.0.0/27', hosts });
  for (const [i, host] of hosts.entries()) await c.run(`c${i + 1}`, host);
  await c.keep();
  const count = (): number => hosts.flatMap(c.reserveOf).length;
  expect(count()).toBe(30 / 2 - 4);
  // Faster than hosts are looked at: all thirty are had.
  for (let n = 5; n <= 30; n++) await c.run(`c${n}`, 'node2');
  expect(count()).toBe(0);
  await expect(c.reserve('node1')).rejects.toMatchObject({ status: 409 });

  const d = await cluster({ subnet: '10.1.0.0/27' });
  await d.run('c1', 'node1');
  await d.keep();
  expect(d.reserveOf('node1')).toHaveLength(RESERVED);
  for (let n = 2; n <= 15; n++) await d.run(`c${n}`, 'node2');
  await d.keep();
  expect([d.reserveOf('node1'), d.reserveOf('node2')]).toEqual([[], []]);
});

it.each([
  ['29', 6],
  ['27', 30],
])(
  'containers have the addresses of a /%s one after the other, whatever is in reserve',
  async (length, size) => {
    const c = await cluster({ subnet: `10.1.0.0/${length}` });
    const had: string[] = [];
    for (let n = 1; n <= size; n++) {
      had.push(await c.run(`c${n}`, 'node1'));
      await c.keep();
      await c.seen();
      for (const host of ['node1', 'node2']) c.acknowledgements.applied(host, c.mirror.revision);
    }
    // The cursor begins at the second.
    const order = [...Array(size).keys()].map((n) => `10.1.0.${((n + 1) % size) + 1}`);
    expect(had).toEqual(order);
  },
);

it('who asks for one by its address gets it when its host has given it up; of a host that is late or away it is said', async () => {
  let heeds = true;
  const c = await cluster({ heeds: () => heeds });
  await c.run('web', 'node1');
  await c.keep();
  const [first = '', second = '', third = ''] = c.reserveOf('node1');
  expect(await c.reserve('node2', first)).toBe(first);
  expect(c.reserveOf('node1')).not.toContain(first);
  const service = { serviceName: 's', networkName: 'n', selectors: ['x=y'], ports: ['80:80:TCP'] };
  expect(await c.create('serviceLB', 'default:s', { ...service, ipAddress: second })).toMatchObject({
    vip: second,
  });
  heeds = false;
  await expect(c.reserve('node2', third)).rejects.toMatchObject({
    status: 423,
    message: expect.stringContaining('node1 may still go by that'),
  });
  await expect(c.reserve('node1', third), 'by the host that had it').rejects.toMatchObject({ status: 423 });
  await c.attach('told', 'node1', [third]);
  const [fourth = ''] = c.reserveOf('node1');
  await c.die('node1');
  await c.seen();
  await expect(c.reserve('node2', fourth)).rejects.toMatchObject({
    status: 409,
    message: `network default:n: address ${fourth} is in reserve for containers of host node1, which is away: choose another, or where it is gone for good remove it (netctl host rm node1)`,
  });
});

it('a set of objects that names some is applied too, and tried', async () => {
  const c = await cluster();
  await c.run('web', 'node1');
  await c.run('db', 'node2');
  await c.keep();
  const services = [...c.reserveOf('node1'), ...c.reserveOf('node2')].map((ipAddress, i) => ({
    kind: 'serviceLB',
    tenantName: 'default',
    serviceName: `s${i}`,
    networkName: 'n',
    selectors: ['x=y'],
    ports: ['80:80:TCP'],
    ipAddress,
  }));
  expect(services).toHaveLength(2 * RESERVED);
  const set = readSet({ objects: services });
  expect((await applySet(set, undefined, true, c)).answer).toHaveLength(services.length);
  await applySet(set, undefined, false, c);
  for (const { serviceName, ipAddress } of services)
    expect(c.mirror.get('serviceLB', `default:${serviceName}`)).toMatchObject({ vip: ipAddress });
});

it('a host that has told of a container which had one, and of its end, is waited for until it goes by the end of the reserve too', async () => {
  const c = await cluster({ hosts: ['node1', 'node2', 'node3'] });
  await c.create('endpointGroup', 'default:b', { groupName: 'b', networkName: 'n' });
  await c.run('web', 'node1', 'a');
  await c.keep();
  for (const host of ['node1', 'node2', 'node3']) c.acknowledgements.applied(host, c.mirror.revision);
  const [own = ''] = c.reserveOf('node1');
  // It registers what it has started, whose end it tells too, and has not got what netmaster has for it meanwhile.
  await c.attach('short', 'node1', [own], 'a');
  await c.detach('short', 'node1', own);
  for (const host of ['node2', 'node3']) c.acknowledgements.applied(host, c.mirror.revision);
  await c.die('node1');
  await c.seen();
  await c.writer.write(() => decideForgetting(c.mirror));
  for (const group of ['a', 'b'])
    await expect(c.reserve('node2', own, group)).rejects.toMatchObject({ status: 423 });
  // What it has started by then with that is its own.
  await c.live('node1');
  await c.seen();
  await c.attach('again', 'node1', [own], 'a');
  await c.detach('again', 'node1', own);
  await expect(c.reserve('node2', own, 'a'), 'as before').rejects.toMatchObject({ status: 423 });
  for (const host of ['node1', 'node2', 'node3']) c.acknowledgements.applied(host, c.mirror.revision);
  expect(await c.reserve('node2', own, 'b')).toBe(own);
});

it('whatever hosts do that lose netmaster and come back, no two containers have one address, and each is registered', async () => {
  const names = ['node1', 'node2', 'node3'];
  const step = fc.record({
    what: fc.constantFrom(
      ...['start', 'startAt', 'own', 'own', 'end', 'tell', 'apply', 'apply', 'keep', 'away', 'back'],
    ),
    host: fc.constantFrom(...names),
    number: fc.integer({ min: 1, max: 30 }),
    heeds: fc.boolean(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 60, maxLength: 60 }), async (steps) => {
      let heeds = true;
      const c = await cluster({ subnet: '10.1.0.0/27', hosts: names, heeds: (name) => heeds && apply(name) });
      const running: { id: string; host: string; address: string; registered: boolean }[] = [];
      const ended: { id: string; host: string; address: string }[] = [];
      /** What each host knows to be in reserve for it. */
      const known = new Map<string, readonly string[]>();
      const lives = (host: string): boolean => c.mirror.get('host', host) !== undefined;
      /** It knows what netmaster has now; what it has registered before that is said first. */
      function apply(host: string): boolean {
        if (!lives(host)) return false;
        const isTold =
          running.every((r) => r.host !== host || r.registered) && ended.every((e) => e.host !== host);
        if (isTold) known.set(host, c.reserveOf(host));
        return isTold;
      }
      let count = 0;
      for (const { what, host, number, ...of } of steps) {
        heeds = of.heeds;
        if (what === 'keep') await c.keep();
        else if (what === 'away' && lives(host)) await c.die(host);
        else if (what === 'back' && !lives(host)) await c.live(host);
        else if ((what === 'apply' || what === 'tell') && lives(host)) {
          for (const gone of ended.filter((e) => e.host === host))
            await c.detach(gone.id, host, gone.address);
          ended.splice(0, ended.length, ...ended.filter((e) => e.host !== host));
          for (const own of running.filter((r) => r.host === host && !r.registered)) {
            own.registered = await c.attach(own.id, host, [own.address], 'a').then(
              () => true,
              (error) => {
                // It has to wait for other hosts, and says nothing of what it has applied.
                if (error.status !== 423) throw error;
                return false;
              },
            );
          }
          if (what === 'apply' && apply(host)) c.acknowledgements.applied(host, c.mirror.revision);
        } else if (what.startsWith('start') && lives(host)) {
          const asked = what === 'startAt' ? `10.1.0.${number}` : undefined;
          const address = await c.reserve(host, asked, 'a').catch((error) => {
            if (![409, 423].includes(error.status)) throw error;
          });
          if (address === undefined) continue;
          const id = `ep${++count}`;
          await c.attach(id, host, [address], 'a');
          running.push({ id, host, address, registered: true });
        } else if (what === 'own') {
          // Nothing runs there that netmaster knows: it does not count on this host.
          if (![...running, ...ended].some((r) => r.host === host)) continue;
          const taken = [...running, ...ended].filter((r) => r.host === host).map((r) => r.address);
          const address = known.get(host)?.find((a) => !taken.includes(a));
          if (address !== undefined) running.push({ id: `ep${++count}`, host, address, registered: false });
        } else if (what === 'end') {
          const at = running.findIndex((r) => r.host === host);
          const [gone] = at === -1 ? [] : running.splice(at, 1);
          if (gone?.registered && lives(host)) await c.detach(gone.id, host, gone.address);
          else if (gone?.registered) ended.push(gone);
        }
        await c.seen();
        const addresses = running.map(({ address }) => address);
        expect(new Set(addresses).size, `${what} on ${host}: ${addresses}`).toBe(addresses.length);
      }
      await c.close();
    }),
    { numRuns: 200 },
  );
}, 180_000);

it('counts a pool once a round, whatever number of hosts get some of it, and looks on where the last one found', async () => {
  const hosts = Array.from({ length: 40 }, (_, i) => `node${i}`);
  const c = await cluster({ hosts, subnet: '10.1.0.0/22' });
  for (const host of hosts) await c.run(`on-${host}`, host);
  let counted = 0;
  let asked = 0;
  const addresses: typeof c.mirror.addresses = (network) => {
    const map = c.mirror.addresses(network);
    return new Proxy(map, {
      get(target, name) {
        if (name === Symbol.iterator) counted++;
        if (name === 'has') asked++;
        const value = Reflect.get(target, name, target);
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
  };
  expect(await keepReserves({ ...c.mirror, addresses }, c.writer)).toBe(hosts.length * RESERVED);
  expect(counted).toBe(1);
  expect(asked).toBe(2 * hosts.length * RESERVED); // each decides twice
  expect(new Set(hosts.flatMap(c.reserveOf)).size).toBe(hosts.length * RESERVED);
});

it('in rounds looks at hosts that something has changed for, and at all where a network or a group is another', async () => {
  const hosts = Array.from({ length: 20 }, (_, i) => `node${i}`);
  const c = await cluster({ hosts, subnet: '10.1.0.0/22' });
  for (const host of hosts.slice(1)) await c.run(`on-${host}`, host);
  const looked: string[] = [];
  const get: typeof c.mirror.get = (kind, key) => {
    if (kind === 'host' && looked.at(-1) !== key) looked.push(key);
    return c.mirror.get(kind, key);
  };
  const reserves = openReserves(
    new Proxy(c.mirror, { get: (target, name) => (name === 'get' ? get : Reflect.get(target, name)) }),
    c.writer,
  );
  onTestFinished(() => reserves.close());
  const round = async (): Promise<string[]> => {
    await reserves.keep();
    await c.seen();
    return looked.splice(0);
  };
  expect(await round()).toEqual(hosts);
  await round(); // what the first one gave
  expect(await round()).toEqual([]);

  const address = await c.run('another', 'node0');
  await c.seen();
  expect(await round()).toEqual(['node0']);
  expect(c.reserveOf('node0')).toHaveLength(RESERVED);
  await round();
  await c.detach('another', 'node0', address);
  await c.seen();
  expect(await round()).toEqual(['node0']);
  expect(c.reserveOf('node0')).toEqual([]);
  await round();

  await c.create('endpointGroup', 'default:late', { groupName: 'late', networkName: 'n' });
  await c.seen();
  expect(await round()).toEqual(hosts);
});
