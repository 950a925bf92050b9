/** Real connections to a service, through a real router; its providers are namespaces beside it. */
import { afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import * as boxed from '../../../test/boxes.ts';
import { applied, clean, inRouter, kernel, port, state } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { NAMESERVER, NAMESERVER6 } from '../constants.ts';
import type { HostState, Service } from '../state.ts';
import { type Applier, openApplier } from './applier.ts';

const { addressOf, inBox, provide } = boxed;
const VIP = '20.1.1.100';
const tcp = (box: number, to = VIP, at = 80, from = addressOf(box)) => boxed.tcp(box, to, at, from);
const udp = (box: number, to = VIP, at = 80) => boxed.udp(box, to, at);
let applier: Applier;

beforeAll(isolate);
beforeEach(() => {
  applier = openApplier();
});
afterEach(() => {
  boxed.closeAll();
  clean();
});

/** Port 80 leads to 8080, TCP and UDP; whose providers are those boxes. */
const service = (providers: readonly number[], more: Partial<Service> = {}): Service => ({
  name: 'lb',
  address: VIP,
  ports: (['tcp', 'udp'] as const).map((protocol) => ({ protocol, port: 80, providerPort: 8080 })),
  providers: providers.map(addressOf),
  ...more,
});

const BOXES = [2, 3, 4, 5, 6];
const world = (services: readonly Service[], joined = true): HostState =>
  state({ ports: BOXES.map((n) => port(n, { joined })), services });
const change = (...services: Service[]) => applied(applier, world(services));

/** Containers 2 to 6. */
function boxes({ gateway = true } = {}): void {
  applied(applier, world([], false));
  for (const n of BOXES)
    boxed.enterBox({ ...port(n), addresses: [addressOf(n)], gateways: ['20.1.1.254'] }, n, { gateway });
}

describe('a service', () => {
  it.each([
    ['TCP', tcp],
    ['UDP', udp],
  ])('is reached by %s at its address, and its provider sees the client', async (_, connect) => {
    boxes();
    change(service([3]));
    const { clients } = await provide(3);
    expect(await (await connect(2)).ask()).toBe('3');
    expect(new Set(clients)).toEqual(new Set([addressOf(2)]));
  });

  it.each([
    ['TCP', 'with', tcp, true],
    ['TCP', 'without', tcp, false],
    ['UDP', 'with', udp, true],
    ['UDP', 'without', udp, false],
  ])('is reached by %s from its own only provider, %s a gateway', async (_, __, connect, gateway) => {
    boxes({ gateway });
    change(service([3]));
    const { clients } = await provide(3);
    expect(await (await connect(3)).ask()).toBe('3');
    expect(new Set(clients)).toEqual(new Set([NAMESERVER]));
  });

  it('is reached by its provider also from its address in another network', async () => {
    boxes();
    // Container 3 has the port of container 4 too.
    sh('ip -n box4 link set eth0 netns box3 name eth1');
    inBox(3, () => sh(`ip addr add ${addressOf(4)}/32 dev eth1; ip link set eth1 up`));
    const ports = BOXES.map((n) => {
      const alsoFrom = n === 3 ? [addressOf(4)] : n === 4 ? [addressOf(3)] : [];
      return port(n, { joined: true, alsoFrom });
    });
    applied(applier, state({ ports, services: [service([3])] }));
    await provide(3);
    expect(await (await tcp(3, VIP, 80, addressOf(4))).ask()).toBe('3');
  });

  it('answers a ping itself, unseen as within one network', () => {
    boxes();
    change(service([]));
    expect(inBox(2, () => sh(`busybox ping -c 1 -W 5 ${VIP}`))).toMatch(/ttl=64/);
  });

  it('refuses what no provider takes: another port, and all where it has no provider', async () => {
    boxes();
    change(service([3]));
    await provide(3);
    for (const connect of [tcp, udp]) {
      expect(await (await connect(2, VIP, 81)).ask()).toBe('ECONNREFUSED');
      // The nameserver is not to be found there either.
      expect(await (await connect(2, VIP, 53)).ask()).toBe('ECONNREFUSED');
    }
    change(service([]));
    for (const connect of [tcp, udp]) expect(await (await connect(2)).ask()).toBe('ECONNREFUSED');
  });

  it.each([
    ['TCP', boxed.tcp],
    ['UDP', boxed.udp],
  ])(
    'of a network of IPv6 alone is reached by %s, also by its own provider, and refuses the rest',
    async (_, connect) => {
      const [vip6, address6Of] = ['fd00:1::100', (n: number): string => `fd00:1::${n}`];
      const alone = (n: number) => ({ addresses: [address6Of(n)], gateways: ['fd00:1::1'] });
      const of = (providers: readonly number[], joined: boolean): HostState =>
        state({
          ports: BOXES.map((n) => port(n, { ...alone(n), joined })),
          services: [service([], { address: vip6, providers: providers.map(address6Of) })],
        });
      applied(applier, of([], false));
      for (const n of BOXES) boxed.enterBox(port(n, alone(n)), n);
      applied(applier, of([3], true));
      const { clients } = await provide(3, address6Of(3));
      const ask = async (n: number, at = 80) => (await connect(n, vip6, at, address6Of(n))).ask();
      expect(await ask(2)).toBe('3');
      expect(new Set(clients)).toEqual(new Set([address6Of(2)]));
      expect(await ask(3)).toBe('3');
      expect(clients).toContain(NAMESERVER6);
      expect(await ask(2, 81)).toBe('ECONNREFUSED');
      applied(applier, of([], true));
      expect(await ask(2)).toBe('ECONNREFUSED');
      expect(inBox(2, () => sh(`busybox ping -6 -c 1 -W 5 ${vip6}`))).toMatch(/ttl=64/);
    },
  );

  it('on port 53 is not mistaken for the nameserver', async () => {
    boxes();
    change(service([3], { ports: [{ protocol: 'udp', port: 53, providerPort: 8080 }] }));
    await provide(3);
    expect(await (await udp(2, VIP, 53)).ask()).toBe('3');
  });
});

describe('a service with every port', () => {
  const every = (providers: readonly number[]): Service =>
    service(providers, { name: 'front/n', ports: [], everyPort: true });

  it.each([
    ['TCP', tcp],
    ['UDP', udp],
  ])('leads %s to the same port of a provider, evenly, beside one with ports', async (_, connect) => {
    boxes();
    const other = service([5], { name: 'lb', address: '20.1.1.101' });
    applied(applier, world([every([3, 4]), other]));
    for (const n of [3, 4, 5]) await provide(n);
    const got = await Promise.all(
      Array.from({ length: 40 }, async () => (await connect(2, VIP, 8080)).ask()),
    );
    expect(new Set(got)).toEqual(new Set(['3', '4']));
    expect(await (await connect(2, '20.1.1.101', 80)).ask()).toBe('5');
    // Nobody listens there: it is the provider that says so.
    expect(await (await connect(2, VIP, 81)).ask()).toBe('ECONNREFUSED');
    // A provider that comes to itself.
    expect(['3', '4']).toContain(await (await connect(3, VIP, 8080)).ask());
  });

  it.each([
    ['TCP', boxed.tcp],
    ['UDP', boxed.udp],
  ])('leads %s by IPv6 too, to those with such an address, and a provider to itself', async (_, connect) => {
    const [vip6, address6Of] = ['fd00:1::100', (n: number): string => `fd00:1::${n}`];
    const six = every([]);
    const leading = { ...six, name: 'front/n/6', address: vip6, providers: [3, 4].map(address6Of) };
    applied(applier, world([], false));
    for (const n of BOXES) boxed.enterBox(port(n), n);
    applied(applier, world([every([3]), leading]));
    const providers = [await provide(3, address6Of(3)), await provide(4, address6Of(4))];
    const asked = Array.from({ length: 40 }, async () => (await connect(2, vip6, 8080, address6Of(2))).ask());
    expect(new Set(await Promise.all(asked))).toEqual(new Set(['3', '4']));
    for (const { clients } of providers) expect(new Set(clients)).toEqual(new Set([address6Of(2)]));
    applied(applier, world([{ ...leading, providers: [address6Of(3)] }]));
    expect(await (await connect(3, vip6, 8080, address6Of(3))).ask()).toBe('3');
    expect(providers[0]?.clients).toContain(NAMESERVER6);
    expect(inBox(2, () => sh(`busybox ping -6 -c 1 -W 5 ${vip6}`))).toMatch(/ttl=64/);
    applied(applier, world([{ ...leading, providers: [] }]));
    expect(await (await connect(2, vip6, 8080, address6Of(2))).ask()).toBe('ECONNREFUSED');
  });

  it('answers a ping itself, and refuses everything where it has nobody', async () => {
    boxes();
    change(every([]));
    expect(inBox(2, () => sh(`busybox ping -c 1 -W 5 ${VIP}`))).toMatch(/ttl=64/);
    for (const connect of [tcp, udp]) expect(await (await connect(2, VIP, 8080)).ask()).toBe('ECONNREFUSED');
  });

  it('what is open goes on; UDP that keeps its port goes to another when its provider takes no new ones, and only then', async () => {
    boxes();
    change(every([3]));
    for (const n of [3, 4]) await provide(n);
    const [stream, datagrams] = [await tcp(2, VIP, 8080), await udp(2, VIP, 8080)];
    expect([await stream.ask(), await datagrams.ask()]).toEqual(['3', '3']);
    change(every([3, 4]));
    expect(await datagrams.ask()).toBe('3');
    change(every([4]));
    expect([await stream.ask(), await datagrams.ask()]).toEqual(['3', '4']);
    change();
    expect(inRouter('cat /proc/net/nf_conntrack')).not.toContain(`dst=${VIP}`);
  });
});

describe('when providers come and go', () => {
  it('what is open goes on with its provider, also when that takes no new ones', async () => {
    boxes();
    change(service([3]));
    for (const n of [3, 4, 5]) await provide(n);
    const open = await tcp(2);
    expect(await open.ask()).toBe('3');
    change(service([3, 4, 5]));
    expect(await open.ask()).toBe('3');
    change(service([5, 4]));
    expect(await open.ask()).toBe('3');
    const others = await Promise.all(Array.from({ length: 30 }, async () => (await tcp(2)).ask()));
    expect(new Set(others)).toEqual(new Set(['4', '5']));
  });

  it('UDP that keeps its port goes to another when its provider takes no new ones, and only then', async () => {
    boxes();
    change(service([3]));
    for (const n of [3, 4]) await provide(n);
    const client = await udp(2);
    expect(await client.ask()).toBe('3');
    change(service([3, 4]));
    expect(await client.ask()).toBe('3');
    change(service([4]));
    expect(await client.ask()).toBe('4');
    // Also where it happened while the agent was away.
    change(service([4, 3]));
    applier = openApplier();
    change(service([3]));
    expect(await client.ask()).toBe('3');
  });

  it('what is open ends with the service', async () => {
    boxes();
    change(service([3]));
    await provide(3);
    const [stream, datagrams] = [await tcp(2), await udp(2)];
    expect([await stream.ask(), await datagrams.ask()]).toEqual(['3', '3']);
    expect(inRouter('cat /proc/net/nf_conntrack')).toContain(`dst=${VIP}`);
    change();
    expect(inRouter('cat /proc/net/nf_conntrack')).not.toContain(`dst=${VIP}`);
  });
});

describe('connections', () => {
  /** One datagram each from so many ports of box 2; by provider, how many it got. */
  async function spread(providers: readonly number[], count: number): Promise<number[]> {
    boxes();
    change(service(providers));
    const all = await Promise.all(providers.map((n) => provide(n)));
    const got = (): number => all.reduce((sum, { clients }) => sum + clients.length, 0);
    for (let sent = 0; sent < count; sent += 50) {
      const sockets = await Promise.all(Array.from({ length: 50 }, () => udp(2)));
      await Promise.all(sockets.map((socket) => socket.ask()));
    }
    expect(got()).toBeGreaterThanOrEqual(count);
    return all.map(({ clients }) => clients.length);
  }

  it.each([2, 3, 5])('spread evenly over %i providers', async (n) => {
    const count = 2000;
    const counts = await spread(BOXES.slice(0, n), count);
    // Binomial: beyond five standard deviations less than once in a million runs.
    const deviation = Math.sqrt(count * (1 / n) * (1 - 1 / n));
    for (const got of counts) expect(Math.abs(got - count / n), counts.join()).toBeLessThan(5 * deviation);
  });
});

describe('a change of a service', () => {
  const LIMIT = 1000;
  const many = (count: number): Service => ({
    ...service([]),
    ports: [{ protocol: 'tcp', port: 80, providerPort: 8080 }],
    providers: Array.from({ length: count }, (_, i) => `20.1.${2 + (i >> 8)}.${i & 255}`),
  });

  it.each([
    // The provider's own element, and the size where it passes a power of two, which goes and comes.
    [1, 2, 3],
    [2, 3, 3],
    [3, 4, 1],
    [7, 8, 1],
    [8, 9, 3],
    [500, 501, 1],
    [LIMIT, LIMIT + 1, 1],
    [501, 500, 1],
  ])('from %i to %i providers writes %i elements', (before, after, writes) => {
    change(many(before));
    expect(change(many(after)).writes).toBe(writes);
  });

  it('writes nothing where nothing changed, and finds nothing to repair', () => {
    const given = world([many(20), service([2, 3], { name: 'other', address: '20.1.1.101' })], false);
    applied(applier, given);
    expect(applied(applier, structuredClone(given))).toMatchObject({ writes: 0 });
    expect(applied(applier, given, true)).toMatchObject({ writes: 0, repaired: [] });
  });

  it('leaves nothing behind when the service goes', () => {
    change();
    const before = kernel();
    change(many(20));
    expect(kernel()).not.toBe(before);
    change();
    expect(kernel()).toBe(before);
  });

  it('by somebody else is put right', () => {
    const given = world([service([3, 4])], false);
    applied(applier, given);
    const before = kernel();
    inRouter(`nft delete element inet contiv service_to '{ ${VIP} . tcp . 80 . 1 }'`);
    inRouter(`nft add element inet contiv service_to '{ ${VIP} . tcp . 81 . 0 : 20.1.1.9 . 1 }'`);
    inRouter(`ip addr del ${VIP}/32 dev lo`);
    expect(applied(applier, given, true).repaired).toHaveLength(3);
    expect(kernel()).toBe(before);
  });
});
