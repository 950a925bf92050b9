/** What follows from a part of the state (state.ts) is made once: an unchanged part is the same object as before. */
export function once<T extends object, R extends object>(make: (part: T) => R): (part: T) => R {
  const made = new WeakMap<T, R>();
  return (part) => {
    const known = made.get(part) ?? make(part);
    made.set(part, known);
    return known;
  };
}

/** By part, whatever follows from it. */
type ByPart<R> = ReadonlyMap<object, R>;

/** What follows from the parts that are in only one of two states. */
export function changedParts<R>(before: ByPart<R>, after: ByPart<R>): { gone: R[]; added: R[] } {
  const only = (from: ByPart<R>, other: ByPart<R>): R[] =>
    [...from].filter(([part]) => !other.has(part)).map(([, value]) => value);
  return { gone: only(before, after), added: only(after, before) };
}

/** The very same parts, in the same order. */
export const sameParts = (a: readonly object[], b: readonly object[]): boolean =>
  a.length === b.length && a.every((part, i) => part === b[i]);
