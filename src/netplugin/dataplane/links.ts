/**
 * Links of a router: its tunnels, its device on the hosts' link, its containers' veths and its exit. Three differences, one after the other:
 *
 *   devices      which there are; what cannot be changed of one is part of what it is, so that another one takes its place
 *   properties   what of a device is changed where it is (MTU, MAC address, a tunnel's own address): made anew, it would have lost
 *                all that leads to it, and packets would meet no way
 *   up           after its settings
 */
import { type Netlink, NetlinkError, type Request } from '../../linux/netlink.ts';
import { closeNamespace, inNamespace, namespacePath, openNamespace } from '../../linux/netns.ts';
import * as route from '../../linux/route.ts';
import { isV6 } from '../../model/address.ts';
import { DEVICE_PREFIXES, DIRECT_DEVICE, UPLINK_DEVICE, VXLAN_PORT } from '../constants.ts';
import type { Direct, Exit, Port, Router, Tunnel, Vlan } from '../state.ts';
import {
  type ByPart,
  type Change,
  establish,
  type Kind,
  type Tracker,
  track,
  type Written,
} from './difference.ts';
import { LOOPBACK } from './entries.ts';
import { combine, type Failure, failureOf, located, type Outcome, send } from './outcome.ts';
import { writeRequests } from './requests.ts';
import {
  device,
  direct as directSettings,
  establishSettings,
  port as portSettings,
  sought,
  vlan as vlanSettings,
} from './settings.ts';

/** A device as it is made; one that is there has its link. */
export interface Device {
  readonly name: string;
  /** What it is, as far as it cannot be changed. */
  readonly text: string;
  readonly made?:
    | { readonly tunnel: Tunnel }
    | { readonly vlan: Vlan }
    | { readonly direct: Direct }
    | { readonly port: Port }
    | { readonly exit: Exit };
  readonly link?: route.Link;
}

export const DEVICES: Kind<Device> = {
  text: (d) => d.text,
  place: (d) => d.name,
  removedFirst: true,
  restored: ({ name }) => `${name} was gone`,
  removed: ({ name }, by) => (by === undefined ? `${name} was not ours` : undefined),
};

/** Something of a device that is changed in place. */
export interface Property {
  readonly name: string;
  readonly text: string;
  /** What is said where somebody else has changed it. */
  said(link: route.Link): string;
  /** The link as it is to be. */
  change(link: route.Link): route.Link;
}

/** Never removed: it goes with its device. */
const PROPERTIES: Kind<Property & { readonly link?: route.Link }> = {
  text: (p) => p.text,
  place: (p) => p.name,
  isOurs: () => false,
  restored: (p, instead) => (instead?.link === undefined ? p.text : p.said(instead.link)),
};

export const trackProperties = (): Tracker<Property> => track(PROPERTIES);

/** What makes the one link the other. */
function changes(link: route.Link, to: route.Link): Request[] {
  const local = to.vxlan?.local ?? '';
  const { up, mac, mtu } = to;
  const change = {
    ...(mtu === link.mtu ? {} : { mtu }),
    ...(mac === link.mac ? {} : { mac }),
    ...(up === link.up ? {} : { up }),
  };
  return [
    ...(local === (link.vxlan?.local ?? '') ? [] : [route.setVxlanLocal(link, local)]),
    ...(Object.keys(change).length === 0 ? [] : [route.setLink(link.index, change)]),
  ];
}

/** Changes what differs of these links; answers them as they are then. Those of devices that are not there wait for them. */
export function establishProperties(
  tracker: Tracker<Property>,
  netlink: Netlink,
  wanted: ByPart<Property>,
  links: readonly route.Link[],
): { readonly outcome: Outcome; readonly links: readonly route.Link[] } {
  const byName = new Map(links.map((l) => [l.name, l]));
  const meant = new Map([...wanted.values()].flat().map((p) => [p.name, p]));
  const list = (): Property[] =>
    [...meant.values()].flatMap((p) => {
      const link = byName.get(p.name);
      if (link === undefined) return [];
      return changes(link, p.change(link)).length === 0 ? [p] : [{ ...p, text: `other ${p.text}`, link }];
    });
  const add = (p: Property): readonly Request[] | undefined => {
    const link = byName.get(p.name);
    return link && changes(link, p.change(link));
  };
  const { outcome, change } = establish(tracker, {
    wanted,
    list,
    excused: ({ name }) => !byName.has(name),
    write: (change) => writeRequests(netlink, { add, remove: () => [] }, change),
  });
  for (const { entry } of change.additions) {
    const link = byName.get(entry.name);
    if (link !== undefined && tracker.holds(entry)) byName.set(entry.name, entry.change(link));
  }
  return { outcome, links: links.map((l) => byName.get(l.name) ?? l) };
}

export const isUp = (name: string): Property => ({
  name,
  text: `${name} up`,
  said: () => `${name} was down`,
  change: (link) => ({ ...link, up: true }),
});

export const hasMac = (name: string, mac: string): Property => ({
  name,
  text: `${name} MAC address ${mac}`,
  said: (link) => `${name} had the MAC address ${link.mac}`,
  change: (link) => ({ ...link, mac }),
});

export const hasSize = (name: string, mtu: number, of: { mac?: string; local?: string } = {}): Property => ({
  name,
  text: `${name} mtu ${mtu} ${of.mac ?? ''} ${of.local ?? ''}`,
  said: () => `${name} was changed`,
  change: (link) => ({
    ...link,
    mtu,
    mac: of.mac ?? link.mac,
    ...(link.vxlan && { vxlan: { ...link.vxlan, local: of.local ?? link.vxlan.local } }),
  }),
});

/** What is known of a router's links. */
export interface OpenLinks {
  readonly devices: Tracker<Device>;
  readonly properties: Tracker<Property>;
  readonly up: Tracker<Property>;
}

export const openLinks = (): OpenLinks => ({
  devices: track(DEVICES),
  properties: trackProperties(),
  up: trackProperties(),
});

export interface LinkOptions {
  readonly router: Router;
  readonly exit: Exit | undefined;
  /** Of the router's namespace, and a file descriptor of that. */
  readonly netlink: Netlink;
  readonly namespace: number;
  /** Of the host's. */
  readonly hostNetlink: Netlink;
  readonly hostNamespace: number;
  /** All is compared, also what is read for each device. */
  readonly read: boolean;
}

/**
 * A namespace takes its devices with it only some time after it has gone (net/core/net_namespace.c, cleanup_net), and
 * not while a socket holds it: until then their names and tags would clash with new ones.
 */
export function deleteAllLinks(netlink: Netlink): void {
  const devices = route.listLinks(netlink).filter((l) => l.kind !== '');
  netlink.batch(route.deleteLinks(devices));
}

const vxlanText = (name: string, vni: number, local: string, port: number): string =>
  `${name} vxlan ${vni} over ${isV6(local) ? 'IPv6' : 'IPv4'} port ${port}`;

const { port: PORT, tunnel: TUNNEL, vlan: VLAN } = DEVICE_PREFIXES;
/** Names that are a router's. */
const OURS = new RegExp(`^(${TUNNEL}\\d|${VLAN}\\d|${PORT}[0-9a-f]|(${DIRECT_DEVICE}|${UPLINK_DEVICE})$)`);

const directText = (name: string, on: string | undefined): string => `${name} on ${on ?? 'nothing'}`;

/** `nameOf`: of a device of the host, by its index. */
const listDevices = (links: readonly route.Link[], nameOf: (index: number) => string | undefined): Device[] =>
  links
    .filter((l) => OURS.test(l.name))
    .map((link) => {
      const { name, vxlan, peer } = link;
      if (name === DIRECT_DEVICE) return { name, text: directText(name, nameOf(peer)), link };
      const text = vxlan === undefined ? name : vxlanText(name, vxlan.vni, vxlan.local, vxlan.port);
      return { name, text, link };
    });

function wantedDevices(router: Router, exit: Exit | undefined): ByPart<Device> {
  const parts = new Map<object, readonly Device[]>();
  for (const tunnel of router.tunnels) {
    const { device: name, vni, local } = tunnel;
    parts.set(tunnel, [{ name, text: vxlanText(name, vni, local, VXLAN_PORT), made: { tunnel } }]);
  }
  for (const vlan of router.vlans ?? [])
    parts.set(vlan, [{ name: vlan.device, text: vlan.device, made: { vlan } }]);
  const { direct } = router;
  if (direct !== undefined)
    parts.set(direct, [
      { name: direct.device, text: directText(direct.device, direct.link), made: { direct } },
    ]);
  for (const port of router.ports)
    parts.set(port, [{ name: port.device, text: port.device, made: { port } }]);
  if (exit !== undefined) parts.set(exit, [{ name: UPLINK_DEVICE, text: UPLINK_DEVICE, made: { exit } }]);
  return parts;
}

function wantedProperties(router: Router, exit: Exit | undefined): ByPart<Property> {
  const parts = new Map<object, readonly Property[]>();
  for (const tunnel of router.tunnels) parts.set(tunnel, [hasSize(tunnel.device, tunnel.mtu, tunnel)]);
  for (const vlan of router.vlans ?? []) parts.set(vlan, [hasSize(vlan.device, vlan.mtu, { mac: vlan.mac })]);
  const { direct } = router;
  if (direct !== undefined) parts.set(direct, [hasSize(direct.device, direct.mtu, { mac: direct.mac })]);
  for (const port of router.ports) parts.set(port, [hasSize(port.device, port.mtu)]);
  if (exit !== undefined) parts.set(exit, [hasMac(UPLINK_DEVICE, exit.routerMac)]);
  return parts;
}

/** Answers the router's links as they are afterwards. */
export function establishLinks(
  open: OpenLinks,
  options: LinkOptions,
): { readonly outcome: Outcome; readonly links: readonly route.Link[] } {
  const { router, exit, netlink, hostNetlink, read } = options;
  const where = router.namespace;
  const before = route.listLinks(netlink);
  const had = new Set([...open.devices.held()].map(({ name }) => name));
  const wanted = wantedDevices(router, exit);
  const devices = establish(open.devices, {
    wanted,
    list() {
      const onHost = before.some((l) => l.name === DIRECT_DEVICE) ? route.listLinks(hostNetlink) : [];
      return listDevices(before, (index) => onHost.find((l) => l.index === index)?.name);
    },
    // Of a container that has gone nothing is made again.
    excused: ({ made }) => made !== undefined && 'port' in made && made.port.joined,
    write: (change) => writeDevices(options, change),
  });
  const { additions, removals } = devices.change;
  const there = additions.length + removals.length === 0 ? before : route.listLinks(netlink);
  const byName = new Map(there.map((l) => [l.name, l]));
  const sized = establishProperties(open.properties, netlink, wantedProperties(router, exit), there);

  const resized = router.ports.filter(({ device: name, mtu }) => (byName.get(name)?.mtu ?? mtu) !== mtu);
  const moved =
    exit !== undefined &&
    !had.has(UPLINK_DEVICE) &&
    (byName.get(UPLINK_DEVICE)?.mac ?? exit.routerMac) !== exit.routerMac;
  const ends = resized.length > 0 || moved ? route.listLinks(hostNetlink) : [];
  const toHost = ends.flatMap((end) => {
    // A container's end, where the runtime has not taken it yet; else sandboxes.ts does it.
    const port = resized.find(({ peer }) => peer === end.name);
    if (port !== undefined) return changes(end, { ...end, mtu: port.mtu });
    // An agent before this one gave other MAC addresses. At once: it is a permanent neighbour by its address from now on.
    return moved && end.name === exit?.device ? changes(end, { ...end, mac: exit.hostMac }) : [];
  });

  const names = [LOOPBACK, ...[...wanted.values()].flat().map(({ name }) => name)];
  const up = names.flatMap((name) => (byName.has(name) ? [isUp(name)] : []));
  const asking = new Set((router.vlans ?? []).flatMap((v) => (v.gateways === undefined ? [] : v.device)));
  const compared = up.filter(({ name }) => name !== LOOPBACK && (read || byName.get(name)?.up === false));
  const settings =
    compared.length === 0
      ? []
      : inNamespace(namespacePath(where), () =>
          compared.map(({ name }) => {
            const all = {
              ...device(name),
              ...(name.startsWith(PORT) ? portSettings(name) : {}),
              ...(name.startsWith(VLAN) ? vlanSettings(name) : {}),
              ...(asking.has(name) ? sought(name) : {}),
              ...(name === DIRECT_DEVICE ? directSettings(name) : {}),
            };
            return establishSettings(all, byName.get(name)?.up === true && had.has(name));
          }),
        );
  const raised = establishProperties(open.up, netlink, new Map([[wanted, up]]), sized.links);
  const outcomes = [
    sized.outcome,
    ...(toHost.length === 0 ? [] : [send(hostNetlink, toHost)]),
    ...settings,
    raised.outcome,
  ].map((outcome) => located(where, outcome));
  const repaired = (devices.outcome.repaired ?? []).map((line) => `${where}: ${line}`);
  return { outcome: combine([{ ...devices.outcome, repaired }, ...outcomes]), links: raised.links };
}

function writeDevices(
  { netlink, namespace, hostNetlink, hostNamespace, router }: LinkOptions,
  { additions, removals }: Change<Device>,
): Written<Device> {
  const removed = send(
    netlink,
    route.deleteLinks(removals.flatMap(({ link }) => link ?? [])),
    ['ENODEV'], // it went with its container meanwhile
  );
  const unwritten: Device[] = [];
  const lost: string[] = [];
  const failed: Failure[] = [];
  let writes = 0;
  const request = (socket: Netlink, ...requests: Request[]): void => {
    for (const r of requests) {
      socket.request(r);
      writes++;
    }
  };
  for (const { entry } of additions) {
    const { made } = entry;
    if (made === undefined) continue;
    try {
      if ('tunnel' in made) {
        const { device: name, vni, local, mac, mtu } = made.tunnel;
        request(hostNetlink, route.addVxlan({ name, vni, local, port: VXLAN_PORT, mac, mtu, namespace }));
      } else if ('direct' in made) {
        const { device: name, link, mac, mtu } = made.direct;
        const on = route.listLinks(hostNetlink).find((l) => l.name === link)?.index;
        if (on === undefined) throw new Error(`networks of encap direct: no interface ${link} on this host`);
        request(hostNetlink, route.addMacvlan({ name, on, mac, mtu, namespace }));
      } else if ('vlan' in made) {
        const { device: name, wire, mac, mtu } = made.vlan;
        const old = route.listLinks(hostNetlink).filter((l) => l.name === wire);
        request(
          hostNetlink,
          ...old.map(route.deleteLink),
          route.addVeth({ name: wire, mtu }, { name, mac, mtu, namespace }),
        );
      } else if ('exit' in made) {
        const { device: name, hostMac, routerMac } = made.exit;
        const old = route.listLinks(hostNetlink).filter((l) => l.name === name);
        request(
          hostNetlink,
          ...old.map(route.deleteLink),
          route.addVeth(
            { name, mac: hostMac, mtu: 1500 },
            { name: UPLINK_DEVICE, mac: routerMac, mtu: 1500, namespace },
          ),
        );
      } else if (made.port.joined) {
        lost.push(made.port.endpoint);
        unwritten.push(entry);
      } else {
        const { device: name, peer, end, sandbox, mac, mtu } = made.port;
        const veth = (other: string, namespace: number): void =>
          request(netlink, route.addVeth({ name, mtu }, { name: other, mac, mtu, namespace }));
        if (end === undefined || sandbox === undefined) veth(peer, hostNamespace);
        else inSandbox(sandbox, (namespace) => veth(end, namespace));
      }
    } catch (error) {
      unwritten.push(entry);
      failed.push(refused(error, entry));
    }
  }
  return { outcome: combine([located(router.namespace, removed), { writes, lost, failed }]), unwritten };
}

function inSandbox(sandbox: string, use: (namespace: number) => void): void {
  const namespace = openNamespace(sandbox);
  try {
    use(namespace);
  } finally {
    closeNamespace(namespace);
  }
}

/** What the kernel means by an error (drivers/net/macvlan.c, macvlan_common_newlink; net/core/rtnetlink.c). */
const NO_MACVLAN: Readonly<Record<string, string>> = {
  EOPNOTSUPP: 'this kernel has no macvlan',
  EBUSY:
    'LINK is a port of a bridge or of a bond, or has ipvlan devices: netplugin needs the bridge itself as its --underlay',
  EADDRINUSE: 'another device on LINK has its MAC address already',
};

function refused(error: unknown, { made }: Device): Failure {
  const port = made !== undefined && 'port' in made ? made.port : undefined;
  const failure = failureOf(error, port?.endpoint);
  if (port?.end !== undefined && failure.code === 'EEXIST')
    return { ...failure, message: `${port.sandbox} has a device ${port.end} already` };
  if (made !== undefined && 'direct' in made && error instanceof NetlinkError) {
    const { link } = made.direct;
    const why =
      NO_MACVLAN[error.code] ?? `a device on ${link} is refused (${error.code}): it must be Ethernet's`;
    return { ...failure, message: `networks of encap direct: ${why.replaceAll('LINK', link)}` };
  }
  if (made === undefined || !('tunnel' in made)) return failure;
  if (!(error instanceof NetlinkError) || error.code !== 'EEXIST') return failure;
  const message = `network with tag ${made.tunnel.vni}: another VXLAN device of this host has this VNI already (a Docker Swarm overlay?); choose another --pkt-tag`;
  return { ...failure, message };
}
