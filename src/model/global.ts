/** Global settings: one object, named global. */
import { type Static, Type } from '@sinclair/typebox';
import { overlap, parseSubnet } from './address.ts';
import type { Kind, Problem } from './kind.ts';
import type { Network } from './network.ts';

export const GlobalSchema = Type.Object(
  {
    name: Type.Literal('global', { description: 'always global' }),
    networkInfraType: Type.Optional(
      Type.Union([Type.Literal('default'), Type.Literal('aci'), Type.Literal('aci-opflex')], {
        description: 'fabric between the hosts',
      }),
    ),
    vlans: Type.Optional(Type.String({ description: 'VLAN ids to give out, first-last', maxLength: 32 })),
    vxlans: Type.Optional(Type.String({ description: 'VXLAN VNIs to give out, first-last', maxLength: 32 })),
    fwdMode: Type.Optional(
      Type.Union([Type.Literal('bridge'), Type.Literal('routing')], { description: 'forwarding mode' }),
    ),
    arpMode: Type.Optional(
      Type.Union([Type.Literal('proxy'), Type.Literal('flood')], { description: 'how ARP is answered' }),
    ),
    pvtSubnet: Type.Optional(
      Type.String({ description: 'private subnet of the hosts, a /16', maxLength: 32 }),
    ),
  },
  { $id: 'global', additionalProperties: false },
);
export type Global = Static<typeof GlobalSchema>;

export const GLOBAL_DEFAULTS: Global = {
  name: 'global',
  networkInfraType: 'default',
  vlans: '1-4094',
  vxlans: '1-10000',
  fwdMode: 'routing',
  arpMode: 'proxy',
  pvtSubnet: '172.19.0.0/16',
};

/** `first-last` as numbers; undefined where it is none or runs backwards. */
export function parseRange(text: string): [number, number] | undefined {
  const match = /^(\d{1,8})-(\d{1,8})$/.exec(text.trim());
  if (match === null) return undefined;
  const [low, high] = [Number(match[1]), Number(match[2])];
  return low >= 1 && low <= high ? [low, high] : undefined;
}

export const global: Kind<typeof GlobalSchema> = {
  name: 'global',
  collection: 'globals',
  schema: GlobalSchema,
  keyFields: ['name'],
  updatable: true,
  references: [],
  normalize: (g) => ({ ...GLOBAL_DEFAULTS, ...g }),
  check(g, world, before) {
    const wrong = (field: keyof Global, text: string, status: Problem['status'] = 400): Problem => ({
      field,
      status,
      message: `global: ${field} ${text}`,
    });
    const networks = world.list<Network & { vni?: number }>('network');
    for (const [field, encap, limit] of [
      ['vlans', 'vlan', 4094],
      ['vxlans', 'vxlan', 16777215],
    ] as const) {
      const range = parseRange(g[field] ?? '');
      if (range === undefined || range[1] > limit)
        return wrong(field, `'${g[field]}' must be a range like 1-${limit}, within 1 to ${limit}`);
      const outside = networks.find(
        (n) => n.encap === encap && n.vni !== undefined && (n.vni < range[0] || n.vni > range[1]),
      );
      if (outside !== undefined)
        return wrong(
          field,
          `'${g[field]}' leaves out tag ${outside.vni} of network ${outside.tenantName}:${outside.networkName}`,
          409,
        );
    }
    if (before !== undefined && before.fwdMode !== g.fwdMode && networks.length > 0)
      return wrong('fwdMode', `cannot change while there are networks: delete ${networks.length} first`, 409);
    const subnet = parseSubnet(g.pvtSubnet ?? '');
    if (subnet === undefined || subnet.family !== 4 || subnet.length !== 16 || subnet.ranged)
      return wrong('pvtSubnet', `'${g.pvtSubnet}' must be an IPv4 /16 like 172.19.0.0/16`);
    if (before !== undefined && before.pvtSubnet !== g.pvtSubnet && networks.length > 0)
      return wrong('pvtSubnet', 'cannot change while there are networks', 409);
    const taken = networks.find((n) => {
      const other = parseSubnet(n.subnet);
      return other !== undefined && before?.pvtSubnet !== g.pvtSubnet && overlap(subnet, other);
    });
    return taken && wrong('pvtSubnet', `overlaps ${taken.subnet} of network ${taken.networkName}`, 409);
  },
  checkRemoval: () => ({
    status: 409,
    message: 'global cannot be deleted: it holds the settings of the whole cluster',
  }),
};
