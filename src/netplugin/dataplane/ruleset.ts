/**
 * The nftables rule sets as values: for each namespace one table, a static part (chains, rules, empty sets) and
 * the elements of its sets. What changes while containers come and go are elements only.
 *
 *   router     guard     source addresses are the sender's own, before conntrack sees the packet
 *              ttl       DSCP of the group's network profile; the router is invisible within a network, one hop between them
 *              names     first packets only: the tenants' ways out are nobody's destination; a provider for each connection
 *                        to a service; port 53 to the gateway, to the nameserver and to outside resolvers
 *              forward   never from tunnel to tunnel; established; judge_out and judge_in, the policy of the groups of
 *                        our endpoints; from outside only to published ports
 *              ARP       learns no address that is not the sender's own
 *              counted   a container has only so many connections (limits.ts), and each sender its share of what is logged
 *   host       exits     masquerading, published ports; a tenant's connections outside
 *              guard     whose tunnel frames are taken; what no container may reach, however it is attached
 *   container  names     Docker's resolver address leads to the router's nameserver
 *
 * What leaves has the host's address: a container that complains of too large packets would lower the MTU of paths
 * to this host, so of other tenants' tunnels.
 *
 * A packet of an established connection meets as few chains and rules as there can be: what the first one found out
 * about the connection, that both ends are in one network, its ct mark keeps (SAME_NETWORK).
 *
 * The cost of a packet does not depend on how many elements there are: all lookups are in hash sets, but for those of
 * prefixes: `same`, one element a subnet, and `ranges`, one for each range that rules tell apart.
 */
import { linkLocal } from '../../linux/address.ts';
import { addressNumber, isV6 } from '../../model/address.ts';
import {
  DENIED_LOG,
  DOCKER_RESOLVER,
  NAMESERVER,
  NAMESERVER6,
  NFT_TABLE,
  PROBE_PORT,
  PROBE_TAG,
  SOMEBODY,
  SOMEBODY6,
  VXLAN_PORT,
} from '../constants.ts';
import type {
  AddressRange,
  Decision,
  Exit,
  HostState,
  Passage,
  Port,
  RemoteHost,
  Router,
  RuleSet,
  Service,
  Subnet,
} from '../state.ts';
import { DSCP_MAPS, dscpChains, dscpElement, dscpRules } from './dscp.ts';
import { hostLimits, REFUSED, routerLimits, SMALLEST_TABLE } from './limits.ts';
import { once } from './parts.ts';

/** Set name to elements, each as nft writes it in a command. */
export type Elements = ReadonlyMap<string, readonly string[]>;

export interface Table {
  /** `inet contiv`, `ip contiv`. */
  readonly name: string;
  /** Commands that make it, with empty sets, where it is not there. */
  readonly body: string;
  /** A second one, of a family that sees other packets: both change in one transaction, and are read together. */
  readonly beside?: { readonly name: string; readonly body: string; readonly sets: readonly string[] };
  /** By the part of the state that they follow from; no two parts have an element in common. */
  readonly parts: ReadonlyMap<object, Elements>;
}

/**
 * Times to live that grow by one, which the router's own decrement takes away again: what systems start with, with
 * and without a first hop, and what traceroute counts up. A chain each, since libnftables 1.0.6 cannot set a single byte from a map.
 */
const TTLS = [...Array.from({ length: 32 }, (_, i) => i + 1), 63, 64, 127, 128];
const TTL_CHAINS = TTLS.map(
  (ttl) => `chain ttl_${ttl} { ip ttl set ${ttl + 1}; ip6 hoplimit set ${ttl + 1}; }`,
).join('\n');
const TTL_VERDICTS = TTLS.map((ttl) => `${ttl} : goto ttl_${ttl}`).join(', ');

/** Collects elements; those of IPv6 go to the set of the same name with a 6. */
function collect(): { add(set: string, address: string, element: string): void; elements: Elements } {
  const elements = new Map<string, string[]>();
  return {
    elements,
    add(set, address, element) {
      const name = isV6(address) ? `${set}6` : set;
      const list = elements.get(name);
      if (list === undefined) elements.set(name, [element]);
      else list.push(element);
    },
  };
}

const portElements = once((port: Port) => {
  const { add, elements } = collect();
  for (const address of [...port.addresses, ...port.alsoFrom])
    add('sources', address, `"${port.device}" . ${address}`);
  for (const address of [...port.addresses, ...port.alsoFrom])
    if (!isV6(address)) add('senders', '', `"${port.device}" . ${address} . ${port.mac}`);
  if (port.addresses.some(isV6)) add('link_locals', '', `"${port.device}" . ${linkLocal(port.mac)}`);
  add('network', '', `"${port.device}" : ${port.network}`);
  for (const gateway of port.gateways) add('outward', gateway, `"${port.device}"`);
  for (const address of port.addresses) {
    for (const own of [...port.addresses, ...port.alsoFrom])
      if (!isV6(address) && !isV6(own)) add('own', address, `${own} . ${address}`);
    if (port.group !== 0) add('members', address, `${address} : ${port.group}`);
    if (port.judgedIn !== 0) add('judged_in', address, `${address} : ${port.judgedIn}`);
    if (port.dscp !== undefined) add(DSCP_MAPS[4], address, dscpElement(address, port.dscp));
    if (port.judgedOut !== 0) add('judged_out', address, `${address} : ${port.judgedOut}`);
  }
  return elements;
});

const hostElements = once((host: RemoteHost) => {
  const { add, elements } = collect();
  for (const { address, group } of host.endpoints) {
    add('remotes', address, `${host.mac} . ${address}`);
    if (group !== 0) add('members', address, `${address} : ${group}`);
  }
  return elements;
});

const publicationElements = once((publications: readonly Passage[]) =>
  leadElements(
    publications.map(({ protocol, transitPort, count, address, port }) => ({
      set: 'published',
      key: `${protocol} . `,
      first: transitPort,
      count: count ?? 1,
      address,
      port,
    })),
  ),
);

/** Ports in a row that lead to as many in a row of an address. */
interface Lead {
  /** Map of single ports; that of ranges is called the same with `_ranges`. */
  readonly set: string;
  /** What stands before the port. */
  readonly key: string;
  readonly first: number;
  readonly count: number;
  readonly address: string;
  readonly port: number;
}

/**
 * A range of as many ports is one element, where it leads to the same ports: such a translation names no port. What is
 * shorter, or leads to other ones, is an element for each port. So there are few in the maps of ranges, into which the kernel
 * inserts the slower the more they have (nft_set_pipapo): a thousand at most for each protocol and address of the host.
 */
const WIDE = 64;

function leadElements(leads: readonly Lead[]): Elements {
  const { add, elements } = collect();
  const wide = leads.filter((l) => l.count >= WIDE && l.first === l.port);
  const narrow = leads.filter((l) => !wide.includes(l));
  for (const { set, key, first, count, address, port } of narrow)
    for (let i = 0; i < count; i++) add(set, address, `${key}${first + i} : ${address} . ${port + i}`);
  // Ranges of two of the host's addresses may overlap at the router's end: there they are one.
  for (const same of Map.groupBy(wide, (l) => `${l.set} ${l.key} ${l.address}`).values()) {
    const { set, key, address } = same[0] as Lead;
    let end = 0;
    let start = 0;
    const close = (): void => {
      if (end > 0) add(`${set}_ranges`, address, `${key}${start}-${end} : ${address}`);
    };
    for (const { first, count } of same.toSorted((a, b) => a.first - b.first)) {
      if (first > end) {
        close();
        start = first;
      }
      end = Math.max(end, first + count - 1);
    }
    close();
  }
  return elements;
}

const subnetElements = once((subnets: readonly Subnet[]) => {
  const { add, elements } = collect();
  for (const { prefix, network } of subnets) add('same', prefix, `${network} . ${prefix}`);
  return elements;
});

const serviceElements = once(({ address, ports, providers }: Service) => {
  const { add, elements } = collect();
  add('services', address, address);
  const size = SERVICE_SIZES.find((n) => n >= providers.length) ?? MAX_SERVICE_SIZE;
  for (const { protocol, port, providerPort } of ports) {
    const key = `${address} . ${protocol} . ${port}`;
    if (providers.length > 0) add('service_size', address, `${key} : ${size}`);
    for (const [slot, provider] of providers.entries())
      add('service_to', address, `${key} . ${slot} : ${provider} . ${providerPort}`);
  }
  return elements;
});

const rangeElements = once((ranges: readonly AddressRange[]) => {
  const { add, elements } = collect();
  for (const range of ranges) add('ranges', range.first, `${rangeText(range)} : ${range.range}`);
  return elements;
});

/** As nft lists it: a prefix where it is one. */
function rangeText({ first, last }: AddressRange): string {
  const [from, to] = [addressNumber(first), addressNumber(last)];
  const size = to - from + 1n;
  const bits = size.toString(2).length - 1;
  if (size !== 1n << BigInt(bits) || from % size !== 0n) return `${first}-${last}`;
  return bits === 0 ? first : `${first}/${(isV6(first) ? 128 : 32) - bits}`;
}

/** Mark of a connection whose ends are in one network, once its first packet has passed. */
const SAME_NETWORK = 1;

/** Bit of a decision's mark that says deny; the others are the rule's number. */
export const DENY = 0x80000000;

const ruleSetElements = once(({ id, narrowed, decisions }: RuleSet) => {
  const { add, elements } = collect();
  for (const { range, to } of narrowed) add('narrowed', '', `${id} . ${range} : ${to}`);
  for (const decision of decisions) {
    const { group, protocol, port, rule, action } = decision;
    const key = [id, group === 0 ? undefined : group, protocol, port].filter((part) => part !== undefined);
    const mark = rule + (action === 'deny' ? DENY : 0);
    add(decisionMap(decision), '', `${key.join(' . ')} : ${mark}`);
  }
  return elements;
});

/** One map for each form of a decision's key. */
function decisionMap({ group, protocol, port }: Decision): string {
  const what = port !== undefined ? 'port' : protocol !== undefined ? 'protocol' : 'any';
  return group === 0 ? `by_${what}` : `by_group_${what}`;
}

/**
 * Judges new connections: the rule set of our endpoint, `own`, and who the `peer` is lead to a rule's mark. The numbers
 * travel in the marks: ct mark holds the rule set, meta mark what is being looked up. What is left after `decide` is denied;
 * some of it is logged for the agent to read, few enough that a flood costs nothing.
 */
const judge = (name: string, own: string, peer: string, set: string): string => `
chain ${name} {
  ct mark set 0
  ct mark set ip ${own} map @${set}
  ct mark set ip6 ${own} map @${set}6
  ct mark 0 return
  meta mark set 0
  meta mark set ip ${peer} map @ranges
  meta mark set ip6 ${peer} map @ranges6
  ct mark set ct mark . meta mark map @narrowed
  meta mark set 0
  meta mark set ip ${peer} map @members
  meta mark set ip6 ${peer} map @members6
  jump decide
  meta mark & ${DENY} == 0 return
  jump quiet
  log prefix "${name}" group ${DENIED_LOG} snaplen 96
  drop
}`;

/**
 * Drops what is too much to be logged. A sender has its own share, so that a flood of one hides nobody else's; its address is its own
 * (guard), so it has one element. Senders outside are anybody, and share.
 */
const QUIET = `
set told { type ipv4_addr; size 4096; flags dynamic,timeout; timeout 1m; }
set told6 { type ipv6_addr; size 4096; flags dynamic,timeout; timeout 1m; }
chain quiet {
  iifname "uplink" limit rate over 50/second burst 50 packets drop
  iifname "uplink" return
  update @told { ip saddr limit rate over 10/second burst 50 packets } drop
  update @told6 { ip6 saddr limit rate over 10/second burst 50 packets } drop
  limit rate over 500/second burst 500 packets drop
}
`;

/**
 * Rules, in each rule set that they are in, that are counted at a time: those that decided something in the last hour. Who
 * sends adds none: a rule has one element, however many packets it decides. The
 * kernel makes twice as many buckets at once, and reading the set walks them all: 0.1 ms, where 65535 took 1 ms.
 */
const HITS = 8192;

const POLICY = `
map judged_in { type ipv4_addr : mark; }
map judged_in6 { type ipv6_addr : mark; }
map judged_out { type ipv4_addr : mark; }
map judged_out6 { type ipv6_addr : mark; }
map members { type ipv4_addr : mark; }
map members6 { type ipv6_addr : mark; }
map ranges { type ipv4_addr : mark; flags interval; }
map ranges6 { type ipv6_addr : mark; flags interval; }
map narrowed { type mark . mark : mark; }
map by_group_port { type mark . mark . inet_proto . inet_service : mark; }
map by_port { type mark . inet_proto . inet_service : mark; }
map by_group_protocol { type mark . mark . inet_proto : mark; }
map by_protocol { type mark . inet_proto : mark; }
map by_group_any { type mark . mark : mark; }
map by_any { type mark : mark; }
set hits { type mark . mark; size ${HITS}; flags dynamic,timeout; timeout 1h; gc-interval 10m; counter; }
chain decided {
  update @hits { ct mark . meta mark }
}
chain decide {
  meta mark set ct mark . meta mark . meta l4proto . th dport map @by_group_port goto decided
  meta mark set ct mark . meta l4proto . th dport map @by_port goto decided
  meta mark set ct mark . meta mark . meta l4proto map @by_group_protocol goto decided
  meta mark set ct mark . meta l4proto map @by_protocol goto decided
  meta mark set ct mark . meta mark map @by_group_any goto decided
  meta mark set ct mark map @by_any goto decided
  meta mark set 0
}
${QUIET}
${judge('judge_out', 'saddr', 'daddr', 'judged_out')}
${judge('judge_in', 'daddr', 'saddr', 'judged_in')}
`;

/** Slots of a service's port as a power of two: what `numgen` draws from must stand in a rule. */
const MAX_SERVICE_SIZE = 4096;
const SERVICE_SIZES = Array.from({ length: Math.log2(MAX_SERVICE_SIZE) + 1 }, (_, i) => 2 ** i);
/** Draws before one that cannot miss: less than one connection in a thousand needs it, as more than half of the slots are taken. */
const DRAWS = 10;

/**
 * Chooses a provider: draws a slot until one is taken. Of n providers each gets one of n connections, at any n; one more
 * or less changes its own element, at times the size. Beyond 4096 providers the others wait.
 */
const SERVICES = `
set services { type ipv4_addr; }
map service_size { type ipv4_addr . inet_proto . inet_service : mark; }
map service_to { type ipv4_addr . inet_proto . inet_service . mark : ipv4_addr . inet_service; }
set own { type ipv4_addr . ipv4_addr; }
chain lead {
  dnat ip to ip daddr . meta l4proto . th dport . meta mark map @service_to
}
${SERVICE_SIZES.map((size) => {
  const draws = [...Array.from({ length: size === 1 ? 0 : DRAWS }, () => size), Math.ceil(size / 2)];
  return `chain pick_${size} {
${draws.map((n) => `  meta mark set ${n === 1 ? 0 : `numgen random mod ${n}`} jump lead`).join('\n')}
}`;
}).join('\n')}
chain serve {
  meta mark set 0
  meta mark set ip daddr . meta l4proto . th dport map @service_size
  meta mark vmap { ${SERVICE_SIZES.map((size) => `${size} : goto pick_${size}`).join(', ')} }
}
`;

/**
 * What one container may ask the nameserver by UDP, whose one socket's queue is all containers' of the tenant. Each has a bucket
 * of its own, by the device that it sends by, which it cannot choose: what one sends, on however many processors, fills no
 * other's. A container that found no place in the set would not be limited; there are more places than devices.
 */
const ASKING = '4000/second burst 1000 packets';
const MAX_ASKING = 4096;

/** `connections`: how many a conntrack table takes. */
export function routerTable(
  router: Router,
  exit: Exit | undefined,
  connections: number = SMALLEST_TABLE,
): Table {
  const parts = new Map<object, Elements>();
  for (const port of router.ports) parts.set(port, portElements(port));
  for (const host of router.hosts) parts.set(host, hostElements(host));
  for (const service of router.services) parts.set(service, serviceElements(service));
  for (const ruleSet of router.ruleSets) parts.set(ruleSet, ruleSetElements(ruleSet));
  parts.set(router.subnets, subnetElements(router.subnets));
  parts.set(router.ranges, rangeElements(router.ranges));
  parts.set(router.publications, publicationElements(router.publications));
  const snat = exit === undefined ? [] : [`oifname "uplink" snat ip to ${exit.routerAddress}`];
  if (exit !== undefined && exit.routerAddress6 !== '')
    snat.push(`oifname "uplink" snat ip6 to ${exit.routerAddress6}`);
  const apart =
    exit === undefined
      ? []
      : [`iifname "ct*" ip daddr ${exit.transit} drop`, `iifname "ct*" ip6 daddr ${exit.transit6} drop`];
  return {
    name: `inet ${NFT_TABLE}`,
    beside: ARP,
    parts,
    body: `${POLICY}${SERVICES}${routerLimits(connections)}
set sources { type ifname . ipv4_addr; }
set sources6 { type ifname . ipv6_addr; }
set link_locals { type ifname . ipv6_addr; }
set remotes { type ether_addr . ipv4_addr; }
set remotes6 { type ether_addr . ipv6_addr; }
map network { type ifname : mark; }
set outward { type ifname; }
set outward6 { type ifname; }
set same { type mark . ipv4_addr; flags interval; }
set same6 { type mark . ipv6_addr; flags interval; }
map published { type inet_proto . inet_service : ipv4_addr . inet_service; }
map published6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
map published_ranges { type inet_proto . inet_service : ipv4_addr; flags interval; }
map published_ranges6 { type inet_proto . inet_service : ipv6_addr; flags interval; }
set asking { type ifname; size ${MAX_ASKING}; flags dynamic,timeout; timeout 1m; }
set told_port { type ifname; size 8192; flags dynamic,timeout; timeout 1m; }
counter spoofed { }
counter foreign { }
counter asked { }
chain guard_port {
  iifname . ip saddr @sources accept
  iifname . ip6 saddr @sources6 accept
  iifname . ip6 saddr @link_locals icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept
  ip6 saddr { ::, fe80::/10 } drop
  counter name "spoofed"
  meta mark set ${REFUSED.source}
  update @refused { iifname . meta mark }
  update @told_port { iifname limit rate over 1/second burst 5 packets } drop
  log prefix "source" group ${DENIED_LOG} snaplen 96
  drop
}
chain guard_tunnel {
  ether saddr . ip saddr @remotes accept
  ether saddr . ip6 saddr @remotes6 accept
  counter name "foreign" drop
}
chain guard {
  type filter hook prerouting priority -300; policy accept;
  iifname "ct*" goto guard_port
  iifname "vx*" goto guard_tunnel
  iifname "lo" accept
  ip saddr 127.0.0.0/8 drop
}
${dscpChains()}
chain ttl {
  type filter hook prerouting priority -150; policy accept;
  iifname "vx*" goto grow
  ${dscpRules().join('\n  ')}
  ct mark ${SAME_NETWORK} goto grow
  ct state established accept
  meta mark set iifname map @network
  meta mark . ip daddr @same goto grow
  meta mark . ip6 daddr @same6 goto grow
}
${TTL_CHAINS}
chain grow {
  ip ttl 64 ip ttl set 65 accept
  ip ttl vmap { ${TTL_VERDICTS} }
  ip6 hoplimit vmap { ${TTL_VERDICTS} }
}
chain names {
  type nat hook prerouting priority -100; policy accept;
  iifname != "lo" ip daddr 127.0.0.0/8 drop
  ${apart.join('\n  ')}
  iifname "ct*" ip daddr @services goto serve
  iifname "ct*" meta l4proto { tcp, udp } th dport 53 fib daddr type local dnat ip to ${NAMESERVER}
  iifname "ct*" meta l4proto { tcp, udp } th dport 53 fib daddr type local dnat ip6 to ${NAMESERVER6}
  iifname "ct*" meta l4proto { tcp, udp } th dport 53 fib daddr oifname "uplink" dnat ip to ${NAMESERVER}
  iifname "ct*" meta l4proto { tcp, udp } th dport 53 fib daddr oifname "uplink" dnat ip6 to ${NAMESERVER6}
  iifname "uplink" dnat ip to meta l4proto . th dport map @published
  iifname "uplink" dnat ip6 to meta l4proto . th dport map @published6
  iifname "uplink" dnat ip to meta l4proto . th dport map @published_ranges
  iifname "uplink" dnat ip6 to meta l4proto . th dport map @published_ranges6
}
chain forward {
  type filter hook forward priority 0; policy drop;
  iifname "vx*" oifname "vx*" drop
  ct state established accept
  oifname "uplink" icmp type destination-unreachable icmp code frag-needed drop
  oifname "uplink" icmp type redirect drop
  oifname "uplink" icmpv6 type { packet-too-big, nd-redirect } drop
  ct state related accept
  ct state invalid drop
  oifname "uplink" udp dport ${VXLAN_PORT} drop
  iifname "ct*" jump judge_out
  oifname "ct*" jump judge_in
  ct mark set 0
  iifname "uplink" ct status dnat accept
  oifname "uplink" meta nfproto ipv4 iifname != @outward drop
  oifname "uplink" meta nfproto ipv6 iifname != @outward6 drop
  iifname "ct*" goto begun_here
  iifname "vx*" goto begun_there
}
chain begun_here {
  jump counted
  meta mark set 0
  meta mark set iifname map @network
  meta mark . ip daddr @same ct mark set ${SAME_NETWORK}
  meta mark . ip6 daddr @same6 ct mark set ${SAME_NETWORK}
  accept
}
chain begun_there {
  meta mark set 0
  meta mark set oifname map @network
  meta mark . ip saddr @same ct mark set ${SAME_NETWORK}
  meta mark . ip6 saddr @same6 ct mark set ${SAME_NETWORK}
  accept
}
chain input {
  type filter hook input priority 0; policy drop;
  iifname "lo" accept
  iifname "ct*" udp dport 53 update @asking { iifname limit rate over ${ASKING} } counter name "asked" drop
  ct state established,related accept
  icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept
  iifname "ct*" icmp type echo-request goto asked
  iifname "ct*" icmpv6 type echo-request goto asked
  iifname "ct*" meta l4proto { tcp, udp } th dport 53 goto asked
  iifname "ct*" meta l4proto tcp reject with tcp reset
  iifname "ct*" reject
}
chain asked {
  jump counted
  accept
}
chain out {
  type nat hook postrouting priority 100; policy accept;
  oifname "ct*" ct status dnat ip saddr . ip daddr @own snat ip to ${NAMESERVER}
  ${snat.join('\n  ')}
}
`,
  };
}

/**
 * The kernel learns whoever asks, also by a forged address, before it answers (net/ipv4/arp.c, arp_process). Asked for is
 * the gateway, or anybody else, by one of a port's own addresses; by none where somebody looks whether an address is taken.
 */
const ARP = {
  name: `arp ${NFT_TABLE}`,
  sets: ['senders'],
  body: `
set senders { type ifname . ipv4_addr . ether_addr; }
chain input {
  type filter hook input priority 0; policy drop;
  iifname . arp saddr ip . arp saddr ether @senders accept
  iifname "ct*" arp saddr ip 0.0.0.0 accept
  iifname "uplink" accept
}
`,
};

/** The router's address on the way to a published port. */
export const routerEnd = (exit: Exit, { address }: Passage): string =>
  isV6(address) ? exit.routerAddress6 : exit.routerAddress;

/** What the host's table follows from beside the state: as the host is now. */
export interface HostFacts {
  /** Docker's own bridges, whose containers are reached by their published ports only, as by any outsider. */
  readonly bridges: readonly string[];
  /** Devices of a kind that containers are attached by, which lead elsewhere all the same (exits.ts). */
  readonly operated: readonly string[];
  /** The control plane's ports of which an address is this host's: closed to containers at all of its addresses. */
  readonly closed: readonly string[];
}

/** Kinds of devices (rtnetlink's) that containers and virtual machines are attached by. */
export const CONTAINER_KINDS = ['bridge', 'ipvlan', 'ipvtap', 'macvlan', 'macvtap', 'netkit', 'veth'];

/**
 * The host's own table, there with or without containers of ours: those of others are kept away too.
 *
 *   raw        of frames for our tunnels, those of `vnis`, only those that come from a host by the way that leads to it
 *   contained  from a container, by whatever device: nothing to the control plane, nothing to the tunnels of any host
 *   last       what no chain of anybody has dropped: where packets of our own end that look for one that does (probe.ts)
 *
 * A frame has no connection: in the table of connections, one tenant's many flows would take up what all tenants' ways out
 * need. No verdict here depends on what an earlier packet left.
 */
export function hostTable(
  state: HostState,
  { bridges, operated, closed }: HostFacts,
  vnis: readonly number[],
  connections: number = SMALLEST_TABLE,
): Table {
  const published = leadElements(
    state.exits.flatMap((exit) =>
      exit.publications.map((p) => ({
        set: p.hostAddress === '' ? 'published' : 'published_at',
        key: p.hostAddress === '' ? `${p.protocol} . ` : `${p.hostAddress} . ${p.protocol} . `,
        first: p.hostPort,
        count: p.count ?? 1,
        address: routerEnd(exit, p),
        port: p.transitPort,
      })),
    ),
  );
  const guarded = new Set<string>();
  const guarded6 = new Set<string>();
  for (const g of state.guarded)
    (isV6(g.address) ? guarded6 : guarded).add(`${g.address} . ${g.protocol} . ${g.port}`);
  const transit = state.exits.map((e) => e.routerAddress).sort();
  const transit6 = state.exits.flatMap((e) => (e.routerAddress6 === '' ? [] : [e.routerAddress6])).sort();
  const lead = `
  fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published_at
  fib daddr type local dnat ip to meta l4proto . th dport map @published
  fib daddr type local dnat ip6 to ip6 daddr . meta l4proto . th dport map @published_at6
  fib daddr type local dnat ip6 to meta l4proto . th dport map @published6
  fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published_at_ranges
  fib daddr type local dnat ip to meta l4proto . th dport map @published_ranges
  fib daddr type local dnat ip6 to ip6 daddr . meta l4proto . th dport map @published_at_ranges6
  fib daddr type local dnat ip6 to meta l4proto . th dport map @published_ranges6`;
  return {
    name: `inet ${NFT_TABLE}`,
    // One part: a host has few exits, and its state changes seldom.
    parts: new Map<object, Elements>([
      [
        state,
        new Map([
          ...published,
          ['guarded', [...guarded]],
          ['guarded6', [...guarded6]],
          ['members', state.members.filter((address) => !isV6(address))],
          ['members6', state.members.filter(isV6)],
          ['vnis', [...new Set([...vnis, PROBE_TAG])].map(String)],
          ['transit', transit],
          ['transit6', transit6],
        ]),
      ],
      [bridges, new Map([['bridges', bridges.map((name) => `"${name}"`)]])],
      [operated, new Map([['operated', operated.map((name) => `"${name}"`)]])],
      [closed, new Map([['closed', closed]])],
    ]),
    // The kernel sends nothing from ::1 out of a device: refused at once, not lost, clients go on to 127.0.0.1.
    body: `
map published { type inet_proto . inet_service : ipv4_addr . inet_service; }
map published6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
map published_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
map published_at6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
map published_ranges { type inet_proto . inet_service : ipv4_addr; flags interval; }
map published_ranges6 { type inet_proto . inet_service : ipv6_addr; flags interval; }
map published_at_ranges { type ipv4_addr . inet_proto . inet_service : ipv4_addr; flags interval; }
map published_at_ranges6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr; flags interval; }
set guarded { type ipv4_addr . inet_proto . inet_service; }
set guarded6 { type ipv6_addr . inet_proto . inet_service; }
set closed { type inet_proto . inet_service; }
set members { type ipv4_addr; }
set members6 { type ipv6_addr; }
set vnis { typeof @th,96,24; }
set bridges { type ifname; }
set operated { type ifname; }
set transit { type ipv4_addr; }
set transit6 { type ipv6_addr; }
counter strangers { }
counter refused { }
counter arrived { }
chain raw {
  type filter hook prerouting priority -300; policy accept;
  udp dport ${VXLAN_PORT} fib daddr type != unicast @th,96,24 @vnis goto tunnel
  icmpv6 type packet-too-big @th,400,16 ${VXLAN_PORT} notrack
  iifname != "cx*" accept
  iifname "cx*" ip daddr 127.0.0.0/8 drop
  iifname "cx*" ip saddr != @transit drop
  iifname "cx*" ip6 saddr != fe80::/10 ip6 saddr != @transit6 drop
}
chain tunnel {
  ip saddr @members fib saddr . iif oif exists notrack accept
  ip6 saddr @members6 fib saddr . iif oif exists notrack accept
  counter name "strangers" drop
}
chain sent {
  type filter hook output priority -300; policy accept;
  udp dport ${VXLAN_PORT} @th,96,24 @vnis notrack
  ip daddr ${SOMEBODY} drop
  ip6 daddr ${SOMEBODY6} drop
}
chain prerouting {
  type nat hook prerouting priority -101; policy accept;${lead}
}
chain output {
  type nat hook output priority -101; policy accept;
  ip6 daddr ::1 accept${lead}
}
chain postrouting {
  type nat hook postrouting priority 99; policy accept;
  iifname "cx*" oifname "cx*" masquerade
  ip saddr @transit oifname != "cx*" masquerade
  ip6 saddr @transit6 oifname != "cx*" masquerade
  ip saddr 127.0.0.0/8 oifname "cx*" masquerade
}
chain forward {
  type filter hook forward priority -10; policy accept;
  iifname "cx*" udp dport ${VXLAN_PORT} counter name "refused" drop
  jump contained
  ct state established,related accept
  oifname "cx*" ct status dnat accept
  oifname "cx*" drop
  iifname "cx*" oifname @bridges ct status dnat accept
  iifname "cx*" oifname @bridges drop
}
chain last {
  type filter hook forward priority 2147483647; policy accept;
  ip saddr ${SOMEBODY} counter name "arrived" drop
  ip daddr ${SOMEBODY} counter name "arrived" drop
  ip6 saddr ${SOMEBODY6} counter name "arrived" drop
  ip6 daddr ${SOMEBODY6} counter name "arrived" drop
}
chain last_here {
  type filter hook input priority 2147483647; policy accept;
  udp dport ${VXLAN_PORT} udp sport ${PROBE_PORT} @th,96,24 ${PROBE_TAG} counter name "arrived" drop
}
chain input {
  type filter hook input priority -10; policy accept;
  jump contained
}
chain contained {
  iifname @operated return
  meta iifkind { ${CONTAINER_KINDS.map((kind) => `"${kind}"`).join(', ')} } goto refuse
  meta iifkind "tun" meta iiftype ether goto refuse
}
chain refuse {
  ip daddr . meta l4proto . th dport @guarded counter name "refused" drop
  ip6 daddr . meta l4proto . th dport @guarded6 counter name "refused" drop
  fib daddr type != unicast meta l4proto . th dport @closed counter name "refused" drop
  udp dport ${VXLAN_PORT} fib daddr type != unicast counter name "refused" drop
  udp dport ${VXLAN_PORT} ip daddr @members counter name "refused" drop
  udp dport ${VXLAN_PORT} ip6 daddr @members6 counter name "refused" drop
}
${hostLimits(connections)}`,
  };
}

/** The table in a container's own namespace, beside the one that Docker's resolver makes there. */
export function containerTable(): Table {
  return {
    name: `ip ${NFT_TABLE}`,
    parts: new Map(),
    // Docker's own nat chain has priority -100: ours comes first.
    body: `
chain output {
  type nat hook output priority -101; policy accept;
  ip daddr ${DOCKER_RESOLVER} meta l4proto { tcp, udp } th dport 53 dnat to ${NAMESERVER}
}
chain postrouting {
  type nat hook postrouting priority 99; policy accept;
  ip saddr 127.0.0.0/8 ip daddr ${NAMESERVER} masquerade
}
`,
  };
}

/** Makes the whole table anew in one transaction: at no moment is there none. */
export function createCommands(table: Table): string {
  const parts = [table, ...(table.beside ? [table.beside] : [])].flatMap(({ name, body }) => [
    `add table ${name}`,
    `delete table ${name}`,
    `table ${name} {${body}}`,
  ]);
  const bySet = new Map<string, string[]>();
  for (const elements of table.parts.values())
    for (const [set, list] of elements) {
      const all = bySet.get(set);
      if (all === undefined) bySet.set(set, [...list]);
      else for (const element of list) all.push(element);
    }
  for (const [set, list] of bySet) parts.push(...elementCommands('add', table, set, list));
  return parts.join('\n');
}

/** Elements in commands of bounded length. */
export function elementCommands(
  verb: 'add' | 'delete',
  { name, beside }: Table,
  set: string,
  elements: Iterable<string>,
): string[] {
  const list = [...elements];
  const table = beside?.sets.includes(set) ? beside.name : name;
  const commands: string[] = [];
  for (let at = 0; at < list.length; at += 500)
    commands.push(`${verb} element ${table} ${set} { ${list.slice(at, at + 500).join(', ')} }`);
  return commands;
}
