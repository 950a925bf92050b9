/**
 * What hosts have in reserve (reserves.ts), as those see it who give addresses, take them back and remove what has them.
 */
import { addressNumber, isV6 } from '../model/address.ts';
import type { Host, Reserve, Reserved } from '../model/host.ts';
import type { Index } from '../model/kind.ts';
import type { Check, Write } from '../store/store.ts';
import type { Pool } from './allocator/addresses.ts';
import { addressKey, type Meaning, RESERVE } from './endings.ts';
import { storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import type { View } from './tables.ts';

const keyIn = (host: string, network: string): string => `${host}/${network}`;

export interface Change {
  readonly checks: Check[];
  readonly writes: Write[];
}

const byHost: Index<Reserve> = ({ host }) => [host];
/** What a host has in reserve, by network. */
export const reservesOf = (view: View, host: string): readonly Reserve[] =>
  view.where('reserve', byHost, host);

/** What a host has in reserve of a network. */
export const reserveOf = (view: View, host: string, network: string): readonly Reserved[] =>
  view.get<Reserve>('reserve', keyIn(host, network))?.addresses ?? [];

/** It has these from now on. */
export function putReserve(
  view: View,
  host: string,
  network: string,
  addresses: readonly Reserved[],
): Change {
  const own = keyIn(host, network);
  const key = storeKey('reserve', own);
  const before = view.stored<Reserve>('reserve', own);
  const value = addresses.length === 0 ? undefined : ({ host, network, addresses } satisfies Reserve);
  return {
    checks: [{ key, revision: before?.revision ?? 0 }],
    writes: before === undefined && value === undefined ? [] : [{ key, value }],
  };
}

/** Those of its own that are in reserve become a container's of the host, or one's that starts: of the transaction that makes it so. */
export function useReserved(view: View, network: string, host: string, addresses: readonly string[]): Change {
  const records = view.addresses(network);
  const used = addresses.filter((address) => {
    const record = records.get(address)?.object;
    return record?.reserve === host;
  });
  if (used.length === 0) return { checks: [], writes: [] };
  const left = reserveOf(view, host, network).filter((r) => !used.includes(r.address));
  const { checks, writes } = putReserve(view, host, network, left);
  // Until the host has heard that it is not in reserve any more it might use it, should it be free again.
  return {
    checks,
    writes: [...writes, ...used.map((address) => endReserved(network, address, host))],
  };
}

const endReserved = (network: string, address: string, host: string): Write => ({
  key: storeKey('ended', addressKey(network.split(':')[0] as string, address)),
  value: { of: `${RESERVE}${network}`, host } satisfies Meaning,
});

/** Those go, of one host and network. */
export function withdraw(view: View, host: string, network: string, gone: readonly string[]): Change {
  const records = view.addresses(network);
  const theirs = gone.filter((address) => {
    const record = records.get(address)?.object;
    return record?.reserve === host;
  });
  const keys = theirs.map((address) => storeKey('address', `${network}/${address}`));
  return {
    checks: theirs.map((address, i) => ({
      key: keys[i] as string,
      revision: records.get(address)?.revision ?? 0,
    })),
    writes: [
      ...keys.map((key) => ({ key, value: undefined })),
      ...theirs.map((address) => endReserved(network, address, host)),
    ],
  };
}

/** All in reserve of a network that goes, with its address records: hosts are to have heard before its addresses mean something else. */
export const networkReserves = (view: View, network: string): Write[] => [
  ...[...view.entries<Reserve>('reserve')]
    .filter(([, { object }]) => object.network === network)
    .map(([key]) => ({ key: storeKey('reserve', key), value: undefined })),
  ...[...view.addresses(network)]
    .filter(([, { object }]) => object.reserve !== undefined)
    .map(([address, { object }]) => endReserved(network, address, object.reserve as string)),
];

/** All of a host that is removed. */
export function hostReserves(view: View, host: string): Change {
  const changes = reservesOf(view, host).map(({ network, addresses }) => {
    const gone = addresses.map(({ address }) => address);
    const { checks, writes } = withdraw(view, host, network, gone);
    const list = putReserve(view, host, network, []);
    return { checks: [...checks, ...list.checks], writes: [...writes, ...list.writes] };
  });
  return {
    checks: changes.flatMap(({ checks }) => checks),
    writes: changes.flatMap(({ writes }) => writes),
  };
}

/** Somebody is to have an address that is in reserve for a host, which may have given it to a container without anybody's knowing. */
export class InReserve extends Refusal {
  readonly network: string;
  readonly address: string;
  readonly host: string;
  constructor(what: string, network: string, address: string, host: string, field: string) {
    super(
      423,
      `${what}: address ${address} is in reserve for containers of ${host}, which gives it back: try again`,
      field,
    );
    this.network = network;
    this.address = address;
    this.host = host;
  }
}

/** Throws where the address is in reserve, but for the host that tells of a container which has it. That of a host which is away stays there. */
export function refuseReserved(
  view: View,
  { network, address, what, field }: Record<'network' | 'address' | 'what' | 'field', string>,
  teller?: string,
): void {
  const record = view.addresses(network).get(address)?.object;
  if (record?.reserve === undefined || record.reserve === teller) return;
  if (view.get<Host>('host', record.reserve) !== undefined)
    throw new InReserve(what, network, address, record.reserve, field);
  throw new Refusal(
    409,
    `${what}: address ${address} is in reserve for containers of host ${record.reserve}, which is away: choose another, or where it is gone for good remove it (netctl host rm ${record.reserve})`,
    field,
  );
}

/** One of a pool that its host can give up; undefined: there is none. */
export const reservedIn = (
  view: View,
  network: string,
  isOfPool: (address: string) => boolean,
): string | undefined =>
  [...view.addresses(network)].find(
    ([address, { object }]) =>
      view.get<Host>('host', object.reserve ?? '') !== undefined && isOfPool(address),
  )?.[0];

export const isInside = ({ first, last, subnet }: Pool, address: string): boolean => {
  const number = addressNumber(address);
  return isV6(address) === (subnet.family === 6) && number >= first && number <= last;
};
