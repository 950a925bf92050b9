/**
 * Encryption of what tunnels send to other hosts, by WireGuard.
 *
 *   router's vx<VNI> --VXLAN, from the underlay's address--> rule: table ENCRYPTED --> contiv-wg0 or 1 ==UDP, by the underlay== another host
 *                                                                  |
 *                                                                  +--> unreachable: a member that has told no key
 *
 * Tunnels, their addresses and what leads to them are as without it: a rule of routing takes what they send, by its source, protocol and port,
 * to a table with the members alone. What WireGuard sends itself has other ports, so it does not meet the rule, and nothing needs a mark. Should the
 * rule or a route be missing, as another program thinks all of them its own, the host's table drops what would leave otherwise (rules/tunnels.ts).
 *
 * Each host has a device for each epoch of keys, at the same place as all others have theirs (compile/encryption.ts). A device takes an address
 * from one peer alone, so what comes under a new key and what still comes under the old one need two; while both are there a member may send
 * by either, and nothing is lost as hosts change over one after the other.
 *
 * The kernel's cost: a device an epoch, a peer an epoch and member, a route a member.
 */
import { NETLINK_ROUTE, type Netlink, NetlinkError, openNetlink } from '../../linux/netlink.ts';
import * as route from '../../linux/route.ts';
import * as wireguard from '../../linux/wireguard.ts';
import { isV6 } from '../../model/address.ts';
import { VXLAN_PORT, WIREGUARD } from '../constants.ts';
import type { Encryption, HostState, Wireguard } from '../state.ts';
import { type ByPart, establish, type Kind, type Tracker, track } from './difference.ts';
import {
  addressEntries,
  addressEntry,
  ENTRIES,
  type Entry,
  routeEntry,
  routeIn,
  ruleEntry,
  writeEntries,
} from './entries.ts';
import { establishProperties, hasSize, isUp, type Property, trackProperties } from './links.ts';
import { combine, type Failure, failureOf, type Outcome, send } from './outcome.ts';
import { establishSettings, wireguard as settings } from './settings.ts';

/** Of routing, on the host: of the kernel's own three there are none near it (ip-route(8)). */
const ENCRYPTED = 4789;
/**
 * Of its devices where the underlay is IPv4: on one without an address the kernel takes no packet whose sender others lead to as well, unless it asks
 * for no way back at all (net/ipv4/fib_frontend.c, __fib_validate_source; settings.ts; findings/loose-rp-filter-needs-address.sh). Nobody sends from it: its scope is the host.
 */
const OWN = { address: '169.254.53.54', scope: 254 } as const;
/** Ahead of what VPNs and others lead away. */
const PRIORITY = 100;

/** The private key of a public one, 32 bytes; undefined: it is not there. */
export type SecretOf = (publicKey: string) => Buffer | undefined;

interface Device {
  readonly name: string;
  readonly kind: string;
  readonly mtu: number;
  readonly link?: route.Link;
}
interface Key {
  readonly device: string;
  readonly publicKey: string;
  readonly port: number;
}
/**
 * Seconds after which a session is over (the paper at wireguard.com, 6.1). A peer is sent to where it was heard of last. So who was on the link for a while,
 * and handed on what passed from an address of his own, has both ends send to him for ever. One without a session is at its underlay address.
 */
const SESSION = 180;

interface Peer {
  readonly device: string;
  readonly publicKey: string;
  readonly address: string;
}

const DEVICES: Kind<Device> = {
  text: ({ name, kind }) => `${name} ${kind}`,
  place: ({ name }) => name,
  removedFirst: true,
  restored: ({ name }) => `${name} was gone`,
  removed: ({ name }, by) => (by === undefined ? `${name} was not ours` : undefined),
};
/** A key goes with its device. */
const KEYS: Kind<Key> = {
  text: ({ device, publicKey, port }) => `${device} key ${publicKey} port ${port}`,
  place: ({ device }) => device,
  isOurs: () => false,
  restored: ({ device }) => `${device} had another key or port`,
};
const PEERS: Kind<Peer> = {
  text: ({ device, publicKey, address }) => `${device} peer ${publicKey} ${address}`,
  place: ({ device, publicKey }) => `${device} peer ${publicKey}`,
};

/** The host's namespace, and what was established there. */
export interface OpenEncryption {
  readonly netlink: Netlink;
  readonly secretOf: SecretOf;
  /** To WireGuard, from when there is something to be asked. */
  generic?: Netlink;
  readonly devices: Tracker<Device>;
  readonly sizes: Tracker<Property>;
  readonly keys: Tracker<Key>;
  readonly peers: Tracker<Peer>;
  readonly up: Tracker<Property>;
  readonly entries: Tracker<Entry>;
  /** The last that was established as a whole; undefined: something of another may be there, or of an earlier agent's. */
  established?: { readonly encryption: Encryption | undefined; readonly underlay: string };
  /** Public keys of the devices that are as they should be; where a pass ends by an error, as the one before has found. */
  acting: readonly string[];
}

export const openEncryption = (netlink: Netlink, secretOf: SecretOf): OpenEncryption => ({
  netlink,
  secretOf,
  devices: track(DEVICES),
  sizes: trackProperties(),
  keys: track(KEYS),
  peers: track(PEERS),
  up: trackProperties(),
  entries: track({ ...ENTRIES, isOurs: () => true }),
  acting: [],
});

export function closeEncryption({ generic }: OpenEncryption): void {
  generic?.close();
}

const OURS: ReadonlySet<string> = new Set(WIREGUARD.map(({ device }) => device));

/**
 * Before the routers, which make the tunnels, and after the host's table. Where something is refused, what hangs on it is not there, so nothing of
 * it leaves.
 */
export function establishEncryption(open: OpenEncryption, state: HostState, verify: boolean): Outcome {
  const { encryption, underlay } = state;
  const before = open.established;
  const wanted = encryption?.devices ?? [];
  if (before !== undefined) {
    if (encryption === undefined && before.encryption === undefined) return {};
    if (before.encryption === encryption && before.underlay === underlay && !verify) return {};
  }
  delete open.established;
  const had = new Set([...open.devices.held()].map(({ name }) => name));
  const devices = establishDevices(open, wanted);
  const sizes = establishProperties(
    open.sizes,
    open.netlink,
    byDevice(wanted, ({ device, mtu }) => [hasSize(device, mtu)]),
    devices.links,
  );
  const there = sizes.links.filter(({ name }) => OURS.has(name));
  const family = there.length === 0 ? undefined : familyOf(open);
  const keyed = family === undefined ? [] : [establishKeys(open, family, wanted, there)];
  const [peers = {}] = family === undefined ? [] : [establishPeers(open, family, wanted, there)];
  const known = wanted.filter(({ device }) => there.some(({ name }) => name === device));
  const set = known.map(({ device }) => establishSettings(settings(device), had.has(device)));
  const up = establishProperties(
    open.up,
    open.netlink,
    byDevice(known, ({ device }) => [isUp(device)]),
    sizes.links,
  );
  const entries = establishEntries(open, state, up.links);
  const running = new Set(up.links.flatMap(({ name, up }) => (up ? [name] : [])));
  open.acting = wanted.flatMap(({ device, publicKey, port }) =>
    running.has(device) && open.keys.holds({ device, publicKey, port }) ? [publicKey] : [],
  );
  const raised = withPorts(up.outcome, wanted);
  const outcome = combine([devices.outcome, sizes.outcome, ...keyed, peers, ...set, raised, entries]);
  if (outcome.complete) open.established = { encryption, underlay };
  return outcome;
}

/** A device listens from when it is up (drivers/net/wireguard/device.c, wg_open). */
const withPorts = (outcome: Outcome, wanted: readonly Wireguard[]): Outcome => ({
  ...outcome,
  failed: (outcome.failed ?? []).map((failure) =>
    failure.code === 'EADDRINUSE'
      ? {
          ...failure,
          message: `UDP port ${wanted.map(({ port }) => port).join(' or ')} is another program's on this host (ss -lunp): nothing goes between containers here and on other hosts`,
        }
      : failure,
  ),
});

const byDevice = <E>(devices: readonly Wireguard[], of: (device: Wireguard) => readonly E[]): ByPart<E> =>
  new Map(devices.map((device) => [device, of(device)]));

const NO_WIREGUARD =
  "this kernel has no WireGuard (modprobe wireguard; CONFIG_WIREGUARD): the cluster's traffic between hosts is to be encrypted, so nothing goes between containers here and on other hosts";

function establishDevices(
  { netlink, devices }: OpenEncryption,
  wanted: readonly Wireguard[],
): { readonly outcome: Outcome; readonly links: readonly route.Link[] } {
  const before = route.listLinks(netlink);
  const { outcome, change } = establish(devices, {
    wanted: byDevice<Device>(wanted, ({ device: name, mtu }) => [{ name, kind: 'wireguard', mtu }]),
    list: () =>
      before
        .filter(({ name }) => OURS.has(name))
        .map((link): Device => ({ name: link.name, kind: link.kind, mtu: link.mtu, link })),
    write({ additions, removals }) {
      const removed = send(
        netlink,
        removals.flatMap(({ link }) => (link === undefined ? [] : [route.deleteLink(link)])),
        ['ENODEV'],
      );
      const made = additions.map(({ entry }) => entry);
      const answers = netlink.batch(made.map(({ name, mtu }) => route.addWireguard(name, mtu)));
      const failed = answers.flatMap((error): Failure[] =>
        error === undefined
          ? []
          : [error.code === 'EOPNOTSUPP' ? { code: error.code, message: NO_WIREGUARD } : failureOf(error)],
      );
      const unwritten = made.filter((_, i) => answers[i] !== undefined);
      // Of both devices alike.
      const once = [...new Map(failed.map((failure) => [failure.message, failure])).values()];
      return { outcome: combine([removed, { writes: made.length, failed: once }]), unwritten };
    },
  });
  const same = change.additions.length + change.removals.length === 0;
  return { outcome, links: same ? before : route.listLinks(netlink) };
}

/** Of a kernel that has one of the devices, so it has it. */
function familyOf(open: OpenEncryption): number | undefined {
  open.generic ??= openNetlink(wireguard.NETLINK_GENERIC);
  return wireguard.wireguardFamily(open.generic);
}

/** What the kernel has of our devices that are there. */
const readAll = (generic: Netlink, family: number, links: readonly route.Link[]) =>
  links.flatMap(({ index, name }) => {
    try {
      return [{ name, ...wireguard.readWireguard(generic, family, index) }];
    } catch (error) {
      if (error instanceof NetlinkError) return []; // somebody has taken it away meanwhile
      throw error;
    }
  });

function establishKeys(
  { generic, keys, secretOf }: OpenEncryption,
  family: number,
  wanted: readonly Wireguard[],
  links: readonly route.Link[],
): Outcome {
  if (generic === undefined) return {};
  const byName = new Map(links.map((l) => [l.name, l]));
  return establish(keys, {
    wanted: byDevice(wanted, ({ device, publicKey, port }) => [{ device, publicKey, port }]),
    list: () =>
      readAll(generic, family, links).map(({ name, publicKey, port }) => ({ device: name, publicKey, port })),
    excused: ({ device }) => !byName.has(device),
    write({ additions }) {
      const outcomes: Outcome[] = [];
      const unwritten: Key[] = [];
      for (const { entry } of additions) {
        const link = byName.get(entry.device);
        const secret = secretOf(entry.publicKey);
        const outcome: Outcome =
          link === undefined
            ? {} // its device is not there, which is said of that
            : secret === undefined
              ? { failed: [{ code: 'ENOKEY', message: `${entry.device}: the host's key is gone` }] }
              : send(generic, [wireguard.setWireguard(family, link, secret, entry.port)]);
        outcomes.push(outcome);
        if (link === undefined || (outcome.failed ?? []).length > 0) unwritten.push(entry);
      }
      return { outcome: combine(outcomes), unwritten };
    },
  }).outcome;
}

function establishPeers(
  { generic, peers }: OpenEncryption,
  family: number,
  wanted: readonly Wireguard[],
  links: readonly route.Link[],
): Outcome {
  if (generic === undefined) return {};
  const indices = new Map(links.map((l) => [l.name, l.index]));
  const ports = new Map(wanted.map(({ device, port }) => [device, port]));
  const add = (peer: Peer) =>
    wireguard.addPeer(family, indices.get(peer.device) ?? 0, { ...peer, port: ports.get(peer.device) ?? 0 });
  /** They are where they were not declared, and no packet comes from there. */
  const lost: Peer[] = [];
  const { outcome } = establish(peers, {
    wanted: byDevice(wanted, (w) => w.peers.map((peer) => ({ device: w.device, ...peer }))),
    list: () =>
      readAll(generic, family, links).flatMap(({ name: device, keys, peers: whole }) => {
        const known = new Map(whole.map((peer) => [peer.publicKey, peer]));
        return keys.map((publicKey): Peer => {
          const { address = 'other addresses', endpoint, handshake = 0 } = known.get(publicKey) ?? {};
          const peer = { device, publicKey, address };
          if (endpoint !== `${address} ${ports.get(device)}` && handshake < Date.now() / 1000 - SESSION)
            lost.push(peer);
          return peer;
        });
      }),
    excused: ({ device }) => !indices.has(device),
    write({ additions, removals }) {
      const index = ({ device }: Peer): number => indices.get(device) ?? 0;
      const made = additions.flatMap(({ entry }) => (indices.has(entry.device) ? [entry] : []));
      const answers = generic.batch(made.map(add));
      const removed = send(
        generic,
        removals
          .filter(({ device }) => indices.has(device))
          .map((peer) => wireguard.removePeer(family, index(peer), peer.publicKey)),
        ['ENODEV'],
      );
      const failed = answers.flatMap((error) => (error === undefined ? [] : [failureOf(error)]));
      const refused = made.filter((_, i) => answers[i] !== undefined);
      const absent = additions.flatMap(({ entry }) => (indices.has(entry.device) ? [] : [entry]));
      return {
        outcome: combine([{ writes: made.length, failed }, removed]),
        unwritten: [...refused, ...absent],
      };
    },
  });
  const back = lost.filter((peer) => peers.holds(peer) && indices.has(peer.device));
  return combine([outcome, send(generic, back.map(add))]);
}

/** The routes first: with the rule they are all that a tunnel's frames find. */
function wantedEntries(encryption: Encryption, underlay: string): readonly Entry[] {
  const version = isV6(underlay) ? 6 : 4;
  const [rest, length] = version === 6 ? ['::/0', 128] : ['0.0.0.0/0', 32];
  return [
    ...(version === 6
      ? []
      : encryption.devices.map(({ device }) => addressEntry(device, OWN.address, 32, OWN.scope))),
    routeEntry({ destination: rest, type: 'unreachable', table: ENCRYPTED }, ''),
    ruleEntry({
      version,
      priority: PRIORITY,
      source: `${underlay}/${length}`,
      udpPort: VXLAN_PORT,
      table: ENCRYPTED,
    }),
    ...encryption.ways.map(({ address, device }) =>
      routeEntry(
        { destination: `${address}/${length}`, type: 'unicast', from: underlay, table: ENCRYPTED },
        device,
      ),
    ),
  ];
}

function establishEntries(
  { netlink, entries }: OpenEncryption,
  { encryption, underlay }: HostState,
  links: readonly route.Link[],
): Outcome {
  const names = new Map(links.map((l) => [l.index, l.name]));
  const there = new Set(links.map((l) => l.name));
  // Where nothing is encrypted the table may be somebody else's.
  const isMine = (protocol: number = route.ROUTE_PROTOCOL): boolean =>
    encryption !== undefined || protocol === route.ROUTE_PROTOCOL;
  return establish(entries, {
    wanted:
      encryption === undefined ? new Map() : new Map([[encryption, wantedEntries(encryption, underlay)]]),
    list: () => [
      ...addressEntries(route.listAddresses(netlink), names).filter(({ device }) => OURS.has(device)),
      ...([4, 6] as const).flatMap((version) => [
        ...route
          .listRoutes(netlink, version, ENCRYPTED)
          .filter(({ table, protocol }) => table === ENCRYPTED && isMine(protocol))
          .map((r) => routeIn(names, r)),
        ...route
          .listRules(netlink, version)
          .filter((rule) => rule.priority === PRIORITY && rule.table === ENCRYPTED && isMine(rule.protocol))
          .map(ruleEntry),
      ]),
    ],
    excused: ({ device }) => device !== '' && !there.has(device),
    write: (change) => writeEntries(netlink, links, change),
  }).outcome;
}

/** Takes all of it away, in the current namespace. */
export function removeEncryption(): void {
  const netlink = openNetlink(NETLINK_ROUTE);
  const open = openEncryption(netlink, () => undefined);
  try {
    const nothing = { routers: [], exits: [], guarded: [], underlay: '', members: [] };
    establishEncryption(open, nothing, true);
  } finally {
    closeEncryption(open);
    netlink.close();
  }
}
