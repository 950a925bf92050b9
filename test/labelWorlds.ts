/** Worlds of policy whose endpoints are workloads, most of them, with NetworkPolicies of all tiers over them; as policyWorlds.ts. */
import fc from 'fast-check';
import { contains, parseSubnet, type Subnet, subnetPrefix } from '../src/model/address.ts';
import type {
  NetworkPolicy,
  NetworkPolicyPeer,
  NetworkPolicyPort,
  NetworkPolicyRule,
} from '../src/model/networkPolicy.ts';
import type { Labels, Selector } from '../src/model/selector.ts';
import type { Packet } from '../src/model/verdict.ts';
import type { Workload } from '../src/model/workload.ts';
import type { PolicyWorld } from './policySimulator.ts';
import { packetsOf, type Random, randomOf, worldOf } from './policyWorlds.ts';

export type LabelWorld = PolicyWorld & {
  readonly workloads: readonly Workload[];
  readonly networkPolicies: readonly NetworkPolicy[];
};

export const labelWorlds: fc.Arbitrary<LabelWorld> = fc.nat().map(labelWorldOf);

const NAME = 'kubernetes.io/metadata.name';
const NAMESPACES: Readonly<Record<string, Labels>> = {
  default: { [NAME]: 'default' },
  shop: { [NAME]: 'shop', env: 'prod', team: 'a' },
  constructor: { [NAME]: 'constructor', env: 'dev', team: 'a' },
};
const POD_LABELS: readonly Labels[] = [
  {},
  { app: 'web' },
  { app: 'web', tier: 'front' },
  { app: 'db', tier: 'back' },
  { app: 'db', tier: '' },
];
const PORT_NAMES = ['http', 'dns'];
const PORTS = [80, 8080, 443, 53, 8000, 8500, 9000];
const SPANS: readonly (readonly [number, number])[] = [
  [80, 80],
  [1, 65535],
  [8000, 9000],
  [8080, 8500],
  [53, 443],
];
const ASKED_PORTS = [...PORTS, 1, 79, 81, 7999, 8001, 9001, 65535];
const PROTOCOLS = [6, 6, 6, 17, 132, 1, 58, 47];
const PORTED = [6, 6, 17, 132];

const some = (random: Random, values: Labels): Labels =>
  Object.fromEntries(random.some(Object.entries(values), 1 + random.below(2)));

function selector(random: Random, sets: readonly Labels[]): Selector {
  const of = random.one(sets);
  if (random.chance(0.15)) return {};
  if (random.chance(0.5)) return { matchLabels: some(random, of) };
  const [key = 'app', value = 'web'] = random.one([
    ...Object.entries(of),
    ['app', 'web'] as [string, string],
  ]);
  const operator = random.one(['In', 'NotIn', 'Exists', 'DoesNotExist'] as const);
  const values = [value, ...(random.chance(0.3) ? ['db'] : [])];
  const more = operator === 'In' || operator === 'NotIn' ? { values } : {};
  return { matchExpressions: [{ key, operator, ...more }] };
}

const namespaces = (random: Random): Selector => selector(random, Object.values(NAMESPACES));
const workloads = (random: Random): Selector => selector(random, POD_LABELS);

function both(random: Random): { namespaces?: Selector; workloads?: Selector } {
  const shape = random.below(4);
  return {
    ...(shape !== 1 && { namespaces: namespaces(random) }),
    ...(shape !== 0 && { workloads: workloads(random) }),
  };
}

/** Without host bits. */
const prefixOf = (address: string, length: number): string => subnetPrefix(`${address}/${length}`);

/** `around`: addresses of endpoints, and others. */
function peer(random: Random, around: readonly string[]): NetworkPolicyPeer {
  if (random.chance(0.6)) return both(random);
  const address = random.one(around);
  const v6 = address.includes(':');
  const all = v6 ? 128 : 32;
  if (random.chance(0.4)) return { prefix: prefixOf(address, all) };
  const wide = random.one(v6 ? ['::/0', 'fd00::/8'] : ['0.0.0.0/0', '10.0.0.0/8']);
  const outer = parseSubnet(wide) as Subnet;
  const others = around.filter((a) => a.includes(':') === v6 && contains(outer, a));
  const except = random.some(others, random.below(3)).map((a) => prefixOf(a, all - random.below(3)));
  return { prefix: wide, ...(random.chance(0.8) && { except }) };
}

function portMatch(random: Random): NetworkPolicyPort {
  const protocol = random.chance(0.8) ? random.one(PORTED) : undefined;
  const known = protocol === undefined ? {} : { protocol };
  const shape = random.below(10);
  if (shape < 2) return protocol === undefined ? { protocol: random.one(PROTOCOLS) } : known;
  if (shape < 4) return { ...known, port: random.one(PORTS) };
  if (shape < 8) return { ...known, name: random.one(PORT_NAMES) };
  const [port, endPort] = random.one(SPANS);
  return { ...known, port, endPort };
}

function rule(random: Random, tier: NetworkPolicy['tier'], around: readonly string[]): NetworkPolicyRule {
  const actions = {
    admin: ['accept', 'deny', 'pass'],
    namespace: ['accept'],
    baseline: ['accept', 'deny'],
  } as const;
  const few = <T>(one: () => T): T[] => Array.from({ length: random.one([0, 1, 1, 1, 2, 3]) }, one);
  return {
    direction: random.chance(0.6) ? 'in' : 'out',
    action: random.one(actions[tier]),
    ...(random.chance(0.75) && { peers: few(() => peer(random, around)) }),
    ...(random.chance(0.7) && { ports: few(() => portMatch(random)) }),
  };
}

export function labelWorldOf(seed: number): LabelWorld {
  const base = worldOf(seed);
  const random = randomOf(seed ^ 0x2545f491);
  const few = (most: number): number => random.below(1 + Math.min(most, Math.ceil(Math.log2(seed + 2))));
  const tenantName = base.networks[0]?.tenantName as string;
  const made: Workload[] = [];
  const endpoints = base.endpoints.map((endpoint, i) => {
    if (random.chance(0.15)) return endpoint;
    const namespaceName = random.one(Object.keys(NAMESPACES));
    const workloadName = `pod${i}`;
    const uid = `uid${i}`;
    made.push({
      namespaceName,
      workloadName,
      uid,
      tenantName,
      networkName: endpoint.networkName,
      ...(endpoint.groupName && { groupName: endpoint.groupName }),
      labels: random.one(POD_LABELS),
      namespaceLabels: NAMESPACES[namespaceName] as Labels,
      ports: random
        .some(PORT_NAMES, random.below(4))
        .map((name) => ({ name, protocol: random.one(PORTED), port: random.one(PORTS) })),
    });
    return {
      ...endpoint,
      workload: `${namespaceName}:${workloadName}`,
      workloadUid: random.chance(0.05) ? 'of one before' : uid,
    };
  });
  const around = [
    ...endpoints.flatMap((e) => e.ipAddress),
    ...base.networks.flatMap((n) => (n.subnet?.startsWith('10.1.1.0') ? ['10.1.1.254'] : [])),
    '192.0.2.1',
    '2001:db8::1',
  ];
  const policies = Array.from({ length: 1 + few(5) }, (_, i): NetworkPolicy => {
    const tier = random.one(['namespace', 'namespace', 'namespace', 'admin', 'baseline'] as const);
    const mine = tier === 'namespace';
    return {
      tier,
      namespaceName: mine ? random.one(Object.keys(NAMESPACES)) : '',
      policyName: `p${i}`,
      ...(!mine && { priority: random.below(3) }),
      subject: mine ? { workloads: workloads(random) } : both(random),
      ...(mine && { isolates: random.some(['in', 'out'] as const, 1 + random.below(2)) }),
      rules: Array.from({ length: few(4) }, () => rule(random, tier, around)),
    };
  });
  const rules = random.chance(0.5) ? base.rules : [];
  return { ...base, rules, endpoints, workloads: made, networkPolicies: policies };
}

/** Half of them as packetsOf makes them, the others among endpoints at ports that rules are about. */
export function labelPacketsOf(world: LabelWorld, seed: number, count = 30): Packet[] {
  const random = randomOf(seed ^ 0x1b873593);
  const own = world.endpoints.flatMap((e) => e.ipAddress);
  const anybody = [...own, ...own, '192.0.2.1', '198.51.100.7', '2001:db8::1'];
  const portsAt = (address: string) => {
    const key = world.endpoints.find((e) => e.ipAddress.includes(address))?.workload;
    return world.workloads.find((w) => `${w.namespaceName}:${w.workloadName}` === key)?.ports ?? [];
  };
  const packets = Array.from({ length: count / 2 }, (): Packet[] => {
    const here = random.one(own);
    const others = anybody.filter((a) => a !== here && a.includes(':') === here.includes(':'));
    if (others.length === 0) return [];
    const there = random.one(others);
    const protocol = random.one(PROTOCOLS);
    const ends = random.chance(0.5) ? { from: here, to: there } : { from: there, to: here };
    const named = portsAt(ends.to);
    if (named.length > 0 && random.chance(0.6)) {
      const { protocol: its, port } = random.one(named);
      return [{ ...ends, protocol: its, port }];
    }
    return [{ ...ends, protocol, ...(PORTED.includes(protocol) && { port: random.one(ASKED_PORTS) }) }];
  });
  return [...packets.flat(), ...packetsOf(world, seed, count / 2)];
}
