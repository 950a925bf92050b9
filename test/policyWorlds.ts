/**
 * Small worlds with nasty policy, and packets that hit their edges, for properties of whatever judges or enforces it.
 *
 * A seed is a world and always the same one; 100,000 of them take seconds. Worlds of small seeds are small, so that
 * what fast-check shrinks a failure to can be read.
 */
import fc from 'fast-check';
import { numberAddress, parseSubnet } from '../src/model/address.ts';
import type { Endpoint } from '../src/model/endpoint.ts';
import type { EndpointGroup } from '../src/model/endpointGroup.ts';
import type { Network } from '../src/model/network.ts';
import type { JudgedRule, Packet } from '../src/model/verdict.ts';

/** One tenant's, in the model's own objects: valid ones, so that a netmaster or a compiler takes them too. */
export interface PolicyWorld {
  readonly networks: readonly Network[];
  readonly groups: readonly EndpointGroup[];
  readonly policies: readonly { tenantName: string; policyName: string }[];
  readonly rules: readonly JudgedRule[];
  readonly endpoints: readonly Endpoint[];
}

export const worlds: fc.Arbitrary<PolicyWorld> = fc.nat().map(worldOf);

const TENANT = 'blue';

/**
 * Networks of one tenant must not overlap. `hosts` may be given to endpoints, `edges` are what rules and packets aim at:
 * gateways, first and last address, those just outside.
 */
const SITES = [
  {
    subnet: '10.1.1.0/24',
    gateway: '10.1.1.254',
    hosts: ['10.1.1.1', '10.1.1.2', '10.1.1.127', '10.1.1.128', '10.1.1.253'],
    edges: ['10.1.0.255', '10.1.1.0', '10.1.1.254', '10.1.1.255', '10.1.2.0'],
    prefixes: ['10.1.1.0/24', '10.1.1.0/25', '10.1.1.128/25', '10.1.1.2/31', '10.1.0.0/23', '10.0.0.0/8'],
    ipv6Subnet: 'fd00:1::/64',
    ipv6Gateway: 'fd00:1::1',
    hosts6: ['fd00:1::2', 'fd00:1::3', 'fd00:1::7fff', 'fd00:1::ffff:0:0:1', 'fd00:1:0:0:8000::'],
    edges6: ['fd00:1::', 'fd00:1::1', 'fd00:1::ffff:ffff:ffff:ffff', 'fd00:1:0:1::', 'fd00:0:ffff::1'],
    prefixes6: [
      'fd00:1::/64',
      'fd00:1::/65',
      'fd00:1:0:0:8000::/65',
      'fd00:1::2/127',
      'fd00:1::/32',
      'fd00::/8',
    ],
  },
  {
    subnet: '10.1.2.10-10.1.2.20/24',
    gateway: '10.1.2.1',
    hosts: ['10.1.2.10', '10.1.2.11', '10.1.2.15', '10.1.2.16', '10.1.2.20'],
    edges: ['10.1.2.0', '10.1.2.1', '10.1.2.9', '10.1.2.21', '10.1.2.255', '10.1.3.0'],
    prefixes: ['10.1.2.0/24', '10.1.2.8/29', '10.1.2.16/28', '10.1.2.20/32', '10.1.2.0/23', '10.0.0.0/14'],
    ipv6Subnet: 'fd00:1:0:1::/64',
    ipv6Gateway: '',
    hosts6: ['fd00:1:0:1::1', 'fd00:1:0:1::2', 'fd00:1:0:1::10', 'fd00:1:0:1::11', 'fd00:1:0:1::20'],
    edges6: ['fd00:1:0:1::', 'fd00:1:0:1:ffff:ffff:ffff:ffff', 'fd00:1:0:2::', 'fd00:1::ffff:ffff:ffff:ffff'],
    prefixes6: ['fd00:1:0:1::/64', 'fd00:1:0:1::10/124', 'fd00:1:0:1::20/128', 'fd00:1::/63', 'fd00:1::/48'],
  },
  {
    subnet: '10.1.3.4/30',
    gateway: '',
    hosts: ['10.1.3.5', '10.1.3.6'],
    edges: ['10.1.3.3', '10.1.3.4', '10.1.3.7', '10.1.3.8'],
    prefixes: ['10.1.3.4/30', '10.1.3.4/31', '10.1.3.6/32', '10.1.3.0/29', '10.1.2.0/23'],
    ipv6Subnet: 'FD00:3::4/126',
    ipv6Gateway: '',
    hosts6: ['fd00:3::5', 'fd00:3::6'],
    edges6: ['fd00:3::3', 'fd00:3::4', 'fd00:3::7', 'fd00:3::8'],
    prefixes6: ['fd00:3::4/126', 'fd00:3::4/127', 'FD00:3::6/128', 'fd00:3::/125'],
  },
  {
    subnet: '10.1.6.200-10.1.7.20/23',
    gateway: '10.1.6.1',
    hosts: ['10.1.6.200', '10.1.6.255', '10.1.7.0', '10.1.7.1', '10.1.7.20'],
    edges: ['10.1.5.255', '10.1.6.0', '10.1.6.199', '10.1.7.21', '10.1.7.255', '10.1.8.0'],
    prefixes: ['10.1.6.0/23', '10.1.6.0/24', '10.1.7.0/24', '10.1.6.192/26', '10.1.4.0/22'],
    ipv6Subnet: 'fd00:6::/48',
    ipv6Gateway: 'fd00:6:0:ffff::1',
    hosts6: ['fd00:6::1', 'fd00:6:0:1::', 'fd00:6:0:8000::1', 'fd00:6:0:ffff::2', 'fd00:6:0:ffff:ffff::'],
    edges6: [
      'fd00:6::',
      'fd00:6:0:ffff::1',
      'fd00:6:0:ffff:ffff:ffff:ffff:ffff',
      'fd00:6:1::',
      'fd00:5:ffff::1',
    ],
    prefixes6: ['fd00:6::/48', 'fd00:6::/49', 'fd00:6:0:8000::/49', 'fd00:6:0:ffff::/64', 'fd00:4::/30'],
  },
] as const;

const OUTSIDE = ['192.0.2.1', '198.51.100.7'];
const OUTSIDE6 = ['2001:db8::1', '2001:db8:0:1::1'];
const OUTSIDE_PREFIXES = ['192.0.2.0/24', '192.0.2.1/32', '0.0.0.0/0', '0.0.0.0/1', '2001:db8::/32', '::/0'];

/** Names that are legal and that an object used as a map would trip over. */
const GROUP_NAMES = ['web', 'db', 'cache', 'constructor'];
const POLICY_NAMES = ['prod_web', 'base', 'shared.1', 'valueOf'];
/** Few, so that rules tie; none means 1. */
const PRIORITIES = [undefined, undefined, 1, 1, 2, 10, 10, 100];
const PROTOCOLS = [undefined, undefined, 'tcp', 'tcp', 'udp', 'icmp', '6', '17', '132', '1', '58', '47'];
/** Those whose rules may name a port. */
const PORTED = new Set<string | undefined>([undefined, 'tcp', 'udp', '6', '17', '132']);
const RULE_PORTS = [80, 443, 22, 1, 65535];
/** Ranges that touch, overlap and hold one another, and ports within and beside them. */
const RULE_PORT_LISTS = ['80,443', '79-81', '1-80', '80-443', '81-442,22', '443-8080,80', '1-65535', '22-22'];
const PROTOCOL_LISTS = ['tcp,udp', '6,132', 'udp,132', 'tcp,icmp', '47,58,17'];
const PORTED_LISTS = new Set<string | undefined>(PROTOCOL_LISTS.slice(0, 3));
const PACKET_PORTS = [...RULE_PORTS, 80, 443, 79, 81, 442, 444, 8080, 8081];
const PACKET_PROTOCOLS = [6, 6, 6, 17, 17, 132, 1, 58, 47, 50];

export function worldOf(seed: number): PolicyWorld {
  const random = randomOf(seed);
  /** At most this many of a thing: 1 for the smallest seeds, whatever is asked for from 64,000 on. */
  const few = (most: number): number => random.below(1 + Math.min(most, Math.ceil(Math.log2(seed + 2))));

  const sites = random.some(SITES, 1 + few(2)).map((site, i) => {
    const six = random.chance(0.5);
    return { ...site, name: `net${i}`, six, four: !six || random.chance(0.8) };
  });
  const networks = sites.map(
    (site, i): Network => ({
      tenantName: TENANT,
      networkName: site.name,
      nwType: 'data',
      encap: 'vxlan',
      pktTag: 1001 + i,
      ...(site.four && { subnet: site.subnet }),
      ...(site.four && site.gateway && { gateway: site.gateway }),
      ...(site.six && { ipv6Subnet: site.ipv6Subnet }),
      ...(site.six && site.ipv6Gateway && { ipv6Gateway: site.ipv6Gateway }),
    }),
  );

  const policies = random
    .some(POLICY_NAMES, 1 + few(3))
    .map((policyName) => ({ tenantName: TENANT, policyName }));
  const groups = random.some(GROUP_NAMES, 1 + few(3)).map((groupName): EndpointGroup => {
    const carried = random.some(policies, few(3)).map((policy) => policy.policyName);
    return {
      tenantName: TENANT,
      groupName,
      networkName: random.one(networks).networkName,
      ...((carried.length > 0 || random.chance(0.5)) && { policies: carried }),
    };
  });

  const endpoints: Endpoint[] = [];
  for (const site of sites)
    for (const [i, address] of site.hosts.entries()) {
      if (endpoints.length > 1 && few(10) < 3) continue;
      const group = random.chance(0.2) ? undefined : random.find(groups, (g) => g.networkName === site.name);
      endpoints.push({
        endpointID: `endpoint${endpoints.length}`,
        tenantName: TENANT,
        networkName: site.name,
        ...(group && { groupName: group.groupName }),
        ipAddress: [...(site.four ? [address] : []), ...(site.six ? [site.hosts6[i] as string] : [])],
        macAddress: `02:02:${address
          .split('.')
          .map((byte) => Number(byte).toString(16).padStart(2, '0'))
          .join(':')}`,
        homingHost: random.one(['node1', 'node2']),
        status: random.one(['running', 'running', 'created', 'paused', 'unhealthy'] as const),
      });
    }

  const own = endpoints.flatMap((endpoint) => endpoint.ipAddress);
  const prefixes = [
    ...sites.flatMap((s) => [...s.prefixes, ...(s.six ? s.prefixes6 : [])]),
    ...OUTSIDE_PREFIXES,
  ];
  const edges = [...sites.flatMap((s) => [...s.edges, ...(s.six ? s.edges6 : [])]), ...OUTSIDE, ...OUTSIDE6];
  const peer = (): { group?: string; network?: string; address?: string } => {
    const shape = random.below(10);
    if (shape < 2) return {};
    if (shape < 4) return { group: random.one(groups).groupName };
    if (shape < 5) return { network: random.one(networks).networkName };
    if (shape < 6) {
      const { groupName, networkName } = random.one(groups);
      return { group: groupName, network: networkName };
    }
    if (shape < 8) return { address: random.one(prefixes) };
    return { address: random.one(random.chance(0.7) ? own : edges) };
  };
  const rules = Array.from({ length: 1 + few(19) }, (_, i): JudgedRule => {
    const { group, network, address } = peer();
    const incoming = random.chance(0.6);
    const priority = random.one(PRIORITIES);
    const protocols = random.chance(0.2) ? random.one(PROTOCOL_LISTS) : undefined;
    const protocol = protocols === undefined ? random.one(PROTOCOLS) : undefined;
    const isPorted = protocols === undefined ? PORTED.has(protocol) : PORTED_LISTS.has(protocols);
    return {
      tenantName: TENANT,
      policyName: random.one(policies).policyName,
      ruleId: String(i + 1),
      direction: incoming ? 'in' : 'out',
      ...(priority !== undefined && { priority }),
      ...(group && { [incoming ? 'fromEndpointGroup' : 'toEndpointGroup']: group }),
      ...(network && { [incoming ? 'fromNetwork' : 'toNetwork']: network }),
      ...(address && { [incoming ? 'fromIpAddress' : 'toIpAddress']: address }),
      ...(protocol !== undefined && { protocol }),
      ...(protocols !== undefined && { protocols }),
      ...(isPorted &&
        random.chance(0.6) &&
        (random.chance(0.6) ? { port: random.one(RULE_PORTS) } : { ports: random.one(RULE_PORT_LISTS) })),
      action: random.chance(0.5) ? 'allow' : 'deny',
    };
  });
  return { networks, groups, policies, rules, endpoints };
}

/**
 * Most aim at a rule, and most of those hit it, so that rules meet; the others go anywhere: between endpoints, to or from
 * gateways, edges of subnets and of rules' prefixes, and outside. One end is always an endpoint, the other another address.
 */
export function packetsOf(world: Omit<PolicyWorld, 'policies'>, seed: number, count = 20): Packet[] {
  const random = randomOf(seed ^ 0x5bd1e995);
  const sites = world.networks.flatMap((network) =>
    SITES.filter((site) => site.subnet === network.subnet || site.ipv6Subnet === network.ipv6Subnet).map(
      (site) => ({
        ...site,
        name: network.networkName,
      }),
    ),
  );
  const addressesIn = (networkName?: string): string[] =>
    sites
      .filter((site) => networkName === undefined || site.name === networkName)
      .flatMap((site) => [...site.hosts, ...site.hosts6, ...site.edges, ...site.edges6]);
  const endpointsIn = (groups: readonly (string | undefined)[]): string[] =>
    world.endpoints.filter((e) => groups.includes(e.groupName)).flatMap((e) => e.ipAddress);
  const own = world.endpoints.flatMap((endpoint) => endpoint.ipAddress);
  const named = world.rules.flatMap((rule) => edgesOf(rule.fromIpAddress || rule.toIpAddress || ''));
  const others = [...addressesIn(), ...named, ...OUTSIDE, ...OUTSIDE6];

  const anywhere = (): Packet => {
    const here = random.one(own);
    const there = peerOf(here, random.chance(0.6) ? own : others);
    const protocol = random.one(PACKET_PROTOCOLS);
    const packet = random.chance(0.5) ? { from: here, to: there } : { from: there, to: here };
    return { ...packet, protocol, ...portOf(protocol) };
  };
  const peersOf = (rule: JudgedRule): string[] => {
    const group = rule.fromEndpointGroup || rule.toEndpointGroup;
    const network = rule.fromNetwork || rule.toNetwork;
    const address = rule.fromIpAddress || rule.toIpAddress;
    if (group) return endpointsIn([group]);
    if (network) return addressesIn(network);
    return address ? edgesOf(address) : own;
  };
  const aimed = (rule: JudgedRule): Packet => {
    const carriers = world.groups
      .filter((g) => g.policies?.includes(rule.policyName))
      .map((g) => g.groupName);
    const judged = endpointsIn(carriers);
    if (judged.length === 0) return anywhere();
    const here = random.one(judged);
    const there = peerOf(here, random.chance(0.9) ? peersOf(rule) : own);
    const named = random.one((rule.protocols ?? rule.protocol ?? 'tcp').split(','));
    const asked = { icmp: here.includes(':') ? 58 : 1, tcp: 6, udp: 17 }[named];
    const protocol = random.chance(0.85) ? (asked ?? Number(named)) : random.one(PACKET_PROTOCOLS);
    const packet = rule.direction === 'in' ? { from: there, to: here } : { from: here, to: there };
    return { ...packet, protocol, ...portOf(protocol, random.chance(0.85) ? rule.port : undefined) };
  };
  /** An address to talk with `here`: of its family, another one. */
  const peerOf = (here: string, from: readonly string[]): string => {
    const fitting = (list: readonly string[]): string[] =>
      list.filter((address) => address.includes(':') === here.includes(':') && address !== here);
    const those = fitting(from);
    return random.one(those.length > 0 ? those : fitting(others));
  };
  const portOf = (protocol: number, port?: number): { port?: number } =>
    [6, 17, 132].includes(protocol) ? { port: port || random.one(PACKET_PORTS) } : {};

  const carried = new Set(world.groups.flatMap((group) => group.policies ?? []));
  const judging = world.rules.filter((rule) => carried.has(rule.policyName));
  return Array.from({ length: count }, () =>
    judging.length === 0 || random.chance(0.25) ? anywhere() : aimed(random.one(judging)),
  );
}

/** First and last address of a prefix and those just outside; of an address, itself and its neighbours. */
function edgesOf(text: string): string[] {
  const subnet = parseSubnet(text.includes('/') ? text : `${text}/${text.includes(':') ? 128 : 32}`);
  if (subnet === undefined) return [];
  const end = 1n << (subnet.family === 4 ? 32n : 128n);
  return [subnet.first, subnet.last, subnet.first - 1n, subnet.last + 1n]
    .filter((number) => number >= 0n && number < end)
    .map((number) => numberAddress(number, subnet.family));
}

export interface Random {
  /** 0 to limit - 1. */
  below(limit: number): number;
  chance(probability: number): boolean;
  /** Of at least one. */
  one<T>(values: readonly T[]): T;
  /** `count` different ones, in any order; all where there are fewer. */
  some<T>(values: readonly T[], count: number): T[];
  find<T>(values: readonly T[], fits: (value: T) => boolean): T | undefined;
}

/** Marsaglia, "Xorshift RNGs" (2003), 32 bits; the seed is spread first, as its neighbours would begin alike. */
export function randomOf(seed: number): Random {
  let state = Math.imul(seed + 1, 0x9e3779b1) || 1;
  const next = (): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
  for (let i = 0; i < 4; i++) next();
  const below = (limit: number): number => Math.floor(next() * limit);
  const one = <T>(values: readonly T[]): T => values[below(values.length)] as T;
  const some = <T>(values: readonly T[], count: number): T[] => {
    const left = [...values];
    return Array.from(
      { length: Math.min(count, left.length) },
      () => left.splice(below(left.length), 1)[0] as T,
    );
  };
  return {
    below,
    chance: (probability) => next() < probability,
    one,
    some,
    find: (values, fits) => some(values.filter(fits), 1)[0],
  };
}
