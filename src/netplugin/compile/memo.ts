/**
 * Remembers what was made from what: the same inputs (the very same objects) give the same value back, so that a
 * compile costs what changed. Forgetting is always right; what a whole pass did not ask for is forgotten.
 */
export interface Memo {
  /**
   * `make()` where `key` was not asked for in the last pass or its inputs were others. It may lean on what was there
   * before, only as far as anything else would do as well.
   */
  use<T>(key: string, inputs: readonly unknown[], make: (before: T | undefined) => T): T;
  /** Ends a pass. */
  turn(): void;
}

interface Kept {
  readonly inputs: readonly unknown[];
  readonly value: unknown;
}

export function openMemo(): Memo {
  let last = new Map<string, Kept>();
  let now = new Map<string, Kept>();
  return {
    use<T>(key: string, inputs: readonly unknown[], make: (before: T | undefined) => T): T {
      const kept = now.get(key) ?? last.get(key);
      const same =
        kept !== undefined &&
        kept.inputs.length === inputs.length &&
        kept.inputs.every((input, i) => Object.is(input, inputs[i]));
      if (same) {
        now.set(key, kept);
        return kept.value as T;
      }
      const made = make(kept?.value as T | undefined);
      const value = kept !== undefined && equal(kept.value, made) ? (kept.value as T) : made;
      now.set(key, { inputs, value });
      return value;
    },
    turn() {
      last = now;
      now = new Map();
    },
  };
}

/** Plain data, deeply; maps and sets only where they are the same one. */
export function equal(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a))
    return Array.isArray(b) && a.length === b.length && a.every((item, i) => equal(item, b[i]));
  if (a instanceof Map || a instanceof Set) return false;
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => equal((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]))
  );
}
