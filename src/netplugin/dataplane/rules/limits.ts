/**
 * How many connections a container, and a tenant, may have, as chains of nftables. A machine's namespaces each count up to
 * nf_conntrack_max; a router's table is the tenant's, the host's is shared by all tenants' exits and the host itself.
 *
 *   router   what one container begins, to wherever: an eighth of a table, so that it leaves room to the tenant's others
 *   host     what one tenant has outside: a quarter of a table, and what it begins a second
 *
 * Counted are entries of conntrack that are there and not closed (nf_conncount), on the host once more by what the host has: it
 * may have as open what the router takes for closed. Closed ones stay for a while: the exit has less of it (TIME_WAIT
 * of 10 s), and begins only so many a second that those of one tenant are another quarter at most.
 *
 * A count walks through the connections of its key, once in a tick of the kernel's. So a key is divided by a hash of the connection,
 * which an honest sender fills evenly, and each part has its share of the limit: a sender that steers by its ports
 * reaches only its own limit earlier. Container and tenant are divided by the same hash: one container's connections are at most half of
 * what its tenant may have, in each part. Only a packet that makes a new entry is counted, whatever follows before an
 * answer; what policy denies comes to no count, and to no entry.
 *
 * A query to the nameserver, from a new port each time, is a connection that the kernel would keep for 30 s, so that a container
 * came to its limit with 1,000 a second. Its entry has no use once it is answered, and little before: only where the query was
 * translated on its way (to a gateway, to a server outside) does the answer need it, for as long as the nameserver waits for others by
 * default. To the nameserver's own address an answer finds its way without; what stubs ask is not tracked at all (stub.ts).
 *
 * Counts are under a lock of the kernel's for each key, so processors may come in any order; each makes room for one
 * more only after it has counted. The sets have one element for each part of a port, or of a tenant, that has connections, however much
 * is sent: room for all parts of some 64 at least. In a full set the kernel adds none and says nothing (nft_dynset.c), so that a
 * part without a place would have no limit. What found none is counted once more, by its port or tenant alone, of which there are
 * fewer than places: it has less than its share, as one long list is slow to count, but some, and a limit. Larger sets
 * would be no answer: the kernel makes their buckets at once, 16 bytes for each element, in every router.
 */
import { EXITS, PORTS } from './devices.ts';
import type { HostFeature, RouterFeature } from './feature.ts';

/** Where the kernel's limit is not known yet: its own choice for a machine with 1 GB (net/netfilter/nf_conntrack_core.c). */
export const SMALLEST_TABLE = 65_536;

/** Connections of one container in one part, where the table has room for PARTS of them: half of it is reached evenly. */
const DEPTH = 64;
const MOST_PARTS = 1024;
/** Elements of a set of parts. */
const MOST_COUNTED = 65_535;
/** Connections of a container that is not counted by parts: a list of that length takes some 20 us to count. */
const UNDIVIDED = 2048;

/** Why a router refuses what a port sends, as set `refused` has it. */
export const REFUSED = { source: 1, connections: 2 } as const;
/** What is logged of the first of them: the prefix. */
export const FOREIGN = 'source';

interface Limits {
  readonly parts: number;
  readonly container: number;
  readonly tenant: number;
  /** New ones of a tenant outside in a second; so many at once times two. */
  readonly rate: number;
}

/** `table`: nf_conntrack_max. */
export function limitsOf(table: number): Limits {
  const share = Math.max(DEPTH, table / 8);
  const parts = Math.min(MOST_PARTS, 2 ** Math.floor(Math.log2(share / DEPTH)));
  const container = Math.floor(share / parts);
  return { parts, container, tenant: 2 * container, rate: Math.max(64, Math.floor(table / 64)) };
}

/** The part of its key that a connection is in. What has no ports, such as a ping, is told apart by its first bytes. */
const partOf = (parts: number): string => `
  ct status & confirmed == confirmed return
  meta mark set 0
  meta mark set jhash ip daddr . th sport . th dport mod ${parts} seed 0x636f6e74
  meta mark set jhash ip6 daddr . th sport . th dport mod ${parts} seed 0x636f6e74`;

/** What was refused, and why. */
const REFUSED_SET =
  'set refused { type ifname . mark; size 8192; flags dynamic,timeout; timeout 1d; counter; }';
const CROWDED = `chain crowded {
  meta mark set ${REFUSED.connections}
  update @refused { iifname . meta mark } drop
}`;

/** Times of conntrack's own for a protocol, by name, and with a 6 for IPv6. */
const timeouts = (name: string, protocol: string, policy: string): string =>
  ['', '6']
    .map(
      (six) =>
        `\nct timeout ${name}${six} { protocol ${protocol}; l3proto ip${six}; policy = { ${policy} }; }`,
    )
    .join('');
/** Of UDP, in seconds. The kernel has an answered query wait as long as one that is not. */
const queryTimeouts = (name: string, seconds: number): string =>
  timeouts(name, 'udp', `unreplied : ${seconds}, replied : ${seconds}`);

/** Seconds that a translated query may wait for its answer: more than twice 5, the nameserver's patience (dns/upstreams.ts). */
const TRANSLATED = 12;

/** Of a router: `jump counted` before the first packet of a connection that a port's container begins is accepted, `goto query` with one to the nameserver. */
function routerLimits(table: number): string {
  const { parts, container } = limitsOf(table);
  return `
set begun { type ifname . mark; size ${MOST_COUNTED}; flags dynamic; }
set undivided { type ifname; size 8192; flags dynamic; }
${REFUSED_SET}
chain counted {${partOf(parts)}
  add @begun { iifname . meta mark ct count ${container} } return
  iifname . meta mark @begun goto crowded
  add @undivided { iifname ct count over ${UNDIVIDED} } goto crowded
}
${CROWDED}
${queryTimeouts('query', 1)}${queryTimeouts('translated', TRANSLATED)}
`;
}

/**
 * Fragments of a container, of a router. Conntrack keeps them until they are whole (nf_defrag_ipv4, priority -400), and all that a
 * namespace keeps is one sum (net.ipv4.ipfrag_high_thresh): some 1,800 that nobody finished, for 30 s, were the end of everybody
 * else's in the tenant. Whether a datagram will be whole cannot be known, so it is the time that they wait and how many one
 * container sends that bound what waits: 2 s of 5,000 a second, and 1,000 at once, are 25 MB as the kernel counts them (2,304 bytes
 * each), a fifth of the room (settings.ts). What is sent on to others is whole: another host's router, and the host, do the same.
 *
 * Their sender is known before: in the kernel's queue fragments are told apart by addresses and a number, so one by another's
 * address would be put into that one's datagram.
 */
export const fragments: RouterFeature = {
  own: `
set piecing { type ifname; size 8192; flags dynamic,timeout; timeout 1m; }
counter pieces { }
chain piece {
  iifname ${PORTS} update @piecing { iifname limit rate over 5000/second burst 1000 packets } counter name "pieces" drop
}`,
  rules: {
    sent: 'ip frag-off & 0x3fff != 0 jump piece',
    sent6: 'exthdr frag exists jump piece',
  },
};

/** Of the host's table: what comes by the tenants' exits, to outside and to the host itself. */
function hostLimits(table: number): string {
  const { parts, tenant, rate } = limitsOf(table);
  return `
set outside { type ifname . mark; size ${MOST_COUNTED}; flags dynamic; }
set undivided { type ifname; size 8192; flags dynamic; }
set begun { type ifname; size 8192; flags dynamic,timeout; timeout 1m; }
${REFUSED_SET}${timeouts('closed', 'tcp', 'close : 10, time_wait : 10')}${queryTimeouts('query', TRANSLATED)}
chain counted {${partOf(parts)}
  add @outside { iifname . meta mark ct count over ${tenant} } goto crowded
  iifname . meta mark != @outside add @undivided { iifname ct count over ${2 * UNDIVIDED} } goto crowded
  update @begun { iifname limit rate over ${rate}/second burst ${2 * rate} packets } goto crowded
  meta nfproto ipv4 meta l4proto tcp ct timeout set "closed"
  meta nfproto ipv6 meta l4proto tcp ct timeout set "closed6"
  meta nfproto ipv4 udp dport 53 ct timeout set "query"
  meta nfproto ipv6 udp dport 53 ct timeout set "query6"
}
${CROWDED}
`;
}

export const limits: RouterFeature = {
  own: ({ connections }) => routerLimits(connections),
  rules: { begun: 'jump counted', asked: 'jump counted' },
};

export const limitsOutside: HostFeature = {
  own: ({ connections }) => hostLimits(connections),
  rules: {
    counted_forward: `iifname ${EXITS} ct state new jump counted`,
    counted_input: `iifname ${EXITS} ct state new jump counted`,
  },
};
