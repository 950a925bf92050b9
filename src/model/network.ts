/** A network: a subnet of a tenant, routed by IP between hosts, with a tag on the wire (VXLAN VNI or VLAN id). */
import { type Static, Type } from '@sinclair/typebox';
import {
  addressNumber,
  contains,
  isIpv4,
  isIpv6,
  isV6,
  overlap,
  parsePrefix,
  parseSubnet,
  type Subnet,
  subnetPrefix,
} from './address.ts';
import { checkDirect } from './direct.ts';
import { gatewayOf, mainFamily, subnetsOf } from './families.ts';
import type { Index, Kind, Problem, World } from './kind.ts';
import { checkDockerName, checkLabel, Name } from './names.ts';
import { type Global, parseRange } from './settings.ts';
import { subnetIndex } from './subnetIndex.ts';
import { DEFAULT_TENANT } from './tenant.ts';

export const NetworkSchema = Type.Object(
  {
    tenantName: Name('tenant that the network belongs to'),
    networkName: Name('name of the network'),
    nwType: Type.Optional(
      Type.Union([Type.Literal('data'), Type.Literal('infra')], {
        description:
          'data for containers; infra for hosts: each has an address in it, and reaches all of its tenant, as all reach it',
        default: 'data',
      }),
    ),
    encap: Type.Optional(
      Type.Union([Type.Literal('vxlan'), Type.Literal('vlan'), Type.Literal('direct')], {
        description:
          'encapsulation between hosts; direct: none where they share a link, VXLAN where they do not',
        default: 'vxlan',
      }),
    ),
    pktTag: Type.Optional(
      Type.Integer({
        description: 'VXLAN VNI or VLAN id on the wire; given out where absent',
        minimum: 0,
        maximum: 16777215,
      }),
    ),
    subnet: Type.Optional(
      Type.String({
        description:
          'subnet a.b.c.d/len, or a range a.b.c.d-a.b.c.e/len to hand out addresses from; absent: IPv6 alone, by ipv6Subnet',
        maxLength: 64,
      }),
    ),
    gateway: Type.Optional(
      Type.String({
        description: 'gateway address in the subnet, answers on every host unless externalGateway is set',
        maxLength: 64,
      }),
    ),
    ipv6Subnet: Type.Optional(Type.String({ description: 'IPv6 subnet', maxLength: 128 })),
    ipv6Gateway: Type.Optional(
      Type.String({ description: 'IPv6 gateway in the IPv6 subnet', maxLength: 64 }),
    ),
    hostAccess: Type.Optional(
      Type.Boolean({
        description:
          'the hosts themselves reach its containers, and the services of its tenant: each has an address in it',
      }),
    ),
    externalGateway: Type.Optional(
      Type.Boolean({
        description:
          "of encap vlan: the gateways are routers of the fabric's own on the VLAN, by which containers reach what is outside, with their own addresses",
      }),
    ),
    advertise: Type.Optional(
      Type.Boolean({
        description:
          'hosts that speak BGP announce the addresses of its containers and services, and the fabric reaches these without translation',
      }),
    ),
    cfgdTag: Type.Optional(
      Type.String({ description: 'label for the network, given by the user', maxLength: 128 }),
    ),
  },
  { $id: 'network', additionalProperties: false },
);
export type Network = Static<typeof NetworkSchema>;

/** Ranges that no network may have: they mean something else to every host and container. */
const RESERVED = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/3',
  '::/16',
  'fe80::/10',
  'ff00::/8',
].map((text) => ({ text, subnet: parseSubnet(text) as Subnet }));

/** Of an address. */
export const isReserved = (address: string): boolean =>
  RESERVED.some(({ subnet }) => contains(subnet, address));

export const network: Kind<typeof NetworkSchema> = {
  name: 'network',
  collection: 'networks',
  schema: NetworkSchema,
  keyFields: ['tenantName', 'networkName'],
  updatable: false,
  forOrchestrators: true,
  references: [
    {
      field: 'tenantName',
      kind: 'tenant',
      keys: (n) => [n.tenantName],
      link: 'Tenant',
      backLink: 'Networks',
    },
  ],
  lookupName: 'networkName',
  forTenants: {
    sets: [
      'tenantName',
      'networkName',
      'nwType',
      'encap',
      'subnet',
      'gateway',
      'ipv6Subnet',
      'ipv6Gateway',
      'cfgdTag',
    ],
    exceeding: 'encap vxlan and type data only, and in no tenant that the hosts reach by an infra network',
    exceeds: exceedsTenant,
  },
  allocates: ['tag', 'subnet'],
  note: (n) =>
    n.encap === 'vlan'
      ? 'acts on hosts whose netplugin has --uplink, and on no other (netctl status says where it does not)'
      : n.encap === 'direct'
        ? 'hosts that share a link send to each other without a tunnel, others by VXLAN; on the link addresses are as containers have them'
        : undefined,
  // As in 1.x they are taken, and do not count.
  remarks: ({ subnet, ipv6Subnet, nwType }) => [
    ...Object.entries({ subnet, ipv6Subnet }).flatMap(([field, text = '']) => {
      const prefix = parsePrefix(text);
      if (prefix === undefined || prefix.host === prefix.network) return [];
      return [
        `${field} ${text} has bits behind its prefix length, which do not count: it is ${subnetPrefix(text)}`,
      ];
    }),
    ...(subnet || nwType === 'infra'
      ? []
      : [
          'has no IPv4 subnet: Docker before 28, and Swarm, are not offered it, as netctl events says of each host, and whatever comes by CNI takes it',
        ]),
  ],
  normalize({ hostAccess, externalGateway, advertise, ...n }) {
    const { subnet, ...others } = n;
    const whole = { ...(subnet ? n : others), nwType: n.nwType ?? 'data', encap: n.encap ?? 'vxlan' };
    return {
      ...whole,
      ...((hostAccess || isInfra(whole)) && { hostAccess: true }),
      ...(externalGateway && { externalGateway: true }),
      ...(advertise && { advertise: true }),
    };
  },
  check(n, world) {
    const what = `network ${n.tenantName}:${n.networkName}`;
    const wrong = (field: keyof Network, text: string, status: Problem['status'] = 400): Problem => ({
      field,
      status,
      message: `${what}: ${field} ${text}`,
    });
    return (
      checkLabel('network', 'networkName', n.networkName) ??
      (n.tenantName === DEFAULT_TENANT
        ? checkDockerName('network', 'networkName', n.networkName)
        : undefined) ??
      checkSubnet(n, 4, wrong) ??
      checkSubnet(n, 6, wrong) ??
      checkTag(n, world, wrong) ??
      checkCollisions(n, world, wrong) ??
      checkExternalGateway(n, wrong) ??
      checkAdvertised(n, wrong) ??
      checkHostRoutes(n, world, wrong) ??
      checkDirect(n, world, wrong)
    );
  },
};

export type Wrong = (field: keyof Network, text: string, status?: Problem['status']) => Problem;

/** What its tag is one of: where hosts share no link a direct network goes by VXLAN. */
export const tagSpace = ({ encap }: Pick<Network, 'encap'>): 'vlan' | 'vxlan' =>
  encap === 'vlan' ? 'vlan' : 'vxlan';

/** What of a network is not its tenant's alone: the wire between hosts, and the hosts themselves. */
function exceedsTenant(n: Network, world: World): Problem | undefined {
  const only = (field: keyof Network, text: string): Problem => ({
    field,
    message: `network ${n.tenantName}:${n.networkName}: ${field} ${text}`,
  });
  if (n.encap !== 'vxlan') return only('encap', `must be vxlan: networks of encap ${n.encap} are an admin's`);
  if (n.nwType !== 'data')
    return only('nwType', `must be data: networks of type ${n.nwType} are an admin's, as hosts enter them`);
  // The hosts take what it has for their own ways, be that somebody's outside.
  if (world.where('network', byInfra, n.tenantName).length > 0)
    return only(
      'tenantName',
      `is ${n.tenantName}, which the hosts reach by an infra network: its networks are an admin's`,
    );
  return undefined;
}

function checkSubnet(n: Network, family: 4 | 6, wrong: Wrong): Problem | undefined {
  const field = family === 4 ? 'subnet' : 'ipv6Subnet';
  const gatewayField = family === 4 ? 'gateway' : 'ipv6Gateway';
  const text = n[field];
  const gateway = n[gatewayField];
  if (!text) {
    if (family === 4 && !n.ipv6Subnet)
      return wrong(field, 'is missing: give a subnet like 20.1.1.0/24, or an ipv6Subnet like fd00:1::/64');
    return gateway ? wrong(gatewayField, family === 4 ? 'needs a subnet' : 'needs an ipv6Subnet') : undefined;
  }
  const subnet = parseSubnet(text);
  const example = family === 4 ? '20.1.1.0/24 or 20.1.1.10-20.1.1.20/24' : 'fd00:1::/64';
  if (subnet === undefined || subnet.family !== family)
    return wrong(field, `'${text}' is not a subnet: write it as ${example}`);
  if (subnet.length < 8 || subnet.length > (family === 4 ? 30 : 126))
    return wrong(field, `'${text}' must have a prefix length from 8 to ${family === 4 ? 30 : 126}`);
  const reserved = RESERVED.find((r) => overlap(r.subnet, subnet));
  if (reserved !== undefined) return wrong(field, `'${text}' overlaps ${reserved.text}, which is reserved`);
  if (!gateway) return undefined;
  if (!(family === 4 ? isIpv4(gateway) : isIpv6(gateway)))
    return wrong(gatewayField, `'${gateway}' is not an IPv${family} address`);
  const size = 1n << BigInt((family === 4 ? 32 : 128) - subnet.length);
  const offset = addressNumber(gateway) - subnet.network;
  if (!contains(subnet, gateway) || offset === 0n || (family === 4 && offset === size - 1n))
    return wrong(gatewayField, `'${gateway}' must be a host address in ${text}`);
  return undefined;
}

function checkTag(n: Network, world: World, wrong: Wrong): Problem | undefined {
  if (!n.pktTag) return undefined;
  const vlan = tagSpace(n) === 'vlan';
  if (vlan && n.pktTag > 4094) return wrong('pktTag', `${n.pktTag} must be a VLAN id from 1 to 4094`);
  const global = world.get<Global>('global', 'global');
  const range = vlan ? (global?.vlans ?? '1-4094') : (global?.vxlans ?? '1-10000');
  const [low, high] = parseRange(range) ?? [1, vlan ? 4094 : 10000];
  if (n.pktTag < low || n.pktTag > high)
    return wrong(
      'pktTag',
      `${n.pktTag} is outside of the global ${vlan ? 'vlan' : 'vxlan'} range ${range}: choose one in it, or change the range`,
      422,
    );
  return undefined;
}

const inTenant = subnetIndex<Network>('network', (n) => ({
  scope: n.tenantName,
  subnets: subnetsOf(n),
}));

interface External {
  readonly endpointName: string;
  readonly ipAddress: readonly string[];
}

/** An address means one thing in a tenant. */
function checkCollisions(n: Network, world: World, wrong: Wrong): Problem | undefined {
  const subnets = subnetsOf(n).map(parseSubnet);
  if (world.get('network', `${n.tenantName}:${n.networkName}`) === undefined)
    for (const { endpointName, ipAddress } of world.users<External>(
      'tenant',
      n.tenantName,
      'externalEndpoint',
    )) {
      const held = ipAddress.find((a) => subnets.some((s) => s !== undefined && contains(s, a)));
      if (held !== undefined)
        return wrong(
          isV6(held) ? 'ipv6Subnet' : 'subnet',
          `holds ${held} of external endpoint ${endpointName}, which is outside of the tenant's networks: delete that first, and create it anew in a group of this network`,
          409,
        );
    }
  for (const other of inTenant.near(world, n.tenantName, subnetsOf(n))) {
    if (other.networkName === n.networkName) continue;
    for (const field of ['subnet', 'ipv6Subnet'] as const) {
      const taken = other[field] ? parseSubnet(other[field]) : undefined;
      if (taken !== undefined && subnets.some((s) => s !== undefined && overlap(s, taken)))
        return wrong(
          field,
          `overlaps ${subnetPrefix(other[field] as string)} of network ${other.networkName} of the same tenant${ofRanges(taken, ...subnets)}`,
          409,
        );
    }
  }
  return undefined;
}

/** What is right instead where ranges of one subnet are apart, and their networks overlap all the same. */
const ofRanges = (...subnets: readonly (Subnet | undefined)[]): string =>
  subnets.some((s) => s?.ranged)
    ? ": a subnet is one network's as a whole, whatever range of it is given out; make one network, and a group with an ipPool for each range"
    : '';

/** The hosts enter its tenant by it. */
const isInfra = (n: Network): boolean => n.nwType === 'infra';

/** Containers have one way outside: that router's, which knows the way to them itself. */
function checkExternalGateway(n: Network, wrong: Wrong): Problem | undefined {
  if (!n.externalGateway) return undefined;
  if (n.encap !== 'vlan')
    return wrong('externalGateway', 'needs encap vlan: a router of the fabric is on no other network', 422);
  if (!gatewayOf(n, mainFamily(n)))
    return wrong(
      'externalGateway',
      `needs ${n.subnet ? 'a gateway' : 'an ipv6Gateway'}: the address of the fabric's router on the VLAN`,
      422,
    );
  return n.advertise
    ? wrong(
        'advertise',
        'must not be set beside externalGateway: its router leads to containers already',
        422,
      )
    : undefined;
}

/** Who is outside is answered by way of the gateway, as anybody outside is. */
const checkAdvertised = (n: Network, wrong: Wrong): Problem | undefined =>
  n.advertise && !gatewayOf(n, mainFamily(n))
    ? wrong(
        'advertise',
        `needs ${n.subnet ? 'a gateway' : 'an ipv6Gateway'}: without one its containers have no way to the fabric`,
        422,
      )
    : undefined;

const ROUTED = ['routed'];
const byHostRoute: Index<Network> = (n) => (n.hostAccess || n.advertise ? ROUTED : []);
/** With an infra network the hosts reach all networks of its tenant. */
const INFRA = ['infra'];
const byInfra: Index<Network> = (n) => (isInfra(n) ? [...INFRA, n.tenantName] : []);

/** An address means one thing on a host, and to the fabric that it announces it to. */
function checkHostRoutes(n: Network, world: World, wrong: Wrong): Problem | undefined {
  const entered = isInfra(n);
  if (!n.hostAccess && !n.advertise && world.where('network', byInfra, n.tenantName).length === 0)
    return undefined;
  if (n.hostAccess && n.encap === 'vlan' && !entered)
    return wrong(
      'hostAccess',
      'needs encap vxlan or direct: hosts reach a VLAN network where its type is infra (nwType)',
    );
  const networksOf = (tenant: string): readonly Network[] => world.users('tenant', tenant, 'network');
  const parsed = (network: Network): Subnet[] =>
    subnetsOf(network).flatMap((text) => parseSubnet(text) ?? []);
  const own = [n, ...(entered ? networksOf(n.tenantName) : [])].flatMap(parsed);
  const tenants = new Set(world.where('network', byInfra, INFRA[0] as string).map((i) => i.tenantName));
  const reached = [
    ...world.where('network', byHostRoute, ROUTED[0] as string),
    ...[...tenants].flatMap(networksOf),
  ];
  for (const other of reached) {
    // Within a tenant nothing overlaps.
    if (other.tenantName === n.tenantName) continue;
    if (parsed(other).some((theirs) => own.some((mine) => overlap(mine, theirs))))
      return overlapping(n, wrong, other);
  }
  return undefined;
}

/** `other`: of another tenant, and the hosts have routes there. */
function overlapping(n: Network, wrong: Wrong, other: Network): Problem {
  const problem = (known: string): Problem => {
    if (isInfra(n))
      return wrong('nwType', `must be data: its subnet, or another of its tenant, overlaps ${known}`, 409);
    if (n.advertise) return wrong('advertise', `must not be set: its subnet overlaps ${known}`, 409);
    if (n.hostAccess) return wrong('hostAccess', `must not be set: its subnet overlaps ${known}`, 409);
    const field = n.subnet ? 'subnet' : 'ipv6Subnet';
    return wrong(field, `overlaps ${known}, and they reach this tenant by its infra network`, 409);
  };
  const { tenantName: tenant, networkName } = other;
  return {
    ...problem(`that of network ${tenant}:${networkName}, which the hosts reach already`),
    elsewhere: { tenant, message: problem('what the hosts reach already').message },
  };
}
