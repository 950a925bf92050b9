import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  applied,
  clean,
  inRouter,
  kernel,
  LOCAL,
  MAP,
  NOTHING,
  PEERS,
  port,
  remotes,
  state,
  VNI,
} from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import { namespaceId, namespacePath } from '../../linux/netns.ts';
import { exitDevice, vtepMac } from '../compile/deviceNames.ts';
import { type Applier, openApplier } from './applier.ts';

const given = state({ publications: [MAP], remotes: remotes(4) });
const { device, mac } = port(2);
const vtep = PEERS[0] as string;
const vx = `vx${VNI}`;

let applier: Applier;
let before: string;

beforeAll(() => {
  isolate();
  applier = openApplier();
  applied(applier, given);
  before = kernel();
});
afterAll(clean);

/** What was done behind our back is undone, and said. */
function repairs(what: RegExp, tamper: () => void): void {
  const reads = [1, 2].map(() => applied(applier, given, true).reads);
  expect(reads, 'nothing has changed since').toContain(0);
  tamper();
  expect(kernel(), 'the tampering shows').not.toBe(before);
  const report = applied(applier, given, true);
  expect(report.repaired.join('\n')).toMatch(what);
  expect(report.writes).toBeGreaterThan(0);
  expect(kernel()).toBe(before);
  expect(applied(applier, given, true)).toMatchObject({ writes: 0, repaired: [] });
}

describe('verify puts right and reports', () => {
  it.each<[string, RegExp, string]>([
    ['a deleted route', /contiv-default: restored route unicast 20\.1\.1\.2\/32/, 'ip route del 20.1.1.2'],
    ['a deleted IPv6 route', /restored route unicast fd00:1::2\/128/, 'ip -6 route del fd00:1::2'],
    [
      'a deleted route to another host',
      /restored route unicast 20\.1\.2\.0\/32 via 192\.0\.2\.2/,
      'ip route del 20.1.2.0',
    ],
    [
      'a deleted unreachable route',
      /restored route unreachable 20\.1\.1\.0\/24/,
      'ip route del unreachable 20.1.1.0/24',
    ],
    ['a deleted default route', /restored route unicast 0\.0\.0\.0\/0/, 'ip route del default'],
    ['an added route', /removed route unicast 20\.1\.1\.77\/32/, `ip route add 20.1.1.77 dev ${device}`],
    [
      'an added IPv6 route',
      /removed route unicast fd00:1::77\/128/,
      `ip -6 route add fd00:1::77 dev ${device}`,
    ],
    [
      'a route that was led elsewhere',
      /restored route unicast 20\.1\.1\.2\/32/,
      `ip route replace 20.1.1.2 via 192.0.2.3 dev ${vx} onlink`,
    ],
    [
      'an IPv6 route that was led elsewhere',
      /restored route unicast fd00:1::2\/128/,
      `ip -6 route replace fd00:1::2 dev ${vx}`,
    ],
    ['a deleted neighbour', /restored neighbour 20\.1\.1\.2 /, `ip neigh del 20.1.1.2 dev ${device}`],
    ['a deleted IPv6 neighbour', /restored neighbour fd00:1::2 /, `ip neigh del fd00:1::2 dev ${device}`],
    [
      'an added neighbour',
      /removed neighbour 20\.1\.1\.77 /,
      `ip neigh add 20.1.1.77 lladdr 02:00:00:00:00:77 dev ${device} nud permanent`,
    ],
    [
      'a neighbour with another MAC',
      new RegExp(`restored neighbour 20\\.1\\.1\\.2 lladdr ${mac}`),
      `ip neigh replace 20.1.1.2 lladdr 02:00:00:00:00:77 dev ${device} nud permanent`,
    ],
    [
      'an IPv6 neighbour with another MAC',
      new RegExp(`restored neighbour fd00:1::2 lladdr ${mac}`),
      `ip neigh replace fd00:1::2 lladdr 02:00:00:00:00:77 dev ${device} nud permanent`,
    ],
    [
      'a deleted FDB entry',
      /restored forwarding .* to 192\.0\.2\.2/,
      `bridge fdb del ${vtepMac(vtep)} dev ${vx} dst ${vtep}`,
    ],
    [
      'an added FDB entry',
      /removed forwarding 02:00:00:00:00:77 to 192\.0\.2\.77/,
      `bridge fdb add 02:00:00:00:00:77 dev ${vx} dst 192.0.2.77`,
    ],
    [
      'an FDB entry to another host',
      /restored forwarding .* to 192\.0\.2\.2/,
      `bridge fdb replace ${vtepMac(vtep)} dev ${vx} dst 192.0.2.77`,
    ],
    [
      'a deleted address',
      /restored address 20\.1\.1\.254\/32 dev/,
      `ip addr del 20.1.1.254/32 dev ${device}`,
    ],
    ['an added address', /removed address 20\.1\.1\.77\/32/, `ip addr add 20.1.1.77/32 dev ${device}`],
    [
      'a deleted element',
      /restored element .* \. 20\.1\.1\.2 : 1001 of set sources/,
      `nft 'delete element inet contiv sources { "${device}" . 20.1.1.2 }'`,
    ],
    [
      'a deleted IPv6 element',
      /restored element .* \. fd00:1::2 : 1001 of set sources6/,
      `nft 'delete element inet contiv sources6 { "${device}" . fd00:1::2 }'`,
    ],
    [
      'a deleted subnet',
      /restored element .* \. 20\.1\.1\.0\/24 of set same/,
      `nft 'delete element inet contiv same { 1001 . 20.1.1.0/24 }'`,
    ],
    [
      'a deleted remote',
      /restored element .* \. 20\.1\.2\.0 : 1001 of set remotes/,
      `nft 'delete element inet contiv remotes { ${vtepMac(vtep)} . 20.1.2.0 }'`,
    ],
    [
      'an added element',
      /removed element .* \. 20\.1\.1\.77 : 1001 of set sources/,
      `nft 'add element inet contiv sources { "${device}" . 20.1.1.77 : 1001 }'`,
    ],
    [
      'an added subnet',
      /removed element .* \. 20\.1\.0\.0\/16 of set same/,
      `nft 'add element inet contiv same { 77 . 20.1.0.0/16 }'`,
    ],
    [
      'a deleted publication',
      /restored element 6 \. 8080 : 20\.1\.1\.2 \. 80 of set published/,
      `nft 'delete element inet contiv published { tcp . 8080 }'`,
    ],
    [
      'a deleted neighbour of the way out',
      /restored neighbour 100\.127\.0\.0 lladdr \S+ dev uplink/,
      'ip neigh del 100.127.0.0 dev uplink',
    ],
    [
      'a deleted sender of ARP',
      /restored element .* \. 20\.1\.1\.2 \. 02:02:14:01:01:02 of set senders/,
      `nft 'delete element arp contiv senders { "${device}" . 20.1.1.2 . ${mac} }'`,
    ],
    ['a deleted rule for ARP', /rules of table inet contiv differed/, 'nft flush chain arp contiv input'],
    ['a deleted table for ARP', /rules of table inet contiv differed/, 'nft delete table arp contiv'],
    [
      'an added publication',
      /removed element 6 \. 81 : 20\.1\.1\.2 \. 80 of set published/,
      `nft 'add element inet contiv published { tcp . 81 : 20.1.1.2 . 80 }'`,
    ],
    [
      'a publication led elsewhere',
      /restored element 6 \. 8080 : 20\.1\.1\.2 \. 80/,
      `nft 'delete element inet contiv published { tcp . 8080 }; add element inet contiv published { tcp . 8080 : 20.1.1.9 . 80 }'`,
    ],
    [
      'a deleted rule',
      /contiv-default: rules of table inet contiv differed/,
      'nft flush chain inet contiv guard',
    ],
    ['an added rule', /rules of table inet contiv differed/, 'nft insert rule inet contiv forward accept'],
    ['an added chain', /rules of table inet contiv differed/, 'nft add chain inet contiv more'],
    ['a deleted table', /rules of table inet contiv differed/, 'nft delete table inet contiv'],
    ['a flushed rule set', /rules of table inet contiv differed/, 'nft flush ruleset'],
    ['a tunnel that is down', /vx1001 was down/, `ip link set ${vx} down`],
    ['a port that is down', new RegExp(`${device} was down`), `ip link set ${device} down`],
    ['a deleted tunnel', /vx1001 was gone/, `ip link del ${vx}`],
    [
      'a tunnel with another tag',
      /vx1001 was gone/,
      `ip link del ${vx}; ip link add ${vx} type vxlan id 77 dstport 4789; ip link set ${vx} up`,
    ],
    ['an added tunnel', /vx77 was not ours/, 'ip link add vx77 type vxlan id 77 dstport 4789'],
    ['a deleted way out', /uplink was gone/, 'ip link del uplink'],
    ['a way out that is down', /uplink was down/, 'ip link set uplink down'],
  ])('%s', (_, what, command) => repairs(what, () => void inRouter(command)));

  const cx = exitDevice('default');
  it.each<[string, RegExp, string]>([
    [
      'a deleted element',
      /host: restored element 192\.0\.2\.1 \. 6 \. 9999 of set guarded/,
      `nft 'delete element inet contiv guarded { ${LOCAL} . tcp . 9999 }'`,
    ],
    [
      'an added element',
      /host: removed element 100\.127\.9\.9 of set transit/,
      "nft 'add element inet contiv transit { 100.127.9.9 }'",
    ],
    [
      'a deleted publication',
      /host: restored element 6 \. 8080 : 100\.127\.0\.1 \. 8080 of set published/,
      "nft 'delete element inet contiv published { tcp . 8080 }'",
    ],
    [
      'an added rule',
      /host: rules of table inet contiv differed/,
      'nft insert rule inet contiv forward accept',
    ],
    ['a deleted table', /host: rules of table inet contiv differed/, 'nft delete table inet contiv'],
    [
      'a deleted address',
      /host: restored address 100\.127\.0\.0\/31/,
      `ip addr del 100.127.0.0/31 dev ${cx}`,
    ],
    ['a way out that is down', /host: .* was down/, `ip link set ${cx} down`],
    [
      'a deleted neighbour',
      /host: restored neighbour 100\.127\.0\.1 lladdr/,
      `ip neigh del 100.127.0.1 dev ${cx}`,
    ],
    ['an added way out', /host: cx01234567 was not ours/, 'ip link add cx01234567 type veth peer name pp0'],
  ])("in the host's namespace: %s", (_, what, command) => repairs(what, () => void sh(command)));

  it('a deleted port of a container that has not joined', () => {
    repairs(new RegExp(`${device} was gone`), () => void inRouter(`ip link del ${device}`));
  });

  it.each([
    ['a deleted name of a router', 'ip netns del contiv-default', true],
    ['one that leads elsewhere', 'ip netns del contiv-default; ip netns add contiv-default', true],
    ['one, before any verification', 'ip netns del contiv-default', false],
  ])('%s, without a change to what runs there', (_, tamper, verify) => {
    const router = namespaceId(namespacePath('contiv-default'));
    const links = () => sh(`ip -o link show ${port(2).peer}; ip -o link show ${exitDevice('default')}`);
    const had = links();
    sh(tamper);
    const report = applied(applier, given, verify);
    expect(report.repaired.join('\n')).toMatch(/namespace contiv-default: its name was gone/);
    expect(report).toMatchObject({ created: [], lost: [] });
    expect(namespaceId(namespacePath('contiv-default'))).toBe(router);
    expect(links()).toBe(had);
    expect(kernel()).toBe(before);
  });
});

it('verify gives both ends of the way out their MAC addresses, which their neighbours have, again', () => {
  const cx = exitDevice('default');
  const macs = () =>
    [inRouter('ip -o link show uplink'), sh(`ip -o link show ${cx}`)].map(
      (text) => /ether (\S+)/.exec(text)?.[1],
    );
  const had = macs();
  inRouter('ip link set uplink address 02:00:00:00:00:77');
  sh(`ip link set ${cx} address 02:00:00:00:00:78`);
  const report = applied(applier, given, true);
  expect(report.repaired.join('\n')).toMatch(/uplink had the MAC address 02:00:00:00:00:77/);
  expect(report.repaired.join('\n')).toMatch(/host: .* had the MAC address 02:00:00:00:00:78/);
  expect(macs()).toEqual(had);
});

describe('verify sets what we depend on again, and says so', () => {
  const cx = exitDevice('default');
  const set = (at: (command: string) => string, key: string, value: string): string =>
    at(`cat /proc/sys/${key}; echo ${value} > /proc/sys/${key}`).trim();
  it.each<[string, string]>([
    ['net/ipv4/ip_forward', '0'],
    ['net/ipv4/icmp_ratemask', '6168'],
    ['net/ipv6/conf/all/forwarding', '0'],
    ['net/netfilter/nf_conntrack_tcp_timeout_time_wait', '120'],
    [`net/ipv4/conf/${device}/forwarding`, '0'],
    [`net/ipv4/conf/${device}/proxy_arp`, '0'],
    [`net/ipv4/conf/${vx}/rp_filter`, '1'],
    ['net/ipv4/conf/uplink/forwarding', '0'],
  ])('%s of a router', (key, value) => {
    const had = set(inRouter, key, value);
    const repaired: string[] = [];
    // What is read of each device comes with a whole reading.
    for (let i = 0; i < 20; i++) repaired.push(...applied(applier, given, true).repaired);
    expect(repaired).toContain(`contiv-default: ${key} was not ${had}`);
    expect(inRouter(`cat /proc/sys/${key}`).trim()).toBe(had);
  });

  it('of the host, on its ends of the ways out and on its own way out', () => {
    sh(
      'ip link add out0 type veth peer name out1; ip link set out0 up; ip addr add 198.51.100.1/24 dev out0',
    );
    sh('ip route add default via 198.51.100.2');
    applied(applier, given, true);
    for (const name of [cx, 'out0']) {
      const key = `net/ipv4/conf/${name}/forwarding`;
      expect(set(sh, key, '0')).toBe('1');
      expect(applied(applier, given, true).repaired).toEqual([`host: ${key} was not 1`]);
      expect(sh(`cat /proc/sys/${key}`)).toBe('1\n');
    }
    sh('ip link delete out0');
    applied(applier, given, true);
  });
});

it('verify reads all entries where others changed any, and else now and then', () => {
  const reads = (): number => applied(applier, given, true).reads;
  reads();
  reads();
  inRouter('ip route add 20.1.9.9 dev lo; ip route del 20.1.9.9 dev lo');
  expect([reads(), reads()]).toEqual([1, 0]);
  expect(Array.from({ length: 30 }, reads).reduce((sum, n) => sum + n)).toBe(2);
});

it('verify reads nothing for what we changed ourselves', () => {
  applied(applier, given, true);
  const moved = state({ publications: [MAP], remotes: remotes(8) });
  applied(applier, moved);
  applied(applier, given);
  expect(applied(applier, given, true)).toMatchObject({ reads: 0, writes: 0 });
  expect(kernel()).toBe(before);
});

it("verify leaves alone what others have in the host's namespace", () => {
  sh('nft add table inet others; nft add chain inet others c; ip link add other0 type veth peer name other1');
  const theirs = () => sh('nft list table inet others; ip -o link show other0');
  const before = theirs();
  applied(applier, given, true);
  applied(applier, NOTHING, true);
  expect(theirs()).toBe(before);
  sh('nft delete table inet others');
});

it('a change meets what somebody has done in between: it is done, and that put right', () => {
  const fewer = state({ publications: [MAP], remotes: remotes(3) });
  applied(applier, fewer);
  const wanted = kernel();
  applied(applier, given);
  inRouter('nft flush map inet contiv remotes');
  const report = applier.apply(fewer, { verify: false });
  expect(report).toMatchObject({ complete: true, failed: [] });
  expect(report.repaired.join('\n')).toMatch(/restored element .* of set remotes/);
  expect(kernel()).toBe(wanted);
  applied(applier, given);
});

it('what the kernel has refused leaves the pass incomplete, and is tried with the next one until it is there', () => {
  const fewer = state({ publications: [MAP], remotes: [] });
  applied(applier, given);
  const wanted = kernel();
  applied(applier, fewer);
  inRouter(`ip addr add ${vtep}/32 dev lo`); // an address of its own is no next hop
  const refused = applier.apply(given, { verify: false });
  expect(refused).toMatchObject({ complete: false });
  expect(refused.failed.map(({ code }) => code)).toContain('EINVAL');
  inRouter(`ip addr del ${vtep}/32 dev lo 2>/dev/null || true`);
  expect(applied(applier, given).complete).toBe(true);
  expect(kernel()).toBe(wanted);
});

it('what the kernel has refused on the host is tried with the next pass too', () => {
  const another = state({
    publications: [MAP, { ...MAP, hostPort: 8081, transitPort: 8081 }],
    remotes: remotes(4),
  });
  const cx = exitDevice('default');
  applied(applier, given);
  const wanted = kernel();
  sh(`echo 1 > /proc/sys/net/ipv6/conf/${cx}/disable_ipv6`); // its IPv6 addresses are gone, and others refused
  const refused = applier.apply(another, { verify: false });
  expect(refused).toMatchObject({ complete: false });
  expect(refused.failed.map(({ code }) => code)).toContain('EACCES');
  sh(`echo 0 > /proc/sys/net/ipv6/conf/${cx}/disable_ipv6`);
  expect(applied(applier, another).complete).toBe(true);
  applied(applier, given);
  expect(kernel()).toBe(wanted);
});
