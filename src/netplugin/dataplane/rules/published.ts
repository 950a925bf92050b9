/**
 * Published ports: destination NAT twice, on the host to the router's end of its pair, in the router to the container. In
 * between the port alone says where to.
 */
import { isV6 } from '../../../model/address.ts';
import type { DnatEntry, Exit } from '../../state.ts';
import { EXITS } from './devices.ts';
import type { Add, HostFeature, HostVariant, RouterFeature } from './feature.ts';

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

function addLeads(leads: readonly Lead[], add: Add): void {
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
}

const MAPS = `
map published { type inet_proto . inet_service : ipv4_addr . inet_service; }
map published6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
map published_ranges { type inet_proto . inet_service : ipv4_addr; flags interval; }
map published_ranges6 { type inet_proto . inet_service : ipv6_addr; flags interval; }`;

export const published: RouterFeature = {
  own: MAPS,
  rules: {
    // What the host itself sends to containers is for them, and what the fabric does.
    arriving: ({ exit }) => {
      const theirs = exit?.access !== undefined || exit?.announced !== undefined;
      const at = theirs ? `ip daddr ${exit.routerAddress} ` : '';
      const at6 = theirs && exit.routerAddress6 !== '' ? `ip6 daddr ${exit.routerAddress6} ` : '';
      return `
${at}dnat ip to meta l4proto . th dport map @published
${at6}dnat ip6 to meta l4proto . th dport map @published6
${at}dnat ip to meta l4proto . th dport map @published_ranges
${at6}dnat ip6 to meta l4proto . th dport map @published_ranges6`;
    },
    entering: 'ct status dnat accept',
  },
  elements: {
    publications(publications, add) {
      addLeads(
        publications.map(({ protocol, transitPort, count, address, port }) => ({
          set: 'published',
          key: `${protocol} . `,
          first: transitPort,
          count: count ?? 1,
          address,
          port,
        })),
        add,
      );
    },
  },
};

/** The router's address on the way to a published port. */
export const routerEnd = (exit: Exit, { address }: DnatEntry): string =>
  isV6(address) ? exit.routerAddress6 : exit.routerAddress;

const TRANSLATION = `
fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published_at
fib daddr type local dnat ip to meta l4proto . th dport map @published
fib daddr type local dnat ip6 to ip6 daddr . meta l4proto . th dport map @published_at6
fib daddr type local dnat ip6 to meta l4proto . th dport map @published6
fib daddr type local dnat ip to ip daddr . meta l4proto . th dport map @published_at_ranges
fib daddr type local dnat ip to meta l4proto . th dport map @published_ranges
fib daddr type local dnat ip6 to ip6 daddr . meta l4proto . th dport map @published_at_ranges6
fib daddr type local dnat ip6 to meta l4proto . th dport map @published_ranges6`;

/** Addresses that lead to services, whether or not they are the host's. */
const ENTRANCES = `
dnat ip to ip daddr . meta l4proto . th dport map @entrances
dnat ip6 to ip6 daddr . meta l4proto . th dport map @entrances6`;
/** The same, for what comes to the host alone. */
const ARRIVALS = `
dnat ip to ip daddr . meta l4proto . th dport map @arrivals
dnat ip6 to ip6 daddr . meta l4proto . th dport map @arrivals6`;
const ofEntrances =
  (text: string, more: string) =>
  ({ entrances }: HostVariant): string =>
    entrances ? `${text}${more}` : text;

/** `published_at`: at one of the host's addresses only. */
export const hostPublished: HostFeature = {
  own: ofEntrances(
    `${MAPS}
map published_at { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
map published_at6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
map published_at_ranges { type ipv4_addr . inet_proto . inet_service : ipv4_addr; flags interval; }
map published_at_ranges6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr; flags interval; }`,
    `
map entrances { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
map entrances6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
map arrivals { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
map arrivals6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }`,
  ),
  rules: {
    prerouting: ofEntrances(TRANSLATION, `${ENTRANCES}${ARRIVALS}`),
    // The kernel sends nothing from ::1 out of a device: refused at once, not lost, clients go on to 127.0.0.1.
    output: ofEntrances(`ip6 daddr ::1 accept${TRANSLATION}`, ENTRANCES),
    forward: `oifname ${EXITS} ct status dnat accept`,
  },
  elements: {
    state({ exits }, add) {
      const leads = exits.flatMap((exit) => [
        ...exit.publications.map((p) => leadOf(exit, p, p.hostAddress === '' ? 'published' : 'published_at')),
        ...(exit.entrances ?? []).map((p) =>
          leadOf(exit, p, p.hostAddress === '' ? 'published' : p.arriving ? 'arrivals' : 'entrances'),
        ),
      ]);
      addLeads(once(leads), add);
    },
  },
};

const leadOf = (exit: Exit, p: DnatEntry, set: string): Lead => ({
  set,
  key: p.hostAddress === '' ? `${p.protocol} . ` : `${p.hostAddress} . ${p.protocol} . `,
  first: p.hostPort,
  count: p.count ?? 1,
  address: routerEnd(exit, p),
  port: p.transitPort,
});

/** Two tenants' services may have come to one port: the second has none, as a table with both would be refused as a whole. */
function once(leads: readonly Lead[]): readonly Lead[] {
  const known = new Set<string>();
  return leads.filter(({ set, key, first, address }) => {
    const place = `${set} ${key}${first} ${isV6(address)}`;
    return !known.has(place) && known.add(place);
  });
}
