/** What agents write: addresses and endpoints of their hosts, as decisions on one transaction each. */

import { contains, isIpv4, isIpv6, parseSubnet } from '../model/address.ts';
import { type Endpoint, endpoint as endpointKind } from '../model/endpoint.ts';
import type { EndpointGroup } from '../model/endpointGroup.ts';
import { subnetOf, subnetsOf } from '../model/families.ts';
import type { Index } from '../model/kind.ts';
import type { Network } from '../model/network.ts';
import { oneLine } from '../model/text.ts';
import type { AddressAnswer, AddressRequest } from '../protocol/messages.ts';
import type { Check, Write } from '../store/store.ts';
import { callService, canonical, chooseAddress } from './allocator/choose.ts';
import { changedFields } from './changes.ts';
import { refuseDraining } from './draining.ts';
import { addressKey, begin, end, holderOf, meaningOf, openEndings, wasReservedFor } from './endings.ts';
import type { Occurrence } from './events.ts';
import { relyOn } from './guards.ts';
import { storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import { refuseReserved, useReserved } from './reserved.ts';
import type { AddressRecord, View } from './tables.ts';
import type { Decision } from './writer.ts';

/** Reservations by the request that got them. */
const byRequest: Index<AddressRecord> = ({ answered }) => (answered ? [answered.request] : []);

/** A request that comes again, since its answer was lost on its way, is answered as it was: it holds the address already. */
export function decideReserve(view: View, request: AddressRequest): Decision<AddressAnswer> {
  const [had] = request.request ? view.where('address', byRequest, request.request) : [];
  if (had?.answered !== undefined && had.host === request.host) {
    const { address, prefixLength } = had.answered;
    return { checks: [], writes: [], answer: { address, prefixLength } };
  }
  const taking = request.ofHost ? [] : refuseDraining(view, request.host);
  const key = `${request.tenantName}:${request.networkName}`;
  const network = view.get<Network>('network', key);
  if (network === undefined) throw new Refusal(404, `network ${key} does not exist`, 'networkName');
  const groupKey = request.groupName ? `${request.tenantName}:${request.groupName}` : undefined;
  const group = groupKey ? view.get<EndpointGroup>('endpointGroup', groupKey) : undefined;
  if (groupKey !== undefined && group === undefined)
    throw new Refusal(404, `group ${groupKey} does not exist`, 'groupName');
  const { family } = request;
  if (subnetOf(network, family) === undefined)
    throw new Refusal(422, `network ${key} has no IPv${family} subnet`, 'family');
  const kept = keptBySwarm(view, key, request);
  if (kept !== undefined)
    return { ...kept, answer: { address: kept.address, prefixLength: prefixOf(network, family) } };
  const wanted = {
    network,
    family,
    group,
    address: request.address,
    what: `network ${key}`,
    field: 'address',
  } as const;
  const chosen = chooseAddress(
    view,
    wanted,
    request.swarm === undefined ? { host: request.host } : { swarm: request.swarm },
    request.request,
  );
  const relying = relyOn(view, 'network', key);
  return {
    checks: [...chosen.checks, ...relying.checks, ...taking],
    writes: [...chosen.writes, ...relying.writes],
    answer: { address: chosen.address, prefixLength: chosen.prefixLength },
  };
}

/**
 * Of a given address that Swarm keeps: it asks for each that it has given again when another manager leads, and each host asks for those of
 * its tasks, one after the other as a task moves. undefined: it is none of those, or in use elsewhere.
 */
function keptBySwarm(
  view: View,
  network: string,
  { address: asked = '', host, swarm }: AddressRequest,
): { address: string; checks: Check[]; writes: Write[] } | undefined {
  const address = isIpv4(asked) || isIpv6(asked) ? canonical(asked) : '';
  const stored = view.addresses(network).get(address);
  if (stored?.object.swarm === undefined) return undefined;
  if (swarm !== undefined) return { address, checks: [], writes: [] };
  if (stored.object.endpoint !== undefined) return undefined;
  const key = storeKey('address', `${network}/${address}`);
  return {
    address,
    checks: [{ key, revision: stored.revision }],
    writes: [{ key, value: { host, swarm: stored.object.swarm } satisfies AddressRecord }],
  };
}

const prefixOf = (network: Network, family: 4 | 6): number =>
  parseSubnet(subnetOf(network, family) ?? '')?.length ?? 0;

/** What is reserved no longer than somebody has it. */
export function decideSwarmRelease(view: View, network: string, address: string): Decision<boolean> {
  const stored = view.addresses(network).get(address);
  if (stored?.object.swarm === undefined) return { checks: [], writes: [], answer: false };
  const key = storeKey('address', `${network}/${address}`);
  return {
    checks: [{ key, revision: stored.revision }],
    writes: [{ key, value: swarmReleased(stored.object) }],
    answer: true,
  };
}

/**
 * An endpoint that has it still is left; undefined: nothing is. Swarm gives it back when its task has ended, so a host that has it reserved
 * only has ended it too, or its dockerd was killed and says no more of it.
 */
export function swarmReleased({ swarm: _, answered: _a, ...rest }: AddressRecord): AddressRecord | undefined {
  return rest.endpoint === undefined ? undefined : rest;
}

export function decideRelease(view: View, network: string, address: string, host: string): Decision<boolean> {
  const stored = view.addresses(network).get(address);
  // A service's has no host.
  if (stored === undefined || stored.object.endpoint !== undefined || stored.object.host !== host)
    return { checks: [], writes: [], answer: false };
  const key = storeKey('address', `${network}/${address}`);
  const { swarm } = stored.object;
  const value = swarm === undefined ? undefined : ({ swarm } satisfies AddressRecord);
  return { checks: [{ key, revision: stored.revision }], writes: [{ key, value }], answer: true };
}

/** What becomes of it on hosts changes nothing for Swarm. */
const keeping = (record: AddressRecord | undefined): Pick<AddressRecord, 'swarm'> =>
  record?.swarm === undefined ? {} : { swarm: record.swarm };

const MAC = /^[0-9a-f]{2}(?::[0-9a-f]{2}){5}$/i;

export function decideEndpoint(view: View, endpoint: Endpoint): Decision<Endpoint> {
  const id = endpoint.endpointID;
  const what = `endpoint ${endpoint.containerName ?? id}`;
  const network = `${endpoint.tenantName}:${endpoint.networkName}`;
  if (!MAC.test(endpoint.macAddress))
    throw new Refusal(
      400,
      `${what}: macAddress '${endpoint.macAddress}' must be like 02:02:14:01:01:02`,
      'macAddress',
    );
  const found = view.get<Network>('network', network);
  if (found === undefined)
    throw new Refusal(404, `${what}: network ${network} does not exist`, 'networkName');
  const subnets = subnetsOf(found).flatMap((text) => parseSubnet(text) ?? []);
  const { checks, writes } = relyOn(view, 'network', network);
  if (endpoint.groupName) {
    const key = `${endpoint.tenantName}:${endpoint.groupName}`;
    const group = view.get<EndpointGroup>('endpointGroup', key);
    if (group === undefined) throw new Refusal(404, `${what}: group ${key} does not exist`, 'groupName');
    if (group.networkName !== endpoint.networkName)
      throw new Refusal(422, `${what}: group ${key} is in network ${group.networkName}`, 'groupName');
    const relying = relyOn(view, 'endpointGroup', key);
    checks.push(...relying.checks);
    writes.push(...relying.writes);
  }
  const before = view.stored<Endpoint>('endpoint', id);
  // What hosts know its addresses by does not change under them: each begins and ends with an endpoint.
  if (before !== undefined && meaningOf(before.object) !== meaningOf(endpoint))
    throw new Refusal(
      409,
      `${what}: is in ${meaningOf(before.object)} and cannot move to ${meaningOf(endpoint)}: its container must be attached anew`,
      'groupName',
    );
  const taken = view.addresses(network);
  const endings = openEndings(view);
  const meaning = { of: meaningOf(endpoint), host: endpoint.homingHost };
  for (const address of endpoint.ipAddress) {
    if (!isIpv4(address) && !isIpv6(address))
      throw new Refusal(400, `${what}: ipAddress '${address}' is not an address`, 'ipAddress');
    // Its text is the key that says whose it is.
    if (canonical(address) !== address)
      throw new Refusal(
        400,
        `${what}: ipAddress '${address}' must be written ${canonical(address)}`,
        'ipAddress',
      );
    if (!subnets.some((subnet) => contains(subnet, address)))
      throw new Refusal(
        422,
        `${what}: ipAddress ${address} is in no subnet of network ${network}`,
        'ipAddress',
      );
    const record = taken.get(address);
    refuseReserved(view, { network, address, what, field: 'ipAddress' }, endpoint.homingHost);
    if (record?.object.service !== undefined)
      throw new Refusal(
        409,
        `${what}: address ${address} belongs to service ${callService(view, record.object.service)}`,
        'ipAddress',
      );
    if (record?.object.external !== undefined)
      throw new Refusal(
        409,
        `${what}: address ${address} belongs to external endpoint ${record.object.external}`,
        'ipAddress',
      );
    if (record?.object.endpoint !== undefined && record.object.endpoint !== id)
      throw new Refusal(
        409,
        `${what}: address ${address} belongs to endpoint ${record.object.endpoint}`,
        'ipAddress',
      );
    if (
      record !== undefined &&
      record.object.endpoint === undefined &&
      record.object.host !== endpoint.homingHost &&
      record.object.reserve === undefined &&
      !(record.object.swarm !== undefined && record.object.host === undefined)
    )
      throw new Refusal(
        409,
        `${what}: address ${address} is reserved for host ${record.object.host}`,
        'ipAddress',
      );
    if (record?.object.endpoint === id && record.object.host === endpoint.homingHost) continue;
    const key = storeKey('address', `${network}/${address}`);
    // One that was given to it may have begun then (allocator/choose.ts).
    const ended = addressKey(endpoint.tenantName, address);
    if (!wasReservedFor(view, ended, endpoint.homingHost))
      endings.refuse(ended, meaning, `${what}: address ${address}`, 'ipAddress');
    // A host that may go by its reserve still is waited for after this endpoint too.
    const begun =
      holderOf(view, ended) || record?.object.reserve ? { checks: [], writes: [] } : begin(view, ended);
    checks.push({ key, revision: record?.revision ?? 0 }, ...begun.checks);
    writes.push(...begun.writes, {
      key,
      value: {
        host: endpoint.homingHost,
        endpoint: id,
        ...keeping(record?.object),
      } satisfies AddressRecord,
    });
  }
  const used = useReserved(view, network, endpoint.homingHost, endpoint.ipAddress);
  checks.push(...used.checks);
  writes.push(...used.writes);
  for (const address of before?.object.ipAddress ?? [])
    if (!endpoint.ipAddress.includes(address))
      writes.push(
        { key: storeKey('address', `${network}/${address}`), value: undefined },
        ...end(view, addressKey(endpoint.tenantName, address), meaning),
      );
  const key = storeKey('endpoint', id);
  checks.push({ key, revision: before?.revision ?? 0 });
  writes.push({ key, value: endpoint });
  return { checks, writes, answer: endpoint, events: occurrences(before?.object, endpoint) };
}

/** Where it is, and whose; what its container says of itself may change as often as that likes. */
const placeOf = ({ labels: _l, status: _s, aliases: _a, ...place }: Endpoint): Record<string, unknown> =>
  place;

function occurrences(before: Endpoint | undefined, after: Endpoint | undefined): Occurrence[] {
  const endpoint = after ?? before;
  if (endpoint === undefined) return [];
  const fields = changedFields(before ? placeOf(before) : {}, after ? placeOf(after) : {});
  if (Object.keys(fields).length === 0) return [];
  const { tenantName: tenant, homingHost: host, endpointID: key } = endpoint;
  const action = before === undefined ? 'attached' : after === undefined ? 'detached' : 'changed';
  const text = oneLine(endpointKind.call(endpoint));
  return [{ kind: 'endpoint', action, object: 'endpoint', key, tenant, host, fields, text }];
}

export function decideEndpointRemoval(view: View, id: string): Decision<boolean> {
  const before = view.stored<Endpoint>('endpoint', id);
  if (before === undefined) return { checks: [], writes: [], answer: false };
  const { tenantName, networkName, homingHost, ipAddress } = before.object;
  const network = `${tenantName}:${networkName}`;
  const taken = view.addresses(network);
  return {
    checks: [{ key: storeKey('endpoint', id), revision: before.revision }],
    writes: [
      { key: storeKey('endpoint', id), value: undefined },
      ...ipAddress
        .filter((address) => taken.get(address)?.object.endpoint === id)
        .flatMap((address) => [
          {
            key: storeKey('address', `${network}/${address}`),
            value: { host: homingHost, ...keeping(taken.get(address)?.object) } satisfies AddressRecord,
          },
          ...end(view, addressKey(tenantName, address), { of: meaningOf(before.object), host: homingHost }),
        ]),
    ],
    answer: true,
    events: occurrences(before.object, undefined),
  };
}

/**
 * When each reservation was seen first, and its revision; by its key, milliseconds of a clock that nobody sets. In memory only: with
 * another netmaster the grace period begins anew.
 */
export type Seen = Map<string, { readonly revision: number; readonly at: number }>;

/** Reservations of hosts that have had no endpoint for longer than the grace period (milliseconds). Keeps `seen` up to date. */
export function decideCollection(view: View, seen: Seen, grace: number, now: number): Decision<number> {
  const reserved = [...view.entries<AddressRecord>('address')].filter(
    ([, { object }]) =>
      object.host !== undefined && object.endpoint === undefined && object.swarm === undefined,
  );
  const known = new Map(seen);
  seen.clear();
  for (const [key, { revision }] of reserved) {
    const before = known.get(key);
    seen.set(key, before?.revision === revision ? before : { revision, at: now });
  }
  const old = reserved.filter(([key]) => now - (seen.get(key)?.at ?? now) > grace);
  return {
    checks: old.map(([key, { revision }]) => ({ key: storeKey('address', key), revision })),
    writes: old.map(([key]) => ({ key: storeKey('address', key), value: undefined })),
    answer: old.length,
  };
}
