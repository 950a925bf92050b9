/**
 * What Docker's Swarms have, as the agent of each one's leading manager tells it by and by, and when its services change.
 *
 * Services are written as a set of the Swarm's own (batch.ts): those that it tells of no more go.
 *
 * Addresses are kept where nobody asks for them. Swarm gives each back by a call of its own, but not all of them: those of tasks that end after their
 * network was removed it forgets, and what a leading manager was about to give back when it died. So the leader's agent tells by and by
 * which ones its Swarm has, and what it has not had for the grace period is free again. Where no leader tells nothing is.
 */
import type { Kind } from '../model/kind.ts';
import { keyOf, kindByName } from '../model/kinds.ts';
import { type SwarmService, swarmService } from '../model/swarmService.ts';
import type { SwarmReport } from '../protocol/messages.ts';
import type { Check, Write } from '../store/store.ts';
import { applySet, type Declared } from './batch.ts';
import { swarmReleased } from './endpoints.ts';
import type { Caller } from './events.ts';
import { readObject } from './intent.ts';
import { type Mirror, storeKey } from './mirror.ts';
import type { AddressRecord } from './tables.ts';
import type { Decision, Writer } from './writer.ts';

/** When an address was first told of as one that its Swarm has not, by its key: milliseconds of a clock that nobody sets. In memory only. */
export type Unlisted = Map<string, number>;

/** `id`: the Swarm's. Answers how many it has not and are not free again yet; keeps `unlisted` up to date. */
export function decideSwarm(
  mirror: Mirror,
  id: string,
  { addresses }: Pick<SwarmReport, 'addresses'>,
  unlisted: Unlisted,
  grace: number,
  now: number,
): Decision<number> {
  const listed = new Set(addresses.map((a) => `${a.tenantName}:${a.networkName}/${a.address}`));
  const checks: Check[] = [];
  const writes: Write[] = [];
  let missed = 0;
  for (const [key, { object, revision }] of mirror.entries<AddressRecord>('address')) {
    const { swarm } = object;
    if (swarm === undefined || (swarm !== id && swarm !== '')) continue;
    if (listed.has(key)) unlisted.delete(key);
    const write = (value: AddressRecord | undefined): void => {
      checks.push({ key: storeKey('address', key), revision });
      writes.push({ key: storeKey('address', key), value });
    };
    // Reserved before the host knew which Swarm it is in.
    if (swarm === '' && listed.has(key)) write({ ...object, swarm: id });
    if (swarm === '' || listed.has(key)) continue;
    const since = unlisted.get(key) ?? now;
    unlisted.set(key, since);
    if (now - since <= grace) {
      missed++;
      continue;
    }
    unlisted.delete(key);
    write(swarmReleased(object));
  }
  return { checks, writes, answer: missed };
}

/** Makes a Swarm's services those that it has. What is in no network that is declared, or has an address that the Swarm has not, is left out. */
export async function applySwarmServices(
  id: string,
  services: NonNullable<SwarmReport['services']>,
  parts: { readonly mirror: Mirror; readonly writer: Writer },
  caller?: Caller,
): Promise<void> {
  const { mirror } = parts;
  const kind = kindByName.get(swarmService.name) as Kind;
  const known = services.filter((service) => isKnown(mirror, id, service));
  const set = known.map((service, i): Declared => {
    const key = keyOf(kind, service);
    return { position: i + 1, kind, key, object: readObject(kind, key, { ...service, swarm: id }) };
  });
  // No set that people name has a '/'.
  await applySet(set, { name: `swarm/${id}`, prune: true }, false, parts, caller);
}

function isKnown(
  mirror: Mirror,
  id: string,
  service: Omit<SwarmService, 'swarm' | 'ipv6VirtualAddress'>,
): boolean {
  const { tenantName, networkName, groupName, virtualAddress } = service;
  const network = `${tenantName}:${networkName}`;
  if (mirror.stored('network', network) === undefined) return false;
  if (groupName && mirror.stored('endpointGroup', `${tenantName}:${groupName}`) === undefined) return false;
  return virtualAddress === undefined || mirror.addresses(network).get(virtualAddress)?.object.swarm === id;
}
