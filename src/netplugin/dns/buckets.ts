/** How often each client may do something: a bucket each, which one's haste empties for nobody else. */

export interface Rate {
  /** A second. */
  readonly rate: number;
  /** At once. */
  readonly burst: number;
}

/** Buckets that are kept before those go that are full again: more than there are clients, each has an address of the tenant's here. */
const KEPT = 4096;

/** Answers whether the client may now. `now` in milliseconds, monotonic. */
export function openBuckets(
  { rate, burst }: Rate,
  now: () => number = () => performance.now(),
): (client: string) => boolean {
  const buckets = new Map<string, { left: number; at: number }>();
  const leftAt = (time: number, { left, at }: { left: number; at: number }): number =>
    Math.min(burst, left + ((time - at) * rate) / 1000);
  return (client) => {
    const at = now();
    const left = leftAt(at, buckets.get(client) ?? { left: burst, at });
    if (!buckets.has(client) && buckets.size >= KEPT)
      for (const [other, bucket] of buckets) if (leftAt(at, bucket) >= burst) buckets.delete(other);
    buckets.set(client, { left: left < 1 ? left : left - 1, at });
    return left >= 1;
  };
}
