/**
 * What the fabric is told of by BGP (bgp/): who is outside reaches containers by their own addresses, and they him, without
 * translation, under policy as everybody is.
 *
 *   fabric --> host, route to the router --> policy --> container               a service's address: to a provider on this host
 *   container --> router, no SNAT --> host --by a route from the fabric--> as it is
 *                                          --by any other way-----------> masqueraded, as other containers are
 *
 * Who has no route from the fabric does not know the way back, so that a container whose host lost its neighbours, or that asks for what is
 * behind another router, is as well off as one that is not announced. IPv4 tells the two by the realm of the route that routing has
 * chosen for the very packet (`rt classid`), in the connection's first one; IPv6 has no realms, and nobody there expects translation.
 *
 * Anti-spoofing holds: by an exit come the very addresses that are announced behind it, which the router made sure of by port; from
 * outside, none of the tenant's own (`arriving`, antiSpoofing.ts), and none of the pairs', by which the host itself is known (access.ts).
 * For the same reason nothing that somebody translated to the host's end of a pair reaches them: whoever is behind another exit or one of
 * Docker's bridges has the host's address to its neighbours instead. All of that is decided by what is in the packet and by sets that the
 * agent alone writes: no packet leaves anything behind, but its connection, which limits.ts bounds.
 */
import { classid } from '../../../linux/classid.ts';
import { isV6 } from '../../../model/address.ts';
import { FABRIC_REALM } from '../../constants.ts';
import type { Announced, AnnouncedService, Subnet } from '../../state.ts';
import { once } from '../parts.ts';
import { EXITS, UPLINK } from './devices.ts';
import { familyName } from './egress.ts';
import type { HostFeature, HostVariant, RouterFeature, RouterVariant } from './feature.ts';

const both = (rule: (ip: string, six: string) => string): string =>
  [rule('ip', ''), rule('ip6', '6')].join('\n');

/** Places that a service's providers on this host share, evenly for up to six of them: who asks is led to one by chance. */
const PLACES = 60;

/** The tenant's subnets, in a table that tells them from outside. */
export const innerOf = once((subnets: readonly Subnet[]) => ({ subnets }));

const ofRouter =
  (text: string) =>
  ({ exit }: RouterVariant): string =>
    exit?.announced === undefined ? '' : text;

/**
 * Of connections with outside, from whoever is on the way there (errors.ts): what it is about has one end that is announced, and
 * one that is not the tenant's.
 */
const errorsOf = (direction: 'original' | 'reply'): string =>
  ['ip', 'ip6']
    .map((ip) => {
      const six = ip === 'ip6' ? '6' : '';
      return `iifname ${UPLINK} ct direction ${direction} ct ${direction} ${ip} daddr @announced${six} ct ${direction} ${ip} saddr != @inner${six} goto pass`;
    })
    .join('\n');

const ofServices = (six: '' | '6'): string => {
  const [ip, address] = six ? ['ip6', 'ipv6_addr'] : ['ip', 'ipv4_addr'];
  return `set announced_services${six} { type ${address}; }
map announced_to${six} { type ${address} . inet_proto . inet_service . classid : ${address} . inet_service; }
chain serve_outside${six} {
  meta priority set numgen random mod ${PLACES}
  dnat ${ip} to ${ip} daddr . meta l4proto . th dport . meta priority map @announced_to${six}
  meta priority set none
}`;
};

/** By IPv4, and by IPv6 where some service has such an address. */
const byService =
  (rule: (ip: string, six: string) => string) =>
  (variant: RouterVariant): string =>
    ofRouter(variant.services6 ? both(rule) : rule('ip', ''))(variant);

export const announced: RouterFeature = {
  own: (variant) =>
    ofRouter(`
set announced { type ipv4_addr; }
set announced6 { type ipv6_addr; }
set inner { type ipv4_addr; flags interval; }
set inner6 { type ipv6_addr; flags interval; }
${ofServices('')}`)(variant) + ofRouter(variant.services6 ? `\n${ofServices('6')}` : '')(variant),
  rules: {
    arriving: byService((ip, six) => `${ip} daddr @announced_services${six} goto serve_outside${six}`),
    errors: ofRouter(`${errorsOf('original')}\n${errorsOf('reply')}`),
    entering: ofRouter('ip daddr @announced accept\nip6 daddr @announced6 accept'),
    // A service's own address: what no provider takes.
    input: byService(
      (ip, six) => `
iifname ${UPLINK} ${ip} daddr @announced_services${six} ${six ? 'icmpv6' : 'icmp'} type echo-request accept
iifname ${UPLINK} ${ip} daddr @announced_services${six} meta l4proto tcp reject with tcp reset
iifname ${UPLINK} ${ip} daddr @announced_services${six} reject`,
    ),
    outside: ofRouter('ip saddr @announced accept\nip6 saddr @announced6 accept'),
  },
  elements: {
    announced({ addresses, services }, add) {
      for (const address of addresses) add('announced', address, address);
      for (const { address } of services) {
        add('announced', address, address);
        add('announced_services', address, address);
      }
      for (const service of services) placesOf(service, add);
    },
    inner({ subnets }, add) {
      for (const { prefix } of subnets) add('inner', prefix, prefix);
    },
  },
};

function placesOf(
  { address, ports, providers }: AnnouncedService,
  add: (set: string, address: string, element: string) => void,
): void {
  for (const { protocol, port, providerPort } of ports)
    for (let i = 0; i < PLACES; i++)
      add(
        'announced_to',
        address,
        `${address} . ${protocol} . ${port} . ${classid(i)} : ${providers[i % providers.length]} . ${providerPort}`,
      );
}

/** All of a host's. */
const addressesOf = ({ addresses, services }: Announced): readonly string[] => [
  ...addresses,
  ...services.map((s) => s.address),
];

const ofHost =
  (text: string | ((variant: HostVariant) => string)) =>
  (variant: HostVariant): string =>
    variant.fabric.length === 0 ? '' : typeof text === 'string' ? text : text(variant);

export const hostAnnounced: HostFeature = {
  own: ofHost(`
set announced { type ifname . ipv4_addr; }
set announced6 { type ifname . ipv6_addr; }
set pairs { type ipv4_addr; flags interval; }
set pairs6 { type ipv6_addr; flags interval; }
chain translated {
  type filter hook postrouting priority 101; policy accept;
  oifname . ip daddr @announced ct status snat ip saddr @pairs drop
  oifname . ip6 daddr @announced6 ct status snat ip6 saddr @pairs6 drop
}`),
  rules: {
    raw: ofHost(
      both(
        (ip, six) =>
          `iifname ${EXITS} ${six ? '' : 'ip daddr != 127.0.0.0/8 '}iifname . ${ip} saddr @announced${six} accept`,
      ),
    ),
    forward: ofHost(
      both(
        (ip, six) =>
          `iifname != ${EXITS} oifname . ${ip} daddr @announced${six} ${ip} saddr @pairs${six} drop
oifname . ${ip} daddr @announced${six} accept
iifname . ${ip} saddr @announced${six} ct status dnat accept
iifname . ${ip} saddr @announced${six} oifname != ${EXITS} oifname != @bridges accept`,
      ),
    ),
    input: ofHost(both((ip, six) => `iifname . ${ip} saddr @announced${six} accept`)),
    postrouting: ofHost(({ fabric }) =>
      [
        both(
          (ip, six) => `iifname . ${ip} saddr @announced${six} oifname . ${ip} daddr @announced${six} accept`,
        ),
        ...fabric.flatMap((address) => {
          const ip = familyName(address);
          const to = `oifname . ${ip} daddr @announced${isV6(address) ? '6' : ''}`;
          return [EXITS, '@bridges'].map((from) => `iifname ${from} ${to} snat ${ip} to ${address}`);
        }),
        'iifname . ip6 saddr @announced6 accept',
        `iifname . ip saddr @announced rt classid ${FABRIC_REALM} accept`,
        `iifname . ip saddr @announced oifname != ${EXITS} masquerade`,
      ].join('\n'),
    ),
  },
  elements: {
    state({ fabric, exits }, add) {
      if (fabric === undefined) return;
      for (const { device, announced } of exits)
        if (announced !== undefined)
          for (const address of addressesOf(announced)) add('announced', address, `"${device}" . ${address}`);
      const pairs = new Set(exits.flatMap(({ transit, transit6 }) => [transit, transit6]));
      for (const prefix of pairs) add('pairs', prefix, prefix);
    },
  },
};
