/**
 * A container's end of its veth, in the container's namespace: MAC address, addresses and routes that it was given, and the
 * neighbours that it sends to.
 *
 *   what it was given   at once by us, where the end was made there by us; else by the runtime. Put right where it has been missing for
 *                       a while: the container's own hands may be busy there, and so may the runtime, which fails where a route
 *                       is there before it
 *   neighbours          permanent, at once, which no runtime minds: a container needs no room in the table that all share
 *                       (entries.ts)
 *
 * Only what we gave is ours. A link that is down stays down, a default route that leads elsewhere stays; addresses and
 * routes that came later are the container's own.
 */
import { type Netlink, openNetlink, type Request } from '../../linux/netlink.ts';
import { setSysctl } from '../../linux/netns.ts';
import * as route from '../../linux/route.ts';
import { isV6 } from '../../model/address.ts';
import type { Inside, Port } from '../state.ts';
import { combine, located, type Outcome, send } from './outcome.ts';

/** Milliseconds that something is missing before it is made again; the first time, while the runtime sets it up. */
const PATIENCE = 3000;
const FIRST_PATIENCE = 15_000;
/** As runtimes set them (linux/rtnetlink.h). */
const RTPROT_BOOT = 3;
const GONE = ['ENODEV', 'ENETDOWN', 'ENETUNREACH', 'ESRCH'];

/** What was found of one port, at the last look. */
export interface Found {
  /** All was there once. */
  readonly complete: boolean;
  /** Since when it is missing, by performance.now(). */
  readonly missing: ReadonlyMap<string, number>;
  /** Default routes by this port that there were. */
  readonly defaults: ReadonlySet<string>;
}

interface Wanted {
  readonly text: string;
  readonly there: boolean;
  readonly request: Request;
}

/**
 * `link`: the router's end; `fresh`: the port is new, or another than before. Nothing is found where the container's end is not
 * there (yet). In the thread's current namespace.
 */
export function establishInside(
  port: Port,
  link: route.Link,
  before: Found | undefined,
  fresh: boolean,
): { readonly found?: Found; readonly outcome: Outcome } {
  const netlink = openNetlink();
  try {
    const own = route.listLinks(netlink).find((l) => l.index === link.peer && l.peer === link.index);
    // Each end has the other's number. While it is in the host's namespace still, there is none here that fits.
    if (own === undefined) return { outcome: {} };
    // Later it is the container's own: some lower it.
    const resized = fresh && own.mtu !== port.mtu;
    if (resized) netlink.request(route.setLink(own.index, { mtu: port.mtu }));
    const outcomes: Outcome[] = [{ writes: resized ? 1 : 0 }];
    const where = `container of endpoint ${port.endpoint.slice(0, 12)}`;
    const inside = port.inside ?? NOTHING;
    if (port.end !== undefined && before === undefined && isBare(inside, own, netlink)) {
      const outcome = setUp(port, inside, own, link.mac, netlink);
      const found = { complete: true, missing: new Map(), defaults: new Set<string>() };
      return { found, outcome: located(where, combine([...outcomes, outcome])) };
    }
    const routes = ([4, 6] as const).flatMap((version) => route.listRoutes(netlink, version));
    const defaults = new Set(before?.defaults);
    for (const r of routes)
      if (
        port.end === undefined &&
        r.destination.endsWith('/0') &&
        r.device === own.index &&
        inside.gateways.includes(r.via ?? '')
      )
        defaults.add(r.via as string);
    const now = performance.now();
    const missing = new Map<string, number>();
    for (const { text, there, request } of wanted(port.mac, inside, own, routes, defaults, netlink)) {
      if (there) continue;
      const since = before?.missing.get(text) ?? now;
      missing.set(text, since);
      if (now - since < (before?.complete ? PATIENCE : FIRST_PATIENCE)) continue;
      outcomes.push({ repaired: [`restored ${text}`] }, send(netlink, [request], GONE));
    }
    if (own.up) outcomes.push(keepNeighbours(inside, own, link.mac, netlink));
    const complete = before?.complete === true || (missing.size === 0 && own.up);
    return { found: { complete, missing, defaults }, outcome: located(where, combine(outcomes)) };
  } finally {
    netlink.close();
  }
}

const NOTHING: Inside = { addresses: [], routes: [], gateways: [] };

/** As it was made: nobody has set it up, nor lowered it afterwards. */
const isBare = ({ addresses }: Inside, own: route.Link, netlink: Netlink): boolean =>
  !own.up &&
  !route
    .listAddresses(netlink)
    .some((a) => a.index === own.index && addresses.includes(`${a.address}/${a.length}`));

/** All that it is given, in a namespace that nobody else sets up. What fails keeps the endpoint from its network. */
function setUp(port: Port, inside: Inside, own: route.Link, hop: string, netlink: Netlink): Outcome {
  const loopback = route.listLinks(netlink).find((l) => l.name === 'lo');
  const setting = `net/ipv6/conf/${own.name}/disable_ipv6`;
  if (inside.addresses.some(isV6)) setSysctl(setting, '0');
  const links = [loopback, own].flatMap((l) =>
    l === undefined ? [] : [route.setLink(l.index, { up: true })],
  );
  const up = { ...own, up: true };
  const routes = ([4, 6] as const).flatMap((version) => route.listRoutes(netlink, version));
  const given = wanted(port.mac, inside, up, routes, new Set(), netlink).filter(({ there }) => !there);
  const outcome = combine([
    send(netlink, [...links, ...given.map(({ request }) => request)]),
    keepNeighbours(inside, up, hop, netlink),
  ]);
  return { ...outcome, failed: outcome.failed.map((f) => ({ ...f, endpoint: port.endpoint })) };
}

/** What a container lacks of what it was given, in words. In its namespace, as the thread's current one. */
export function missingInside(port: Port, link: route.Link): string[] {
  const netlink = openNetlink();
  try {
    const own = route.listLinks(netlink).find((l) => l.index === link.peer && l.peer === link.index);
    if (own === undefined) return ['its device'];
    if (!own.up) return [`${own.name} is down`];
    const routes = ([4, 6] as const).flatMap((version) => route.listRoutes(netlink, version));
    return wanted(port.mac, port.inside ?? NOTHING, own, routes, new Set(), netlink).flatMap((w) =>
      w.there ? [] : [w.text],
    );
  } finally {
    netlink.close();
  }
}

/** In the order in which they are made. */
function wanted(
  mac: string,
  { addresses, routes: given, gateways }: Inside,
  own: route.Link,
  routes: readonly route.Route[],
  defaults: ReadonlySet<string>,
  netlink: Netlink,
): Wanted[] {
  const list: Wanted[] = [
    {
      text: `MAC address ${mac} of ${own.name}`,
      there: own.mac === mac,
      request: route.setLink(own.index, { mac }),
    },
  ];
  if (!own.up) return list;
  const present = new Set(
    route.listAddresses(netlink).flatMap((a) => (a.index === own.index ? [a.address] : [])),
  );
  for (const text of addresses) {
    const [address = '', length] = text.split('/');
    list.push({
      text: `address ${text} of ${own.name}`,
      there: present.has(address),
      request: route.addAddress({ index: own.index, address, length: Number(length), scope: 0 }),
    });
  }
  const add = (destination: string, via: string | undefined, there: boolean): void => {
    const type = 'unicast';
    const hop = via === undefined ? {} : { via };
    list.push({
      text: `route ${destination}${via === undefined ? '' : ` via ${via}`} dev ${own.name}`,
      there,
      request: route.addRoute({ destination, type, device: own.index, protocol: RTPROT_BOOT, ...hop }),
    });
  };
  for (const { destination, via } of given)
    add(
      destination,
      via,
      routes.some((r) => r.destination === destination && (r.device !== own.index || r.via === via)),
    );
  for (const gateway of gateways.filter((g) => defaults.has(g))) {
    const destination = isV6(gateway) ? '::/0' : '0.0.0.0/0';
    add(
      destination,
      gateway,
      routes.some((r) => r.destination === destination),
    );
  }
  return list;
}

/** Next hops, all of which are the router. */
function keepNeighbours({ routes }: Inside, own: route.Link, mac: string, netlink: Netlink): Outcome {
  const hops = new Set(routes.flatMap(({ via }) => (via === undefined ? [] : [via])));
  const present = new Set(
    ([4, 6] as const).flatMap((version) =>
      route
        .listNeighbours(netlink, version)
        .filter((n) => n.device === own.index && n.state === 'permanent' && n.mac === mac)
        .map((n) => n.address),
    ),
  );
  const absent = [...hops].filter((address) => !present.has(address));
  const neighbour = { device: own.index, mac, state: 'permanent' } as const;
  return send(
    netlink,
    absent.map((address) => route.addNeighbour({ ...neighbour, address })),
    GONE,
  );
}
