/**
 * Routers on their way to the process that answers names. Parts that it has from those before go by number: what is sent is
 * what changed, and over there too an unchanged part is the same object as before.
 */
import type { Router } from '../state.ts';

/** What a nameserver goes by: whose names, and what containers may reach. */
export type ServedRouter = Pick<
  Router,
  'tenant' | 'namespace' | 'ports' | 'ruleSets' | 'ranges' | 'portRanges'
>;

/** Parts by number; the ranges are one part each. */
type Packed = Pick<Router, 'tenant' | 'namespace'> & {
  readonly ports: readonly number[];
  readonly ruleSets: readonly number[];
  readonly ranges: number;
  readonly portRanges: number;
};

export interface Parcel {
  readonly routers: readonly Packed[];
  /** Parts that were in no parcel just before. */
  readonly fresh: readonly (readonly [number: number, part: object])[];
}

export function openPacker(): (routers: readonly ServedRouter[]) => Parcel {
  let last = 0;
  let sent = new Map<object, number>();
  return (wanted) => {
    const now = new Map<object, number>();
    const fresh: [number, object][] = [];
    const number = (part: object): number => {
      const known = now.get(part) ?? sent.get(part);
      const of = known ?? ++last;
      if (known === undefined) fresh.push([of, part]);
      now.set(part, of);
      return of;
    };
    const routers = wanted.map(({ tenant, namespace, ports, ruleSets, ranges, portRanges }) => ({
      tenant,
      namespace,
      ports: ports.map(number),
      ruleSets: ruleSets.map(number),
      ranges: number(ranges),
      portRanges: number(portRanges),
    }));
    sent = now;
    return { routers, fresh };
  };
}

export function openUnpacker(): (parcel: Parcel) => ServedRouter[] {
  let parts = new Map<number, object>();
  return ({ routers, fresh }) => {
    const now = new Map<number, object>();
    for (const [number, part] of fresh) parts.set(number, part);
    const part = <T>(number: number): T => {
      const found = parts.get(number);
      if (found === undefined) throw new Error(`part ${number} of the routers was never sent`);
      now.set(number, found);
      return found as T;
    };
    const list = <T>(numbers: readonly number[]): T[] => numbers.map((number) => part<T>(number));
    const unpacked = routers.map(({ tenant, namespace, ports, ruleSets, ranges, portRanges }) => ({
      tenant,
      namespace,
      ports: list<ServedRouter['ports'][number]>(ports),
      ruleSets: list<ServedRouter['ruleSets'][number]>(ruleSets),
      ranges: part<ServedRouter['ranges']>(ranges),
      portRanges: part<ServedRouter['portRanges']>(portRanges),
    }));
    parts = now;
    return unpacked;
  };
}
