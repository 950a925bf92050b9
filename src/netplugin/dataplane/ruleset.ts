/**
 * The nftables rule sets as values: for each namespace one table, a static part (chains, rules, empty sets) and
 * the elements of its sets. What changes while containers come and go are elements only.
 *
 *   router     pieces    fragments: the sender's own, and not too many, before they wait for the rest (limits.ts)
 *              guard     source addresses are the sender's own, before conntrack sees the packet
 *              names     first packets only: the tenants' ways out are nobody's destination; a provider for each connection
 *                        to a service; port 53 to the gateway, to the nameserver and to outside resolvers
 *              forward   never from tunnel to tunnel; DSCP of the group's network profile; established; errors from who is on
 *                        the connection's way; judge_out and judge_in, the policy of the groups of our endpoints; from
 *                        outside only to published ports; the router is invisible within a network, one hop between them
 *              ARP       learns no address that is not the sender's own
 *              counted   a container has only so many connections (limits.ts), and each sender its share of what is logged
 *   host       exits     masquerading, published ports; a tenant's connections outside
 *              guard     whose tunnel frames are taken; what no container may reach, however it is attached
 *   container  names     Docker's resolver address leads to the router's nameserver
 *
 * What leaves has the host's address: a container that complains of too large packets would lower the MTU of paths
 * to this host, so of other tenants' tunnels.
 *
 * Packets of one connection may be in these chains on all processors at the same moment: first ones too, as a UDP flow that
 * nobody answers stays new. So what a packet is found out to be stands in what is the packet's own, never in the
 * connection:
 *
 *   meta mark       from guard on the number of the sender's network, and MARKED; in forward what is looked up, at last the rule
 *                   that decided
 *   meta priority   the drawn slot of a service, the class of a profile; in forward the rule set. Each chain that uses it leaves
 *                   what the kernel would have there (DEFAULT_PRIORITY), since queueing disciplines read it
 *
 * What is shared is written with final values only: the ct mark becomes SAME_NETWORK, or is never written. What packets count
 * (`hits`, limits.ts) is under the element's own lock, and tells how much there was, never which rule decides. All other sets are
 * written by the agent alone, a change in one transaction: a packet that comes when it is over sees the new elements only,
 * one that is under way meanwhile may see some from before and some from after.
 *
 * A packet of an established connection meets as few chains and rules as there can be: what the first one found out
 * about the connection, that both ends are in one network, its ct mark keeps (SAME_NETWORK). A first one meets a lookup
 * where there is no more to be known: most chains are left by the first rule that tells where the packet comes from.
 *
 * The cost of a packet does not depend on how many elements there are: all lookups are in hash sets, but for those of
 * prefixes: `same`, one element a subnet, and `ranges`, one for each range that rules tell apart.
 */
import { linkLocal } from '../../linux/address.ts';
import { classid } from '../../linux/classid.ts';
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
import { FOREIGN, FRAGMENTS, hostLimits, REFUSED, routerLimits, SMALLEST_TABLE } from './limits.ts';
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
 * Times to live that grow by one, which gives back what the router has just taken: of what systems start with, with
 * and without a first hop, and of what traceroute counts up. A chain each, since libnftables 1.0.6 cannot set a single byte from
 * a map. One of 2 arrives as 1, as one of 1 does: that is made 2 before routing (`stretch`), which would end it.
 */
const TTLS = [...Array.from({ length: 30 }, (_, i) => i + 3), 63, 64, 127, 128];
const TTL_CHAINS = TTLS.map(
  (ttl) => `chain ttl_${ttl} { ip ttl set ${ttl}; ip6 hoplimit set ${ttl}; accept; }`,
).join('\n');
const TTL_VERDICTS = TTLS.map((ttl) => `${ttl - 1} : goto ttl_${ttl}`).join(', ');

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
  const marked = port.dscp === undefined ? 0 : MARKED;
  for (const address of [...port.addresses, ...port.alsoFrom])
    add('sources', address, `"${port.device}" . ${address} : ${port.network + marked}`);
  for (const address of [...port.addresses, ...port.alsoFrom])
    if (!isV6(address)) add('senders', '', `"${port.device}" . ${address} . ${port.mac}`);
  if (port.addresses.some(isV6)) add('link_locals', '', `"${port.device}" . ${linkLocal(port.mac)}`);
  for (const gateway of port.gateways) add('outward', gateway, `"${port.device}"`);
  for (const address of port.addresses) {
    for (const own of [...port.addresses, ...port.alsoFrom])
      if (!isV6(address) && !isV6(own)) add('own', address, `${own} . ${address}`);
    if (port.group !== 0) add('members', address, `${address} : ${port.group}`);
    if (port.judgedIn !== 0) add('judged_in', address, `${address} : ${classid(port.judgedIn)}`);
    if (port.dscp !== undefined) add(DSCP_MAPS[4], address, dscpElement(address, port.dscp));
    if (port.judgedOut !== 0) add('judged_out', address, `${address} : ${classid(port.judgedOut)}`);
  }
  return elements;
});

const hostElements = once((host: RemoteHost) => {
  const { add, elements } = collect();
  add('tunnels', '', host.mac);
  for (const { address, group, network } of host.endpoints) {
    add('remotes', address, `${host.mac} . ${address} : ${network}`);
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

const gatewayElements = once((gateways: readonly string[]) => {
  const { add, elements } = collect();
  for (const address of [...gateways, NAMESERVER, NAMESERVER6]) add('routers', address, address);
  return elements;
});

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
    if (providers.length > 0) add('service_size', address, `${key} : ${classid(size)}`);
    for (const [slot, provider] of providers.entries())
      add('service_to', address, `${key} . ${classid(slot)} : ${provider} . ${providerPort}`);
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

/**
 * The one element of map `present`: it tells a packet that its table has not given way to another meanwhile, in which case it
 * finds no element of any map, and would count as one that nothing judges. Not of a set: those of a table that is deleted are
 * found by the packets that are in it (net/netfilter/nf_tables_api.c, nft_flush_table deactivates the elements of maps only).
 */
const [ASKED, PRESENT] = [1, 2];
const PRESENCE: Elements = new Map([['present', [`${ASKED} : ${PRESENT}`]]]);

/** Beside the number of the sender's network: its packets are given a class. A VNI has 24 bits. */
const MARKED = 0x80000000;

/** Mark of a connection whose ends are in one network: of a new one that is denied too, which then is none. */
const SAME_NETWORK = 1;

/** Bit of a decision's mark that says deny; the others are the rule's number. */
export const DENY = 0x80000000;

const ruleSetElements = once(({ id, narrowed, decisions }: RuleSet) => {
  const { add, elements } = collect();
  for (const { range, to } of narrowed) add('narrowed', '', `${classid(id)} . ${range} : ${classid(to)}`);
  for (const decision of decisions) {
    const { group, protocol, port, rule, action } = decision;
    const key = [classid(id), group === 0 ? undefined : group, protocol, port].filter(
      (part) => part !== undefined,
    );
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
 * What the kernel gives a packet that it forwards (net/ipv4/route.c, ip_tos2prio): by two bits of IPv4's type of service,
 * none by IPv6. It did so just before the chain `forward`.
 */
const DEFAULT_PRIORITY = `
  meta priority set none
  meta nfproto ipv4 meta priority set @nh,11,2 map { 1 : 0:2, 2 : 0:6, 3 : 0:4 }`;

/**
 * Who the `peer` is, to a mark: the number of the rule that decides, with DENY; 0 where none does. The rule set of our own endpoint
 * is known (`meta priority`).
 */
const verdict = (peer: string, decide: string): string => `
  meta mark set 0
  meta mark set ip ${peer} map @ranges
  meta mark set ip6 ${peer} map @ranges6
  meta priority set meta priority . meta mark map @narrowed
  meta mark set 0
  meta mark set ip ${peer} map @members
  meta mark set ip6 ${peer} map @members6
  jump ${decide}${DEFAULT_PRIORITY}
  meta mark & ${DENY} == 0 return`;

/**
 * Judges new connections, each twice. A transaction of ours may come between two lookups of one packet, which then sees some
 * elements as they were and some as they are: of a rule set that gives way to another it would find none, and pass. Whatever
 * passes the first time is judged again: where a transaction came in between, the second time sees only what is true after it; and
 * where it comes during the second, the first one was right before it. Two transactions do not fall into the microsecond that
 * both take: each is a system call of its own.
 * What is left after `decide` is denied; some of it is logged for the agent to read, few enough that a flood costs nothing.
 */
const judge = (direction: string, peer: string): string => `
chain judge_${direction} {${verdict(peer, 'decide')}
  jump quiet
  log prefix "judge_${direction}" group ${DENIED_LOG} snaplen 96
  drop
}
chain confirm_${direction} {${verdict(peer, 'decide_again')}
  drop
}`;

/** Ends with `then` where a rule decides. */
const decisions = (name: string, then: string): string => `
chain ${name} {
  meta mark set meta priority . meta mark . meta l4proto . th dport map @by_group_port ${then}
  meta mark set meta priority . meta l4proto . th dport map @by_port ${then}
  meta mark set meta priority . meta mark . meta l4proto map @by_group_protocol ${then}
  meta mark set meta priority . meta l4proto map @by_protocol ${then}
  meta mark set meta priority . meta mark map @by_group_any ${then}
  meta mark set meta priority map @by_any ${then}
  meta mark set 0
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
map judged_in { type ipv4_addr : classid; }
map judged_in6 { type ipv6_addr : classid; }
map judged_out { type ipv4_addr : classid; }
map judged_out6 { type ipv6_addr : classid; }
map members { type ipv4_addr : mark; }
map members6 { type ipv6_addr : mark; }
map ranges { type ipv4_addr : mark; flags interval; }
map ranges6 { type ipv6_addr : mark; flags interval; }
map narrowed { type classid . mark : classid; }
map by_group_port { type classid . mark . inet_proto . inet_service : mark; }
map by_port { type classid . inet_proto . inet_service : mark; }
map by_group_protocol { type classid . mark . inet_proto : mark; }
map by_protocol { type classid . inet_proto : mark; }
map by_group_any { type classid . mark : mark; }
map by_any { type classid : mark; }
set hits { type classid . mark; size ${HITS}; flags dynamic,timeout; timeout 1h; gc-interval 10m; counter; }
chain decided {
  update @hits { meta priority . meta mark }
}
${decisions('decide', 'goto decided')}
${decisions('decide_again', 'return')}
${QUIET}
${judge('out', 'daddr')}
${judge('in', 'saddr')}
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
map service_size { type ipv4_addr . inet_proto . inet_service : classid; }
map service_to { type ipv4_addr . inet_proto . inet_service . classid : ipv4_addr . inet_service; }
set own { type ipv4_addr . ipv4_addr; }
chain lead {
  dnat ip to ip daddr . meta l4proto . th dport . meta priority map @service_to
}
${SERVICE_SIZES.map((size) => {
  const draws = [...Array.from({ length: size === 1 ? 0 : DRAWS }, () => size), Math.ceil(size / 2)];
  return `chain pick_${size} {
${draws.map((n) => `  meta priority set ${n === 1 ? 'none' : `numgen random mod ${n}`} jump lead`).join('\n')}
}`;
}).join('\n')}
chain serve {
  meta priority set ip daddr . meta l4proto . th dport map @service_size
  meta priority vmap { ${SERVICE_SIZES.map((size) => `${classid(size)} : goto pick_${size}`).join(', ')} }
}
`;

/** Who comes from outside has no address of the tenant's: by one, policy would take him for who has it, and answers for his. */
const OUTSIDER = 'fib saddr oifname != "uplink" drop';

/**
 * What one container may ask the nameserver by UDP, whose one socket's queue is all containers' of the tenant. Each has a bucket
 * of its own, by the device that it sends by, which it cannot choose: what one sends, on however many processors, fills no
 * other's. A container that found no place in the set would not be limited; there are more places than devices. It is more than a
 * client that waits for each answer comes to, and half of what a nameserver answers.
 */
const ASKING = '10000/second burst 1000 packets';
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
  parts.set(router.gateways, gatewayElements(router.gateways));
  parts.set(router.ranges, rangeElements(router.ranges));
  parts.set(router.publications, publicationElements(router.publications));
  parts.set(PRESENCE, PRESENCE);
  const { snat, apart, outside } = wayOut(exit);
  return {
    name: `inet ${NFT_TABLE}`,
    beside: ARP,
    parts,
    body: `${POLICY}${SERVICES}${routerLimits(connections)}
map sources { type ifname . ipv4_addr : mark; }
map sources6 { type ifname . ipv6_addr : mark; }
set link_locals { type ifname . ipv6_addr; }
map remotes { type ether_addr . ipv4_addr : mark; }
map remotes6 { type ether_addr . ipv6_addr : mark; }
set tunnels { type ether_addr; }
set routers { type ipv4_addr; }
set routers6 { type ipv6_addr; }
map present { type mark : mark; }
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
${FRAGMENTS}chain guard_port {
  meta mark set iifname . ip saddr map @sources goto sent
  meta mark set iifname . ip6 saddr map @sources6 goto sent6
  iifname . ip6 saddr @link_locals icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept
  ip6 saddr { ::, fe80::/10 } drop
  counter name "spoofed"
  meta mark set ${REFUSED.source}
  update @refused { iifname . meta mark }
  update @told_port { iifname limit rate over 1/second burst 5 packets } drop
  log prefix "${FOREIGN}" group ${DENIED_LOG} snaplen 96
  drop
}
chain guard_tunnel {
  meta mark set ether saddr . ip saddr map @remotes goto sent
  meta mark set ether saddr . ip6 saddr map @remotes6 goto sent6
  ether saddr @tunnels ip saddr @routers icmp type { destination-unreachable, time-exceeded } accept
  ether saddr @tunnels ip6 saddr @routers6 icmpv6 type { destination-unreachable, packet-too-big, time-exceeded } accept
  counter name "foreign" drop
}
chain sent {
  ip ttl > 1 accept
  meta mark & ${MARKED} == 0 goto stretch
  meta mark set meta mark ^ ${MARKED}
  jump stretch
  meta mark set meta mark ^ ${MARKED}
}
chain sent6 {
  ip6 hoplimit > 1 accept
  meta mark & ${MARKED} == 0 goto stretch
  meta mark set meta mark ^ ${MARKED}
  jump stretch
  meta mark set meta mark ^ ${MARKED}
}
chain stretch {
  iifname "vx*" ip ttl set 2
  iifname "vx*" ip6 hoplimit set 2
  meta mark . ip daddr @same ip ttl set 2
  meta mark . ip6 daddr @same6 ip6 hoplimit set 2
}
chain guard {
  type filter hook prerouting priority -300; policy accept;
  iifname "ct*" goto guard_port
  iifname "vx*" goto guard_tunnel
  iifname "lo" accept
  ip saddr 127.0.0.0/8 drop
}
chain names {
  type nat hook prerouting priority -100; policy accept;
  ip daddr 127.0.0.0/8 iifname != "lo" drop
  iifname "ct*" goto beginning
  iifname "uplink" goto arriving
}
chain beginning {
  ${apart.join('\n  ')}
  ip daddr @services goto serve
  th dport 53 meta l4proto { tcp, udp } goto resolve
}
chain resolve {
  fib daddr type local dnat ip to ${NAMESERVER}
  fib daddr type local dnat ip6 to ${NAMESERVER6}
  fib daddr oifname "uplink" dnat ip to ${NAMESERVER}
  fib daddr oifname "uplink" dnat ip6 to ${NAMESERVER6}
}
chain arriving {
  ${OUTSIDER}
  dnat ip to meta l4proto . th dport map @published
  dnat ip6 to meta l4proto . th dport map @published6
  dnat ip to meta l4proto . th dport map @published_ranges
  dnat ip6 to meta l4proto . th dport map @published_ranges6
}
${dscpChains()}
chain marked {
  meta mark set meta mark ^ ${MARKED}
  ${dscpRules().join('\n  ')}${DEFAULT_PRIORITY}
}
${TTL_CHAINS}
chain grow {
  ip ttl 63 ip ttl set 64 accept
  ip ttl vmap { ${TTL_VERDICTS} }
  ip6 hoplimit vmap { ${TTL_VERDICTS} }
  accept
}
chain pass {
  ct mark ${SAME_NETWORK} goto grow
  iifname "vx*" goto grow
  accept
}
chain forward {
  type filter hook forward priority 0; policy drop;
  iifname "vx*" oifname "vx*" drop
  meta mark & ${MARKED} != 0 jump marked
  ct state vmap { established : goto pass, related : goto errors, invalid : drop, untracked : drop }
  meta mark . ip daddr @same ct mark set ${SAME_NETWORK}
  meta mark . ip6 daddr @same6 ct mark set ${SAME_NETWORK}
  meta priority set ip saddr map @judged_out jump judge_out
  meta priority set ip6 saddr map @judged_out6 jump judge_out
  meta priority set ip daddr map @judged_in jump judge_in
  meta priority set ip6 daddr map @judged_in6 jump judge_in
  meta priority set ip saddr map @judged_out jump confirm_out
  meta priority set ip6 saddr map @judged_out6 jump confirm_out
  meta priority set ip daddr map @judged_in jump confirm_in
  meta priority set ip6 daddr map @judged_in6 jump confirm_in
  meta mark set ${ASKED}
  meta mark set meta mark map @present
  meta mark ${ASKED} drop
  iifname "uplink" goto entering
  oifname "uplink" goto leaving
  iifname "vx*" goto grow
  iifname "ct*" goto begun
}
chain begun {
  jump counted
  ct mark ${SAME_NETWORK} goto grow
  accept
}
chain entering {
  ct status dnat accept
}
chain leaving {
  udp dport ${VXLAN_PORT} drop
  meta nfproto ipv4 iifname @outward goto begun
  meta nfproto ipv6 iifname @outward6 goto begun
}
${errors(outside)}
chain input {
  type filter hook input priority 0; policy drop;
  iifname "lo" accept
  iifname "ct*" udp dport 53 update @asking { iifname limit rate over ${ASKING} } counter name "asked" drop
  ct state vmap { established : accept, related : goto errors }
  icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept
  iifname "ct*" icmp type echo-request goto asked
  iifname "ct*" icmpv6 type echo-request goto asked
  iifname "ct*" udp dport 53 goto query
  iifname "ct*" tcp dport 53 goto asked
  iifname "ct*" meta l4proto tcp reject with tcp reset
  iifname "ct*" reject
}
chain asked {
  jump counted
  accept
}
chain out {
  type nat hook postrouting priority 100; policy accept;
  oifname "uplink" goto outside
  ct status dnat ip saddr . ip daddr @own snat ip to ${NAMESERVER}
}
chain outside {
  ${snat.join('\n  ')}
}
`,
  };
}

/** Rules that follow from a way out; none of each without one. */
interface WayOut {
  /** What leaves has the router's address there. */
  readonly snat: readonly string[];
  /** Nobody sends to the addresses of the ways out themselves. */
  readonly apart: readonly string[];
  /** The router's addresses there: what a connection with outside has at this end. */
  readonly outside: readonly string[];
}

function wayOut(exit: Exit | undefined): WayOut {
  if (exit === undefined) return { snat: [], apart: [], outside: [] };
  const outside = [exit.routerAddress, exit.routerAddress6].filter((address) => address !== '');
  return {
    snat: outside.map((address) => `snat ${familyName(address)} to ${address}`),
    apart: [`ip daddr ${exit.transit} drop`, `ip6 daddr ${exit.transit6} drop`],
    outside,
  };
}

const familyName = (address: string): string => (isV6(address) ? 'ip6' : 'ip');

/**
 * ICMP errors that conntrack has found to quote a packet of a live connection (`related`), which is then the connection that
 * `ct` is about, an error about what one end has sent belonging to the other direction. Whoever knows addresses and ports can
 * forge them, and who believes one gives up a connection or sends ever smaller packets. So one passes only from where the
 * other end is:
 *
 *   its own port              the sources of that were made sure of (guard)
 *   the host that it is on    whose router lets none of its containers' others pass, and has errors of its own
 *   outside, by the uplink    for connections that go there, from whoever is on the way
 *
 * What goes to the uplink has the host's address there: routers outside and other hosts would believe it of the host.
 */
function errors(outside: readonly string[]): string {
  const from = (direction: 'original' | 'reply'): string => `
chain errors_${direction} {
  meta mark set iifname . ct ${direction} ip saddr map @sources goto pass
  meta mark set iifname . ct ${direction} ip6 saddr map @sources6 goto pass
  iifname "vx*" meta mark set ether saddr . ct ${direction} ip saddr map @remotes goto pass
  iifname "vx*" meta mark set ether saddr . ct ${direction} ip6 saddr map @remotes6 goto pass
  ${outside.map((a) => `iifname "uplink" ct ${direction} ${familyName(a)} daddr ${a} goto pass`).join('\n  ')}
  counter name "misquoting" drop
}`;
  return `counter misquoting { }
chain errors {
  icmp type redirect drop
  oifname "uplink" icmp type destination-unreachable icmp code frag-needed drop
  oifname "uplink" icmpv6 type packet-too-big drop
  ct direction vmap { original : goto errors_original, reply : goto errors_reply }
}${from('original')}${from('reply')}`;
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
