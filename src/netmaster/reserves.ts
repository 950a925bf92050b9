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
import type { Endpoint } from '../model/endpoint.ts';
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

/**
 * How much of a pool is taken: counted once in a round, and what the round itself gives of it is added. What others take meanwhile the
 * next round counts: by these numbers a host has one more or less in reserve, and that an address is free each transaction checks.
 */
interface Use {
  readonly pool: Pool;
  readonly size: bigint;
  readonly used: bigint;
  reserved: bigint;
  /** Where the round looks on for a free one: those before it are taken, or became free in this round. */
  from: bigint;
}
/** By pool. */
type Uses = Map<string, Use>;

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

function useOf(view: View, key: string, { network, group, family }: Wanted, uses: Uses): Use {
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
    // Behind what containers have had when they fill half of it: the cursor begins at the second.
    from: pool.first + (pool.last - pool.first) / 2n + 2n,
  };
  uses.set(key, use);
  return use;
}

/** What a decision gave of each pool, by its key. */
type Given = ReadonlyMap<string, { readonly count: number; readonly from: bigint }>;

/** What a host that lives has in reserve becomes what it should be. */
function decideReserves(view: View, host: string, uses: Uses): Decision<Given> {
  const pools = poolsOf(view, host);
  const wanted = new Map<string, Reserved[]>();
  const checks: Check[] = [];
  const writes: Write[] = [];
  const given = new Map<string, { count: number; from: bigint }>();

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
    const most = RESERVED - kept.length;
    const count = free < most ? Math.max(0, Number(free)) : most;
    if (count === 0) continue;
    const found = freeBehindHalf(view, which, use, count);
    given.set(key, { count: found.addresses.length, from: found.from });
    for (const address of found.addresses) {
      list.push({ address, ...(groupName === undefined ? {} : { groupName }) });
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
  if (given.size > 0) checks.push({ key: storeKey('draining', host), revision: 0 });
  return { checks: unlike(checks), writes: unlike(writes), answer: given };
}

/** Each key once. */
const unlike = <T extends { readonly key: string }>(all: readonly T[]): T[] => [
  ...new Map(all.map((one) => [one.key, one])).values(),
];

/** So many of the pool, best of its second half, that are nobody's, and were nobody's that some host may still know; and where to look on. */
function freeBehindHalf(
  view: View,
  { network, group, family }: Wanted,
  { pool: { first, last }, from }: Use,
  count: number,
): { addresses: string[]; from: bigint } {
  const key = `${network.tenantName}:${network.networkName}`;
  const taken = view.addresses(key);
  const { isTaken } = openPool(
    poolOf(view, network, family, group),
    (address) =>
      taken.has(address) || view.stored('ended', addressKey(network.tenantName, address)) !== undefined,
  );
  const addresses: string[] = [];
  let number = from;
  for (; number <= last && addresses.length < count; number++)
    if (!isTaken(number)) addresses.push(numberAddress(number, family));
  // What is left of the pool is looked through anew each time: it is nearly full.
  for (let before = number - 1n; before >= first && addresses.length < count; before--) {
    const address = numberAddress(before, family);
    if (!isTaken(before) && !addresses.includes(address)) addresses.push(address);
  }
  return { addresses, from: number };
}

/** Of those hosts that live; what dead ones have in reserve they may be using. Answers how many were given. */
export async function keepReserves(
  mirror: Mirror,
  writer: Writer,
  hosts: readonly string[] = mirror.list<Host>('host').map(({ name }) => name),
): Promise<number> {
  const uses: Uses = new Map();
  let sum = 0;
  let failed: unknown;
  for (const name of hosts) {
    if (mirror.get<Host>('host', name) === undefined) continue;
    try {
      if (decideReserves(mirror, name, uses).writes.length === 0) continue;
      const { answer } = await writer.write(() => decideReserves(mirror, name, uses));
      for (const [key, { count, from }] of answer) {
        const use = uses.get(key);
        if (use === undefined) continue;
        use.reserved += BigInt(count);
        use.from = from;
        sum += count;
      }
    } catch (error) {
      failed ??= error; // of one host: those behind it have theirs
    }
  }
  if (failed !== undefined) throw failed;
  return sum;
}

/** Rounds of which one looks at all hosts: what fills a pool from elsewhere changes no host. */
const ROUNDS = 12;

/** In rounds, of hosts that something has changed for since the last one: of a thousand hosts a new container is of one. */
export function openReserves(mirror: Mirror, writer: Writer): { keep(): Promise<number>; close(): void } {
  const changed = new Set<string>();
  let left = 0; // the first looks at all
  const close = mirror.onChange(({ changes, before }) => {
    for (const [i, { kind, key, object }] of changes.entries())
      if (kind === 'endpoint')
        for (const endpoint of [object, before[i]] as (Endpoint | null | undefined)[]) {
          if (endpoint?.homingHost) changed.add(endpoint.homingHost);
        }
      else if (kind === 'host' || kind === 'draining') changed.add(key);
      else if (kind === 'reserve') changed.add(key.slice(0, key.indexOf('/')));
      else if (kind === 'network' || kind === 'endpointGroup') left = 0;
  });
  return {
    close,
    async keep() {
      const hosts = left === 0 ? undefined : [...changed];
      left = left === 0 ? ROUNDS : left - 1;
      changed.clear();
      try {
        return await keepReserves(mirror, writer, hosts);
      } catch (error) {
        left = 0;
        throw error;
      }
    },
  };
}
