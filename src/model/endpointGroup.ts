/** An endpoint group: containers of one network that share policy, profile and a name that finds them all. */
import { type Static, Type } from '@sinclair/typebox';
import { addressNumber, contains, isIpv4, parseSubnet } from './address.ts';
import type { Kind, Problem } from './kind.ts';
import { checkDockerName, checkLabel, Name } from './names.ts';
import type { Network } from './network.ts';
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
  },
  { $id: 'endpointGroup', additionalProperties: false },
);
export type EndpointGroup = Static<typeof EndpointGroupSchema>;

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
  allocates: ['pool'],
  remarks: ({ extContractsGrps = [] }) =>
    extContractsGrps.length === 0
      ? []
      : [
          `extContractsGrps ${extContractsGrps.join(', ')} are kept only: nothing acts on external contracts yet`,
        ],
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
    if (!g.ipPool) return undefined;
    const pool = parsePool(g.ipPool);
    if (pool === undefined) return wrong('ipPool', `'${g.ipPool}' is not a range like 20.1.1.10-20.1.1.20`);
    const network = world.get<Network>('network', `${g.tenantName}:${g.networkName}`);
    const subnet = network && parseSubnet(network.subnet);
    if (subnet !== undefined && !(contains(subnet, pool.first) && contains(subnet, pool.last)))
      return wrong('ipPool', `'${g.ipPool}' must lie in ${network?.subnet} of network ${g.networkName}`);
    return undefined;
  },
};
