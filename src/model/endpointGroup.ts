/** An endpoint group: containers of one network that share policy, profile and a name that finds them all. */
import { type Static, Type } from '@sinclair/typebox';
import { addressNumber, contains, isIpv4, numberAddress, parseSubnet } from './address.ts';
import type { Index, Kind, Problem, World } from './kind.ts';
import { checkDockerName, checkLabel, Name } from './names.ts';
import type { Network } from './network.ts';
import { GLOBAL_DEFAULTS, type Global, parseRange } from './settings.ts';
import { DEFAULT_TENANT } from './tenant.ts';

export const EndpointGroupSchema = Type.Object(
  {
    tenantName: Name('tenant that the group belongs to'),
    groupName: Name('name of the group'),
    networkName: Name('network whose addresses its endpoints have'),
    ipPool: Type.Optional(
      Type.String({ description: 'range a.b.c.d-a.b.c.e in the subnet for its endpoints', maxLength: 64 }),
    ),
    policies: Type.Optional(
      Type.Array(Type.String({ maxLength: 63 }), {
        description: 'policies that hold for its endpoints',
        maxItems: 64,
        uniqueItems: true,
      }),
    ),
    netProfile: Type.Optional(
      Type.String({ description: 'network profile: bandwidth, DSCP', maxLength: 63 }),
    ),
    extContractsGrps: Type.Optional(
      Type.Array(Type.String({ maxLength: 63 }), {
        description: 'external contracts',
        maxItems: 64,
        uniqueItems: true,
      }),
    ),
    cfgdTag: Type.Optional(
      Type.String({ description: 'label for the group, given by the user', maxLength: 128 }),
    ),
    pktTag: Type.Optional(
      Type.Integer({
        description:
          'VLAN id by which its endpoints are told apart on the wire, in fabric mode aci and a network of encap vlan; given out where absent',
        minimum: 1,
        maximum: 4094,
      }),
    ),
  },
  { $id: 'endpointGroup', additionalProperties: false },
);
export type EndpointGroup = Static<typeof EndpointGroupSchema>;
/** `vlan`: by which VLAN id its containers are told apart in an ACI fabric; absent: by that of their network. */
export type StoredEndpointGroup = EndpointGroup & { readonly vlan?: number };

/** First and last address of `a.b.c.d-a.b.c.e`; undefined where it is none. */
export function parsePool(pool: string): { first: string; last: string } | undefined {
  const [first = '', last = '', ...rest] = pool.split('-');
  if (rest.length > 0 || !isIpv4(first) || !isIpv4(last) || addressNumber(first) > addressNumber(last))
    return undefined;
  return { first, last };
}

export const endpointGroup: Kind<typeof EndpointGroupSchema> = {
  name: 'endpointGroup',
  collection: 'endpointGroups',
  schema: EndpointGroupSchema,
  keyFields: ['tenantName', 'groupName'],
  updatable: true,
  forOrchestrators: true,
  references: [
    {
      field: 'tenantName',
      kind: 'tenant',
      keys: (g) => [g.tenantName],
      link: 'Tenant',
      backLink: 'EndpointGroups',
    },
    {
      field: 'networkName',
      kind: 'network',
      keys: (g) => [`${g.tenantName}:${g.networkName}`],
      link: 'Network',
      backLink: 'EndpointGroups',
    },
    {
      field: 'policies',
      kind: 'policy',
      keys: (g) => (g.policies ?? []).map((p) => `${g.tenantName}:${p}`),
      link: 'Policies',
      many: true,
      backLink: 'EndpointGroups',
    },
    {
      field: 'netProfile',
      kind: 'netprofile',
      keys: (g) => (g.netProfile ? [`${g.tenantName}:${g.netProfile}`] : []),
      link: 'NetProfile',
      backLink: 'EndpointGroups',
    },
    {
      field: 'extContractsGrps',
      kind: 'extContractsGroup',
      keys: (g) => (g.extContractsGrps ?? []).map((c) => `${g.tenantName}:${c}`),
      link: 'ExtContractsGrps',
      many: true,
      backLink: 'EndpointGroups',
    },
  ],
  emptyLinks: ['AppProfile'],
  lookupName: 'groupName',
  forTenants: {
    sets: [
      'tenantName',
      'groupName',
      'networkName',
      'ipPool',
      'policies',
      'netProfile',
      'extContractsGrps',
      'cfgdTag',
    ],
  },
  allocates: ['pool', 'vlan'],
  check(g, world, before) {
    const what = `group ${g.tenantName}:${g.groupName}`;
    const wrong = (field: keyof EndpointGroup, text: string, status: Problem['status'] = 400): Problem => ({
      field,
      status,
      message: `${what}: ${field} ${text}`,
    });
    const label =
      checkLabel('group', 'groupName', g.groupName) ??
      (g.tenantName === DEFAULT_TENANT ? checkDockerName('group', 'groupName', g.groupName) : undefined);
    if (label !== undefined) return label;
    if (before !== undefined && before.networkName !== g.networkName)
      return wrong(
        'networkName',
        `is ${before.networkName} and cannot change: delete the group and create it anew`,
        409,
      );
    if (before !== undefined && before.ipPool !== g.ipPool) {
      const members = world.users('endpointGroup', `${g.tenantName}:${g.groupName}`, 'endpoint').length;
      if (members > 0)
        return wrong(
          'ipPool',
          `is ${before.ipPool ?? 'unset'} and cannot change to ${g.ipPool ?? 'unset'} while ${members === 1 ? 'a container has its address' : `${members} containers have their addresses`} by it: remove ${members === 1 ? 'it' : 'them'} first`,
          409,
        );
    }
    return checkTag(g, world, before, wrong) ?? checkPool(g, world, wrong);
  },
};

type Wrong = (field: keyof EndpointGroup, text: string, status?: Problem['status']) => Problem;

/** In other fabrics a VLAN is a network's: nobody would join those of its groups. */
function checkTag(
  g: EndpointGroup,
  world: World,
  before: StoredEndpointGroup | undefined,
  wrong: Wrong,
): Problem | undefined {
  if (g.pktTag === undefined || g.pktTag === before?.vlan) return undefined;
  if (before !== undefined)
    return wrong(
      'pktTag',
      `is ${before.vlan ?? 'unset'} and cannot change to ${g.pktTag}: delete the group and create it anew`,
      409,
    );
  const network = world.get<Network>('network', `${g.tenantName}:${g.networkName}`);
  if (network !== undefined && network.encap !== 'vlan')
    return wrong(
      'pktTag',
      `${g.pktTag} needs a network of encap vlan, and network ${g.networkName} has encap ${network.encap}: leave it out`,
      422,
    );
  const { networkInfraType, vlans = '' } = world.get<Global>('global', 'global') ?? GLOBAL_DEFAULTS;
  if (networkInfraType !== 'aci')
    return wrong(
      'pktTag',
      `${g.pktTag} needs the fabric mode aci (netctl global set --fabric-mode aci): in others the VLAN is that of network ${g.networkName}`,
      422,
    );
  const [low, high] = parseRange(vlans) ?? [1, 4094];
  if (g.pktTag < low || g.pktTag > high)
    return wrong(
      'pktTag',
      `${g.pktTag} is outside of the global vlan range ${vlans}: choose one in it, or change the range`,
      422,
    );
  return undefined;
}

/** Groups with a pool of their own, by network. */
export const pooledIn: Index<EndpointGroup> = (g) => (g.ipPool ? [`${g.tenantName}:${g.networkName}`] : []);

/** A pool has addresses that containers can have, and no other group's. */
function checkPool(g: EndpointGroup, world: World, wrong: Wrong): Problem | undefined {
  if (!g.ipPool) return undefined;
  const pool = parsePool(g.ipPool);
  if (pool === undefined) return wrong('ipPool', `'${g.ipPool}' is not a range like 20.1.1.10-20.1.1.20`);
  const key = `${g.tenantName}:${g.networkName}`;
  const network = world.get<Network>('network', key);
  if (network !== undefined && !network.subnet)
    return wrong(
      'ipPool',
      `'${g.ipPool}' needs an IPv4 subnet, which network ${g.networkName} does not have`,
    );
  const subnet = network && parseSubnet(network.subnet ?? '');
  if (subnet === undefined) return undefined;
  const [first, last] = [addressNumber(pool.first), addressNumber(pool.last)];
  if (!(contains(subnet, pool.first) && contains(subnet, pool.last)))
    return wrong('ipPool', `'${g.ipPool}' must lie in ${network?.subnet} of network ${g.networkName}`);
  const broadcast = subnet.network + (1n << BigInt(32 - subnet.length)) - 1n;
  if (first === subnet.network || last === broadcast)
    return wrong(
      'ipPool',
      `'${g.ipPool}' must lie within ${numberAddress(subnet.network + 1n, 4)}-${numberAddress(broadcast - 1n, 4)}: no container has the network's own or its broadcast address`,
    );
  for (const other of world.where('endpointGroup', pooledIn, key)) {
    const theirs = parsePool(other.ipPool ?? '');
    if (other.groupName === g.groupName || theirs === undefined) continue;
    if (first <= addressNumber(theirs.last) && addressNumber(theirs.first) <= last)
      return wrong('ipPool', `'${g.ipPool}' overlaps ${other.ipPool} of group ${other.groupName}`, 409);
  }
  return undefined;
}
