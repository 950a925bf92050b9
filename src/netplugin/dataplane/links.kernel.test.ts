import { afterEach, beforeAll, expect, it } from 'vitest';
import { applied, clean, inRouter, port, router, state, VNI } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { createNamespace, inNamespace, namespacePath } from '../../linux/netns.ts';
import { vtepMac } from '../compile/deviceNames.ts';
import type { HostState, Port } from '../state.ts';
import { openApplier } from './applier.ts';

beforeAll(isolate);
afterEach(clean);

const vx = `vx${VNI}`;

/** The host of test/hostState.ts, with other facts about its underlay. */
function moved(to: { local?: string; mtu: number }, ports: readonly Port[]): HostState {
  const resized = ports.map((p) => ({ ...p, mtu: to.mtu }));
  const remotes = to.local?.includes(':') ? [] : undefined;
  const before = state({ ports: resized, ...(remotes && { remotes }) });
  const tunnels = router({}).tunnels.map((t) => {
    const local = to.local ?? t.local;
    return { ...t, local, mac: vtepMac(local), mtu: to.mtu };
  });
  return { ...before, routers: before.routers.map((r) => ({ ...r, tunnels })) };
}

const without = (listing: string, ...what: RegExp[]): string =>
  what.reduce((text, pattern) => text.replaceAll(pattern, ''), listing);

it('a tunnel takes another address in place: what leads to it stays, and no repair is said', () => {
  const applier = openApplier();
  const ports = [port(2)];
  applied(applier, moved({ mtu: 1450 }, ports));
  // The kernel lists neighbours in the order of a table of all namespaces.
  const entries = () =>
    without(
      inRouter(
        `ip route; ip -6 route; ip neigh show nud permanent | sort; bridge fdb show dev ${vx}; ip -o link`,
      ),
      /link\/ether \S+/g,
      / qdisc .*/g,
      / linkdown/g,
    );
  const before = entries();
  const there = moved({ local: '192.0.2.77', mtu: 1450 }, ports);
  expect(applied(applier, there).repaired).toEqual([]);
  expect(inRouter(`ip -d link show ${vx}`)).toMatch(
    new RegExp(
      `ether ${vtepMac('192.0.2.77')}[\\s\\S]*local 192.0.2.77 .*dstport 4789 nolearning tos inherit .*noudpcsum`,
    ),
  );
  expect(entries()).toBe(before);
  expect(applied(applier, there, true)).toMatchObject({ writes: 0, repaired: [] });
  inRouter(`ip link set ${vx} type vxlan id ${VNI} local 192.0.2.78; ip link set ${vx} mtu 1300`);
  expect(applied(applier, there, true).repaired).toContain(`contiv-default: ${vx} was changed`);
  expect(inRouter(`ip -d link show ${vx}`)).toMatch(/mtu 1450[\s\S]*local 192\.0\.2\.77 /);
});

it('one of IPv6 too, and of another family it is made anew', () => {
  const applier = openApplier();
  const tunnel = (local: string) => applied(applier, moved({ local, mtu: 1430 }, []));
  const device = () => inRouter(`ip -d -o link show ${vx}`);
  tunnel('2001:db8::1');
  const [index] = device().split(':');
  tunnel('2001:db8::2');
  expect(device()).toMatch(new RegExp(`^${index}: .*local 2001:db8::2 `));
  tunnel('192.0.2.1');
  expect(device()).toMatch(/local 192\.0\.2\.1 /);
});

it.each([1350, 8950])('all ends of running containers get an MTU of %i', (mtu) => {
  const applier = openApplier();
  createNamespace('box3');
  const inBox = (command: string) => inNamespace(namespacePath('box3'), () => sh(command));
  inBox('ip link set lo up; ip link add other type veth peer name far'); // shifts the numbers of devices
  const there = port(3, { sandbox: namespacePath('box3') });
  const ports = [port(2), there]; // the first one's end is still the runtime's to take
  applied(applier, moved({ mtu: 1450 }, ports));
  sh(`ip link set ${there.peer} netns box3 name eth0`);
  inBox('ip addr add 20.1.1.3/24 dev eth0; ip addr add fd00:1::3/64 dev eth0 nodad; ip link set eth0 up');
  const joined = [port(2), { ...there, joined: true }];
  applied(applier, moved({ mtu: 1450 }, joined));

  const resized = moved({ mtu }, joined);
  expect(applied(applier, resized).repaired).toEqual([]);
  const has = `mtu ${mtu} `;
  expect(inRouter(`ip link show ${vx}`)).toContain(has);
  for (const { device } of joined) expect(inRouter(`ip link show ${device}`)).toContain(has);
  expect(sh(`ip link show ${port(2).peer}`)).toContain(has);
  expect(inBox('ip link show eth0')).toContain(has);
  expect(inBox('ip link show other')).toContain('mtu 1500 ');
  expect(inBox('ip addr show eth0')).toMatch(/20\.1\.1\.3[\s\S]*fd00:1::3/);
  expect(applied(applier, resized, true)).toMatchObject({ writes: 0, repaired: [] });
  // An agent that is started anew finds what changed meanwhile.
  const anew = openApplier();
  applied(anew, moved({ mtu: 1400 }, joined));
  expect(inBox('ip link show eth0')).toContain('mtu 1400 ');
});

it('what is too large for a host that takes less is refused by the router, which says so to the sender', () => {
  const applier = openApplier();
  const wanted = moved({ mtu: 1450 }, [port(2)]);
  const less = (mtu?: number): HostState => ({
    ...wanted,
    routers: wanted.routers.map((r) => ({
      ...r,
      hosts: r.hosts.map((h) => ({ ...h, ...(mtu && { mtu }) })),
    })),
  });
  applied(applier, less());
  expect(inRouter('ip route show 20.1.1.9')).toMatch(/dev vx\d+ proto 199 onlink\s*$/);
  applied(applier, less(1350));
  createNamespace('box2');
  sh(`ip link set ${port(2).peer} netns box2 name eth0`);
  const inBox = (command: string) => inNamespace(namespacePath('box2'), () => sh(command));
  inBox('ip addr add 20.1.1.2/24 dev eth0; ip link set eth0 up; ip route add default via 20.1.1.254');
  // The kernel knows by the second one: it does not leave at all.
  const knows = () => {
    inBox('busybox ping -c1 -W1 -s 1400 20.1.1.9 >/dev/null 2>&1 || true');
    return inBox('ip route get 20.1.1.9');
  };
  expect(knows()).toContain('mtu 1350');
  expect(inRouter('ip route show 20.1.1.9')).toContain('mtu 1350');
  expect(applied(applier, less(1350), true)).toMatchObject({ writes: 0, repaired: [] });
  expect(applied(applier, less()).repaired).toEqual([]);
  expect(inRouter('ip route show 20.1.1.9')).toMatch(/dev vx\d+ proto 199 onlink\s*$/);
  applied(applier, less(1300));
  expect(applied(applier, less(1400), true).repaired).toEqual([]);
  expect(inRouter('ip route show 20.1.1.9')).toContain('mtu 1400');
});
