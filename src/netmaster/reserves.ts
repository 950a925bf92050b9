/**
 * Addresses that hosts have in reserve, for containers that start there while no netmaster answers: RESERVED of each pool that
 * containers of the host use (a network's, or of IPv4 a group's own), of each family. netmaster chooses them, and hosts are told of theirs:
 *
 *   a container in a pool        --keepReserves--> address/NETWORK/ADDRESS and reserve/HOST/NETWORK, which the host is told
 *   nobody answers               --> the host gives one to a container, and tells of the endpoint when it is answered
 *   no container of it is left there, the host is drained, the pool is short,
 *   somebody is to have it       --> both go, and ended/KEY comes: it is free when the host has acknowledged that (endings.ts)
 *
 * They come from the second half of a pool, at its beginning: at the pool's is the cursor, which so meets none, at its end what people put
 * there, routers of a VLAN too. And only as long as half of the pool stays free: a pool that containers fill has none, nor has one of less
 * than SMALLEST_POOL addresses, where a few make a difference to who counts them. Who asks for one that is in reserve, by its address or because no other is left, gets it as soon as its host has
 * given it up (givingBack). Of a host that is away none is taken: its containers may have them.
 */
import { addressNumber, numberAddress } from '../model/address.ts';
import { type EndpointGroup, parsePool } from '../model/endpointGroup.ts';
import { familiesOf } from '../model/families.ts';
import type { Draining, Host, Reserved } from '../model/host.ts';
import type { Network } from '../model/network.ts';
import type { Check, Write } from '../store/store.ts';
import type { Acknowledgements } from './acknowledgements.ts';
import { openPool, type Pool } from './allocator/addresses.ts';
import { poolOf } from './allocator/choose.ts';
import { addressKey } from './endings.ts';
import { relyOn } from './guards.ts';
import { type Mirror, storeKey } from './mirror.ts';
import { InReserve, isInside, putReserve, reserveOf, reservesOf, withdraw } from './reserved.ts';
import { endpointsOf } from './roster.ts';
import type { AddressRecord, View } from './tables.ts';
import type { Decision, Writer } from './writer.ts';

/** Of a pool and family, on each host that uses it. */
export const RESERVED = 4;
/** Addresses of the smallest pool of which hosts have some in reserve. */
const SMALLEST_POOL = 16n;
/** Seconds that a host is waited for which is to give one up. */
const GIVEN_UP_WITHIN = 2;

/** The writer, with which who meets an address in reserve waits until its host has given it up. */
export function givingBack(
  writer: Writer,
  mirror: Mirror,
  acknowledgements: Pick<Acknowledgements, 'wait'>,
): Writer {
  async function insist<T>(write: () => Promise<T>): Promise<T> {
    // A set may meet many, each once: one that is met again has not been given up.
    const met = new Set<string>();
    for (;;)
      try {
        return await write();
      } catch (error) {
        // Of an object in a set the refusal says where that is, and comes of the other one.
        const { cause } = error as Error;
        const inReserve = [error, cause].find((e) => e instanceof InReserve);
        if (inReserve === undefined) throw error;
        const { network, address, host } = inReserve;
        if (met.has(`${network} ${address}`)) throw error;
        met.add(`${network} ${address}`);
        const { revision } = await writer.write((): Decision<undefined> => {
          const { checks, writes } = withdraw(mirror, host, network, [address]);
          const left = reserveOf(mirror, host, network).filter((r) => r.address !== address);
          const list = putReserve(mirror, host, network, left);
          return {
            checks: [...checks, ...list.checks],
            writes: [...writes, ...list.writes],
            answer: undefined,
          };
        });
        await acknowledgements.wait(revision, GIVEN_UP_WITHIN);
      }
  }
  return {
    write: (decide, caller) => insist(() => writer.write(decide, caller)),
    writeTogether: (decide, caller) => insist(() => writer.writeTogether(decide, caller)),
  };
}

/** How much of a pool is taken, and by whom: made once for all hosts that use it. */
type Uses = Map<
  string,
  { readonly pool: Pool; readonly size: bigint; readonly used: bigint; readonly reserved: bigint }
>;

interface Wanted {
  readonly network: Network;
  /** Whose pool it is. */
  readonly group: EndpointGroup | undefined;
  readonly family: 4 | 6;
}

/** Pools that containers of the host use. */
function poolsOf(view: View, host: string): ReadonlyMap<string, Wanted> {
  const pools = new Map<string, Wanted>();
  if (view.get<Draining>('draining', host) !== undefined) return pools;
  for (const { tenantName, networkName, groupName, ofHost } of endpointsOf(view, host)) {
    if (ofHost) continue;
    const network = view.get<Network>('network', `${tenantName}:${networkName}`);
    if (network === undefined) continue;
    const own = groupName
      ? view.get<EndpointGroup>('endpointGroup', `${tenantName}:${groupName}`)
      : undefined;
    const group = own?.ipPool && parsePool(own.ipPool) ? own : undefined;
    for (const family of familiesOf(network)) {
      const which = { network, group: family === 4 ? group : undefined, family };
      pools.set(poolKey(which), which);
    }
  }
  return pools;
}

const poolKey = ({ network, group, family }: Wanted): string =>
  `${network.tenantName}:${network.networkName}/${group?.groupName ?? ''}/${family}`;

function useOf(view: View, key: string, { network, group, family }: Wanted, uses: Uses) {
  const known = uses.get(key);
  if (known !== undefined) return known;
  const pool = openPool(poolOf(view, network, family, group), () => false);
  const all = [...view.addresses(`${network.tenantName}:${network.networkName}`)].filter(
    ([address]) => isInside(pool, address) && !pool.isTaken(addressNumber(address)),
  );
  const reserved = all.filter(([, { object }]) => object.reserve !== undefined).length;
  const use = {
    pool,
    size: pool.last < pool.first ? 0n : pool.last - pool.first + 1n,
    used: BigInt(all.length - reserved),
    reserved: BigInt(reserved),
  };
  uses.set(key, use);
  return use;
}

/** What a host that lives has in reserve becomes what it should be. */
export function decideReserves(view: View, host: string, uses: Uses = new Map()): Decision<number> {
  const pools = poolsOf(view, host);
  const wanted = new Map<string, Reserved[]>();
  const checks: Check[] = [];
  const writes: Write[] = [];
  let granted = 0;

  for (const [key, which] of pools) {
    const network = `${which.network.tenantName}:${which.network.networkName}`;
    const list = wanted.get(network) ?? [];
    wanted.set(network, list);
    const use = useOf(view, key, which, uses);
    if (use.size < SMALLEST_POOL || use.used * 2n >= use.size) continue; // short
    const records = view.addresses(network);
    const { groupName } = which.group ?? {};
    const kept = reserveOf(view, host, network).filter(({ address, groupName: of }) => {
      const record = records.get(address)?.object;
      const isOfPool =
        of === groupName && isInside(use.pool, address) && !use.pool.isTaken(addressNumber(address));
      return isOfPool && record?.reserve === host;
    });
    list.push(...kept);
    const free = use.size / 2n - use.used - use.reserved;
    for (let n = kept.length; n < RESERVED && n - kept.length < free; n++) {
      const address = freeBehindHalf(view, which, use.pool, new Set(list.map((r) => r.address)));
      if (address === undefined) break;
      list.push({ address, ...(groupName === undefined ? {} : { groupName }) });
      granted++;
      const stored = storeKey('address', `${network}/${address}`);
      const relying = relyOn(view, 'network', network);
      checks.push({ key: stored, revision: 0 }, ...relying.checks);
      writes.push({ key: stored, value: { reserve: host } satisfies AddressRecord }, ...relying.writes);
    }
  }

  const networks = new Set([...wanted.keys(), ...reservesOf(view, host).map(({ network }) => network)]);
  for (const network of networks) {
    const [before, after] = [reserveOf(view, host, network), wanted.get(network) ?? []];
    if (JSON.stringify(before) === JSON.stringify(after)) continue;
    const stays = new Set(after.map(({ address }) => address));
    const gone = before.map(({ address }) => address).filter((address) => !stays.has(address));
    for (const change of [withdraw(view, host, network, gone), putReserve(view, host, network, after)]) {
      checks.push(...change.checks);
      writes.push(...change.writes);
    }
  }
  if (granted > 0) checks.push({ key: storeKey('draining', host), revision: 0 });
  return { checks: unlike(checks), writes: unlike(writes), answer: granted };
}

/** Each key once. */
const unlike = <T extends { readonly key: string }>(all: readonly T[]): T[] => [
  ...new Map(all.map((one) => [one.key, one])).values(),
];

/** One of the pool, best of its second half, that is nobody's, and was nobody's that some host may still know. */
function freeBehindHalf(
  view: View,
  { network, group, family }: Wanted,
  { first, last }: Pool,
  chosen: ReadonlySet<string>,
): string | undefined {
  const key = `${network.tenantName}:${network.networkName}`;
  const taken = view.addresses(key);
  const { isTaken } = openPool(
    poolOf(view, network, family, group),
    (address) =>
      taken.has(address) ||
      chosen.has(address) ||
      view.stored('ended', addressKey(network.tenantName, address)) !== undefined,
  );
  // Behind what containers have had when they fill half of it: the cursor begins at the second.
  const half = first + (last - first) / 2n + 2n;
  for (let number = half; number <= last; number++)
    if (!isTaken(number)) return numberAddress(number, family);
  for (let number = half - 1n; number >= first; number--)
    if (!isTaken(number)) return numberAddress(number, family);
  return undefined;
}

/** Of all hosts that live; what dead ones have in reserve they may be using. Answers how many were given. */
export async function keepReserves(mirror: Mirror, writer: Writer): Promise<number> {
  const uses: Uses = new Map();
  let given = 0;
  for (const { name } of mirror.list<Host>('host')) {
    if (decideReserves(mirror, name, uses).writes.length === 0) continue;
    given += (await writer.write(() => decideReserves(mirror, name))).answer;
    uses.clear();
  }
  return given;
}
