/** The terms of a store, as they are in it: what they are for is in lineage.ts. */
import type { View } from './tables.ts';

export interface Term {
  readonly id: string;
  /** Revision with which it began; of the newest one it is that of the record. */
  readonly from?: number;
  /** Terms of what was in the store before it was filled: they are known, and none of its past. */
  readonly replaces?: readonly string[];
  /** Why the store was another before, and when that was found (ISO 8601). */
  readonly restored?: { readonly text: string; readonly at: string };
}

export const storedTerms = (view: View) => view.stored<readonly Term[]>('lineage', 'lineage');

/** As watchers are told it: `ID.TERM`, or `ID` where no term has begun. */
export function positionId(id: string, view: View): string {
  const term = storedTerms(view)?.object.at(-1);
  return term === undefined ? id : `${id}.${term.id}`;
}
