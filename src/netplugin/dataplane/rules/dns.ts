/**
 * DNS: what a container asks leads to the host's nameserver in its router (nameservers/), whether it asks the
 * nameserver, Docker's resolver (stub.ts), the gateway, or a resolver outside; a resolver within the tenant's networks is asked itself.
 */
import { NAMESERVER, NAMESERVER6 } from '../../constants.ts';
import { PORTS, UPLINK } from './devices.ts';
import type { RouterFeature } from './feature.ts';
import { ASKING, QUERY_PORTS } from './stub.ts';

export const dns: RouterFeature = {
  rules: {
    beginning: 'th dport 53 meta l4proto { tcp, udp } goto resolve',
    resolve: `
fib daddr type local dnat ip to ${NAMESERVER}
fib daddr type local dnat ip6 to ${NAMESERVER6}
fib daddr oifname ${UPLINK} dnat ip to ${NAMESERVER}
fib daddr oifname ${UPLINK} dnat ip6 to ${NAMESERVER6}`,
    input: `iifname ${PORTS} tcp dport ${QUERY_PORTS} goto asked`,
  },
};

/**
 * Places for what each container asks (ASKING), a bucket each, by the device that it sends by, which it cannot choose: what one sends, on
 * however many processors, fills no other's. A container that found no place in the set would not be limited; there are more places than devices.
 */
const MAX_ASKING = 4096;

/**
 * Queries by UDP, ahead of all else in `input`: of an established flow of them each one counts, and there are many. Those that are not tracked
 * (stub.ts), or belong to a connection, have no more to be found out; the first one of a connection is counted, and has a time of its own (limits.ts).
 */
export const queries: RouterFeature = {
  own: `
set asking { type ifname; size ${MAX_ASKING}; flags dynamic,timeout; timeout 1m; }
counter asked { }
chain query {
  update @asking { iifname limit rate over ${ASKING} } counter name "asked" drop
  ct state established,untracked accept
  jump counted
  ct status dnat meta nfproto ipv4 ct timeout set "translated" accept
  ct status dnat ct timeout set "translated6" accept
  meta nfproto ipv4 ct timeout set "query" accept
  ct timeout set "query6" accept
}`,
  rules: { input: `iifname ${PORTS} udp dport ${QUERY_PORTS} goto query` },
};
