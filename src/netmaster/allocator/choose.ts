/** Choosing an address of a network, for an endpoint, an external one or a service, and who has one that is taken. */
import { addressNumber, isIpv4, isIpv6, numberAddress } from '../../model/address.ts';
import type { Endpoint } from '../../model/endpoint.ts';
import { type EndpointGroup, parsePool, pooledIn } from '../../model/endpointGroup.ts';
import { gatewayOf, subnetOf } from '../../model/families.ts';
import type { Network } from '../../model/network.ts';
import type { SwarmService } from '../../model/swarmService.ts';
import type { Check, Write } from '../../store/store.ts';
import { begin, addressKey as endingKey, meaningOf, openEndings } from '../endings.ts';
import { storeKey } from '../mirror.ts';
import { Refusal } from '../problem.ts';
import { isInside, refuseReserved, reservedIn } from '../reserved.ts';
import type { AddressRecord, View } from '../tables.ts';
import { IN_USE, nextAddress, openPool, type PoolSpec, refuseAddress, refusePools } from './addresses.ts';

export const canonical = (address: string): string =>
  numberAddress(addressNumber(address), address.includes(':') ? 6 : 4);

/** Of a network, or of a group with a pool of its own. */
export const cursorKey = (network: string, group: string | undefined, family: 4 | 6): string =>
  `${network}/${group ?? ''}/${family}`;

export function poolOf(
  view: View,
  network: Network,
  family: 4 | 6,
  group: EndpointGroup | undefined,
): PoolSpec {
  const within = family === 4 && group?.ipPool ? parsePool(group.ipPool) : undefined;
  const key = `${network.tenantName}:${network.networkName}`;
  const others = within || family === 6 ? [] : view.where('endpointGroup', pooledIn, key);
  return {
    subnet: subnetOf(network, family) ?? '',
    gateway: gatewayOf(network, family),
    ...(within ? { within } : {}),
    except: others.flatMap((g) => parsePool(g.ipPool ?? '') ?? []),
  };
}

export interface Wanted {
  readonly network: Network;
  readonly family: 4 | 6;
  /** Whose pool is used where it has one. */
  readonly group?: EndpointGroup | undefined;
  /** A given address instead of the next free one. */
  readonly address?: string | undefined;
  /** In messages: `network blue:net1`. */
  readonly what: string;
  /** The field that is named when the address cannot be given. */
  readonly field: string;
}

export interface Chosen {
  readonly address: string;
  readonly prefixLength: number;
  readonly checks: Check[];
  readonly writes: Write[];
}

/** An address with what makes it the owner's, for a request that may come again. Throws a Refusal where there is none. */
export function chooseAddress(view: View, wanted: Wanted, owner: AddressRecord, request?: string): Chosen {
  const { network, family, group, what, field } = wanted;
  const key = `${network.tenantName}:${network.networkName}`;
  const spec = poolOf(view, network, family, group);
  const taken = view.addresses(key);
  const pool = openPool(spec, (address) => taken.has(address));
  const endings = openEndings(view);
  const ended = (at: string): string => endingKey(network.tenantName, at);
  // An object's, not something's that a host will attach.
  const isDeclared = owner.service !== undefined || owner.external !== undefined;
  const meaning =
    owner.service === undefined
      ? { of: meaningOf({ ...network, groupName: group?.groupName }), host: owner.host ?? '' }
      : { of: `service ${owner.service}` };
  const writes: Write[] = [];
  let address: string | undefined;
  if (wanted.address) {
    if (!(family === 4 ? isIpv4(wanted.address) : isIpv6(wanted.address)))
      throw new Refusal(400, `${what}: '${wanted.address}' is not an IPv${family} address`, field);
    address = canonical(wanted.address);
    refuseReserved(view, { network: key, address, what, field });
    const all = openPool({ ...spec, except: [] }, (a) => taken.has(a));
    const reason = refuseAddress(all, address, spec.gateway) ?? refusePools(spec, address);
    if (reason !== undefined)
      throw new Refusal(
        409,
        `${what}: address ${address} ${reason}${reason === IN_USE ? ownerOf(view, taken.get(address)?.object) : ''}; choose a free one of ${spec.subnet}`,
        field,
      );
    endings.refuse(ended(address), meaning, `${what}: address ${address}`, field);
  } else {
    const cursor = cursorKey(key, spec.within && group?.groupName, family);
    const last = view.stored<{ last: string }>('cursor', cursor)?.object.last;
    const next = (late: (address: string) => boolean): string | undefined =>
      nextAddress(
        openPool(spec, (a) => taken.has(a) || late(a)),
        last,
      );
    address =
      next((a) => endings.late(ended(a)).length > 0) ??
      next((a) => endings.late(ended(a), meaning).length > 0) ??
      next(() => false) ??
      reservedIn(view, key, (a) => isInside(pool, a) && refusePools(spec, a) === undefined);
    if (address !== undefined) refuseReserved(view, { network: key, address, what, field });
    if (address !== undefined) endings.refuse(ended(address), meaning, `${what}: address ${address}`, field);
    else {
      const where = spec.within
        ? `${spec.within.first}-${spec.within.last} of group ${group?.groupName}`
        : spec.subnet;
      throw new Refusal(409, `${what}: all addresses of ${where} are taken`);
    }
    writes.push({ key: storeKey('cursor', cursor), value: { last: address } });
  }
  const prefixLength = pool.subnet.length;
  const answered = request === undefined ? {} : { answered: { request, address, prefixLength } };
  const addressKey = storeKey('address', `${key}/${address}`);
  writes.push({ key: addressKey, value: { ...owner, ...answered } satisfies AddressRecord });
  // Of an endpoint it begins when that is attached: until then it may be given back, and some hosts go by what was.
  const waits = !isDeclared && endings.late(ended(address)).length > 0;
  const begun = waits ? { checks: [], writes: [] } : begin(view, ended(address));
  writes.push(...begun.writes);
  return {
    address,
    prefixLength,
    checks: [{ key: addressKey, revision: 0 }, ...begun.checks],
    writes,
  };
}

/** A service that has an address, by its key. */
export function callService(view: View, key: string): string {
  const ofSwarm = view.get<SwarmService>('swarmService', key);
  return ofSwarm === undefined ? key : `${ofSwarm.serviceName} of Docker's Swarm`;
}

/** ` by web on node1`; '' where nothing is known. */
function ownerOf(view: View, record: AddressRecord | undefined): string {
  if (record === undefined) return '';
  if (record.service !== undefined) return ` by service ${callService(view, record.service)}`;
  if (record.external !== undefined) return ` by external endpoint ${record.external}`;
  if (record.host === undefined) return " by Docker's Swarm";
  const endpoint = record.endpoint && view.get<Endpoint>('endpoint', record.endpoint);
  return ` by ${endpoint ? (endpoint.containerName ?? endpoint.endpointID) : 'a container that starts'} on ${record.host}`;
}
