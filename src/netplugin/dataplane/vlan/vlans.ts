/**
 * VLAN networks, on the host: what makes a wire of a router's device.
 *
 *   router vl<id> ==veth== cv<id> --leaving--> tagged, by the uplink
 *                          cv<id> <--arriving-- uplink, untagged; what is for the router: vl<id> at once
 *
 * The router's device has one MAC address a host, in all VLANs, by which the other hosts know it without asking (compile/deviceNames.ts);
 * it is another one than the uplink's, so the uplink is told to take it. The host's end has no addresses and is up only when its program
 * runs, so that no frame of a container's comes to the host. Programs and their maps live in the kernel while the agent is away; an agent
 * that comes fills maps of its own before its programs take the place of those.
 *
 * When a container comes, whoever spoke to its address at another host is told (gratuitous ARP, RFC 5227 3; an unsolicited neighbour
 * advertisement), by frames that go the way of all others; once more with the next verification, as such frames are lost without notice.
 *
 * Who asks for an IPv6 address speaks to a group of Ethernet's that follows from it, so the uplink is told to take those too.
 *
 * Where groups of a network have VLAN tags of their own (in an ACI fabric, which joins them on the wire) all of them lead to the network's one
 * device, and what leaves it goes by the tag of whom it is from: program.ts. The router knows nothing of tags but the MAC addresses that
 * other hosts have in them.
 *
 * The kernel's cost: two map entries, a veth and a filter a network, a filter and a MAC address an uplink, a group an IPv6 address; an
 * entry and a MAC address a tag, an entry an address that goes by one.
 */
import { addressBytes, macBytes } from '../../../linux/address.ts';
import * as bpf from '../../../linux/bpf.ts';
import { inject } from '../../../linux/inject.ts';
import type { Netlink } from '../../../linux/netlink.ts';
import { setSysctl } from '../../../linux/netns.ts';
import { ethernet, short, solicitedMac, unsolicitedAdvertisement } from '../../../linux/packet.ts';
import * as route from '../../../linux/route.ts';
import * as traffic from '../../../linux/traffic.ts';
import { isV6 } from '../../../model/address.ts';
import type { HostState, Vlan } from '../../state.ts';
import { establish, type Kind, type Tracker, track } from '../difference.ts';
import { combine, type Failure, failureOf, located, type Outcome, send } from '../outcome.ts';
import {
  ARRIVAL,
  ARRIVING,
  arrivalValue,
  closePrograms,
  DEPARTURE,
  LEAVING,
  numbers,
  openPrograms,
  PLACE,
  placeOf,
  placeOfTag,
  ROOM,
  TAGS,
  TAGS_ROOM,
  type VlanPrograms,
} from './program.ts';

/** Others' filters at the uplink are at priorities of their own: ours is seldom chosen, and none of theirs is replaced. */
export const PRIORITY = 4789;

interface OpenPrograms extends VlanPrograms {
  /** What their maps hold. */
  readonly ways: Tracker<Way>;
}

/** What is in the host's kernel for all VLANs. */
export interface OpenVlans {
  readonly netlink: Netlink;
  programs?: OpenPrograms;
  /** Index of a device to the number of the program that was set there. */
  readonly attached: Map<number, number>;
  /** Index of an uplink to the MAC addresses that it takes for us, and not for others too. */
  readonly macs: Map<number, ReadonlySet<string>>;
  /** By address and device; true: once more. */
  readonly announced: Map<string, boolean>;
  /** An earlier agent's may be there. */
  first: boolean;
}

export const openVlans = (netlink: Netlink): OpenVlans => ({
  netlink,
  attached: new Map(),
  macs: new Map(),
  announced: new Map(),
  first: true,
});

export function closeVlans({ programs }: OpenVlans): void {
  if (programs !== undefined) closePrograms(programs);
}

/** A network whose devices are there. */
interface Wired {
  readonly vlan: Vlan;
  readonly wire: route.Link;
  readonly uplink: route.Link;
}

/** After the routers, which make the devices. Throws where the kernel lacks what it takes. */
export function establishVlans(open: OpenVlans, state: HostState, verify: boolean): Outcome {
  const vlans = state.routers.flatMap((r) => r.vlans ?? []);
  if (vlans.length === 0 && open.programs === undefined && !open.first) return {};
  const links = new Map(route.listLinks(open.netlink).map((l) => [l.name, l]));
  const failed: Failure[] = [];
  const wired = vlans.flatMap((vlan): Wired[] => {
    const [wire, uplink] = [links.get(vlan.wire), links.get(vlan.uplink)];
    if (uplink === undefined)
      failed.push({ code: 'ENODEV', message: `VLAN ${vlan.id}: this host has no interface ${vlan.uplink}` });
    // Without its device in the router there is nothing to lead to: the router's pass has said why.
    return wire === undefined || uplink === undefined ? [] : [{ vlan, wire, uplink }];
  });
  const outcomes: Outcome[] = [{ failed }];
  if (wired.length > 0) {
    open.programs ??= { ...openPrograms(), ways: track(WAYS) };
    outcomes.push(fill(open.programs, wired, verify));
    outcomes.push(attach(open, open.programs, wired, verify));
    outcomes.push(admit(open, state, wired, verify));
    outcomes.push(raise(open, wired));
  }
  outcomes.push(detach(open, wired, [...links.values()]));
  announce(open, state, wired, verify);
  if (wired.length === 0 && open.programs !== undefined) {
    closePrograms(open.programs);
    delete open.programs;
  }
  open.first = false;
  return combine(outcomes);
}

/** An entry of one of the maps; key and value as bytes in hex. */
interface Way {
  readonly at: typeof ARRIVING | typeof LEAVING | typeof TAGS;
  readonly key: string;
  readonly value: string;
  /** In words. */
  readonly what: string;
}

const WAYS: Kind<Way> = {
  text: ({ at, key, value }) => `${at} ${key} ${value}`,
  place: ({ at, key }) => `${at} ${key}`,
  restored: ({ what }) => `restored ${what}`,
  removed: ({ what }, by) => (by === undefined ? `removed ${what}` : undefined),
};

function waysOf({ vlan, wire, uplink }: Wired): Way[] {
  const hex = (...values: readonly number[]): string => numbers(...values).toString('hex');
  const { id, mac, tags, addresses, untagged = [] } = vlan;
  const arrival = (of: { id: number; mac: string }, kind: 'network' | 'group' | undefined): Way => ({
    at: ARRIVING,
    key: hex(of.id),
    value: arrivalValue(wire.index, of.mac, kind).toString('hex'),
    what: `VLAN ${of.id} from ${uplink.name} to ${wire.name}`,
  });
  const own = tags === undefined ? [] : [{ id, addresses: [...addresses, ...untagged] }];
  return [
    ...[...own, ...(tags ?? [])].flatMap((tag) =>
      tag.addresses.map(
        (address): Way => ({
          at: TAGS,
          key: placeOf(wire.index, address).toString('hex'),
          value: hex(tag.id),
          what: `VLAN ${tag.id} of ${address} at ${wire.name}`,
        }),
      ),
    ),
    ...(tags ?? []).map(
      (tag): Way => ({
        at: TAGS,
        key: placeOf(wire.index, placeOfTag(tag.id)).toString('hex'),
        value: hex(tag.id),
        what: `VLAN ${tag.id} at ${wire.name}`,
      }),
    ),
    ...(tags ?? []).flatMap((tag) => (tag.addresses.length === 0 ? [] : arrival(tag, 'group'))),
    arrival({ id, mac }, tags && 'network'),
    {
      at: LEAVING,
      key: hex(wire.index),
      value: hex(id, uplink.index, tags === undefined ? 0 : 1),
      what: `VLAN ${id} from ${wire.name} to ${uplink.name}`,
    },
  ];
}

/** One of the maps; sizes in bytes. */
interface WaysMap {
  readonly at: Way['at'];
  readonly map: number;
  readonly keySize: number;
  readonly valueSize: number;
  readonly room: number;
}

/** What is in a map, whoever wrote it. */
function listWays({ at, map, keySize, valueSize, room }: WaysMap): Way[] {
  const { keys, values, count } = bpf.listMap(map, keySize, valueSize, room);
  return Array.from({ length: count }, (_, i): Way => {
    const key = keys.subarray(keySize * i, keySize * (i + 1));
    const first = key.readUInt32LE(0);
    return {
      at,
      key: key.toString('hex'),
      value: values.toString('hex', valueSize * i, valueSize * (i + 1)),
      what: at === ARRIVING ? `VLAN ${first} of ${at}` : `device ${first} of ${at}`,
    };
  });
}

/**
 * Makes the maps lead where the networks' devices are. Of programs that are only just open they are empty. Whose tag is which comes first: until
 * it is there nothing is for somebody by a group's tag, and nothing leaves by it.
 */
function fill(
  { arriving, leaving, tags, ways }: OpenPrograms,
  wired: readonly Wired[],
  verify: boolean,
): Outcome {
  const maps: readonly WaysMap[] = [
    { at: TAGS, map: tags, keySize: PLACE, valueSize: 4, room: TAGS_ROOM },
    { at: ARRIVING, map: arriving.map, keySize: 4, valueSize: ARRIVAL, room: ROOM },
    { at: LEAVING, map: leaving.map, keySize: 4, valueSize: DEPARTURE, room: ROOM },
  ];
  const isTagged = wired.some(({ vlan }) => vlan.tags !== undefined);
  const { outcome } = establish(ways, {
    wanted: new Map([[wired, wired.flatMap(waysOf)]]),
    // The programs look into the first for networks that have tags.
    list: verify ? () => (isTagged ? maps : maps.slice(1)).flatMap(listWays) : undefined,
    write({ additions, removals }) {
      for (const { at, map } of maps) {
        const gone = removals.filter((way) => way.at === at);
        const news = additions.flatMap(({ entry }) => (entry.at === at ? [entry] : []));
        const bytes = (list: readonly string[]): Buffer => Buffer.from(list.join(''), 'hex');
        bpf.deleteFromMap(map, bytes(gone.map(({ key }) => key)), gone.length);
        bpf.updateMap(map, {
          keys: bytes(news.map(({ key }) => key)),
          values: bytes(news.map(({ value }) => value)),
          count: news.length,
        });
      }
      return { outcome: { writes: additions.length + removals.length } };
    },
  });
  return located('VLANs', outcome);
}

/** The maps are filled. */
function attach(
  open: OpenVlans,
  { arriving, leaving }: VlanPrograms,
  wired: readonly Wired[],
  verify: boolean,
): Outcome {
  const { netlink, attached } = open;
  const uplinks = new Map(wired.map(({ uplink }) => [uplink.index, uplink]));
  const places = [
    ...[...uplinks.values()].map((uplink) => ({ link: uplink, name: ARRIVING, of: arriving })),
    ...wired.map(({ wire }) => ({ link: wire, name: LEAVING, of: leaving })),
  ];
  const outcomes: Outcome[] = [];
  for (const { link, name, of } of places) {
    const known = attached.get(link.index) === of.id;
    if (known && !verify) continue;
    if (traffic.listFilters(netlink, link.index).some((f) => f.program === of.id)) {
      attached.set(link.index, of.id);
      continue;
    }
    // The qdisc may be there, another's too: only whether the program could be set says something.
    netlink.batch([traffic.addClassAction(link.index)]);
    const outcome = send(netlink, [traffic.setProgram(link.index, of.program, name, PRIORITY)]);
    if ((outcome.failed ?? []).length === 0) attached.set(link.index, of.id);
    outcomes.push({ ...outcome, repaired: known ? [`the program of VLANs at ${link.name} was gone`] : [] });
  }
  return combine(outcomes);
}

const isGroup = (mac: string): boolean => mac.startsWith('33:33:');

/** What uplinks are to take beside their own: frames to the routers' MAC addresses, and to the groups by which IPv6 addresses are asked for. */
function macsOf(state: HostState, wired: readonly Wired[]): Map<number, Set<string>> {
  const groups = new Map<string, string[]>();
  for (const { ports, vlans } of state.routers)
    for (const { wire: device = '', addresses } of vlans === undefined ? [] : ports) {
      const list = groups.get(device) ?? [];
      groups.set(device, list);
      list.push(...addresses.filter(isV6).map(solicitedMac));
    }
  const macs = new Map<number, Set<string>>();
  for (const { vlan, uplink } of wired) {
    const all = macs.get(uplink.index) ?? new Set<string>();
    macs.set(uplink.index, all);
    const own = vlan.addresses.filter(isV6).map(solicitedMac);
    const inTags = (vlan.tags ?? []).flatMap((tag) => (tag.addresses.length === 0 ? [] : tag.mac));
    for (const mac of [vlan.mac, ...inTags, ...own, ...(groups.get(vlan.device) ?? [])]) all.add(mac);
  }
  return macs;
}

function admit(
  { netlink, macs }: OpenVlans,
  state: HostState,
  wired: readonly Wired[],
  verify: boolean,
): Outcome {
  const outcomes = [...macsOf(state, wired)].map(([index, all]): Outcome => {
    const before = macs.get(index) ?? new Set();
    const gone = [...before].filter((mac) => !all.has(mac));
    const news = [...all].filter((mac) => verify || !before.has(mac));
    netlink.batch(gone.map((mac) => route.deleteOwnMac(index, mac)));
    const answers = netlink.batch(news.map((mac) => route.addOwnMac(index, mac)));
    const failed = answers.flatMap((error) =>
      error === undefined || error.code === 'EEXIST' ? [] : [failureOf(error)],
    );
    // A group that the host is in for itself stays with it.
    const others = new Set(
      news.filter((mac, i) => answers[i]?.code === 'EEXIST' && !before.has(mac) && isGroup(mac)),
    );
    macs.set(index, new Set([...all].filter((mac) => !others.has(mac))));
    return { writes: gone.length + news.filter((mac) => !before.has(mac)).length, failed };
  });
  return combine(outcomes);
}

/** Those of which the program runs. */
function raise({ netlink, attached }: OpenVlans, wired: readonly Wired[]): Outcome {
  const changes = wired
    .filter(({ wire }) => attached.has(wire.index))
    .flatMap(({ vlan, wire }) => {
      if (wire.up && wire.mtu === vlan.mtu) return [];
      if (!wire.up)
        try {
          setSysctl(`net/ipv6/conf/${wire.name}/disable_ipv6`, '1');
        } catch (error) {
          if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error; // a kernel without IPv6
        }
      return [route.setLink(wire.index, { up: true, mtu: vlan.mtu })];
    });
  return changes.length === 0 ? {} : send(netlink, changes);
}

/** From uplinks that no VLAN has any more: ours alone. What a host's end had went with it. */
function detach(open: OpenVlans, wired: readonly Wired[], links: readonly route.Link[]): Outcome {
  const { netlink, attached, macs } = open;
  const used = new Set(wired.flatMap(({ wire, uplink }) => [wire.index, uplink.index]));
  const there = new Set(links.map((l) => l.index));
  const earlier = open.first
    ? traffic
        .listQdiscs(netlink)
        .filter((q) => (q.kind === 'clsact' || q.kind === 'ingress') && !used.has(q.device))
        .map((q) => q.device)
        .filter((device) => traffic.listFilters(netlink, device).some((f) => f.priority === PRIORITY))
    : [];
  const gone = new Set([...earlier, ...[...attached.keys()].filter((index) => !used.has(index))]);
  const requests = [...gone].flatMap((index) => {
    const taken = [...(macs.get(index) ?? [])];
    attached.delete(index);
    macs.delete(index);
    if (!there.has(index)) return [];
    return [traffic.deleteProgram(index, PRIORITY), ...taken.map((mac) => route.deleteOwnMac(index, mac))];
  });
  return requests.length === 0 ? {} : send(netlink, requests, ['ENOENT', 'ENODEV', 'EINVAL']);
}

const BROADCAST = 'ff:ff:ff:ff:ff:ff';
const ETH_P_ARP = 0x0806;

/** A request for one's own address (RFC 5227, 3): as what everybody takes. */
const gratuitous = (mac: string, address: string): Buffer =>
  ethernet(
    mac,
    BROADCAST,
    Buffer.concat([
      short(1), // Ethernet
      short(0x0800),
      Buffer.from([6, 4]),
      short(1), // request
      macBytes(mac),
      addressBytes(address),
      Buffer.alloc(6),
      addressBytes(address),
    ]),
    { type: ETH_P_ARP },
  );

/** Frames are not written state: a failure of one says nothing that holds. */
function announce(open: OpenVlans, state: HostState, wired: readonly Wired[], verify: boolean): void {
  const byDevice = new Map(wired.map((w) => [w.vlan.device, w]));
  const here = new Set<string>();
  const frames = new Map<number, Buffer[]>();
  for (const { vlans = [], ports } of state.routers)
    for (const { device, addresses } of [
      ...vlans.filter((vlan) => vlan.entered),
      ...ports.map(({ wire = '', addresses }) => ({ device: wire, addresses })),
    ]) {
      const on = byDevice.get(device);
      if (on === undefined || !on.uplink.running) continue;
      for (const address of addresses) {
        const key = `${address} ${device}`;
        here.add(key);
        const again = open.announced.get(key);
        if (again === false || (again === true && !verify)) continue;
        open.announced.set(key, again === undefined);
        const list = frames.get(on.wire.index) ?? [];
        frames.set(on.wire.index, list);
        list.push((isV6(address) ? unsolicitedAdvertisement : gratuitous)(on.vlan.mac, address));
      }
    }
  for (const key of [...open.announced.keys()]) if (!here.has(key)) open.announced.delete(key);
  for (const [index, list] of frames) inject(index, list);
}
