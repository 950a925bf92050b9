import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { isolate, sh } from '../../test/isolation.ts';
import { type Netlink, openNetlink } from './netlink.ts';
import * as route from './route.ts';
import * as traffic from './traffic.ts';

let netlink: Netlink;
let device: number;
let ifb: number;

const index = (name: string): number => route.listLinks(netlink).find((l) => l.name === name)?.index ?? 0;
const qdiscs = (of: number): traffic.Qdisc[] =>
  traffic.listQdiscs(netlink).filter((q) => q.device === of && q.handle !== 0);

beforeAll(() => {
  isolate();
  // No packets but the tests' own.
  sh('sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1');
  netlink = openNetlink();
  netlink.request(route.addVeth({ name: 'va', mtu: 1500 }, { name: 'vb', mtu: 1500 }));
  netlink.request(route.addIfb('fb'));
  for (const name of ['va', 'vb', 'fb']) netlink.request(route.setLink(index(name), { up: true }));
  [device, ifb] = [index('va'), index('fb')];
});
afterEach(() => {
  for (const qdisc of qdiscs(device)) netlink.request(traffic.deleteQdisc(qdisc));
});
afterAll(() => netlink.close());

const HANDLE = 0x10000;
const BUCKET: traffic.TokenBucket = { rate: 125_000, burst: 15_000, queue: 30_000 };

describe('an IFB', () => {
  it('is a link of its kind', () => {
    expect(route.listLinks(netlink).find((l) => l.name === 'fb')).toMatchObject({ kind: 'ifb', up: true });
    expect(() => netlink.request(route.addIfb('fb'))).toThrow('link add fb type ifb: EEXIST');
  });
});

describe('a token bucket', () => {
  it.each([
    ['1 mbps', { rate: 125_000, burst: 15_000, queue: 30_000 }, /rate 1Mbit burst 15000b/],
    ['1 gbps', { rate: 125_000_000, burst: 1_250_000, queue: 6_250_000 }, /rate 1Gbit burst 125/],
    ['10 gbps', { rate: 1_250_000_000, burst: 12_500_000, queue: 62_500_000 }, /rate 10Gbit/],
    [
      'more than 32 bits of bytes a second',
      { rate: 12_500_000_000, burst: 100_000_000, queue: 100_000_000 },
      /rate 100Gbit/,
    ],
    ['a burst of minutes', { rate: 1_000, burst: 200_000, queue: 30_000 }, /rate 8Kbit/],
  ])('of %s is set and read', (_, bucket, shown) => {
    netlink.request(traffic.setTokenBucket(device, HANDLE, bucket));
    const [read] = qdiscs(device);
    expect(read).toMatchObject({ device, kind: 'tbf', handle: HANDLE, parent: traffic.ROOT });
    expect(read?.bucket).toMatchObject({ rate: bucket.rate, queue: bucket.queue });
    expect(traffic.sameBurst(bucket.burst, read?.bucket?.burst ?? 0, bucket.rate)).toBe(true);
    expect(traffic.sameBurst(bucket.burst * 1.01, read?.bucket?.burst ?? 0, bucket.rate)).toBe(false);
    expect(sh('tc qdisc show dev va')).toMatch(shown);
  });

  it('is changed in place by its handle, replaced by another, and deleted', () => {
    const sentBytes = () => sh('tc -s qdisc show dev va').match(/Sent (\d+) bytes/)?.[1];
    netlink.request(traffic.setTokenBucket(device, HANDLE, BUCKET));
    sh('ip addr replace 192.0.2.1/24 dev va; ip neigh replace 192.0.2.2 dev va lladdr 02:00:00:00:00:01');
    sh('busybox ping -c 1 -W 1 192.0.2.2 || true');
    const sent = sentBytes();
    expect(Number(sent)).toBeGreaterThan(0);
    netlink.request(traffic.setTokenBucket(device, HANDLE, { ...BUCKET, rate: 250_000 }));
    expect(sentBytes()).toBe(sent);
    netlink.request(traffic.setTokenBucket(device, 2 * HANDLE, BUCKET));
    expect(sentBytes()).toBe('0');
    const [present] = qdiscs(device);
    if (present !== undefined) netlink.request(traffic.deleteQdisc(present));
    expect(qdiscs(device)).toEqual([]);
  });

  it('names device and rate when the kernel refuses', () => {
    expect(() => netlink.request(traffic.setTokenBucket(99_999, HANDLE, BUCKET))).toThrow(
      /qdisc replace dev 99999 root tbf rate 125000bps burst 15000: ENODEV/,
    );
    expect(() => netlink.request(traffic.setTokenBucket(device, HANDLE, { ...BUCKET, burst: 0 }))).toThrow(
      /burst 0: EINVAL/,
    );
  });
});

describe('an ingress', () => {
  it('is added with a redirection, read, and deleted with it', () => {
    expect(traffic.listFilters(netlink, device)).toEqual([]);
    netlink.request(traffic.addIngress(device));
    expect(traffic.listFilters(netlink, device)).toEqual([]);
    netlink.request(traffic.addRedirect(device, ifb));
    expect(traffic.listFilters(netlink, device)).toEqual([{ kind: 'u32', redirect: ifb }]);
    expect(sh('tc filter show dev va ingress')).toMatch(
      /protocol all .*u32[\s\S]*match 00000000\/00000000 at 0[\s\S]*mirred \(Egress Redirect to device fb\) stolen/,
    );
    const [ingress] = qdiscs(device);
    expect(ingress).toEqual({ device, kind: 'ingress', handle: 0xffff0000, parent: traffic.INGRESS });
    if (ingress !== undefined) netlink.request(traffic.deleteQdisc(ingress));
    expect(qdiscs(device)).toEqual([]);
    expect(traffic.listFilters(netlink, device)).toEqual([]);
  });

  it.each([
    ['matches some packets only', 'match ip dst 10.0.0.1 action mirred egress redirect dev fb'],
    ['copies packets', 'match u32 0 0 action mirred egress mirror dev fb'],
    [
      'does two things',
      'match u32 0 0 action mirred egress mirror dev fb action mirred egress redirect dev fb',
    ],
    ['does nothing', 'match u32 0 0 flowid 1:1'],
  ])('has no redirection where the filter %s', (_, filter) => {
    sh(`tc qdisc add dev va ingress; tc filter add dev va ingress protocol all u32 ${filter}`);
    // The priority is the kernel's own choice, where none is given (net/sched/cls_api.c, tcf_auto_prio).
    expect(traffic.listFilters(netlink, device)).toEqual([{ kind: 'u32', priority: 0xc000 }]);
  });

  it('gives what it redirects back as received by the device that it came from', () => {
    netlink.request(traffic.addIngress(device));
    netlink.request(traffic.addRedirect(device, ifb));
    sh(`ip netns add there; ip link set dev vb netns there
        ip -n there addr add 192.0.2.2/24 dev vb; ip -n there link set vb up
        ip neigh del 192.0.2.2 dev va; ip addr replace 192.0.2.1/24 dev va
        ip netns exec there busybox ping -c 1 -W 5 192.0.2.1`);
    const [shown] = JSON.parse(sh('ip -j -s link show fb')) as { stats64: { rx: { packets: number } } }[];
    expect(shown?.stats64.rx.packets).toBeGreaterThanOrEqual(2); // ARP, ping
    expect(sh('ip neigh show dev va')).toContain('192.0.2.2');
    netlink.request(route.deleteLink({ index: ifb, name: 'fb' }));
    // With the IFB gone, what it was to queue is dropped.
    expect(sh('ip netns exec there busybox ping -c 1 -W 1 192.0.2.1 || true')).toContain('100% packet loss');
  });
});
