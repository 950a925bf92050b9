/** What netmaster gives to an object when it is written, in the same transaction, and takes back when it goes. */
import type { EndpointGroup, StoredEndpointGroup } from '../../model/endpointGroup.ts';
import { mainFamily } from '../../model/families.ts';
import type { Allocation } from '../../model/kind.ts';
import { type Network, tagSpace } from '../../model/network.ts';
import type { ServiceLB, StoredServiceLB } from '../../model/serviceLB.ts';
import type { Global } from '../../model/settings.ts';
import type { SwarmService } from '../../model/swarmService.ts';
import type { Tenant } from '../../model/tenant.ts';
import type { Check, Write } from '../../store/store.ts';
import { addressKey, begin, end, openEndings, tagKey } from '../endings.ts';
import { storeKey } from '../mirror.ts';
import { Refusal } from '../problem.ts';
import { networkReserves } from '../reserved.ts';
import type { View } from '../tables.ts';
import { canonical, chooseAddress, cursorKey } from './choose.ts';
import { member } from './member.ts';
import { type Allocator, type Given, inOrder } from './order.ts';
import type { TagSpace } from './tags.ts';

type Tagged = Network & { readonly vni?: number };

const CHOOSE = 'choose another, or none to be given a free one';

/** Who has a tag: the record of it. */
type TagRecord = { readonly network: string } | { readonly group: string };

/** `network blue:net1`. */
const holderOf = (record: TagRecord): string =>
  'network' in record ? `network ${record.network}` : `group ${record.group}`;

/** Takes a tag of the wire for a network or a group: no two have the same, also of those that are declared at once. */
function takeTag(
  view: View,
  space: TagSpace,
  tag: number,
  record: TagRecord,
): Pick<Given, 'checks' | 'writes'> {
  const of = holderOf(record);
  const taken = view.stored<TagRecord>('tag', `${space}/${tag}`);
  if (taken !== undefined) {
    const holder = holderOf(taken.object);
    throw new Refusal(409, `${of}: pktTag ${tag} is taken by ${holder}; ${CHOOSE}`, 'pktTag', undefined, {
      tenant: holder.split(/[ :]/)[1] as string,
      message: `${of}: pktTag ${tag} is taken; ${CHOOSE}`,
    });
  }
  const ended = tagKey(space, tag);
  openEndings(view).refuse(ended, { of }, `${of}: pktTag ${tag}`, 'pktTag');
  const begun = begin(view, ended);
  const stored = storeKey('tag', `${space}/${tag}`);
  return {
    checks: [{ key: stored, revision: 0 }, ...begun.checks],
    writes: [{ key: stored, value: record }, ...begun.writes],
  };
}

const giveTagBack = (view: View, space: TagSpace, tag: number, record: TagRecord): Write[] => [
  { key: storeKey('tag', `${space}/${tag}`), value: undefined },
  ...end(view, tagKey(space, tag), { of: holderOf(record) }),
];

const tag: Allocator<Tagged> = {
  give(view, key, network, _before, freeTag) {
    const space = tagSpace(network);
    const vni = network.pktTag ?? freeTag(space, `network ${key}`);
    return { fields: { vni }, ...takeTag(view, space, vni, { network: key }) };
  },
  take: (view, key, network) => giveTagBack(view, tagSpace(network), network.vni ?? 0, { network: key }),
};

const NOTHING: Given = { fields: {}, checks: [], writes: [] };

/** Whose group was given a VLAN last: written with each, so that a change of the fabric's mode or range sees it. */
const LAST_VLAN = 'vlan/last';
const orderOfVlans = (view: View): Check => ({
  key: storeKey('tag', LAST_VLAN),
  revision: view.stored('tag', LAST_VLAN)?.revision ?? 0,
});

/** What groups have by the fabric's mode says model/global.ts: none of them comes while it or the range changes. */
const fabric: Allocator<Global> = {
  give: (view, _key, { networkInfraType, vlans }, before) =>
    before === undefined || (before.networkInfraType === networkInfraType && before.vlans === vlans)
      ? NOTHING
      : { ...NOTHING, checks: [orderOfVlans(view)] },
  take: () => [],
};

/**
 * A group keeps for good what it was created with, as its containers' frames are told apart by it: one that was there before the fabric was
 * ACI's goes by its network's tag.
 */
const vlan: Allocator<StoredEndpointGroup> = {
  give(view, key, group, before, freeTag) {
    if (before !== undefined)
      return before.vlan === undefined ? NOTHING : { ...NOTHING, fields: { vlan: before.vlan } };
    const network = view.get<Network>('network', `${group.tenantName}:${group.networkName}`);
    if (network?.encap !== 'vlan') return NOTHING;
    const settings = view.stored<Global>('global', 'global');
    const mode = { key: storeKey('global', 'global'), revision: settings?.revision ?? 0 };
    if (settings?.object.networkInfraType !== 'aci') return { ...NOTHING, checks: [mode] };
    const given = group.pktTag ?? freeTag('vlan', `group ${key}`);
    const { checks, writes } = takeTag(view, 'vlan', given, { group: key });
    const order = orderOfVlans(view);
    return {
      fields: { vlan: given },
      checks: [mode, order, ...checks],
      writes: [{ key: order.key, value: { group: key } }, ...writes],
    };
  },
  take: (view, key, group) =>
    group.vlan === undefined ? [] : giveTagBack(view, 'vlan', group.vlan, { group: key }),
};

const cursors = (view: View, keys: readonly string[]): Write[] =>
  keys
    .filter((key) => view.stored('cursor', key) !== undefined)
    .map((key) => ({ key: storeKey('cursor', key), value: undefined }));

/** Taking back: reservations that no endpoint came for, what hosts have in reserve, and where the next address would have been. */
const subnet: Allocator<Network> = {
  give: (view, key, { tenantName }) => inOrder(view, tenantName, key),
  take: (view, key) => [
    ...[...view.addresses(key).keys()].map((address) => ({
      key: storeKey('address', `${key}/${address}`),
      value: undefined,
    })),
    ...networkReserves(view, key),
    ...cursors(view, [cursorKey(key, undefined, 4), cursorKey(key, undefined, 6)]),
  ],
};

/** Of a tenant: the record of its networks' subnets, of its groups' pools and of its external endpoints. */
const subnets: Allocator<Tenant> = {
  take: (view, key) =>
    view.stored('subnets', key) === undefined ? [] : [{ key: storeKey('subnets', key), value: undefined }],
};

const pool: Allocator<EndpointGroup> = {
  give: (view, key, { tenantName, ipPool }, before) =>
    ipPool && ipPool !== before?.ipPool
      ? inOrder(view, tenantName, key)
      : { fields: {}, checks: [], writes: [] },
  take: (view, _key, group) =>
    cursors(view, [cursorKey(`${group.tenantName}:${group.networkName}`, group.groupName, 4)]),
};

const vip: Allocator<ServiceLB> = {
  give(view, key, service, before) {
    const had = (before as StoredServiceLB | undefined)?.vip;
    if (had !== undefined && (!service.ipAddress || canonical(service.ipAddress) === had))
      return { fields: { vip: had }, checks: [], writes: [] };
    const network = view.get<Network>('network', `${service.tenantName}:${service.networkName}`);
    if (network === undefined) throw new Error(`service ${key}: its network was not checked`);
    const wanted = {
      network,
      family: mainFamily(network),
      address: service.ipAddress,
      what: `service ${key}`,
      field: 'ipAddress',
    } as const;
    const { address, checks, writes } = chooseAddress(view, wanted, { service: key });
    return {
      fields: { vip: address },
      checks,
      writes: [...writes, ...(before === undefined ? [] : vip.take(view, key, before))],
    };
  },
  take(view, key, service) {
    return virtualTaken(view, key, service, (service as StoredServiceLB).vip);
  },
};

/** What takes a virtual address back from a service. */
const virtualTaken = (
  view: View,
  key: string,
  { tenantName, networkName }: { readonly tenantName: string; readonly networkName: string },
  address: string,
): Write[] => [
  { key: storeKey('address', `${tenantName}:${networkName}/${address}`), value: undefined },
  ...end(view, addressKey(tenantName, address), { of: `service ${key}` }),
];

/** Where none is free, the rest of a service, and the others of its Swarm, are there all the same. */
const vip6: Allocator<SwarmService> = {
  give(view, key, service, before) {
    const { tenantName, networkName, serviceName, virtualAddress, ipv6, ipv6VirtualAddress: asked } = service;
    const network = view.get<Network>('network', `${tenantName}:${networkName}`);
    const isThere = before?.tenantName === tenantName && before.networkName === networkName;
    const had = isThere ? before.ipv6VirtualAddress : undefined;
    const isMeant = virtualAddress !== undefined && (ipv6 || asked) && network?.ipv6Subnet;
    if (isMeant && had !== undefined && (asked === undefined || canonical(asked) === had))
      return { fields: { ipv6VirtualAddress: had }, checks: [], writes: [] };
    const left = before === undefined ? [] : vip6.take(view, key, before);
    const none = { fields: {}, checks: [], writes: left };
    if (!isMeant) return none;
    try {
      const what = `service ${serviceName} of Docker's Swarm`;
      const wanted = { network, family: 6, address: asked, what, field: 'ipv6VirtualAddress' } as const;
      const { address, checks, writes } = chooseAddress(view, wanted, { service: key });
      return { fields: { ipv6VirtualAddress: address }, checks, writes: [...writes, ...left] };
    } catch (error) {
      if (error instanceof Refusal && asked === undefined) return none;
      throw error;
    }
  },
  take: (view, key, service) =>
    service.ipv6VirtualAddress === undefined
      ? []
      : virtualTaken(view, key, service, service.ipv6VirtualAddress),
};

export const ALLOCATORS = {
  tag,
  vlan,
  fabric,
  subnet,
  subnets,
  pool,
  vip,
  vip6,
  member,
} as unknown as Readonly<Record<Allocation, Allocator>>;
