/**
 * Bandwidth limits of containers, in the router, on the router's end of the container's veth: a container that may
 * change its own end (CAP_NET_ADMIN) changes nothing about its limits.
 *
 *   to the container      router -> [bucket, root of ct…] -> ct… -> container
 *   from the container    container -> ct… -> ingress -> [bucket, root of ib…] -> IFB gives it back -> received by ct…
 *
 * Every limited container has an IFB of its own, named from its device. The IFB stands before the router's
 * prerouting: guard, NAT and routing see the packet once, as received by ct….
 *
 * What the rate counts: the payload of full-size UDP packets over IPv4. A bucket counts frames, so its rate is set higher
 * by the headers' part. So each way of measuring finds the rate within 4 %, at an MTU of 1450 or more: UDP payload exact,
 * TCP payload 1.7 % less (IPv6: 3.1 %), frames on the wire 3 % more. Small packets count with their headers: of
 * packets with 100 bytes of payload, 72 % of the rate is payload.
 *
 * Burst: 50 ms at the rate, as a busy machine serves a queue that late, and what a longer stall leaves unused is lost (0.5 %
 * over ten seconds). Where that is less than a super-packet (GSO), below 11 mbps, ten frames, TCP's first window (RFC 6928):
 * at 1 mbps that is 1.2 % more than the rate over ten seconds. A burst that was set is raised to 4 ms, a tick of the
 * kernel's clock: with less the rate is not reached (tc-tbf(8); 16 KB at 1 gbps gave 0.8 gbps). A bucket cuts
 * super-packets that are longer than its burst: at low rates no packet holds the queue for half a second.
 *
 * Queue: 50 ms at the rate. TCP CUBIC gives up 0.3 of its window after a loss, so it keeps the rate as long as the
 * queue holds 0.43 of what is under way in a round trip: up to round trips of 115 ms. At low rates, not less than
 * 36 frames, which with the burst hold a datagram or super-packet of 64 KiB, and enough segments behind a lost one for
 * TCP's fast retransmit (0.4 s at 1 mbps, 50 ms from 8 mbps on).
 *
 * The kernel's cost: per limited container two root qdiscs, an ingress qdisc, a filter and a link. Read on every pass: one
 * dump of qdiscs, and of each limited device's filters (the kernel lists them by device only).
 */
import type { Netlink, Request } from '../../linux/netlink.ts';
import * as route from '../../linux/route.ts';
import * as traffic from '../../linux/traffic.ts';

/** What an endpoint may send, and what it may receive. */
export interface Limit {
  /** The router's end of its veth: `ct` and ten hex digits. */
  readonly device: string;
  /** At least 1,000. */
  readonly bitsPerSecond: number;
  /** What may pass at once after a pause; by default what suits the rate. Raised to one frame and to 4 ms of the rate. */
  readonly burstBytes?: number;
}

export interface LimitsReport {
  /** Requests sent that change something. */
  readonly writes: number;
  /** One line for each difference from what was established before that somebody else had made. */
  readonly repaired: readonly string[];
  /** One line for each request that the kernel refused. */
  readonly failed: readonly string[];
  /** To be handed to the next call for this router. */
  readonly established: ReadonlySet<string>;
}

const PORT = /^ct[0-9a-f]{10}$/;
const IFB = /^ib[0-9a-f]{10}$/;
const ifbDevice = (device: string): string => `ib${device.slice(2)}`;

const ETHERNET = 14;
const VLAN_TAG = 4;
const IP_AND_UDP = 28;
const SHORT_BURST_FRAMES = 10;
const BURST_SECONDS = 0.05;
const LEAST_BURST_SECONDS = 0.004;
const LEAST_QUEUE_FRAMES = 36;
const QUEUE_SECONDS = 0.05;
/** The kernel's longest burst is 274 s of the rate (32 bits of 64 ns). */
const LONGEST_BURST_SECONDS = 200;
const U32_MAX = 0xffffffff;
/** Longest usual super-packet, 64 KiB, with the headers that its segments will have (net/core/dev.c, qdisc_pkt_len_init). */
const SUPER_PACKET = 72 * 1024;

/** The bucket for a limit on a device with this MTU. */
export function bucketOf({ bitsPerSecond, burstBytes }: Limit, mtu: number): traffic.TokenBucket {
  const frame = mtu + ETHERNET;
  const rate = Math.round(((bitsPerSecond / 8) * frame) / (mtu - IP_AND_UDP));
  const long = rate * BURST_SECONDS;
  const usual = long < SUPER_PACKET ? SHORT_BURST_FRAMES * frame : long;
  const burst = Math.min(burstBytes ?? usual, rate * LONGEST_BURST_SECONDS, U32_MAX);
  const queue = Math.max(rate * QUEUE_SECONDS, LEAST_QUEUE_FRAMES * frame);
  return {
    rate,
    burst: Math.round(Math.max(burst, rate * LEAST_BURST_SECONDS, frame + VLAN_TAG)),
    queue: Math.round(Math.min(queue, U32_MAX)),
  };
}

const HANDLES = [0x10000, 0x20000] as const;

/**
 * Makes the limits of a router's namespace equal to the list, also those that an earlier process left. A change of rate
 * keeps what waits in the queue, except where the burst becomes less than what might wait there (traffic.ts,
 * setTokenBucket): then the queue begins anew, and TCP sends again what was in it.
 *
 * `links` are those of the namespace as they are now. A limit of a device that is not there waits for the call after it
 * has come. `before` is what the last call established; undefined for the first one, which repairs without a word.
 */
export function establishLimits(
  netlink: Netlink,
  limits: readonly Limit[],
  links: readonly route.Link[],
  before: ReadonlySet<string> | undefined,
): LimitsReport {
  const repaired: string[] = [];
  const failed: string[] = [];
  const established = new Set<string>();
  let writes = 0;
  const send = (requests: readonly Request[]): void => {
    writes += requests.length;
    for (const error of netlink.batch(requests)) if (error !== undefined) failed.push(error.message);
  };
  /** Notes what is wanted; where it is not there and was, that is a repair. */
  const want = (entry: string, present: boolean): boolean => {
    established.add(entry);
    if (!present && before?.has(entry)) repaired.push(`restored ${entry}`);
    return present;
  };

  const qdiscs = traffic.listQdiscs(netlink);
  const find = (link: route.Link | undefined, parent: number): traffic.Qdisc | undefined =>
    qdiscs.find((q) => q.device === link?.index && q.parent === parent && q.handle !== 0);
  const byName = new Map(links.map((l) => [l.name, l]));
  const wanted = limits.filter((l) => byName.has(l.device));

  const missing: string[] = [];
  for (const { device } of wanted) {
    const name = ifbDevice(device);
    const link = byName.get(name);
    if (want(`link ${name}`, link?.kind === 'ifb')) continue;
    if (link !== undefined) send([route.deleteLink(link)]);
    missing.push(name);
  }
  if (missing.length > 0) {
    send(missing.map(route.addIfb));
    for (const link of route.listLinks(netlink)) byName.set(link.name, link);
  }

  const changes: Request[] = [];
  for (const limit of wanted) {
    const port = byName.get(limit.device);
    const ifb = byName.get(ifbDevice(limit.device));
    if (port === undefined || ifb === undefined) continue; // its creation has failed, and was reported
    const bucket = bucketOf(limit, port.mtu);
    for (const link of [port, ifb]) {
      const present = find(link, traffic.ROOT);
      if (!want(`${describe(bucket)} of ${link.name}`, equal(bucket, present?.bucket)))
        changes.push(...bucketChanges(link.index, bucket, present));
    }
    if (!want(`${ifb.name} up`, ifb.up)) changes.push(route.setLink(ifb.index, { up: true }));
    const ingress = find(port, traffic.INGRESS);
    const filters = ingress?.kind === 'ingress' ? traffic.listFilters(netlink, port.index) : [];
    const leads = filters.length === 1 && filters[0]?.redirect === ifb.index;
    if (want(`redirection of ${port.name} to ${ifb.name}`, leads)) continue;
    if (ingress !== undefined) changes.push(traffic.deleteQdisc(ingress));
    changes.push(traffic.addIngress(port.index), traffic.addRedirect(port.index, ifb.index));
  }
  send(changes);

  // Whatever else is on a port, but for the fast path's qdisc, or is an IFB was a limit, or is somebody else's.
  const limited = new Set(wanted.map((l) => l.device));
  const removals: Request[] = [];
  const removed = (name: string, what: string): void => {
    if (before !== undefined && ![...before].some((entry) => entry.includes(name)))
      repaired.push(`removed ${what} ${name}`);
  };
  for (const link of links)
    if (PORT.test(link.name) && !limited.has(link.name))
      for (const qdisc of [find(link, traffic.INGRESS), find(link, traffic.ROOT)])
        if (qdisc !== undefined && qdisc.kind !== 'clsact') {
          removed(link.name, `${qdisc.kind} of`);
          removals.push(traffic.deleteQdisc(qdisc));
        }
  for (const link of links)
    if (IFB.test(link.name) && !limited.has(`ct${link.name.slice(2)}`)) {
      removed(link.name, 'link');
      removals.push(route.deleteLink(link));
    }
  send(removals);
  return { writes, repaired, failed, established };
}

const describe = (b: traffic.TokenBucket): string =>
  `rate ${b.rate} B/s, burst ${b.burst} B, queue ${b.queue} B`;

function equal(wanted: traffic.TokenBucket, present: traffic.TokenBucket | undefined): boolean {
  return (
    present?.rate === wanted.rate &&
    present.queue === wanted.queue &&
    traffic.sameBurst(wanted.burst, present.burst, wanted.rate)
  );
}

function bucketChanges(
  device: number,
  bucket: traffic.TokenBucket,
  present: traffic.Qdisc | undefined,
): Request[] {
  if (present === undefined) return [traffic.setTokenBucket(device, HANDLES[0], bucket)];
  const fits = present.bucket !== undefined && bucket.burst >= Math.min(present.bucket.burst, SUPER_PACKET);
  if (fits) return [traffic.setTokenBucket(device, present.handle, bucket)];
  // Another handle, so that a new queue takes the old one's place: what waits there might be too long for this bucket.
  const handle = HANDLES.find((h) => h !== present.handle) ?? HANDLES[0];
  return [traffic.setTokenBucket(device, handle, bucket)];
}
