/**
 * How a container's questions to Docker's embedded resolver reach the router's nameserver.
 *
 * Docker's own way is NAT in the container's namespace, which makes the kernel track every connection of the container a second
 * time, at both of its ends: a tenth of what a new connection costs. So here the addresses of each packet are rewritten by
 * themselves, and nothing in the namespace asks for conntrack; rules of the container's own that do are served as ever.
 *
 * An answer must come from the address that was asked, and somebody may ask the nameserver by its own address too. So what
 * is rewritten goes to ports of its own (STUB_PORTS), on which the nameserver listens too: they tell what to make of the answer.
 *
 *   loopback  asked from 127.0.0.1: the answer goes there
 *   bound     asked from another address: the answer goes to it
 *   kept      asked from another loopback address, which is kept by its port for a while: the answer goes there. For programs that bind
 *             to one; two that have the same port at different ones within that time get both their answers at the first
 *
 * A container of IPv6 alone has no address from which to ask there, and IPv4 cannot be made IPv6: so the nameserver listens in the
 * container itself, at the address of Docker's resolver (RESOLVER_PORT), and knows by the socket who asks. What is asked of port 53 has
 * only its port changed, and the answer's back.
 *
 * What goes there is nothing else, so the router need not track it either: a name that is asked for from a new port each time
 * is no connection, and takes no place of the container's (limits.ts). Only what came in fragments is, since conntrack makes it
 * whole; its answer does without.
 */
import type { Nft } from '../../../linux/nftables.ts';
import { isV6 } from '../../../model/address.ts';
import { DOCKER_RESOLVER, NAMESERVER, NFT_TABLE, RESOLVER_PORT, STUB_PORTS } from '../../constants.ts';
import type { Port } from '../../state.ts';
import type { RouterFeature } from './feature.ts';
import type { Elements, Table } from './table.ts';

const PORTS_OF_STUBS = Object.values(STUB_PORTS).join(', ');

/**
 * What one container may send to the nameserver by UDP. Who is answered when is decided there, in turn (dns/fairQueue.ts); this keeps a queue
 * that is all containers' of the tenant so short that it can be read. A program that waits for each answer must never meet it, as what is
 * lost costs it seconds: such a one comes to 10,000 to 20,000 a second on a quiet machine, where an answer takes 50 to 100 microseconds.
 */
export const ASKING = '30000/second burst 3000 packets';

/** In a router: ports of queries to the nameserver itself. */
export const QUERY_PORTS = `{ 53, ${PORTS_OF_STUBS} }`;

export const stub: RouterFeature = {
  rules: {
    sent: `ip daddr ${NAMESERVER} udp dport { ${PORTS_OF_STUBS} } ip frag-off & 0x3fff == 0 notrack`,
    output: `ip saddr ${NAMESERVER} udp sport { ${PORTS_OF_STUBS} } notrack`,
  },
};

const PROTOCOLS = ['udp', 'tcp'] as const;
/**
 * Of the loopback addresses that are kept, which each question writes before it leaves and its answer only reads, so that it finds what
 * its own socket wrote, whatever others write meanwhile: longer than who asks by UDP waits, and as many as there may be at once.
 */
const KEPT_SECONDS = 30;
const KEPT = 4096;

/**
 * The table in the namespace of a container that has these ports, later ones instead of earlier ones. What it asks from 127.0.0.1
 * leaves with its address in the network by which it leaves, which the next hop tells.
 */
export function stubTable(all: readonly Port[]): Table {
  const ports = all.filter((port) => !port.resolver);
  if (ports.length === 0) return resolverTable();
  const sources = new Map<string, { readonly port: Port; readonly source: string }>();
  for (const port of ports) {
    const source = port.addresses.find((address) => !isV6(address));
    const hop = nextHop(port);
    if (source !== undefined && hop !== undefined) sources.set(hop, { port, source });
  }
  const map = [...sources].map(([hop, { source }]) => `${hop} : ${source}`).join(', ');
  // Elements and no part of a rule: containers' tables have the same rules, which are listed once (tables.ts). A port has none or always
  // the same ones: what is there is told apart by the port that it follows from.
  const [first] = sources.values();
  const parts = new Map<Port, Elements>(
    first && [[first.port, new Map([['own', [`6 : ${first.source}`, `17 : ${first.source}`]]])]],
  );
  const own = sources.size > 0 ? ' ip saddr set meta l4proto map @own' : '';
  const ask = (protocol: string, summed = ''): string => {
    const lead = (port: number): string =>
      `${protocol} dport set ${port}${summed} ip daddr set ${NAMESERVER}`;
    return `
  ip saddr 127.0.0.1 ${protocol} dport 53 ${lead(STUB_PORTS.loopback)}${own}
  ip saddr != 127.0.0.0/8 ${protocol} dport 53 ${lead(STUB_PORTS.bound)}
  ${protocol} dport 53 update @kept { meta l4proto . th sport : ip saddr } ${lead(STUB_PORTS.kept)}${own}`;
  };
  const answer = (protocol: string): string => `
  ${protocol} sport ${STUB_PORTS.loopback} fib saddr . iif oif exists ${protocol} sport set 53 ip daddr set 127.0.0.1 ip saddr set ${DOCKER_RESOLVER} accept
  ${protocol} sport ${STUB_PORTS.bound} ${protocol} sport set 53 ip saddr set ${DOCKER_RESOLVER} accept
  ${protocol} sport ${STUB_PORTS.kept} fib saddr . iif oif exists ip daddr set meta l4proto . th dport map @kept ${protocol} sport set 53 ip saddr set ${DOCKER_RESOLVER} accept`;
  return {
    name: `ip ${NFT_TABLE}`,
    parts,
    renewable: true,
    // Before conntrack (priority -200), which is there where the container's own rules ask for it, and Docker's own chain
    // (-100). A chain of type route looks for the route of what it has changed, which the next chain sees. Each chain is
    // one more for all that the container sends or gets. Answers are whole only at input: a fragment has no ports.
    //
    // What listens on loopback alone stays out of reach for those on the container's other networks, such as Docker's bridge, where
    // nobody looks at who sends: an answer to a loopback address is taken from where questions go only, and what leaves has an
    // address of the container's before its route is looked for, so that the kernel need not route loopback addresses (route_localnet).
    //
    // Where a datagram has no checksum (0), a change of its port would make one of it that is wrong (net/netfilter/nft_payload.c,
    // nft_payload_csum_inet): it is left without again.
    body: `
map own { type inet_proto : ipv4_addr; }
map kept { type inet_proto . inet_service : ipv4_addr; flags dynamic,timeout; timeout ${KEPT_SECONDS}s; size ${KEPT}; }
chain unsummed {${ask('udp', ' udp checksum set 0')}
}
chain output {
  type route hook output priority -300; policy accept;
  ip daddr != ${DOCKER_RESOLVER} accept
  udp checksum 0 goto unsummed${PROTOCOLS.map((protocol) => ask(protocol)).join('')}
}
${sources.size > 1 ? sourceChain(map) : ''}chain input {
  type filter hook input priority -150; policy accept;
  ip saddr != ${NAMESERVER} accept${PROTOCOLS.map(answer).join('')}
}
`,
  };
}

/**
 * Where the nameserver listens in the container. The chains are where the others are, ahead of conntrack and of Docker's NAT, and after
 * conntrack has found whose answer it is. While nobody listens there, as before the nameserver has heard of the container, who asks by UDP
 * waits and asks again, as elsewhere: the kernel's error is about another port than was asked, and comes to nobody. The nameserver's own port
 * can be asked too, as in a router, so what is limited is both.
 */
function resolverTable(): Table {
  const lead = (protocol: string, summed = ''): string =>
    `${protocol} dport 53 ${protocol} dport set ${RESOLVER_PORT}${summed}`;
  return {
    name: `ip ${NFT_TABLE}`,
    parts: new Map(),
    renewable: true,
    body: `
chain output {
  type filter hook output priority -300; policy accept;
  ip daddr != ${DOCKER_RESOLVER} accept
  udp dport { 53, ${RESOLVER_PORT} } limit rate over ${ASKING} drop
  udp checksum 0 ${lead('udp', ' udp checksum set 0')} accept${PROTOCOLS.map(
    (protocol) => `
  ${lead(protocol)}`,
  ).join('')}
}
chain input {
  type filter hook input priority -150; policy accept;
  ip saddr != ${DOCKER_RESOLVER} accept${PROTOCOLS.map(
    (protocol) => `
  ${protocol} sport ${RESOLVER_PORT} ${protocol} sport set 53`,
  ).join('')}
}
`,
  };
}

/** Where there are several: the container's address in the network that the route leads by, by next hop. */
const sourceChain = (map: string): string => `chain source {
  type filter hook output priority -299; policy accept;
  ip daddr ${NAMESERVER} th dport { ${STUB_PORTS.loopback}, ${STUB_PORTS.kept} } ip saddr set rt ip nexthop map { ${map} }
}
`;

/** To the nameserver: the network's gateway; else itself, by the route that one of the container's networks has to it. */
function nextHop({ gateways, externalGateways = [], inside }: Port): string | undefined {
  const gateway = [...gateways, ...externalGateways].find((address) => !isV6(address));
  if (gateway !== undefined) return gateway;
  const has = inside?.routes.some(({ destination }) => destination === `${NAMESERVER}/32`);
  return has === false ? undefined : NAMESERVER;
}

interface Chain {
  readonly table: string;
  readonly name: string;
}
interface Listed {
  readonly rule?: { readonly chain: string; readonly expr: readonly object[] };
  readonly set?: object;
  readonly map?: object;
}

/** By iptables, Docker makes these chains in `nat`, the jumps to them and a rule a protocol in each. */
const JUMPS: Readonly<Record<string, string>> = {
  OUTPUT: 'DOCKER_OUTPUT',
  POSTROUTING: 'DOCKER_POSTROUTING',
};
const BUILT_IN = ['PREROUTING', 'INPUT', ...Object.keys(JUMPS)];
/** With its backend for nftables, a table of its own (Docker 29). */
const DOCKER_TABLE = 'docker-dns';

/**
 * The tables, of family ip in the current namespace, that hold Docker's NAT for its resolver and nothing else. It leads nowhere any more:
 * everything that it catches is rewritten before. Where Docker is still at it, or where somebody else has rules in the same table,
 * that is not among them.
 *
 * Chains (of all tables of family ip) tell that first: what is read is bounded by their number, and by Docker's own rules, however many others the container has.
 * (nft 1.0.6 reads all rules there are for `list tables`, and takes milliseconds for what the kernel answers in one.)
 */
export function tablesOfDockerNat(nft: Nft, all: readonly Chain[]): string[] {
  const tables = all.some(({ table }) => table === DOCKER_TABLE) ? [DOCKER_TABLE] : [];
  const chains = all.flatMap(({ table, name }) => (table === 'nat' ? [name] : []));
  const own = Object.values(JUMPS);
  const foreign = chains.some((name) => !BUILT_IN.includes(name) && !own.includes(name));
  if (foreign || own.some((name) => !chains.includes(name))) return tables;
  const nat = nft.list('list table ip nat') as Listed[];
  const rules = (name: string) => nat.flatMap((i) => (i.rule?.chain === name ? [i.rule.expr] : []));
  const jumpsOnly = ([from, to]: [string, string]): boolean => {
    const [first, ...more] = rules(from);
    const jumps = first?.some((e) => (e as { jump?: { target: string } }).jump?.target === to) === true;
    return jumps && more.length === 0;
  };
  const whole =
    Object.entries(JUMPS).every(jumpsOnly) && own.every((name) => rules(name).length === PROTOCOLS.length);
  const shared =
    nat.some((i) => i.set ?? i.map) ||
    BUILT_IN.some((name) => JUMPS[name] === undefined && rules(name).length > 0);
  return whole && !shared ? [...tables, 'nat'] : tables;
}
