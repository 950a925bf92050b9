/**
 * Whole clusters as one document of objects, each with its kind and its fields as in /api/v1/COLLECTION/:
 *
 *   POST /api/v1/apply[?dryRun=true][&wait=SECONDS]  {objects}  -> Applied        (all or nothing, in any order)
 *   GET  /api/v1/export[?kind=KIND]                             -> ObjectSet      (what apply reads)
 */

import { type Answer, asList, asObject } from './client.ts';

/** `{kind: 'network', networkName: 'contiv-net', subnet: '20.1.1.0/24'}`; the tenant is default where none is named. */
export type DeclaredObject = Readonly<Record<string, unknown>>;

export interface ObjectSet {
  readonly objects: readonly DeclaredObject[];
}

/** A side that is absent: the field is unset. */
export type FieldChanges = Readonly<Record<string, { readonly before?: unknown; readonly after?: unknown }>>;

export interface ObjectOutcome {
  readonly kind: string;
  readonly key: string;
  readonly result: 'created' | 'changed' | 'unchanged';
  /** Absent where unchanged. */
  readonly fields?: FieldChanges;
}

export interface Applied {
  /** True: nothing was written, this is what would be. */
  readonly dryRun: boolean;
  /** Of the store. The same as before where everything was as declared. */
  readonly revision: number;
  /** In the order of the request. */
  readonly objects: readonly ObjectOutcome[];
}

/** Throws an ApiError where the answer has no list of objects. */
export function objectsOf<T extends object>(
  answer: Answer<{ readonly objects: readonly T[] }>,
): readonly T[] {
  return asList({ ...answer, body: asObject(answer).objects });
}
