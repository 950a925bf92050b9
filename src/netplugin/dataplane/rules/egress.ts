/**
 * Egress of a tenant, by source NAT (SNAT) twice: in the router to the router's address on its pair with the host, on the host to
 * the host's own address (masquerading). Connections from outside to published ports: published.ts.
 */
import { isV6 } from '../../../model/address.ts';
import { VXLAN_PORT } from '../../constants.ts';
import type { Exit } from '../../state.ts';
import { EXITS } from './devices.ts';
import type { HostFeature, RouterFeature } from './feature.ts';

/** `ip` or `ip6`, as rules name an address's version. */
export const familyName = (address: string): string => (isV6(address) ? 'ip6' : 'ip');

/** The router's addresses on the exit: what a connection with outside has at this end. */
export const outsideAddresses = (exit: Exit | undefined): string[] =>
  exit === undefined ? [] : [exit.routerAddress, exit.routerAddress6].filter((address) => address !== '');

export const egress: RouterFeature = {
  own: `
set outward { type ifname; }
set outward6 { type ifname; }`,
  rules: {
    // Nobody sends to the addresses of the exits themselves.
    beginning: ({ exit }) =>
      exit === undefined ? '' : `ip daddr ${exit.transit} drop\nip6 daddr ${exit.transit6} drop`,
    leaving: `
udp dport ${VXLAN_PORT} drop
meta nfproto ipv4 iifname @outward goto begun
meta nfproto ipv6 iifname @outward6 goto begun`,
    outside: ({ exit }) =>
      outsideAddresses(exit)
        .map((address) => `snat ${familyName(address)} to ${address}`)
        .join('\n'),
  },
  elements: {
    port({ device, gateways }, add) {
      for (const gateway of gateways) add('outward', gateway, `"${device}"`);
    },
  },
};

/**
 * On the host only the routers' own addresses come by the exits. Docker's own bridges are reached by their published ports
 * only, as by any outsider; and no exit is reached by anybody but through published ports.
 */
export const hostEgress: HostFeature = {
  own: `
set bridges { type ifname; }
set transit { type ipv4_addr; }
set transit6 { type ipv6_addr; }`,
  rules: {
    raw: `
iifname != ${EXITS} accept
iifname ${EXITS} ip daddr 127.0.0.0/8 drop
iifname ${EXITS} ip saddr != @transit drop
iifname ${EXITS} ip6 saddr != fe80::/10 ip6 saddr != @transit6 drop`,
    forward: `
oifname ${EXITS} drop
iifname ${EXITS} oifname @bridges ct status dnat accept
iifname ${EXITS} oifname @bridges drop`,
    postrouting: `
iifname ${EXITS} oifname ${EXITS} masquerade
ip saddr @transit oifname != ${EXITS} masquerade
ip6 saddr @transit6 oifname != ${EXITS} masquerade
ip saddr 127.0.0.0/8 oifname ${EXITS} masquerade`,
  },
  elements: {
    state({ exits }, add) {
      for (const address of exits.map((e) => e.routerAddress).sort()) add('transit', address, address);
      for (const address of exits.map((e) => e.routerAddress6).sort())
        if (address !== '') add('transit', address, address);
    },
    bridges(names, add) {
      for (const name of names) add('bridges', '', `"${name}"`);
    },
  },
};
