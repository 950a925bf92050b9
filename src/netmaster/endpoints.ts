/** What agents write: addresses and endpoints of their hosts, as decisions on one transaction each. */
import type { AddressAnswer, AddressRequest } from '../client/protocol.ts';
import { addressNumber, isIpv4, isIpv6, numberAddress } from '../model/address.ts';
import type { Endpoint } from '../model/endpoint.ts';
import { type EndpointGroup, parsePool } from '../model/endpointGroup.ts';
import type { Network } from '../model/network.ts';
import type { Write } from '../store/store.ts';
import { IN_USE, nextAddress, openPool, type PoolSpec, refuseAddress } from './allocator/addresses.ts';
import { type AddressRecord, type Mirror, storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import type { Decision } from './writer.ts';

const canonical = (address: string): string =>
  numberAddress(addressNumber(address), address.includes(':') ? 6 : 4);

export function poolOf(
  mirror: Mirror,
  network: Network,
  family: 4 | 6,
  group: EndpointGroup | undefined,
): PoolSpec {
  const within = family === 4 && group?.ipPool ? parsePool(group.ipPool) : undefined;
  const others = mirror
    .list<EndpointGroup>('endpointGroup')
    .filter((g) => g.tenantName === network.tenantName && g.networkName === network.networkName && g.ipPool);
  return {
    subnet: (family === 4 ? network.subnet : network.ipv6Subnet) ?? '',
    gateway: family === 4 ? network.gateway : network.ipv6Gateway,
    ...(within ? { within } : {}),
    except: within || family === 6 ? [] : others.flatMap((g) => parsePool(g.ipPool ?? '') ?? []),
  };
}

export function decideReserve(mirror: Mirror, request: AddressRequest): Decision<AddressAnswer> {
  const key = `${request.tenantName}:${request.networkName}`;
  const stored = mirror.stored<Network>('network', key);
  if (stored === undefined) throw new Refusal(404, `network ${key} does not exist`, 'networkName');
  const network = stored.object;
  const groupKey = request.groupName ? `${request.tenantName}:${request.groupName}` : undefined;
  const group = groupKey ? mirror.get<EndpointGroup>('endpointGroup', groupKey) : undefined;
  if (groupKey !== undefined && group === undefined)
    throw new Refusal(404, `group ${groupKey} does not exist`, 'groupName');
  const { family } = request;
  if (family === 6 && !network.ipv6Subnet)
    throw new Refusal(422, `network ${key} has no IPv6 subnet`, 'family');
  const spec = poolOf(mirror, network, family, group);
  const taken = mirror.addresses(key);
  const pool = openPool(spec, (address) => taken.has(address));
  const writes: Write[] = [];
  let address: string | undefined;
  if (request.address) {
    if (!(family === 4 ? isIpv4(request.address) : isIpv6(request.address)))
      throw new Refusal(
        400,
        `network ${key}: '${request.address}' is not an IPv${family} address`,
        'address',
      );
    address = canonical(request.address);
    // A group's pool is no secret to who names an address in it.
    const all = openPool({ ...spec, except: [] }, (a) => taken.has(a));
    const reason = refuseAddress(all, address, spec.gateway);
    if (reason !== undefined)
      throw new Refusal(
        409,
        `network ${key}: address ${address} ${reason}${reason === IN_USE ? ownerOf(mirror, taken.get(address)?.object) : ''}; choose a free one of ${spec.subnet}`,
        'address',
      );
  } else {
    const cursorKey = `${key}/${spec.within ? request.groupName : ''}/${family}`;
    const cursor = mirror.stored<{ last: string }>('cursor', cursorKey);
    address = nextAddress(pool, cursor?.object.last);
    if (address === undefined) {
      const where = spec.within
        ? `${spec.within.first}-${spec.within.last} of group ${request.groupName}`
        : spec.subnet;
      throw new Refusal(409, `network ${key}: all addresses of ${where} are taken`);
    }
    writes.push({ key: storeKey('cursor', cursorKey), value: { last: address } });
  }
  const record: AddressRecord = { host: request.host, since: Date.now() };
  const addressKey = storeKey('address', `${key}/${address}`);
  writes.push({ key: addressKey, value: record });
  return {
    checks: [
      { key: addressKey, revision: 0 },
      { key: storeKey('network', key), revision: stored.revision },
    ],
    writes,
    answer: { address, prefixLength: pool.subnet.length },
  };
}

/** ` by web on node1`; '' where nothing is known. */
function ownerOf(mirror: Mirror, record: AddressRecord | undefined): string {
  if (record === undefined) return '';
  const endpoint = record.endpoint && mirror.stored<Endpoint>('endpoint', record.endpoint)?.object;
  return ` by ${endpoint ? (endpoint.containerName ?? endpoint.endpointID) : 'a container that starts'} on ${record.host}`;
}

export function decideRelease(
  mirror: Mirror,
  network: string,
  address: string,
  host: string,
): Decision<boolean> {
  const stored = mirror.addresses(network).get(address);
  const free = stored !== undefined && stored.object.endpoint === undefined && stored.object.host === host;
  if (!free) return { checks: [], writes: [], answer: false };
  const key = storeKey('address', `${network}/${address}`);
  return { checks: [{ key, revision: stored.revision }], writes: [{ key, value: undefined }], answer: true };
}

export function decideEndpoint(mirror: Mirror, endpoint: Endpoint): Decision<Endpoint> {
  const id = endpoint.endpointID;
  const what = `endpoint ${endpoint.containerName ?? id}`;
  const network = `${endpoint.tenantName}:${endpoint.networkName}`;
  const stored = mirror.stored<Network>('network', network);
  if (stored === undefined)
    throw new Refusal(404, `${what}: network ${network} does not exist`, 'networkName');
  const checks = [{ key: storeKey('network', network), revision: stored.revision }];
  if (endpoint.groupName) {
    const key = `${endpoint.tenantName}:${endpoint.groupName}`;
    const group = mirror.stored<EndpointGroup>('endpointGroup', key);
    if (group === undefined) throw new Refusal(404, `${what}: group ${key} does not exist`, 'groupName');
    if (group.object.networkName !== endpoint.networkName)
      throw new Refusal(422, `${what}: group ${key} is in network ${group.object.networkName}`, 'groupName');
    // Not its revision: a group that changes its policies does not invalidate its endpoints.
  }
  const before = mirror.stored<Endpoint>('endpoint', id);
  const writes: Write[] = [];
  const taken = mirror.addresses(network);
  for (const address of endpoint.ipAddress) {
    if (!isIpv4(address) && !isIpv6(address))
      throw new Refusal(400, `${what}: ipAddress '${address}' is not an address`, 'ipAddress');
    const record = taken.get(address);
    if (record?.object.endpoint !== undefined && record.object.endpoint !== id)
      throw new Refusal(
        409,
        `${what}: address ${address} belongs to endpoint ${record.object.endpoint}`,
        'ipAddress',
      );
    if (
      record !== undefined &&
      record.object.endpoint === undefined &&
      record.object.host !== endpoint.homingHost
    )
      throw new Refusal(
        409,
        `${what}: address ${address} is reserved for host ${record.object.host}`,
        'ipAddress',
      );
    if (record?.object.endpoint === id && record.object.host === endpoint.homingHost) continue;
    const key = storeKey('address', `${network}/${address}`);
    checks.push({ key, revision: record?.revision ?? 0 });
    writes.push({
      key,
      value: { host: endpoint.homingHost, endpoint: id, since: Date.now() } satisfies AddressRecord,
    });
  }
  for (const address of before?.object.ipAddress ?? [])
    if (!endpoint.ipAddress.includes(address))
      writes.push({ key: storeKey('address', `${network}/${address}`), value: undefined });
  const key = storeKey('endpoint', id);
  checks.push({ key, revision: before?.revision ?? 0 });
  writes.push({ key, value: endpoint });
  return { checks, writes, answer: endpoint };
}

export function decideEndpointRemoval(mirror: Mirror, id: string): Decision<boolean> {
  const before = mirror.stored<Endpoint>('endpoint', id);
  if (before === undefined) return { checks: [], writes: [], answer: false };
  const { tenantName, networkName, homingHost, ipAddress } = before.object;
  const network = `${tenantName}:${networkName}`;
  const taken = mirror.addresses(network);
  const reserved: AddressRecord = { host: homingHost, since: Date.now() };
  return {
    checks: [{ key: storeKey('endpoint', id), revision: before.revision }],
    writes: [
      { key: storeKey('endpoint', id), value: undefined },
      ...ipAddress
        .filter((address) => taken.get(address)?.object.endpoint === id)
        .map((address) => ({ key: storeKey('address', `${network}/${address}`), value: reserved })),
    ],
    answer: true,
  };
}

/** Reservations without an endpoint that are older than the grace period (milliseconds). */
export function decideCollection(mirror: Mirror, grace: number, now: number): Decision<number> {
  const old = [...mirror.entries<AddressRecord>('address')].filter(
    ([, { object }]) => object.endpoint === undefined && now - object.since > grace,
  );
  return {
    checks: old.map(([key, { revision }]) => ({ key: storeKey('address', key), revision })),
    writes: old.map(([key]) => ({ key: storeKey('address', key), value: undefined })),
    answer: old.length,
  };
}
