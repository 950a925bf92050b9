/**
 * The fast path of established connections, past the router's stack: an eBPF program at what arrives by a container's
 * veth, a tunnel, a VLAN or the hosts' link hands a packet straight to the other container, or to the tunnel, the VLAN or the link.
 *
 *   ct…, vx…, vl…, direct ingress -> program -> flows: is this connection, from here, known since less than a moment?
 *                               -> endpoints: are both ends ours to know, in one network, and is this where the sender is?
 *                               -> conntrack: is the connection established, as the router itself has it?
 *                               -> redirect into the receiver's namespace, or out by the network's vx… or by direct, or to
 *                                  the other end of its vl…, whose program tags it
 *
 * It decides nothing of its own. Whatever it is not sure of goes the router's way, as if it were not there: first packets,
 * the ends of connections, errors, fragments, what is translated, shaped or marked, packets between networks and from
 * unknown senders. So policy is judged where it always is, a connection without an entry in conntrack is none, and with
 * no program (an older kernel) everything works, slower.
 *
 *   flows       what was found out about a direction of a connection, for FLOW_MILLISECONDS and until the router's next
 *               change (`generation`) or the connection's end (`ended`): three lookups less for each packet, and none that
 *               writes to what both ends' processors use
 *   endpoints   where each address of the tenant is, written by the agent; who is on a VLAN's wire, containers of other
 *               hosts too, the kernel's own routes say (program.ts)
 *
 * Conntrack sees of such a connection how it begins and ends only. It must not take the end for a stranger's, which is
 * why routers do not insist on sequence numbers (FAST_PATH_SETTINGS), and it must not forget the connection in between: a
 * packet goes the router's way, which renews the entry, once half of its time is over.
 *
 * What is remembered of a flow is of a connection that conntrack has as established, never of one that is still new: rules
 * that change meanwhile judge each packet of that. What several processors do at the same moment: program.ts.
 *
 * The kernel's cost: 160 kB a tenant and processor for the flows, an entry an endpoint, a qdisc and a filter a device.
 */
import * as bpf from '../../../linux/bpf.ts';
import type { Netlink } from '../../../linux/netlink.ts';
import type * as route from '../../../linux/route.ts';
import * as traffic from '../../../linux/traffic.ts';
import { DEVICE_PREFIXES, DIRECT_DEVICE } from '../../constants.ts';
import type { Port, RemoteHost, Router } from '../../state.ts';
import { type ByPart, establish, type Kind, type Tracker, track, type Written } from '../difference.ts';
import { combine, failureOf, located, type Outcome, send } from '../outcome.ts';
import { once } from '../parts.ts';
import {
  ADDRESS,
  addressOfKey,
  closeProgram,
  ENDPOINT,
  endpointValue,
  type FastProgram,
  keyOfAddress,
  NAME,
  openProgram,
} from './program.ts';

/**
 * Of a router's namespace: conntrack has not seen all of a connection's sequence numbers when it ends
 * (net/netfilter/nf_conntrack_proto_tcp.c, tcp_in_window).
 */
export const FAST_PATH_SETTINGS: Readonly<Record<string, string>> = {
  'net/netfilter/nf_conntrack_tcp_be_liberal': '1',
  'net/netfilter/nf_conntrack_tcp_ignore_invalid_rst': '1',
};

/** An endpoint's address as the map has it. */
interface Place {
  readonly text: string;
  readonly address: string;
  readonly device: string;
  readonly network: number;
  readonly mac: string;
  /** On another host. */
  readonly remote: boolean;
  /** Its VLAN's device in the router. */
  readonly wire?: string | undefined;
}

const placeOf = (place: Omit<Place, 'text'>): Place => ({
  ...place,
  text: `${place.address} at ${place.mac} dev ${place.device} of ${place.network}${place.wire === undefined ? '' : ` by ${place.wire}`}`,
});

/** Devices by which packets arrive that it may hand on. */
const AT_ROUTER = new RegExp(
  `^(${DEVICE_PREFIXES.port}|${DEVICE_PREFIXES.tunnel}|${DEVICE_PREFIXES.vlan}|${DIRECT_DEVICE}$)`,
);

/** Shaped or marked packets go the router's way, in both directions. */
const isFast = (port: Port): boolean =>
  port.network !== 0 && port.limit === undefined && port.dscp === undefined;

const portPlaces = once(({ addresses, device, network, mac, wire }: Port): readonly Place[] =>
  addresses.map((address) => placeOf({ address, device, mac, network, remote: false, wire })),
);
/**
 * What is too large for a host that takes less than our devices is the router's to refuse, by its routes. What is reached
 * by a VLAN the program finds by those itself.
 */
const hostPlaces = once(({ mac, mtu, direct, endpoints }: RemoteHost): readonly Place[] =>
  endpoints.flatMap(({ address, device, network }) => {
    const onLink = device === direct?.device;
    if (!onLink && !device.startsWith(DEVICE_PREFIXES.tunnel)) return [];
    if ((onLink ? direct.mtu : mtu) !== undefined) return [];
    return placeOf({ address, device, network, mac: onLink ? direct.mac : mac, remote: true });
  }),
);

const PLACES: Kind<Place> = {
  text: ({ text }) => text,
  place: ({ address }) => address,
  restored: ({ address }) => `restored ${address}`,
  removed: ({ address }, by) => (by === undefined ? `removed ${address}` : undefined),
};

/** A local address comes after a remote one, which it replaces where a container has just moved here. */
function placesOf(router: Router): ByPart<Place> {
  const places = new Map<object, readonly Place[]>();
  for (const host of router.hosts) places.set(host, hostPlaces(host));
  for (const port of router.ports) if (isFast(port)) places.set(port, portPlaces(port));
  return places;
}

function entryOf(place: Place, links: ReadonlyMap<string, route.Link>): string | undefined {
  const device = links.get(place.device);
  if (device === undefined) return undefined;
  const wire = place.wire === undefined ? undefined : links.get(place.wire);
  return endpointValue({
    device: device.index,
    network: place.network,
    mac: place.mac,
    remote: place.remote,
    senderMac: device.mac,
    mtu: device.mtu,
    wire: wire && { device: wire.index, mtu: wire.mtu },
  }).toString('hex');
}

/** A device at which a program runs. */
interface Running {
  readonly device: string;
  /** In the place of our program: an agent's before this; or others, also beside ours. */
  readonly other?: 'earlier' | 'strange';
}

const RUNNING: Kind<Running> = {
  text: ({ device, other }) => (other === undefined ? device : `${other} program at ${device}`),
  place: ({ device }) => device,
  removed: () => undefined,
};

/** What is in the kernel for one router. */
export interface FastPath extends FastProgram {
  readonly places: Tracker<Place>;
  readonly running: Tracker<Running>;
  /** Of the router that flows are true of. */
  generation: number;
  /** All that there were, by name. */
  links: ReadonlyMap<string, route.Link>;
}

/** Has every packet go the router's way: a map that is not kept up to date would lead astray. */
export function removeFastPath(netlink: Netlink, open: FastPath | undefined): void {
  if (open !== undefined) closeProgram(open);
  const stale = traffic.listQdiscs(netlink).filter((qdisc) => qdisc.kind === 'clsact');
  netlink.batch(stale.map(traffic.deleteQdisc));
}

const LEAST_ROOM = 1024;

/** Without endpoints. Throws where the kernel lacks what it takes. */
function openFastPath(endpoints: number): FastPath {
  const room = Math.max(LEAST_ROOM, 2 ** Math.ceil(Math.log2(2 * endpoints)));
  return {
    ...openProgram(room),
    places: track(PLACES),
    running: track(RUNNING),
    generation: 0,
    links: new Map(),
  };
}

/**
 * Makes maps and filters follow the router, after all else is there. `links` are those of the namespace as they are now;
 * `read`: the kernel is read and put right; `changed`: something of the router was. Answers what to give to the next call;
 * what was given is changed, or closed where another takes its place. Throws where the kernel lacks what it takes.
 */
export function establishFastPath(
  netlink: Netlink,
  router: Router,
  links: readonly route.Link[],
  before: FastPath | undefined,
  { read, changed }: { readonly read: boolean; readonly changed: boolean },
): { readonly fastPath: FastPath; readonly outcome: Outcome } {
  const wanted = placesOf(router);
  let endpoints = 0;
  for (const list of wanted.values()) endpoints += list.length;
  const kept = before !== undefined && endpoints <= before.room ? before : undefined;
  const fastPath = kept ?? openFastPath(endpoints);
  const byName = new Map(links.map((link) => [link.name, link]));
  try {
    const places = establishPlaces(fastPath, wanted, byName, kept !== undefined && read);
    // What the one before had is where it was.
    const running = establishRunning(netlink, fastPath, router, byName, read || kept === undefined);
    fastPath.links = byName;
    const outcome = located(`${router.namespace}: fast path`, combine([places, running]));
    if (changed || (outcome.writes ?? 0) > 0) forgetFlows(fastPath);
    if (kept === undefined && before !== undefined) closeProgram(before);
    return { fastPath, outcome };
  } catch (error) {
    if (kept === undefined) closeProgram(fastPath);
    throw error;
  }
}

/**
 * What the program has found out about a flow counts in one generation only, which is an even number; in an odd one it finds out
 * nothing, and leaves every packet to the router (program.ts).
 */
function nextGeneration(open: FastPath): void {
  open.generation = (open.generation + 1) % 2 ** 32;
  const values = Buffer.alloc(4);
  values.writeUInt32LE(open.generation);
  bpf.updateMap(open.maps.generation, { keys: Buffer.alloc(4), values, count: 1 });
}

/**
 * Has the program find out all flows anew, each with its next packet. `write` changes endpoints in between, while the generation
 * is odd: so no packet is led by a map that is half written.
 */
function forgetFlows(open: FastPath, write?: () => void): void {
  nextGeneration(open);
  write?.();
  nextGeneration(open);
}

/** Of what went together with its device. */
const GONE = ['ENODEV', 'ENOENT', 'EINVAL'];

/** Whether a device is another than before, or has other properties: what hung on it may have gone by our own doing. */
const isOther = ({ links }: FastPath, now: ReadonlyMap<string, route.Link>, name: string): boolean => {
  const [a, b] = [links.get(name), now.get(name)];
  return a?.index !== b?.index || a?.mac !== b?.mac || a?.mtu !== b?.mtu;
};

/** Makes the map hold each endpoint's address. */
function establishPlaces(
  open: FastPath,
  wanted: ByPart<Place>,
  links: ReadonlyMap<string, route.Link>,
  read: boolean,
): Outcome {
  return establish(open.places, {
    wanted,
    list: read ? () => listPlaces(open, wanted, links) : undefined,
    excused: ({ device, wire }) =>
      isOther(open, links, device) || (wire !== undefined && isOther(open, links, wire)),
    write(change) {
      const gone = change.removals.map(({ address }) => address);
      const ready: [string, string][] = [];
      const unwritten: Place[] = [];
      for (const { entry, instead } of change.additions) {
        const value = entryOf(entry, links);
        if (value !== undefined) ready.push([entry.address, value]);
        else {
          unwritten.push(entry);
          if (instead !== undefined) gone.push(instead.address);
        }
      }
      if (gone.length + ready.length === 0) return { outcome: {}, unwritten };
      writePlaces(open, gone, ready);
      return { outcome: { writes: gone.length + ready.length }, unwritten };
    },
  }).outcome;
}

/** Removes some addresses from the map and gives others their values, while no packet is led by it. */
function writePlaces(open: FastPath, gone: readonly string[], news: readonly [string, string][]): void {
  const { endpoints } = open.maps;
  const keysOf = (addresses: readonly string[]): Buffer => Buffer.concat(addresses.map(keyOfAddress));
  forgetFlows(open, () => {
    bpf.deleteFromMap(endpoints, keysOf(gone), gone.length);
    bpf.updateMap(endpoints, {
      keys: keysOf(news.map(([address]) => address)),
      values: Buffer.from(news.map(([, value]) => value).join(''), 'hex'),
      count: news.length,
    });
  });
}

/**
 * What is in the map, whoever wrote it. A value is made from a place and its device, not the other way round: so where an
 * address has the value of the place that is wanted or known, it is that place, and else something that nobody here wrote.
 */
function listPlaces(open: FastPath, wanted: ByPart<Place>, links: ReadonlyMap<string, route.Link>): Place[] {
  const expected = new Map(
    [...open.places.held(), ...[...wanted.values()].flat()].map((p) => [p.address, p]),
  );
  const { keys, values, count } = bpf.listMap(open.maps.endpoints, ADDRESS, ENDPOINT, open.room);
  return Array.from({ length: count }, (_, i): Place => {
    const address = addressOfKey(keys.subarray(i * ADDRESS, (i + 1) * ADDRESS));
    const value = values.toString('hex', i * ENDPOINT, (i + 1) * ENDPOINT);
    const place = expected.get(address);
    if (place !== undefined && entryOf(place, links) === value) return place;
    return { address, text: `${address} ${value}`, device: '', mac: '', network: 0, remote: false };
  });
}

/** The program runs at the tunnels, on the link and at the ports that are not shaped or marked, and nowhere else. */
function establishRunning(
  netlink: Netlink,
  open: FastPath,
  router: Router,
  links: ReadonlyMap<string, route.Link>,
  read: boolean,
): Outcome {
  const wanted = new Map<object, readonly Running[]>();
  for (const part of [...router.tunnels, ...(router.vlans ?? [])])
    wanted.set(part, [{ device: part.device }]);
  if (router.direct !== undefined) wanted.set(router.direct, [{ device: router.direct.device }]);
  for (const port of router.ports) if (isFast(port)) wanted.set(port, [{ device: port.device }]);
  return establish(open.running, {
    wanted,
    list: read ? () => listRunning(netlink, open, links) : undefined,
    excused: ({ device }) => isOther(open, links, device),
    write({ additions, removals }) {
      // Where a limit of what it sends came, its own qdisc has taken the place (shape.ts).
      const shaped = new Set(router.ports.flatMap((p) => (p.limit?.from ? [p.device] : [])));
      const indexOf = ({ device }: Running): number[] => {
        const link = shaped.has(device) ? undefined : links.get(device);
        return link === undefined ? [] : [link.index];
      };
      const strange = additions.flatMap(({ instead }) => (instead?.other === 'strange' ? [instead] : []));
      const removed = send(
        netlink,
        [...strange, ...removals].flatMap(indexOf).map(traffic.deleteClassAction),
        GONE,
      );
      const { outcome, unwritten } = attach(
        netlink,
        open.program,
        additions.map(({ entry }) => entry),
        links,
      );
      return { outcome: combine([removed, outcome]), unwritten };
    },
  }).outcome;
}

/**
 * All devices of ours that have a qdisc for programs. A program alone there that is not this one is taken for that of an agent before
 * this, and stays until it is replaced; whatever else is there goes first.
 */
function listRunning(netlink: Netlink, { id }: FastPath, links: ReadonlyMap<string, route.Link>): Running[] {
  const ours = new Map(
    [...links.values()].filter((l) => AT_ROUTER.test(l.name)).map((l) => [l.index, l.name]),
  );
  return traffic.listQdiscs(netlink).flatMap(({ kind, device: index }): Running[] => {
    const device = ours.get(index);
    if (kind !== 'clsact' || device === undefined) return [];
    const [filter, ...more] = traffic.listFilters(netlink, index);
    if (more.length > 0 || filter?.kind !== 'bpf') return [{ device, other: 'strange' }];
    return [filter.program === id ? { device } : { device, other: 'earlier' }];
  });
}

/** Has the program run at these devices. */
function attach(
  netlink: Netlink,
  program: number,
  wanted: readonly Running[],
  links: ReadonlyMap<string, route.Link>,
): Written<Running> {
  const at = wanted.flatMap((running) => {
    const link = links.get(running.device);
    return link === undefined ? [] : [{ running, index: link.index }];
  });
  const answers = netlink.batch(
    at.flatMap(({ index }) => [traffic.addClassAction(index), traffic.setProgram(index, program, NAME)]),
  );
  // The qdisc may be there: only whether the program could be set says something.
  const refused = at.flatMap(({ running }, i) => {
    const error = answers[2 * i + 1];
    return error === undefined ? [] : [{ running, error }];
  });
  const running = new Set(at.map((a) => a.running));
  return {
    outcome: {
      writes: 2 * at.length,
      failed: refused.filter(({ error }) => error.code !== 'ENODEV').map(({ error }) => failureOf(error)),
    },
    unwritten: [...wanted.filter((w) => !running.has(w)), ...refused.map((r) => r.running)],
  };
}
