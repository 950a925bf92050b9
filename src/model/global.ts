/** Global settings: one object, named global. */
import { overlap, parseSubnet } from './address.ts';
import type { StoredEndpointGroup } from './endpointGroup.ts';
import type { Kind, Problem } from './kind.ts';
import { type Network, tagSpace } from './network.ts';
import { GLOBAL_DEFAULTS, type Global, GlobalSchema, parseRange } from './settings.ts';

/** Settings that nothing acts on, with what holds whatever they say. */
const IDLE = {
  arpMode: 'the router answers ARP itself',
  pvtSubnet: 'hosts have no addresses of their own in it',
} as const;

export const global: Kind<typeof GlobalSchema> = {
  name: 'global',
  collection: 'globals',
  schema: GlobalSchema,
  keyFields: ['name'],
  updatable: true,
  forTenants: {},
  references: [],
  allocates: ['fabric'],
  note: (g) => {
    const idle = Object.entries(IDLE).flatMap(([field, effect]) => {
      const value = g[field as keyof typeof IDLE] ?? GLOBAL_DEFAULTS[field as keyof typeof IDLE];
      return value === GLOBAL_DEFAULTS[field as keyof typeof IDLE] ? [] : [`${field} ${value} (${effect})`];
    });
    // The hosts' agents would speak OpFlex themselves.
    if (g.networkInfraType === 'aci-opflex')
      idle.unshift('networkInfraType aci-opflex (no fabric is told of anything)');
    return idle.length === 0 ? undefined : `kept only: nothing acts on ${idle.join(', ')}`;
  },
  normalize: (g) => ({ ...GLOBAL_DEFAULTS, ...g }),
  check(g, world, before) {
    const wrong = (field: keyof Global, text: string, status: Problem['status'] = 400): Problem => ({
      field,
      status,
      message: `global: ${field} ${text}`,
    });
    const networks = world.list<Network & { vni?: number }>('network');
    for (const [field, space, limit] of [
      ['vlans', 'vlan', 4094],
      ['vxlans', 'vxlan', 16777215],
    ] as const) {
      const range = parseRange(g[field] ?? '');
      if (range === undefined || range[1] > limit)
        return wrong(field, `'${g[field]}' must be a range like 1-${limit}, within 1 to ${limit}`);
      const outside = networks.find(
        (n) => tagSpace(n) === space && n.vni !== undefined && (n.vni < range[0] || n.vni > range[1]),
      );
      if (outside !== undefined)
        return wrong(
          field,
          `'${g[field]}' leaves out tag ${outside.vni} of network ${outside.tenantName}:${outside.networkName}`,
          409,
        );
    }
    const tagged = world.list<StoredEndpointGroup>('endpointGroup').filter((e) => e.vlan !== undefined);
    const [low, high] = parseRange(g.vlans ?? '') ?? [0, 0];
    const beyond = tagged.find(({ vlan = low }) => vlan < low || vlan > high);
    if (beyond !== undefined)
      return wrong(
        'vlans',
        `'${g.vlans}' leaves out tag ${beyond.vlan} of group ${beyond.tenantName}:${beyond.groupName}`,
        409,
      );
    const [first] = tagged;
    if (before !== undefined && before.networkInfraType !== g.networkInfraType && first !== undefined)
      return wrong(
        'networkInfraType',
        `is ${before.networkInfraType} and cannot change to ${g.networkInfraType} while ${tagged.length === 1 ? 'a group has a VLAN of its own' : `${tagged.length} groups have VLANs of their own`} by it, as group ${first.tenantName}:${first.groupName} has ${first.vlan}: delete ${tagged.length === 1 ? 'it' : 'them'} first`,
        409,
      );
    if (before !== undefined && before.fwdMode !== g.fwdMode && networks.length > 0)
      return wrong('fwdMode', `cannot change while there are networks: delete ${networks.length} first`, 409);
    const subnet = parseSubnet(g.pvtSubnet ?? '');
    if (subnet === undefined || subnet.family !== 4 || subnet.length !== 16 || subnet.ranged)
      return wrong('pvtSubnet', `'${g.pvtSubnet}' must be an IPv4 /16 like 172.19.0.0/16`);
    if (before !== undefined && before.pvtSubnet !== g.pvtSubnet && networks.length > 0)
      return wrong('pvtSubnet', 'cannot change while there are networks', 409);
    const taken = networks.find((n) => {
      const other = parseSubnet(n.subnet ?? '');
      return other !== undefined && before?.pvtSubnet !== g.pvtSubnet && overlap(subnet, other);
    });
    return taken && wrong('pvtSubnet', `overlaps ${taken.subnet} of network ${taken.networkName}`, 409);
  },
  checkRemoval: () => ({
    status: 409,
    message: 'global cannot be deleted: it holds the settings of the whole cluster',
  }),
};
