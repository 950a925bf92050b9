/**
 * rtnetlink(7): links, addresses, routes, neighbours and FDB entries, as requests to send and lists
 * to read. Numbers are those of linux/if_link.h, if_addr.h, rtnetlink.h and neighbour.h.
 */
import { addressBytes, addressText, macBytes, macText } from './address.ts';
import { AF_INET, AF_INET6 } from './libc.ts';
import {
  attribute,
  type Netlink,
  NetlinkError,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
  nested,
  type Request,
  readAttributes,
  readText,
  text,
  u8,
  u16,
  u16be,
  u32,
} from './netlink.ts';

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;
const RTM_SETLINK = 19;
const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;
const RTM_NEWRULE = 32;
const RTM_DELRULE = 33;
const RTM_GETRULE = 34;

const AF_BRIDGE = 7;
const ARPHRD_ETHER = 1;
const IFF_UP = 1;
const IFF_RUNNING = 0x40;

const family = (address: string): number => (address.includes(':') ? AF_INET6 : AF_INET);
const EMPTY = Buffer.alloc(0);

// ---- links

export interface Link {
  readonly index: number;
  readonly name: string;
  /** `veth`, `vxlan`, `loopback` (''), ... */
  readonly kind: string;
  /** Frames of it are Ethernet's (ARPHRD_ETHER). */
  readonly ethernet: boolean;
  readonly mac: string;
  readonly mtu: number;
  readonly up: boolean;
  /** Up, and with a carrier where it can lack one. */
  readonly running: boolean;
  /** Of a veth: index of the other end; of a macvlan: of the device that it is on. */
  readonly peer: number;
  /** Index of the bridge, or the like, that it is a port of; 0: of none. */
  readonly master: number;
  readonly vxlan?: {
    readonly vni: number;
    readonly local: string;
    readonly port: number;
    readonly learning: boolean;
    /** The outer header takes DSCP and ECN from the inner one. */
    readonly tosInherited: boolean;
  };
}

/** struct ifinfomsg. */
function linkHeader(index: number, flags = 0, change = 0): Buffer {
  const out = Buffer.alloc(16);
  out.writeInt32LE(index, 4);
  out.writeUInt32LE(flags, 8);
  out.writeUInt32LE(change, 12);
  return out;
}

const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_LINK = 5;
const IFLA_MASTER = 10;
const IFLA_LINKINFO = 18;
const IFLA_GROUP = 27;
const IFLA_NET_NS_FD = 28;
const IFLA_EXT_MASK = 29;
/** Without counters, which are the half of what the kernel says of a link, and the larger part of its work for it. */
const RTEXT_FILTER_SKIP_STATS = 1 << 3;
const IFLA_TXQLEN = 13;
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;
const IFLA_VXLAN_ID = 1;
const IFLA_VXLAN_LOCAL = 4;
const IFLA_VXLAN_TOS = 6;
const IFLA_VXLAN_LEARNING = 7;
const IFLA_VXLAN_PORT = 15;
const IFLA_VXLAN_LOCAL6 = 17;
const IFLA_VXLAN_UDP_CSUM = 18;
/** The outer header's DSCP and ECN are the inner packet's (drivers/net/vxlan/vxlan_core.c, vxlan_xmit_one; RFC 6040). */
const TOS_INHERIT = 1;

export function listLinks(netlink: Netlink): Link[] {
  const body = Buffer.concat([linkHeader(0), attribute(IFLA_EXT_MASK, u32(RTEXT_FILTER_SKIP_STATS))]);
  return netlink.dump({ type: RTM_GETLINK, flags: 0, body, text: 'link show' }).map(({ body }) => {
    const attributes = readAttributes(body.subarray(16));
    const info = readAttributes(attributes.get(IFLA_LINKINFO) ?? EMPTY);
    const kind = readText(info.get(IFLA_INFO_KIND));
    const data = readAttributes(info.get(IFLA_INFO_DATA) ?? EMPTY);
    const local = data.get(IFLA_VXLAN_LOCAL) ?? data.get(IFLA_VXLAN_LOCAL6);
    return {
      index: body.readInt32LE(4),
      name: readText(attributes.get(IFLA_IFNAME)),
      kind,
      ethernet: body.readUInt16LE(2) === ARPHRD_ETHER,
      mac: macText(attributes.get(IFLA_ADDRESS) ?? EMPTY),
      mtu: attributes.get(IFLA_MTU)?.readUInt32LE() ?? 0,
      up: (body.readUInt32LE(8) & IFF_UP) !== 0,
      running: (body.readUInt32LE(8) & IFF_RUNNING) !== 0,
      peer: attributes.get(IFLA_LINK)?.readUInt32LE() ?? 0,
      master: attributes.get(IFLA_MASTER)?.readUInt32LE() ?? 0,
      ...(kind === 'vxlan'
        ? {
            vxlan: {
              vni: data.get(IFLA_VXLAN_ID)?.readUInt32LE() ?? 0,
              local: local === undefined ? '' : addressText(local),
              port: data.get(IFLA_VXLAN_PORT)?.readUInt16BE() ?? 0,
              learning: data.get(IFLA_VXLAN_LEARNING)?.[0] === 1,
              tosInherited: data.get(IFLA_VXLAN_TOS)?.[0] === TOS_INHERIT,
            },
          }
        : {}),
    };
  });
}

export interface VethEnd {
  readonly name: string;
  readonly mac?: string;
  readonly mtu: number;
  /** File descriptor of the namespace that this end is made in; the socket's own where absent. */
  readonly namespace?: number;
}

function endAttributes(end: VethEnd): Buffer[] {
  return [
    attribute(IFLA_IFNAME, text(end.name)),
    attribute(IFLA_MTU, u32(end.mtu)),
    ...(end.mac === undefined ? [] : [attribute(IFLA_ADDRESS, macBytes(end.mac))]),
    ...(end.namespace === undefined ? [] : [attribute(IFLA_NET_NS_FD, u32(end.namespace))]),
  ];
}

/** Both ends are made where they belong: neither ever shows up in another namespace. */
export function addVeth(end: VethEnd, peer: VethEnd): Request {
  return {
    type: RTM_NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    text: `link add ${end.name} type veth peer ${peer.name}`,
    body: Buffer.concat([
      linkHeader(0),
      ...endAttributes(end),
      nested(
        IFLA_LINKINFO,
        attribute(IFLA_INFO_KIND, text('veth')),
        nested(IFLA_INFO_DATA, nested(VETH_INFO_PEER, linkHeader(0), ...endAttributes(peer))),
      ),
    ]),
  };
}

export interface Macvlan extends VethEnd {
  /** Index of the device that it is on, in the namespace of the socket. */
  readonly on: number;
}

const IFLA_MACVLAN_MODE = 1;
/** Devices of one interface do not reach each other (linux/if_link.h). */
const MACVLAN_MODE_PRIVATE = 1;

/** A device that takes the frames to its own MAC address which come by another one, before that one's namespace sees them, and sends by it. */
export function addMacvlan(macvlan: Macvlan): Request {
  return {
    type: RTM_NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    text: `link add ${macvlan.name} type macvlan`,
    body: Buffer.concat([
      linkHeader(0),
      ...endAttributes(macvlan),
      attribute(IFLA_LINK, u32(macvlan.on)),
      nested(
        IFLA_LINKINFO,
        attribute(IFLA_INFO_KIND, text('macvlan')),
        nested(IFLA_INFO_DATA, attribute(IFLA_MACVLAN_MODE, u32(MACVLAN_MODE_PRIVATE))),
      ),
    ]),
  };
}

/** A device that gives back what is redirected to it (traffic.ts). */
export function addIfb(name: string): Request {
  return {
    type: RTM_NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    text: `link add ${name} type ifb`,
    body: Buffer.concat([
      linkHeader(0),
      attribute(IFLA_IFNAME, text(name)),
      nested(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, text('ifb'))),
    ]),
  };
}

/** A device of WireGuard's, without a key yet (wireguard.ts); EOPNOTSUPP where the kernel has none. Its socket is the namespace's that it is made in. */
export const addWireguard = (name: string, mtu: number): Request => ({
  type: RTM_NEWLINK,
  flags: NLM_F_CREATE | NLM_F_EXCL,
  text: `link add ${name} type wireguard`,
  body: Buffer.concat([
    linkHeader(0),
    attribute(IFLA_IFNAME, text(name)),
    attribute(IFLA_MTU, u32(mtu)),
    nested(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, text('wireguard'))),
  ]),
});

export interface Vxlan {
  readonly name: string;
  readonly vni: number;
  readonly local: string;
  readonly port: number;
  readonly mac: string;
  readonly mtu: number;
  /**
   * File descriptor of the namespace that the device is made in. Its outer socket stays in the namespace of
   * the netlink socket (drivers/net/vxlan: vxlan->net is the creating request's).
   */
  readonly namespace?: number;
}

export function addVxlan(vxlan: Vxlan): Request {
  const local = addressBytes(vxlan.local);
  return {
    type: RTM_NEWLINK,
    flags: NLM_F_CREATE | NLM_F_EXCL,
    text: `link add ${vxlan.name} type vxlan id ${vxlan.vni}`,
    body: Buffer.concat([
      linkHeader(0),
      ...endAttributes(vxlan),
      attribute(IFLA_TXQLEN, u32(1000)),
      nested(
        IFLA_LINKINFO,
        attribute(IFLA_INFO_KIND, text('vxlan')),
        nested(
          IFLA_INFO_DATA,
          attribute(IFLA_VXLAN_ID, u32(vxlan.vni)),
          attribute(local.length === 4 ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6, local),
          attribute(IFLA_VXLAN_TOS, u8(TOS_INHERIT)),
          attribute(IFLA_VXLAN_LEARNING, u8(0)),
          attribute(IFLA_VXLAN_PORT, u16be(vxlan.port)),
          // Zero over IPv4 (RFC 7348, 5): what is inside has checksums of its own, and fewer network cards segment with it.
          attribute(IFLA_VXLAN_UDP_CSUM, u8(0)),
        ),
      ),
    ]),
  };
}

/**
 * A VXLAN device sends from another address of the same family, and keeps all that hangs on it (drivers/net/vxlan,
 * vxlan_changelink).
 */
export function setVxlanLocal(link: { index: number; name: string }, address: string): Request {
  const local = addressBytes(address);
  return {
    type: RTM_NEWLINK,
    flags: 0,
    text: `link set ${link.name} type vxlan local ${address}`,
    body: Buffer.concat([
      linkHeader(link.index),
      nested(
        IFLA_LINKINFO,
        attribute(IFLA_INFO_KIND, text('vxlan')),
        nested(IFLA_INFO_DATA, attribute(local.length === 4 ? IFLA_VXLAN_LOCAL : IFLA_VXLAN_LOCAL6, local)),
      ),
    ]),
  };
}

export function deleteLink(link: { index: number; name: string }): Request {
  return { type: RTM_DELLINK, flags: 0, body: linkHeader(link.index), text: `link delete ${link.name}` };
}

/** Of links that are to go together: no other link of their namespace may be in it. */
const LEAVING = 0x636e7476;

/**
 * Deletes links of a namespace that is ours. Each deletion waits for all processors to have left what they do (RCU), some 20 ms; those of a group
 * do so once for all (net/core/rtnetlink.c, rtnl_group_dellink).
 */
export function deleteLinks(links: readonly { index: number; name: string }[]): Request[] {
  const [only] = links;
  if (only === undefined) return [];
  if (links.length === 1) return [deleteLink(only)];
  const group = attribute(IFLA_GROUP, u32(LEAVING));
  return [
    ...links.map(({ index, name }) => ({
      type: RTM_SETLINK,
      flags: 0,
      text: `link set ${name} group ${LEAVING}`,
      body: Buffer.concat([linkHeader(index), group]),
    })),
    {
      type: RTM_DELLINK,
      flags: 0,
      text: `link delete ${links.map(({ name }) => name).join(', ')}`,
      body: Buffer.concat([linkHeader(0), group]),
    },
  ];
}

export interface LinkChange {
  readonly up?: boolean;
  readonly mac?: string;
  readonly mtu?: number;
  readonly name?: string;
  /** File descriptor of the namespace to move it to. */
  readonly namespace?: number;
}

export function setLink(index: number, change: LinkChange): Request {
  const flags = change.up === undefined ? 0 : IFF_UP;
  return {
    type: RTM_SETLINK,
    flags: 0,
    text: `link set ${index}`,
    body: Buffer.concat([
      linkHeader(index, change.up === true ? IFF_UP : 0, flags),
      ...(change.mac === undefined ? [] : [attribute(IFLA_ADDRESS, macBytes(change.mac))]),
      ...(change.mtu === undefined ? [] : [attribute(IFLA_MTU, u32(change.mtu))]),
      ...(change.name === undefined ? [] : [attribute(IFLA_IFNAME, text(change.name))]),
      ...(change.namespace === undefined ? [] : [attribute(IFLA_NET_NS_FD, u32(change.namespace))]),
    ]),
  };
}

// ---- addresses

export interface Address {
  readonly index: number;
  readonly address: string;
  readonly length: number;
  /** 0 global, 253 link, 254 host. */
  readonly scope: number;
  /** Not to be relied on: checked for a duplicate, found to be one, or one of a series that changes (RFC 8981). */
  readonly passing?: true;
}

const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_FLAGS = 8;
const IFA_F_NODAD = 2;
/** Of IPv6: TEMPORARY, DADFAILED, TENTATIVE. The first bit of IPv4 says SECONDARY, which is as good as any. */
const IFA_F_PASSING = 0x1 | 0x8 | 0x40;

/** struct ifaddrmsg. */
function addressBody(address: Address): Buffer {
  const out = Buffer.alloc(8);
  out[0] = family(address.address);
  out[1] = address.length;
  out[3] = address.scope;
  out.writeUInt32LE(address.index, 4);
  const bytes = addressBytes(address.address);
  return Buffer.concat([
    out,
    attribute(IFA_LOCAL, bytes),
    attribute(IFA_ADDRESS, bytes),
    // Duplicate address detection would hold the address back for a second; ours are unique by allocation.
    attribute(IFA_FLAGS, u32(IFA_F_NODAD)),
  ]);
}

export const addAddress = (address: Address): Request => ({
  type: RTM_NEWADDR,
  flags: NLM_F_CREATE | NLM_F_REPLACE,
  body: addressBody(address),
  text: `addr add ${address.address}/${address.length}`,
});

export const deleteAddress = (address: Address): Request => ({
  type: RTM_DELADDR,
  flags: 0,
  body: addressBody(address),
  text: `addr del ${address.address}/${address.length}`,
});

export function listAddresses(netlink: Netlink): Address[] {
  return netlink
    .dump({ type: RTM_GETADDR, flags: 0, body: Buffer.alloc(8), text: 'addr show' })
    .flatMap(({ body }) => {
      const attributes = readAttributes(body.subarray(8));
      const bytes = attributes.get(IFA_LOCAL) ?? attributes.get(IFA_ADDRESS);
      if (bytes === undefined) return [];
      const flags = attributes.get(IFA_FLAGS)?.readUInt32LE() ?? 0;
      return [
        {
          index: body.readUInt32LE(4),
          address: addressText(bytes),
          length: body[1] ?? 0,
          scope: body[3] ?? 0,
          ...(bytes.length === 16 && (flags & IFA_F_PASSING) !== 0 ? { passing: true as const } : {}),
        },
      ];
    });
}

// ---- routes

/** rtm_protocol of our routes: free in rt_protos, so that strays can be told from what others set. */
export const ROUTE_PROTOCOL = 0xc7;

const RTN_UNICAST = 1;
const RTN_UNREACHABLE = 7;
export const MAIN_TABLE = 254;
const RT_SCOPE_LINK = 253;
const RTNH_F_ONLINK = 4;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_METRICS = 8;
const RTA_TABLE = 15;
const RTA_VIA = 18;
const RTAX_MTU = 2;

export interface Route {
  /** Prefix `a.b.c.d/len`. */
  readonly destination: string;
  readonly type: 'unicast' | 'unreachable';
  /** Next hop, taken as on link; for IPv4 of either family. */
  readonly via?: string;
  /** Index of the device; absent for unreachable. */
  readonly device?: number;
  /** Where this host's sockets send from that are bound to no address; the kernel chooses where absent. */
  readonly from?: string;
  /** rtm_protocol; ROUTE_PROTOCOL where absent. */
  readonly protocol?: number;
  readonly metric?: number;
  /** The main one where absent. */
  readonly table?: number;
  /** Packets that are larger are not forwarded, and their sender is told. */
  readonly mtu?: number;
}

/** A next hop of the other family, IPv6 for IPv4's destinations, is an attribute of its own (struct rtvia, linux/rtnetlink.h). */
function nextHop(destination: string, via: string): Buffer {
  const bytes = addressBytes(via);
  if (family(via) === family(destination)) return attribute(RTA_GATEWAY, bytes);
  return attribute(RTA_VIA, Buffer.concat([Buffer.from([family(via), 0]), bytes]));
}

/** struct rtmsg. */
function routeBody(route: Route): Buffer {
  const [address = '', length = ''] = route.destination.split('/');
  const out = Buffer.alloc(12);
  out[0] = family(address);
  out[1] = Number(length);
  out[4] = route.table === undefined ? MAIN_TABLE : 0; // of 8 bits
  out[5] = route.protocol ?? ROUTE_PROTOCOL;
  out[6] = route.via === undefined && route.type === 'unicast' && out[0] === AF_INET ? RT_SCOPE_LINK : 0;
  out[7] = route.type === 'unicast' ? RTN_UNICAST : RTN_UNREACHABLE;
  out.writeUInt32LE(route.via === undefined ? 0 : RTNH_F_ONLINK, 8);
  return Buffer.concat([
    out,
    ...(Number(length) === 0 ? [] : [attribute(RTA_DST, addressBytes(address))]),
    ...(route.via === undefined ? [] : [nextHop(address, route.via)]),
    ...(route.device === undefined ? [] : [attribute(RTA_OIF, u32(route.device))]),
    ...(route.from === undefined ? [] : [attribute(RTA_PREFSRC, addressBytes(route.from))]),
    ...(route.metric === undefined ? [] : [attribute(RTA_PRIORITY, u32(route.metric))]),
    ...(route.table === undefined ? [] : [attribute(RTA_TABLE, u32(route.table))]),
    ...(route.mtu === undefined ? [] : [nested(RTA_METRICS, attribute(RTAX_MTU, u32(route.mtu)))]),
  ]);
}

/** One route a destination: replaces another one of ours. */
export const addRoute = (route: Route): Request => ({
  type: RTM_NEWROUTE,
  flags: NLM_F_CREATE | NLM_F_REPLACE,
  body: routeBody(route),
  text: `route replace ${route.type} ${route.destination}`,
});

export const deleteRoute = (route: Route): Request => ({
  type: RTM_DELROUTE,
  flags: 0,
  body: routeBody(route),
  text: `route delete ${route.destination}`,
});

/** Index of the device by which packets to the address leave; undefined where there is no way. */
export function leadsTo(netlink: Netlink, address: string): number | undefined {
  const header = Buffer.alloc(12); // struct rtmsg
  header[0] = family(address);
  const bytes = addressBytes(address);
  header[1] = bytes.length * 8;
  const body = Buffer.concat([header, attribute(RTA_DST, bytes)]);
  try {
    const answer = netlink.get({ type: RTM_GETROUTE, flags: 0, body, text: `route get ${address}` });
    if (answer === undefined || answer.body[7] !== RTN_UNICAST) return undefined;
    return readAttributes(answer.body.subarray(12)).get(RTA_OIF)?.readUInt32LE();
  } catch (error) {
    if (error instanceof NetlinkError) return undefined;
    throw error;
  }
}

/** Unicast and unreachable routes of the main table, and of those from `tables` on. */
export function listRoutes(netlink: Netlink, version: 4 | 6, tables = Number.POSITIVE_INFINITY): Route[] {
  const header = Buffer.alloc(12);
  header[0] = version === 4 ? AF_INET : AF_INET6;
  return netlink
    .dump({ type: RTM_GETROUTE, flags: 0, body: header, text: 'route show' })
    .flatMap(({ body }) => {
      const type =
        body[7] === RTN_UNICAST ? 'unicast' : body[7] === RTN_UNREACHABLE ? 'unreachable' : undefined;
      if (type === undefined) return [];
      const attributes = readAttributes(body.subarray(12));
      const table = attributes.get(RTA_TABLE)?.readUInt32LE() ?? MAIN_TABLE;
      if (table !== MAIN_TABLE && table < tables) return [];
      const destination = attributes.get(RTA_DST);
      const via = attributes.get(RTA_GATEWAY) ?? attributes.get(RTA_VIA)?.subarray(2);
      const device = attributes.get(RTA_OIF);
      const from = attributes.get(RTA_PREFSRC);
      const metric = attributes.get(RTA_PRIORITY)?.readUInt32LE();
      const mtu = readAttributes(attributes.get(RTA_METRICS) ?? EMPTY)
        .get(RTAX_MTU)
        ?.readUInt32LE();
      return [
        {
          destination: `${destination === undefined ? (version === 4 ? '0.0.0.0' : '::') : addressText(destination)}/${body[1]}`,
          type,
          protocol: body[5] ?? 0,
          ...(via === undefined ? {} : { via: addressText(via) }),
          // An unreachable IPv6 route is shown on lo.
          ...(device === undefined || type === 'unreachable' ? {} : { device: device.readUInt32LE() }),
          ...(from === undefined ? {} : { from: addressText(from) }),
          ...(metric === undefined ? {} : { metric }),
          ...(table === MAIN_TABLE ? {} : { table }),
          ...(mtu === undefined ? {} : { mtu }),
        } satisfies Route,
      ];
    });
}

// ---- rules, which say in which table a packet's way is looked up (ip-rule(8))

const FR_ACT_TO_TBL = 1;
const FRA_SRC = 2;
const FRA_PRIORITY = 6;
const FRA_FWMARK = 10;
const FRA_SUPPRESS_PREFIXLEN = 14;
const FRA_TABLE = 15;
const FRA_FWMASK = 16;
const FRA_PROTOCOL = 21;
const FRA_IP_PROTO = 22;
const FRA_DPORT_RANGE = 24;
const IPPROTO_UDP = 17;
const RTPROT_KERNEL = 2;

export interface RoutingRule {
  readonly version: 4 | 6;
  /** Lower ones come first. */
  readonly priority: number;
  readonly table: number;
  /** Prefix of the packet's source; absent: any. */
  readonly source?: string;
  /** Bits of its mark, all of which are set; absent: any. */
  readonly mark?: number;
  /** The default route of the table does not count. */
  readonly withoutDefault?: true;
  /** Destination port of UDP; absent: any, of any protocol. */
  readonly udpPort?: number;
  /** Who has made it, as of a route; ROUTE_PROTOCOL where absent. */
  readonly protocol?: number;
}

/** struct fib_rule_hdr, linux/fib_rules.h. */
function ruleBody(rule: RoutingRule): Buffer {
  const [source, length] = rule.source?.split('/') ?? [];
  const out = Buffer.alloc(12);
  out[0] = rule.version === 4 ? AF_INET : AF_INET6;
  out[2] = Number(length ?? 0);
  out[7] = FR_ACT_TO_TBL;
  return Buffer.concat([
    out,
    ...(source === undefined ? [] : [attribute(FRA_SRC, addressBytes(source))]),
    attribute(FRA_PRIORITY, u32(rule.priority)),
    ...(rule.mark === undefined
      ? []
      : [attribute(FRA_FWMARK, u32(rule.mark)), attribute(FRA_FWMASK, u32(rule.mark))]),
    ...(rule.withoutDefault ? [attribute(FRA_SUPPRESS_PREFIXLEN, u32(0))] : []),
    // struct fib_rule_port_range: first and last.
    ...(rule.udpPort === undefined
      ? []
      : [
          attribute(FRA_IP_PROTO, u8(IPPROTO_UDP)),
          attribute(FRA_DPORT_RANGE, Buffer.concat([u16(rule.udpPort), u16(rule.udpPort)])),
        ]),
    attribute(FRA_TABLE, u32(rule.table)),
    attribute(FRA_PROTOCOL, u8(rule.protocol ?? ROUTE_PROTOCOL)),
  ]);
}

const ruleText = ({ priority, table }: RoutingRule): string => `${priority} lookup ${table}`;

export const addRule = (rule: RoutingRule): Request => ({
  type: RTM_NEWRULE,
  flags: NLM_F_CREATE | NLM_F_EXCL,
  body: ruleBody(rule),
  text: `rule add ${ruleText(rule)}`,
});

export const deleteRule = (rule: RoutingRule): Request => ({
  type: RTM_DELRULE,
  flags: 0,
  body: ruleBody(rule),
  text: `rule del ${ruleText(rule)}`,
});

/** All but the kernel's own three, which lead to the tables local, main and default. */
export function listRules(netlink: Netlink, version: 4 | 6): RoutingRule[] {
  const header = Buffer.alloc(12);
  header[0] = version === 4 ? AF_INET : AF_INET6;
  return netlink
    .dump({ type: RTM_GETRULE, flags: 0, body: header, text: 'rule show' })
    .flatMap(({ body }) => {
      const attributes = readAttributes(body.subarray(12));
      const protocol = attributes.get(FRA_PROTOCOL)?.[0] ?? 0;
      if (protocol === RTPROT_KERNEL) return [];
      const number = (type: number): number | undefined => attributes.get(type)?.readUInt32LE();
      const source = attributes.get(FRA_SRC);
      const ports = attributes.get(FRA_DPORT_RANGE);
      const mark = number(FRA_FWMARK);
      return [
        {
          version,
          priority: number(FRA_PRIORITY) ?? 0,
          table: number(FRA_TABLE) ?? 0,
          ...(source === undefined ? {} : { source: `${addressText(source)}/${body[2]}` }),
          ...(mark === undefined || mark === 0 ? {} : { mark }),
          ...(number(FRA_SUPPRESS_PREFIXLEN) === 0 ? { withoutDefault: true as const } : {}),
          ...(ports !== undefined &&
          attributes.get(FRA_IP_PROTO)?.[0] === IPPROTO_UDP &&
          ports.readUInt16LE(0) === ports.readUInt16LE(2)
            ? { udpPort: ports.readUInt16LE(0) }
            : {}),
          ...(protocol === ROUTE_PROTOCOL ? {} : { protocol }),
        },
      ];
    });
}

// ---- neighbours and FDB entries

const NDA_DST = 1;
const NDA_LLADDR = 2;
const NTF_SELF = 2;
const NTF_PROXY = 8;
const NTF_EXT_LEARNED = 16;
const NDA_FLAGS_EXT = 15;
const NTF_EXT_MANAGED = 1;
const NUD_PERMANENT = 0x80;
const NUD_NOARP = 0x40;

export interface Neighbour {
  readonly device: number;
  readonly address: string;
  /** '' for a proxy entry. */
  readonly mac: string;
  /** `proxy`: for which the device answers; a permanent one, which outlives a loss of carrier. */
  readonly state: 'permanent' | 'proxy' | 'other';
}

/** struct ndmsg. */
function neighbourHeader(family: number, device: number, state: number, flags: number): Buffer {
  const out = Buffer.alloc(12);
  out[0] = family;
  out.writeInt32LE(device, 4);
  out.writeUInt16LE(state, 8);
  out[10] = flags;
  return out;
}

function neighbourBody(n: Neighbour): Buffer {
  return Buffer.concat([
    neighbourHeader(
      family(n.address),
      n.device,
      n.state === 'other' ? 0 : NUD_PERMANENT,
      n.state === 'proxy' ? NTF_PROXY : 0,
    ),
    attribute(NDA_DST, addressBytes(n.address)),
    ...(n.mac === '' ? [] : [attribute(NDA_LLADDR, macBytes(n.mac))]),
  ]);
}

export const addNeighbour = (n: Neighbour): Request => ({
  type: RTM_NEWNEIGH,
  flags: NLM_F_CREATE | NLM_F_REPLACE,
  body: neighbourBody(n),
  text: `neigh replace ${n.address} lladdr ${n.mac}`,
});

export const deleteNeighbour = (n: Neighbour): Request => ({
  type: RTM_DELNEIGH,
  flags: 0,
  body: neighbourBody(n),
  text: `neigh del ${n.address}`,
});

export function listNeighbours(netlink: Netlink, version: 4 | 6): Neighbour[] {
  const header = neighbourHeader(version === 4 ? AF_INET : AF_INET6, 0, 0, 0);
  return netlink
    .dump({ type: RTM_GETNEIGH, flags: 0, body: header, text: 'neigh show' })
    .flatMap(({ body }) => {
      const attributes = readAttributes(body.subarray(12));
      const address = attributes.get(NDA_DST);
      if (address === undefined) return [];
      return [
        {
          device: body.readInt32LE(4),
          address: addressText(address),
          mac: macText(attributes.get(NDA_LLADDR) ?? EMPTY),
          state: body.readUInt16LE(8) === NUD_PERMANENT ? 'permanent' : 'other',
        } satisfies Neighbour,
      ];
    });
}

/**
 * Has the kernel ask for an address over and over by itself, whether or not somebody sends there; it takes no place of others in the table of
 * neighbours. With the device's carrier the entry goes (net/core/neighbour.c, neigh_carrier_down).
 */
export const seek = (device: number, address: string): Request => ({
  type: RTM_NEWNEIGH,
  flags: NLM_F_CREATE | NLM_F_REPLACE,
  body: Buffer.concat([
    neighbourHeader(family(address), device, 0, NTF_EXT_LEARNED),
    attribute(NDA_DST, addressBytes(address)),
    attribute(NDA_FLAGS_EXT, u32(NTF_EXT_MANAGED)),
  ]),
  text: `neigh replace ${address} managed extern_learn`,
});

/** The MAC address at which who is sought answers; '' where he does not, undefined where he is not sought. */
export function soughtAt(netlink: Netlink, device: number, address: string): string | undefined {
  const body = Buffer.concat([
    neighbourHeader(family(address), device, 0, 0),
    attribute(NDA_DST, addressBytes(address)),
  ]);
  try {
    const answer = netlink.get({ type: RTM_GETNEIGH, flags: 0, body, text: `neigh get ${address}` });
    const attributes = readAttributes(answer?.body.subarray(12) ?? EMPTY);
    const flags = attributes.get(NDA_FLAGS_EXT)?.readUInt32LE() ?? 0;
    return (flags & NTF_EXT_MANAGED) === 0 ? undefined : macText(attributes.get(NDA_LLADDR) ?? EMPTY);
  } catch (error) {
    if (error instanceof NetlinkError) return undefined;
    throw error;
  }
}

/** Proxies, which are in no list of neighbours. */
export function listProxies(netlink: Netlink, version: 4 | 6): Neighbour[] {
  const header = neighbourHeader(version === 4 ? AF_INET : AF_INET6, 0, 0, NTF_PROXY);
  return netlink
    .dump({ type: RTM_GETNEIGH, flags: 0, body: header, text: 'neigh show proxy' })
    .flatMap(({ body }) => {
      const address = readAttributes(body.subarray(12)).get(NDA_DST);
      if (address === undefined) return [];
      return [
        {
          device: body.readInt32LE(4),
          address: addressText(address),
          mac: '',
          state: 'proxy',
        } satisfies Neighbour,
      ];
    });
}

/** Has a device take frames to one more MAC address, as its own; EEXIST where it does. */
export const addOwnMac = (device: number, mac: string): Request => ({
  type: RTM_NEWNEIGH,
  flags: NLM_F_CREATE | NLM_F_EXCL,
  body: ownMacBody(device, mac),
  text: `bridge fdb add ${mac} dev ${device} self`,
});

export const deleteOwnMac = (device: number, mac: string): Request => ({
  type: RTM_DELNEIGH,
  flags: 0,
  body: ownMacBody(device, mac),
  text: `bridge fdb del ${mac} dev ${device} self`,
});

const ownMacBody = (device: number, mac: string): Buffer =>
  Buffer.concat([
    neighbourHeader(AF_BRIDGE, device, NUD_PERMANENT, NTF_SELF),
    attribute(NDA_LLADDR, macBytes(mac)),
  ]);

/** A VXLAN device's FDB entry: frames to `mac` go to the host at `destination`. */
export interface FdbEntry {
  readonly device: number;
  readonly mac: string;
  readonly destination: string;
}

function fdbBody(f: FdbEntry): Buffer {
  return Buffer.concat([
    neighbourHeader(AF_BRIDGE, f.device, NUD_PERMANENT | NUD_NOARP, NTF_SELF),
    attribute(NDA_LLADDR, macBytes(f.mac)),
    attribute(NDA_DST, addressBytes(f.destination)),
  ]);
}

export const addFdbEntry = (f: FdbEntry): Request => ({
  type: RTM_NEWNEIGH,
  flags: NLM_F_CREATE | NLM_F_REPLACE,
  body: fdbBody(f),
  text: `bridge fdb replace ${f.mac} dst ${f.destination}`,
});

export const deleteFdbEntry = (f: FdbEntry): Request => ({
  type: RTM_DELNEIGH,
  flags: 0,
  body: fdbBody(f),
  text: `bridge fdb del ${f.mac} dst ${f.destination}`,
});

export function listFdbEntries(netlink: Netlink): FdbEntry[] {
  return netlink
    .dump({
      type: RTM_GETNEIGH,
      flags: 0,
      body: neighbourHeader(AF_BRIDGE, 0, 0, 0),
      text: 'bridge fdb show',
    })
    .flatMap(({ body }) => {
      const attributes = readAttributes(body.subarray(12));
      const destination = attributes.get(NDA_DST);
      const mac = attributes.get(NDA_LLADDR);
      if (destination === undefined || mac === undefined) return [];
      return [{ device: body.readInt32LE(4), mac: macText(mac), destination: addressText(destination) }];
    });
}
