/** Objects as text that is the same for equal ones: what is wanted is compared with what netmaster has without keeping either. */

const isUnset = (value: unknown): boolean =>
  value === undefined || value === '' || value === 0 || (Array.isArray(value) && value.length === 0);

function ordered(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(ordered);
  if (typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(
    Object.entries(value)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([field, inner]) => [field, ordered(inner)]),
  );
}

/** Fields at the top that are unset to netmaster ('' and 0 and empty lists) are as if absent. */
export function canonical(object: object): string {
  return JSON.stringify(ordered(Object.fromEntries(Object.entries(object).filter(([, v]) => !isUnset(v)))));
}
