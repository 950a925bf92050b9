/** Connections that one container, or one tenant, may have: the others have theirs, whatever it sends. */
import dgram from 'node:dgram';
import { once } from 'node:events';
import { afterEach, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { type Flood, startFlood } from '../../../../test/flooding.ts';
import { applied, BLUE, clean, exit, inRouter, port, state } from '../../../../test/hostState.ts';
import { isolate, sh } from '../../../../test/isolation.ts';
import { ethernet, udp } from '../../../../test/packet.ts';
import { probe, sender } from '../../../../test/probe.ts';
import { close } from '../../../linux/libc.ts';
import { bindPort, createNamespace, inNamespace, namespacePath } from '../../../linux/netns.ts';
import { exitDevice } from '../../compile/deviceNames.ts';
import { NAMESERVER } from '../../constants.ts';
import type { Port } from '../../state.ts';
import { openApplier } from '../applier.ts';
import { limitsOf } from './limits.ts';

beforeAll(isolate);
const floods: Flood[] = [];
afterEach(async () => {
  await Promise.all(floods.splice(0).map((flood) => flood.stop().catch(() => {})));
  clean();
});

const box = (n: number): string => `box${n}`;
const WORLD = '198.51.100.2';
/** Where nobody answers. */
const SILENT = [1, 2, 3, 4, 5].map((n) => `203.0.113.${n}`);
/** By an address of the test's containers, or of the world. */
const namespaceOf = (address: string): string =>
  namespacePath(address === WORLD ? 'world' : box(Number(address.split('.')[3])));

/** The container of a port, as Docker leaves it. */
function container({ peer, addresses }: Port): void {
  const [address = ''] = addresses;
  const n = Number(address.split('.')[3]);
  createNamespace(box(n));
  sh(`ip link set ${peer} netns ${box(n)} name eth0`);
  inNamespace(namespacePath(box(n)), () => {
    sh(`ip link set lo up; ip link set eth0 up; ip addr add ${address}/32 dev eth0`);
    sh(`ip route add ${NAMESERVER} dev eth0; ip route add default via ${NAMESERVER}`);
  });
}

/** A network behind the host, of which one address answers. */
function world(): void {
  createNamespace('world');
  sh(
    'ip link add out0 type veth peer name eth0 netns world; ip link set out0 up; ip addr add 198.51.100.1/24 dev out0',
  );
  inNamespace(namespacePath('world'), () =>
    sh(`ip link set lo up; ip link set eth0 up; ip addr add ${WORLD}/24 dev eth0`),
  );
  sh(`ip route add 203.0.113.0/24 via ${WORLD}`);
}

/** UDP to all of these, each packet another flow. */
function flood(from: Port, to: readonly string[]): void {
  const [address = ''] = from.addresses;
  const router = /link\/ether (\S+)/.exec(inRouter(`ip -o link show ${from.device}`))?.[1] as string;
  const frames = to.map((t) => ethernet(from.mac, router, udp(address, t, 1, 0xfffe, Buffer.from('text'))));
  floods.push(startFlood(namespaceOf(address), 'eth0', 34, frames));
}

/** How much was refused, in the thread's namespace. */
const refused = (device: string): number =>
  Number(
    new RegExp(`"${device}" . 0x0+2 counter packets (\\d+)`).exec(
      sh('nft list set inet contiv refused'),
    )?.[1] ?? 0,
  );

async function until(what: () => boolean): Promise<void> {
  for (let i = 0; i < 1200 && !what(); i++) await new Promise((done) => setTimeout(done, 100));
  expect(what()).toBe(true);
}

const count = (): number => Number(sh('cat /proc/sys/net/netfilter/nf_conntrack_count'));
const table = (): number => Number(sh('cat /proc/sys/net/netfilter/nf_conntrack_max'));
const hundred = (from: string, to: string) =>
  Array.from({ length: 100 }, (_, i) => ({ from, to, protocol: 6, port: 1000 + i }));

describe('a container that begins connections without end, on two processors', () => {
  it('has its share of the table; the others of its tenant have theirs, inside and outside', async () => {
    const applier = openApplier();
    const ports = [2, 3, 4].map((n) => port(n));
    applied(applier, state({ ports, remotes: [] }));
    for (const p of ports) container(p);
    world();
    const [greedy] = ports as [Port];
    flood(greedy, ['20.1.1.3', ...SILENT]);
    await until(() => inNamespace(namespacePath('contiv-default'), () => refused(greedy.device)) > 1000);
    expect(
      (await probe(hundred('20.1.1.4', WORLD), namespaceOf, 3000)).filter((arrived) => !arrived),
    ).toEqual([]);
    expect((await probe(hundred('20.1.1.4', '20.1.1.3'), namespaceOf, 3000)).filter((a) => !a)).toEqual([]);
    const { parts, container: each } = limitsOf(table());
    expect(parts * each).toBeGreaterThan(table() / 16);
    expect(parts * each).toBeLessThanOrEqual(table() / 8);
    // Beside those that are counted are the probes' own, and what has ended but is not collected yet.
    expect(Number(inRouter('cat /proc/sys/net/netfilter/nf_conntrack_count'))).toBeLessThan(table() / 4);
    expect(count()).toBeLessThan(table() / 4);
  }, 300_000);

  it('has as many packets of one flow pass as it sends, answered or not', async () => {
    const applier = openApplier();
    const ports = [2, 3].map((n) => port(n));
    applied(applier, state({ ports, remotes: [] }));
    for (const p of ports) container(p);
    inNamespace(namespacePath(box(2)), () =>
      sh('busybox seq 1 3000 | while read n; do echo $n; done | busybox nc -u -w 1 20.1.1.3 9 || true'),
    );
    expect(inNamespace(namespacePath('contiv-default'), () => refused(port(2).device))).toBe(0);
  });
});

/** Seconds that entries for port 53 have left, in the thread's namespace. */
const left = (): number[] =>
  [...sh('cat /proc/net/nf_conntrack').matchAll(/ udp +17 (\d+) .* dport=53 /g)].map((match) =>
    Number(match[1]),
  );

describe('a container that asks for names from a new port each time', () => {
  it('is answered as often as the nameserver listens to it: its queries are no connections that last', async () => {
    const applier = openApplier();
    applied(applier, state({ ports: [port(2)], remotes: [] }));
    container(port(2));
    const arrived = (): number => Number(/^Udp: \d+ (\d+)/m.exec(inRouter('cat /proc/net/snmp'))?.[1]);
    // Nobody listens. Beyond what a container may have of connections that last 30 s, and more than a second's of them.
    const question = { from: '20.1.1.2', to: NAMESERVER, protocol: 17, port: 53 };
    while (arrived() < table() / 4) {
      inNamespace(namespacePath(box(2)), () => {
        for (let i = 0; i < 500; i++) close(sender(question, i));
      });
      await new Promise((done) => setTimeout(done, 50));
    }
    expect(inNamespace(namespacePath('contiv-default'), () => refused(port(2).device))).toBe(0);
    expect(Math.max(...inNamespace(namespacePath('contiv-default'), left))).toBeLessThanOrEqual(1);
  }, 300_000);

  it('has an answer that comes when the query’s entry is gone', async () => {
    const applier = openApplier();
    applied(applier, state({ ports: [port(2)], remotes: [] }));
    container(port(2));
    const bound = (namespace: string, address: string, at: number): dgram.Socket => {
      const fd = inNamespace(namespace, () => bindPort('udp', address, at, { nonblocking: true }));
      const socket = dgram.createSocket('udp4').bind({ fd });
      onTestFinished(() => void socket.close());
      return socket;
    };
    const router = namespacePath('contiv-default');
    const server = bound(router, NAMESERVER, 53);
    const client = bound(namespacePath(box(2)), '20.1.1.2', 40_000);
    const asked = once(server, 'message');
    client.send('query', 53, NAMESERVER);
    const [, from] = await asked;
    expect(from).toMatchObject({ address: '20.1.1.2', port: 40_000 });
    await vi.waitUntil(() => inNamespace(router, left).length === 0, { timeout: 30_000 });
    const answered = once(client, 'message');
    server.send('answer', 40_000, '20.1.1.2');
    expect(String((await answered)[0])).toBe('answer');
  });

  it('has its answers translated for as long as the nameserver waits, and so has the nameserver', async () => {
    const applier = openApplier();
    applied(applier, state({ ports: [port(2)], remotes: [] }));
    container(port(2));
    world();
    const by = exit({}).routerAddress;
    const at = (address: string): string =>
      address === by ? namespacePath('contiv-default') : namespaceOf(address);
    await probe([{ from: '20.1.1.2', to: WORLD, protocol: 17, port: 53 }], at, 0);
    const router = inNamespace(namespacePath('contiv-default'), left);
    expect(router).toHaveLength(1);
    expect(router[0]).toBeGreaterThan(4); // of 12, as it was read a moment later; of the container's own way it would be 1
    expect(router[0]).toBeLessThanOrEqual(12);
    await probe([{ from: by, to: WORLD, protocol: 17, port: 53 }], at, 0);
    expect(left()).toHaveLength(1);
    expect(left()[0]).toBeLessThanOrEqual(12);
  });
});

/** Every place of a set of connections, in the thread's namespace: by elements that count nothing, which nobody collects. */
function fill(set: string): void {
  const places = Array.from({ length: 65_535 }, (_, i) => `"full${i >> 9}" . ${i & 511}`);
  for (let at = 0; at < places.length; at += 4096)
    sh(`echo 'add element inet contiv ${set} { ${places.slice(at, at + 4096).join(', ')} }' | nft -f -`);
}

describe('where the sets of connections are full', () => {
  it('a container and a tenant have a limit all the same, and the others begin connections', async () => {
    const applier = openApplier();
    const ports = [2, 3, 5, 4].map((n) => port(n));
    applied(applier, state({ ports, remotes: [] }, BLUE));
    for (const p of [...ports, port(7)]) container(p);
    world();
    inNamespace(namespacePath('contiv-default'), () => fill('begun'));
    fill('outside');
    const [greedy] = ports as [Port];
    flood(greedy, SILENT);
    await until(() => inNamespace(namespacePath('contiv-default'), () => refused(greedy.device)) > 1000);
    for (const p of ports.slice(1, 3)) flood(p, SILENT);
    await until(() => refused(exitDevice('default')) > 1000);
    expect(count()).toBeLessThan(table() / 16);
    expect(
      (
        await probe([...hundred('20.1.1.4', '20.1.1.3'), ...hundred('20.1.1.7', WORLD)], namespaceOf, 3000)
      ).filter((arrived) => !arrived),
    ).toEqual([]);
  }, 300_000);
});

describe('a tenant whose containers begin connections without end', () => {
  it('has its share of the host’s table; another tenant has its own', async () => {
    const applier = openApplier();
    const ports = [2, 3, 4].map((n) => port(n));
    applied(applier, state({ ports, remotes: [] }, BLUE));
    for (const p of [...ports, port(7)]) container(p);
    world();
    for (const p of ports) flood(p, SILENT);
    await until(() => refused(exitDevice('default')) > 1000);
    expect(
      (await probe(hundred('20.1.1.7', WORLD), namespaceOf, 3000)).filter((arrived) => !arrived),
    ).toEqual([]);
    expect(count()).toBeLessThan(table() / 2);
  }, 300_000);
});
