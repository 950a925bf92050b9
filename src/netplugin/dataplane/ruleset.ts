/**
 * The nftables rule sets as values: for each namespace one table, a static part (chains, rules, empty sets) and
 * the elements of its sets. What changes while containers come and go are elements only.
 *
 *   router     guard     source addresses are the sender's own, before conntrack sees the packet
 *              ttl       the router is invisible within a network, one hop between networks
 *              names     port 53 to the gateway, to the nameserver and to outside resolvers
 *              forward   established; never from tunnel to tunnel; from outside only to published ports
 *   host       exits     masquerading, published ports, what containers must not reach
 *   container  names     Docker's resolver address leads to the router's nameserver
 *
 * The cost of a packet does not depend on how many elements there are: all lookups are in hash sets, but for
 * `same` (device . prefix), which has one element a local endpoint.
 */

import { vtepMac } from '../compile/names.ts';
import { DOCKER_RESOLVER, NAMESERVER, NAMESERVER6, NFT_TABLE, VXLAN_PORT } from '../constants.ts';
import type { Exit, HostState, Publication, Router } from '../state.ts';

export interface Table {
  /** `inet contiv`, `ip contiv`. */
  readonly name: string;
  /** Commands that make it, with empty sets, where it is not there. */
  readonly body: string;
  /** By set name, each element as nft writes it in a command. */
  readonly elements: ReadonlyMap<string, ReadonlySet<string>>;
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

const isV6 = (address: string): boolean => address.includes(':');

export function routerTable(router: Router, exit: Exit | undefined): Table {
  const elements = new Map<string, Set<string>>();
  const set = (name: string): Set<string> => {
    const found = elements.get(name) ?? new Set<string>();
    elements.set(name, found);
    return found;
  };
  for (const name of [
    'sources',
    'sources6',
    'remotes',
    'remotes6',
    'same',
    'same6',
    'published',
    'published6',
  ])
    set(name);
  for (const port of router.ports) {
    for (const address of [...port.addresses, ...port.alsoFrom])
      set(isV6(address) ? 'sources6' : 'sources').add(`"${port.device}" . ${address}`);
    for (const subnet of port.subnets)
      set(isV6(subnet) ? 'same6' : 'same').add(`"${port.device}" . ${subnet}`);
  }
  for (const remote of router.remotes)
    set(isV6(remote.address) ? 'remotes6' : 'remotes').add(`${vtepMac(remote.vtep)} . ${remote.address}`);
  for (const p of router.publications)
    set(isV6(p.address) ? 'published6' : 'published').add(
      `${p.protocol} . ${p.hostPort} : ${p.address} . ${p.port}`,
    );
  const snat = exit === undefined ? [] : [`oifname "uplink" snat ip to ${exit.routerAddress}`];
  if (exit !== undefined && exit.routerAddress6 !== '')
    snat.push(`oifname "uplink" snat ip6 to ${exit.routerAddress6}`);
  return {
    name: `inet ${NFT_TABLE}`,
    elements,
    body: `
set sources { type ifname . ipv4_addr; }
set sources6 { type ifname . ipv6_addr; }
set remotes { type ether_addr . ipv4_addr; }
set remotes6 { type ether_addr . ipv6_addr; }
set same { type ifname . ipv4_addr; flags interval; }
set same6 { type ifname . ipv6_addr; flags interval; }
map published { type inet_proto . inet_service : ipv4_addr . inet_service; }
map published6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
counter spoofed { }
counter foreign { }
chain guard {
  type filter hook prerouting priority -300; policy accept;
  iifname "lo" accept
  ip daddr 127.0.0.0/8 drop
  ip saddr 127.0.0.0/8 drop
  iifname "ct*" iifname . ip saddr @sources accept
  iifname "ct*" iifname . ip6 saddr @sources6 accept
  iifname "ct*" ip6 saddr fe80::/10 icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept
  iifname "ct*" ip6 saddr { ::, fe80::/10 } drop
  iifname "ct*" counter name "spoofed" drop
  iifname "vx*" ether saddr . ip saddr @remotes accept
  iifname "vx*" ether saddr . ip6 saddr @remotes6 accept
  iifname "vx*" counter name "foreign" drop
}
chain ttl {
  type filter hook prerouting priority -150; policy accept;
  iifname "vx*" goto grow
  iifname . ip daddr @same goto grow
  iifname . ip6 daddr @same6 goto grow
}
${TTL_CHAINS}
chain grow {
  ip ttl vmap { ${TTL_VERDICTS} }
  ip6 hoplimit vmap { ${TTL_VERDICTS} }
}
chain names {
  type nat hook prerouting priority -100; policy accept;
  iifname "ct*" meta l4proto { tcp, udp } th dport 53 fib daddr type local dnat ip to ${NAMESERVER}
  iifname "ct*" meta l4proto { tcp, udp } th dport 53 fib daddr type local dnat ip6 to ${NAMESERVER6}
  iifname "ct*" meta l4proto { tcp, udp } th dport 53 fib daddr oifname "uplink" dnat ip to ${NAMESERVER}
  iifname "ct*" meta l4proto { tcp, udp } th dport 53 fib daddr oifname "uplink" dnat ip6 to ${NAMESERVER6}
  iifname "uplink" dnat ip to meta l4proto . th dport map @published
  iifname "uplink" dnat ip6 to meta l4proto . th dport map @published6
}
chain forward {
  type filter hook forward priority 0; policy drop;
  iifname "vx*" oifname "vx*" drop
  ct state established,related accept
  ct state invalid drop
  oifname "uplink" udp dport ${VXLAN_PORT} drop
  iifname "uplink" ct status dnat accept
  iifname { "ct*", "vx*" } accept
}
chain input {
  type filter hook input priority 0; policy drop;
  iifname "lo" accept
  ct state established,related accept
  icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept
  iifname "ct*" icmp type echo-request accept
  iifname "ct*" icmpv6 type echo-request accept
  iifname "ct*" meta l4proto { tcp, udp } th dport 53 accept
  iifname "ct*" meta l4proto tcp reject with tcp reset
  iifname "ct*" reject
}
chain out {
  type nat hook postrouting priority 100; policy accept;
  ${snat.join('\n  ')}
}
`,
  };
}

/** The host's own table; undefined where no tenant has a way out here. */
export function hostTable(state: HostState): Table | undefined {
  if (state.exits.length === 0) return undefined;
  const published = new Set<string>();
  const published6 = new Set<string>();
  const publishedAt = new Set<string>();
  const publishedAt6 = new Set<string>();
  const add = (exit: Exit, p: Publication): void => {
    const v6 = isV6(p.address);
    const target = `${v6 ? exit.routerAddress6 : exit.routerAddress} . ${p.hostPort}`;
    if (p.hostAddress === '') (v6 ? published6 : published).add(`${p.protocol} . ${p.hostPort} : ${target}`);
    else
      (v6 ? publishedAt6 : publishedAt).add(`${p.hostAddress} . ${p.protocol} . ${p.hostPort} : ${target}`);
  };
  for (const exit of state.exits) for (const p of exit.publications) add(exit, p);
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
  fib daddr type local dnat ip6 to meta l4proto . th dport map @published6`;
  const refuse = `
  iifname "cx*" udp dport ${VXLAN_PORT} drop
  iifname "cx*" ip daddr . meta l4proto . th dport @guarded drop
  iifname "cx*" ip6 daddr . meta l4proto . th dport @guarded6 drop`;
  return {
    name: `inet ${NFT_TABLE}`,
    elements: new Map([
      ['published', published],
      ['published6', published6],
      ['published_at', publishedAt],
      ['published_at6', publishedAt6],
      ['guarded', guarded],
      ['guarded6', guarded6],
      ['transit', new Set(transit)],
      ['transit6', new Set(transit6)],
    ]),
    body: `
map published { type inet_proto . inet_service : ipv4_addr . inet_service; }
map published6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
map published_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
map published_at6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
set guarded { type ipv4_addr . inet_proto . inet_service; }
set guarded6 { type ipv6_addr . inet_proto . inet_service; }
set transit { type ipv4_addr; }
set transit6 { type ipv6_addr; }
chain raw {
  type filter hook prerouting priority -300; policy accept;
  iifname "cx*" ip daddr 127.0.0.0/8 drop
  iifname "cx*" ip saddr != @transit drop
  iifname "cx*" ip6 saddr != fe80::/10 ip6 saddr != @transit6 drop
}
chain prerouting {
  type nat hook prerouting priority -101; policy accept;${lead}
}
chain output {
  type nat hook output priority -101; policy accept;${lead}
}
chain postrouting {
  type nat hook postrouting priority 99; policy accept;
  iifname "cx*" oifname "cx*" masquerade
  ip saddr @transit oifname != "cx*" masquerade
  ip6 saddr @transit6 oifname != "cx*" masquerade
  ip saddr 127.0.0.0/8 oifname "cx*" masquerade
}
chain forward {
  type filter hook forward priority -10; policy accept;${refuse}
  ct state established,related accept
  oifname "cx*" ct status dnat accept
  oifname "cx*" drop
}
chain input {
  type filter hook input priority -10; policy accept;${refuse}
}
`,
  };
}

/** The table in a container's own namespace, beside the one that Docker's resolver makes there. */
export function containerTable(): Table {
  return {
    name: `ip ${NFT_TABLE}`,
    elements: new Map(),
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
  const parts = [
    `add table ${table.name}`,
    `delete table ${table.name}`,
    `table ${table.name} {${table.body}}`,
  ];
  for (const [set, elements] of table.elements)
    parts.push(...elementCommands('add', table.name, set, elements));
  return parts.join('\n');
}

/** Elements in commands of bounded length. */
export function elementCommands(
  verb: 'add' | 'delete',
  table: string,
  set: string,
  elements: Iterable<string>,
): string[] {
  const list = [...elements];
  const commands: string[] = [];
  for (let at = 0; at < list.length; at += 500)
    commands.push(`${verb} element ${table} ${set} { ${list.slice(at, at + 500).join(', ')} }`);
  return commands;
}
