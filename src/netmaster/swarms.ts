/**
 * Addresses that Docker's Swarms keep. Swarm gives each back by a call of its own, but not all of them: those of tasks that end after their
 * network was removed it forgets, and what a leading manager was about to give back when it died. So the leader's agent tells by and by
 * which ones its Swarm has, and what it has not had for the grace period is free again. Where no leader tells nothing is.
 */
import type { SwarmAddresses } from '../protocol/messages.ts';
import type { Check, Write } from '../store/store.ts';
import { swarmReleased } from './endpoints.ts';
import { type Mirror, storeKey } from './mirror.ts';
import type { AddressRecord } from './tables.ts';
import type { Decision } from './writer.ts';

/** When an address was first told of as one that its Swarm has not, by its key: milliseconds of a clock that nobody sets. In memory only. */
export type Unlisted = Map<string, number>;

/** `id`: the Swarm's. Answers how many are free again; keeps `unlisted` up to date. */
export function decideSwarm(
  mirror: Mirror,
  id: string,
  { addresses }: Pick<SwarmAddresses, 'addresses'>,
  unlisted: Unlisted,
  grace: number,
  now: number,
): Decision<number> {
  const listed = new Set(addresses.map((a) => `${a.tenantName}:${a.networkName}/${a.address}`));
  const checks: Check[] = [];
  const writes: Write[] = [];
  let freed = 0;
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
    if (now - since <= grace) continue;
    unlisted.delete(key);
    write(swarmReleased(object));
    freed++;
  }
  return { checks, writes, answer: freed };
}
