/**
 * Bandwidth limits of containers, in the router, on the router's end of the container's veth: a container that may
 * change its own end (CAP_NET_ADMIN) changes nothing about its limits.
 *
 *   to the container      router -> [bucket, root of ct…] -> ct… -> container
 *   from the container    container -> ct… -> ingress -> [bucket, root of ib…] -> IFB gives it back -> received by ct…
 *
 * Every container that is limited in what it sends has an IFB of its own, named from its device. The IFB stands before the
 * router's prerouting: guard, NAT and routing see the packet once, as received by ct….
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
 * The kernel's cost: a root qdisc per container that is limited in what it receives; in what it sends, a root qdisc, an ingress qdisc,
 * a filter and a link. Read on every pass: one dump of qdiscs, and of each such device's filters (the kernel lists them by device only).
 */
import type { Netlink, Request } from '../../linux/netlink.ts';
import * as route from '../../linux/route.ts';
import * as traffic from '../../linux/traffic.ts';
import { DEVICE_PREFIXES } from '../constants.ts';
import type { Bandwidth, Rate } from '../state.ts';
import { establish, type Kind, type Tracker, track } from './difference.ts';
import { combine, type Failure, type Outcome, send } from './outcome.ts';
import { writeRequests } from './requests.ts';

/** What an endpoint may receive, and what it may send. A burst is raised to one frame and to 4 ms of the rate. */
export interface Limit extends Bandwidth {
  /** The router's end of its veth: its prefix (constants.ts) and ten hex digits. */
  readonly device: string;
}

/** What is known of a router's limits. */
export interface OpenLimits {
  readonly ifbs: Tracker<Ifb>;
  readonly queues: Tracker<Queue>;
}

export interface LimitsReport {
  /** Requests sent that change something. */
  readonly writes: number;
  /** One line for each difference from what was established before that somebody else had made. */
  readonly repaired: readonly string[];
  /** What the kernel refused. */
  readonly failed: readonly Failure[];
  /** To be handed to the next call for this router. */
  readonly established: OpenLimits;
}

interface Ifb {
  readonly name: string;
  readonly text: string;
  readonly link?: route.Link;
}

const IFBS: Kind<Ifb> = {
  text: (ifb) => ifb.text,
  place: (ifb) => ifb.name,
  removedFirst: true,
  removed: ({ text }, by) => (by === undefined ? `removed ${text}` : undefined),
};

/** A qdisc with what hangs on it, or that the device is up. */
interface Queue {
  readonly place: string;
  readonly text: string;
  /** What is there. */
  readonly qdisc?: traffic.Qdisc;
  /** `instead`: what is in its place. */
  add?(instead: traffic.Qdisc | undefined): readonly Request[];
}

const QUEUES: Kind<Queue> = {
  text: (queue) => queue.text,
  place: (queue) => queue.place,
  removed: ({ text }, by) => (by === undefined ? `removed ${text}` : undefined),
};

const PORT = new RegExp(`^${DEVICE_PREFIXES.port}[0-9a-f]{10}$`);
const IFB = new RegExp(`^${DEVICE_PREFIXES.queue}[0-9a-f]{10}$`);
const ifbDevice = (device: string): string =>
  `${DEVICE_PREFIXES.queue}${device.slice(DEVICE_PREFIXES.port.length)}`;

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

/** The bucket for a rate on a device with this MTU. */
export function bucketOf({ bitsPerSecond, burstBytes }: Rate, mtu: number): traffic.TokenBucket {
  const frame = mtu + ETHERNET;
  const rate = Math.round(((bitsPerSecond / 8) * frame) / (mtu - IP_AND_UDP));
  const long = rate * BURST_SECONDS;
  const usual = long < SUPER_PACKET ? SHORT_BURST_FRAMES * frame : long;
  const burst = Math.min(burstBytes ?? usual, rate * LONGEST_BURST_SECONDS, U32_MAX);
  const queue = Math.max(rate * QUEUE_SECONDS, LEAST_QUEUE_FRAMES * frame);
  return {
    rate,
    burst: Math.round(Math.min(Math.max(burst, rate * LEAST_BURST_SECONDS, frame + VLAN_TAG), U32_MAX)),
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
  before: OpenLimits | undefined,
): LimitsReport {
  const open = before ?? { ifbs: track(IFBS), queues: track(QUEUES) };
  const qdiscs = traffic.listQdiscs(netlink);
  const byName = new Map(links.map((l) => [l.name, l]));
  const wanted = limits.filter((l) => byName.has(l.device));

  const ifbs = open.ifbs.compare({
    wanted: new Map(wanted.filter((l) => l.from).map((limit) => [limit, [ifbOf(ifbDevice(limit.device))]])),
    present: links.filter((l) => IFB.test(l.name)).map((l) => ifbOf(l.name, l)),
  });
  const missing = ifbs.additions.map(({ entry }) => entry);
  const replaced = new Set(missing.map(({ name }) => name));
  const remove = (list: readonly Ifb[]): Outcome =>
    send(netlink, route.deleteLinks(list.flatMap(({ link }) => link ?? [])));
  const cleared = remove(ifbs.removals.filter(({ name }) => replaced.has(name)));
  const made = send(
    netlink,
    missing.map(({ name }) => route.addIfb(name)),
  );
  if (missing.length > 0) for (const link of route.listLinks(netlink)) byName.set(link.name, link);
  ifbs.settle(missing.filter(({ name }) => byName.get(name)?.kind !== 'ifb'));

  const queues = new Map(wanted.map((limit) => [limit, queuesOf(limit, byName)]));
  const known = [...open.queues.held(), ...[...queues.values()].flat()];
  const { outcome } = establish(open.queues, {
    wanted: queues,
    list: () => listQueues(netlink, qdiscs, byName, new Map(known.map((q) => [q.place, q])), wanted),
    write: (change) =>
      writeRequests(
        netlink,
        {
          add: (queue, instead) => queue.add?.(instead?.qdisc),
          remove: ({ qdisc }) => qdisc && [traffic.deleteQdisc(qdisc)],
        },
        change,
      ),
  });
  // The last: what is led to one that has gone is dropped.
  const gone = remove(ifbs.removals.filter(({ name }) => !replaced.has(name)));
  const { writes, repaired, failed } = combine([cleared, made, outcome, gone, { repaired: ifbs.repaired }]);
  return { writes, repaired, failed, established: open };
}

const ifbOf = (name: string, link?: route.Link): Ifb => ({
  name,
  text: link === undefined || link.kind === 'ifb' ? `link ${name}` : `${link.kind} ${name}`,
  ...(link && { link }),
});

const rootOf = (name: string): string => `root of ${name}`;
const ingressOf = (name: string): string => `ingress of ${name}`;
const stateOf = (name: string): string => `state of ${name}`;

function queuesOf({ device, to, from }: Limit, links: ReadonlyMap<string, route.Link>): Queue[] {
  const port = links.get(device);
  if (port === undefined) return [];
  const bucketAt = ({ name, index }: route.Link, rate: Rate): BucketQueue => {
    const bucket = bucketOf(rate, port.mtu);
    return {
      place: rootOf(name),
      text: `${describe(bucket)} of ${name}`,
      bucket,
      add: (instead) => bucketChanges(index, bucket, instead),
    };
  };
  const received = to === undefined ? [] : [bucketAt(port, to)];
  const ifb = links.get(ifbDevice(device));
  // Where its creation has failed that was reported.
  if (from === undefined || ifb === undefined) return received;
  return [
    ...received,
    bucketAt(ifb, from),
    {
      place: stateOf(ifb.name),
      text: `${ifb.name} up`,
      add: () => [route.setLink(ifb.index, { up: true })],
    },
    {
      place: ingressOf(port.name),
      text: `redirection of ${port.name} to ${ifb.name}`,
      add: (instead) => [
        ...(instead === undefined ? [] : [traffic.deleteQdisc(instead)]),
        traffic.addIngress(port.index),
        traffic.addRedirect(port.index, ifb.index),
      ],
    },
  ];
}

interface BucketQueue extends Queue {
  readonly bucket: traffic.TokenBucket;
}

/**
 * What limited devices have, and other ports: whatever is there, but for the fast path's qdisc, was a limit, or is somebody
 * else's. `known`: what is wanted at a place or was established there, which is what is there if it fits: a burst is not read as
 * it was set. What is on a port without a limit is not looked at more closely: it goes.
 */
function listQueues(
  netlink: Netlink,
  qdiscs: readonly traffic.Qdisc[],
  links: ReadonlyMap<string, route.Link>,
  known: ReadonlyMap<string, Queue>,
  wanted: readonly Limit[],
): Queue[] {
  const limited = new Map(wanted.map((l) => [l.device, l]));
  const at = (place: string, fits: boolean, what: string, qdisc?: traffic.Qdisc): Queue => {
    const text = fits ? known.get(place)?.text : undefined;
    return { place, text: text ?? what, ...(qdisc && { qdisc }) };
  };
  const qdiscOf = (link: route.Link, parent: number): traffic.Qdisc | undefined =>
    qdiscs.find((q) => q.device === link.index && q.parent === parent && q.handle !== 0);
  const root = (link: route.Link, isLimited: boolean): Queue[] => {
    const qdisc = qdiscOf(link, traffic.ROOT);
    if (qdisc === undefined || (!isLimited && qdisc.kind === 'clsact')) return [];
    const bucket = (known.get(rootOf(link.name)) as BucketQueue | undefined)?.bucket;
    const fits = !isLimited || (bucket !== undefined && equal(bucket, qdisc.bucket));
    return [at(rootOf(link.name), fits, `${qdisc.kind} of ${link.name}`, qdisc)];
  };
  const ingress = (link: route.Link, ifb: route.Link | undefined): Queue[] => {
    const qdisc = qdiscOf(link, traffic.INGRESS);
    if (qdisc === undefined || (ifb === undefined && qdisc.kind === 'clsact')) return [];
    const filters =
      ifb !== undefined && qdisc.kind === 'ingress' ? traffic.listFilters(netlink, link.index) : [];
    const leads = filters.length === 1 && filters[0]?.redirect === ifb?.index;
    return [at(ingressOf(link.name), ifb === undefined || leads, `${qdisc.kind} of ${link.name}`, qdisc)];
  };
  return [...links.values()].flatMap((link): Queue[] => {
    if (!PORT.test(link.name)) return [];
    const { to, from } = limited.get(link.name) ?? {};
    const received = root(link, to !== undefined);
    if (from === undefined) return [...ingress(link, undefined), ...received];
    const ifb = links.get(ifbDevice(link.name));
    if (ifb === undefined) return received;
    const up = ifb.up ? [at(stateOf(ifb.name), true, `${ifb.name} up`)] : [];
    return [...ingress(link, ifb), ...received, ...root(ifb, true), ...up];
  });
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

/** Whether nothing is limited. */
export const isIdle = ({ queues }: OpenLimits): boolean => [...queues.held()].length === 0;
