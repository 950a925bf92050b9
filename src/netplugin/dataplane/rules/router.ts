/**
 * The table of a tenant's router: in which order a packet meets which feature. What changes while containers come and go
 * are elements only.
 *
 * A packet of an established connection meets as few chains and rules as there can be: what the first one found out
 * about the connection, that both ends are in one network, its ct mark keeps (marks.ts). A first one meets a lookup
 * where there is no more to be known: most chains are left by the first rule that tells where the packet comes from.
 *
 * The cost of a packet does not depend on how many elements there are: all lookups are in hash sets, but for those of
 * prefixes: `same`, one element a subnet, and `ranges`, one for each range that rules tell apart.
 *
 * Several processors may be in the chains at once. What packets count (`hits`, limits.ts) is under the element's own lock, and
 * tells how much there was, never which rule decides. All other sets are written by the agent alone, a change in one transaction: a
 * packet that comes when it is over sees the new elements only, one that is under way meanwhile may see some from before
 * and some from after (policy.ts says what follows from that).
 */

import { isV6 } from '../../../model/address.ts';
import { NFT_TABLE } from '../../constants.ts';
import type { Exit, Port, Router } from '../../state.ts';
import { once } from '../parts.ts';
import { access } from './access.ts';
import { announced, innerOf } from './announced.ts';
import { antiSpoofing, arpTable } from './antiSpoofing.ts';
import { bridged } from './bridged.ts';
import { PORTS, TUNNELS, UPLINK } from './devices.ts';
import { apartOnLink, direct, fromLink } from './direct.ts';
import { dns, queries } from './dns.ts';
import { dscp } from './dscp.ts';
import { egress } from './egress.ts';
import { errors } from './errors.ts';
import { externalGateways, hasExternalGateways, homesOf } from './externalGateways.ts';
import { type Chain, compose, type RouterFeature, type Way } from './feature.ts';
import { fragments, limits, SMALLEST_TABLE } from './limits.ts';
import { policy } from './policy.ts';
import { published } from './published.ts';
import { servedBy, servedOutside, servesIpv6, services } from './services.ts';
import { stub } from './stub.ts';
import type { Elements, Table } from './table.ts';
import { ttl } from './ttl.ts';
import { apart, ofGateways, ofHost, ofPort, ofVlan, vlans, wire } from './vlans.ts';

const CHAINS: readonly Chain<RouterFeature>[] = [
  // Every packet, before conntrack sees it, and before it keeps fragments (-400).
  {
    name: 'guard',
    hook: 'type filter hook prerouting priority -450; policy accept;',
    steps: [
      `iifname ${PORTS} goto guard_port`,
      `iifname ${TUNNELS} goto guard_tunnel`,
      vlans,
      direct,
      antiSpoofing,
    ],
  },
  // From anti-spoofing: the sender is known, by IPv4 or by IPv6.
  { name: 'sent', steps: [fragments, stub, ttl] },
  { name: 'sent6', steps: [fragments, ttl] },

  // The first packet of each connection, for destination NAT. `beginning`: from a container, `resolve` those
  // to port 53; `arriving`: from outside.
  {
    name: 'names',
    hook: 'type nat hook prerouting priority -100; policy accept;',
    steps: [
      'ip daddr 127.0.0.0/8 iifname != "lo" drop',
      `iifname ${PORTS} goto beginning`,
      `iifname ${UPLINK} goto arriving`,
    ],
  },
  { name: 'beginning', steps: [egress, services, dns] },
  { name: 'resolve', steps: [dns] },
  { name: 'arriving', steps: [antiSpoofing, announced, published, servedOutside] },

  // Every packet that goes on, whatever conntrack knows of it. To tell where it comes from copies the device's name each time, so most
  // packets, which come from a container or go to one, are told apart once.
  {
    name: 'forward',
    hook: 'type filter hook forward priority 0; policy drop;',
    steps: [
      `iifname != ${PORTS} jump through`,
      externalGateways,
      dscp,
      'ct state established goto pass', // most: cheaper than a lookup
      'ct state vmap { related : goto errors, invalid : drop, untracked : drop }',
      // From here on the first packet of a connection.
      ttl,
      bridged,
      vlans,
      servedOutside,
      access,
      services,
      policy,
      `iifname ${PORTS} oifname ${PORTS} goto begun`,
      wire,
      `iifname ${UPLINK} goto entering`,
      `oifname ${UPLINK} goto leaving`,
      `iifname ${TUNNELS} goto grow`,
      fromLink,
      `iifname ${PORTS} goto begun`,
    ],
  },
  // What comes from no container: hosts send to each other directly, never through a third one.
  {
    name: 'through',
    steps: [`oifname ${PORTS} return`, `iifname ${TUNNELS} oifname ${TUNNELS} drop`, apart, apartOnLink],
  },
  { name: 'pass', steps: [ttl, vlans, direct, 'accept'] },
  { name: 'errors', steps: [vlans, direct, announced, errors] },
  { name: 'entering', steps: [published, announced] },
  { name: 'leaving', steps: [access, egress] },
  { name: 'begun', steps: [limits, ttl, 'accept'] },

  // What is for the router itself: names, and what a gateway is asked.
  {
    name: 'input',
    hook: 'type filter hook input priority 0; policy drop;',
    steps: [
      'iifname "lo" accept',
      queries,
      'ct state vmap { established : accept, related : goto errors }',
      'icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert, nd-router-solicit } accept',
      `iifname ${PORTS} icmp type echo-request goto asked`,
      `iifname ${PORTS} icmpv6 type echo-request goto asked`,
      dns,
      `iifname ${PORTS} meta l4proto tcp reject with tcp reset`,
      `iifname ${PORTS} reject`,
      announced,
      servedOutside,
    ],
  },
  { name: 'asked', steps: [limits, 'accept'] },
  // What the router itself sends, before conntrack sees it.
  { name: 'output', hook: 'type filter hook output priority -300; policy accept;', steps: [direct, stub] },

  // The first packet of each connection again, for source NAT. `outside`: what leaves.
  {
    name: 'out',
    hook: 'type nat hook postrouting priority 100; policy accept;',
    steps: [`oifname ${UPLINK} goto outside`, services, access],
  },
  { name: 'outside', steps: [announced, egress] },
];

const { body, elements } = compose(CHAINS);

const portByIpv6 = once((port: Port) => ({ port }));

/** The part that what is always in the table follows from. */
const TABLE = {};
const NO_WAYS: readonly Way[] = [];

/** `connections`: how many a conntrack table takes; `ways`: gateways of the fabric's own that answer. */
export function routerTable(
  router: Router,
  exit: Exit | undefined,
  connections: number = SMALLEST_TABLE,
  ways: readonly Way[] = NO_WAYS,
): Table {
  const parts = new Map<object, Elements>();
  for (const port of router.ports) parts.set(port, elements('port', port));
  for (const host of router.hosts) parts.set(host, elements('host', host));
  for (const service of router.services) parts.set(service, elements('service', service));
  for (const service of router.clusterServices) parts.set(service, elements('clusterService', service));
  const served = servedBy(router);
  const everyPort = (six: boolean): boolean =>
    router.services.some((s) => s.everyPort === true && isV6(s.address) === six);
  const services6 = router.services.some((s) => isV6(s.address));
  if (servesIpv6({ served, services6 }))
    for (const port of router.ports) parts.set(portByIpv6(port), elements('portByIpv6', portByIpv6(port)));
  for (const ruleSet of router.ruleSets) parts.set(ruleSet, elements('ruleSet', ruleSet));
  for (const kind of ['subnets', 'gateways', 'ranges', 'portRanges', 'publications'] as const)
    parts.set(router[kind], elements(kind, router[kind]));
  if (router.externals !== undefined) parts.set(router.externals, elements('externals', router.externals));
  if (router.vlans !== undefined)
    for (const on of [
      ...router.vlans.map(ofVlan),
      ...router.ports.map(ofPort),
      ...router.hosts.map(ofHost),
      ofGateways(router.gateways),
    ])
      parts.set(on, elements('onVlans', on));
  if (exit?.announced !== undefined) {
    parts.set(exit.announced, elements('announced', exit.announced));
    const inner = innerOf(router.subnets);
    parts.set(inner, elements('inner', inner));
  }
  const external = hasExternalGateways(router);
  if (external) {
    const homes = homesOf(router.subnets);
    parts.set(homes, elements('homes', homes));
    parts.set(ways, elements('ways', ways));
  }
  parts.set(TABLE, elements('table', TABLE));
  const entered = (router.vlans ?? []).flatMap((vlan) => (vlan.entered ? vlan.addresses : []));
  const tagged = router.vlans?.some(({ tags }) => tags !== undefined) === true;
  const variant = {
    exit,
    served,
    everyPort: everyPort(false),
    everyPort6: everyPort(true),
    services6,
    connections,
    portRanges: router.portRanges.length > 0,
    logs: router.ruleSets.some((s) => s.logs),
    bridged: router.bridged === true,
    vlans: router.vlans !== undefined,
    entered,
    tagged,
    externalGateways: external,
    direct: router.direct !== undefined,
  };
  return {
    name: `inet ${NFT_TABLE}`,
    beside: arpTable(router.vlans !== undefined, entered.length > 0 || tagged),
    parts,
    body: body(variant),
  };
}
