/**
 * Subnets found by what they overlap, few at once whatever their number. Those that overlap have a bucket in common, the one that the
 * larger of them is at home in. Buckets are prefixes of 8, 16, 24, ... bits; a subnet is at home in the smallest that holds it, and in
 * those around that.
 */
import { parseSubnet } from './address.ts';
import type { Index, World } from './kind.ts';

/** Of each subnet or prefix its buckets, the home last; `scope` keeps apart what is not compared. */
function buckets(scope: string, texts: readonly (string | undefined)[]): string[][] {
  return texts.flatMap((text) => {
    const subnet = text ? parseSubnet(text) : undefined;
    if (subnet === undefined) return [];
    const bits = subnet.family === 4 ? 32n : 128n;
    const found: string[] = [];
    for (let length = 8; length <= subnet.length; length += 8)
      found.push(`${scope}/${subnet.family}/${length}/${subnet.network >> (bits - BigInt(length))}`);
    return [found];
  });
}

export interface SubnetIndex<T> {
  /** Objects of which a subnet may overlap one of these. */
  near(world: World, scope: string, texts: readonly (string | undefined)[]): Set<T>;
}

/** Of a kind; `of`: the scope and the subnets of an object, none where it is not looked for. Made once, as each is an index that is kept. */
export function subnetIndex<T>(
  kind: string,
  of: (object: T) => { readonly scope: string; readonly subnets: readonly (string | undefined)[] },
): SubnetIndex<T> {
  const ofObject = (object: T): string[][] => {
    const { scope, subnets } = of(object);
    return buckets(scope, subnets);
  };
  const byHome: Index<T> = (object) => ofObject(object).flatMap((b) => b.at(-1) ?? []);
  const byBucket: Index<T> = (object) => ofObject(object).flat();
  return {
    near(world, scope, texts) {
      const own = buckets(scope, texts);
      return new Set([
        ...own.flatMap((b) => world.where(kind, byBucket, b.at(-1) as string)),
        ...own.flatMap((b) => b.slice(0, -1)).flatMap((b) => world.where(kind, byHome, b)),
      ]);
    },
  };
}
