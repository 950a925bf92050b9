/**
 * Remembers what was made from what, from one compile to the next, so that a compile costs what changed: the same inputs
 * (the very same objects) give the very same value, and all that follows from it need not be made either.
 *
 * It is a cache, which no result depends on: where something was forgotten it is made again, and is equal to what it was. What one
 * compile did not ask for is forgotten at its end, so it holds no more than the last state.
 */
export interface Memo {
  /**
   * The value that `key` had in the last compile, if its inputs are the same as then; else that of `make`. If `make` gives
   * something deeply equal to the value before, that very object is kept, so that what depends on it does not change.
   *
   * `make` is given the value before, or undefined where there is none: after a restart, for one. It may choose by it among answers that
   * are all right, such as which slot a provider has; what is right must follow from the inputs alone.
   */
  use<T>(key: string, inputs: readonly unknown[], make: (before: T | undefined) => T): T;
  /** Ends a compile: what was not asked for since the one before ended is forgotten. */
  forgetUnused(): void;
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
    forgetUnused() {
      last = now;
      now = new Map();
    },
  };
}

/** Plain data, deeply; maps, sets and whatever else has a class only where they are the same one. */
export function equal(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== 'object' || typeof b !== 'object' || a === null || b === null) return false;
  if (Array.isArray(a))
    return Array.isArray(b) && a.length === b.length && a.every((item, i) => equal(item, b[i]));
  if (Object.getPrototypeOf(a) !== Object.prototype) return false;
  const keys = Object.keys(a);
  return (
    keys.length === Object.keys(b).length &&
    keys.every((key) => equal((a as Record<string, unknown>)[key], (b as Record<string, unknown>)[key]))
  );
}
