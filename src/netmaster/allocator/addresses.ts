/**
 * Addresses: one cursor a network and family (one a group with an ip-pool) goes up and round again, so a freed address
 * comes back last and a stale peer does not meet a stranger. Pure: what is taken and where the cursor stands
 * come in, the address and the new cursor go out.
 *
 *   subnet 20.1.1.0/24         .2 .3 ... .254 .1 .2 ...
 *   range 20.1.1.10-.20/24     .10 .11 ... .20 .10 ...
 */
import { addressNumber, contains, numberAddress, parseSubnet, type Subnet } from '../../model/address.ts';

export interface Pool {
  readonly subnet: Subnet;
  /** First and last address that may be given. */
  readonly first: bigint;
  readonly last: bigint;
  /** Where a new cursor starts. */
  readonly start: bigint;
  readonly isTaken: (address: bigint) => boolean;
}

export interface PoolSpec {
  readonly subnet: string;
  readonly gateway: string | undefined;
  /** Of a group: only from here. */
  readonly within?: { readonly first: string; readonly last: string };
  /** Pools of groups: not for others. */
  readonly except: readonly { readonly first: string; readonly last: string }[];
}

export function openPool(spec: PoolSpec, isTaken: (address: string) => boolean): Pool {
  const subnet = parseSubnet(spec.subnet);
  if (subnet === undefined) throw new Error(`'${spec.subnet}' is not a subnet`);
  const [lowest, highest] = hosts(subnet);
  const gateway = spec.gateway ? addressNumber(spec.gateway) : undefined;
  const except = spec.except.map(({ first, last }) => [addressNumber(first), addressNumber(last)] as const);
  const first = spec.within ? addressNumber(spec.within.first) : subnet.ranged ? subnet.first : lowest;
  const last = spec.within ? addressNumber(spec.within.last) : subnet.ranged ? subnet.last : highest;
  const clamped = { first: first < lowest ? lowest : first, last: last > highest ? highest : last };
  const whole = !spec.within && !subnet.ranged;
  return {
    subnet,
    ...clamped,
    start: whole && clamped.first < clamped.last ? clamped.first + 1n : clamped.first,
    isTaken: (address) =>
      address === gateway ||
      except.some(([from, to]) => address >= from && address <= to) ||
      isTaken(numberAddress(address, subnet.family)),
  };
}

/** First and last host address: without the network's and broadcast address, or ::0. */
function hosts({ family, network, length }: Subnet): [bigint, bigint] {
  const size = 1n << BigInt((family === 4 ? 32 : 128) - length);
  return family === 4 ? [network + 1n, network + size - 2n] : [network + 1n, network + size - 1n];
}

/** The next free one after `cursor` (the last that was given), or undefined where all are taken. */
export function nextAddress(pool: Pool, cursor: string | undefined): string | undefined {
  const { first, last, start, isTaken } = pool;
  if (first > last) return undefined;
  const from = cursor === undefined ? start : addressNumber(cursor) + 1n;
  const begin = from < first || from > last ? first : from;
  for (let address = begin; address <= last; address++)
    if (!isTaken(address)) return numberAddress(address, pool.subnet.family);
  for (let address = first; address < begin; address++)
    if (!isTaken(address)) return numberAddress(address, pool.subnet.family);
  return undefined;
}

export const IN_USE = 'is in use';

/** Why an address that was asked for cannot be given; undefined: it can. */
export function refuseAddress(pool: Pool, address: string, gateway: string | undefined): string | undefined {
  const number = addressNumber(address);
  const [lowest, highest] = hosts(pool.subnet);
  if (!contains(pool.subnet, address)) return 'is not in the subnet';
  if (gateway && addressNumber(gateway) === number) return 'is the gateway';
  if (number < lowest || number > highest) return "is the subnet's own or its broadcast address";
  if (pool.isTaken(number)) return IN_USE;
  return undefined;
}

/** Pools of groups bind who names an address too: members to their own, all others to none. */
export function refusePools({ within, except }: PoolSpec, address: string): string | undefined {
  const number = addressNumber(address);
  const holds = ({ first, last }: { first: string; last: string }): boolean =>
    number >= addressNumber(first) && number <= addressNumber(last);
  if (within !== undefined && !holds(within))
    return `is not in the group's pool ${within.first}-${within.last}`;
  const other = except.find(holds);
  return other && `is in the pool ${other.first}-${other.last} of a group`;
}

/**
 * Taken and free addresses of a pool as text: `20.1.1.1-20.1.1.253`; from the taken ones, whatever its size. Pools of groups are free for
 * their members alone, so they are in neither but for what is taken of them.
 */
export function addressRanges(
  spec: PoolSpec,
  taken: Iterable<string>,
): { allocated: string; available: string } {
  const { first, last, subnet } = openPool(spec, () => false);
  const given = [...taken, ...(spec.gateway ? [spec.gateway] : [])]
    .map(addressNumber)
    .filter((n) => n >= first && n <= last)
    .map((n): Range => [n, n]);
  const others = spec.except.map((pool): Range => [addressNumber(pool.first), addressNumber(pool.last)]);
  const available: Range[] = [];
  let next = first;
  for (const [from, to] of joined([...given, ...others])) {
    if (from > next) available.push([next, from - 1n]);
    if (to >= next) next = to + 1n;
  }
  if (next <= last) available.push([next, last]);
  const text = (ranges: readonly Range[]): string =>
    ranges
      .map(([from, to]) => {
        const [a, b] = [numberAddress(from, subnet.family), numberAddress(to, subnet.family)];
        return a === b ? a : `${a}-${b}`;
      })
      .join(', ');
  return { allocated: text(joined(given)), available: text(available) };
}

type Range = [first: bigint, last: bigint];

/** In order, those that touch as one. */
function joined(ranges: readonly Range[]): Range[] {
  const found: Range[] = [];
  for (const [from, to] of ranges.toSorted(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))) {
    const before = found.at(-1);
    if (before === undefined || from > before[1] + 1n) found.push([from, to]);
    else if (to > before[1]) before[1] = to;
  }
  return found;
}

/** How many addresses it has to give, taken or not, as far as a number counts them; the gateway is none of them. */
export function poolSize(spec: PoolSpec): number {
  const { first, last } = openPool(spec, () => false);
  const gateway = spec.gateway ? addressNumber(spec.gateway) : undefined;
  const inside = gateway !== undefined && gateway >= first && gateway <= last;
  const count = last < first ? 0n : last - first + 1n - (inside ? 1n : 0n);
  return count > Number.MAX_SAFE_INTEGER ? Number.MAX_SAFE_INTEGER : Number(count);
}
