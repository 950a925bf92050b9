/** What allocators have in common: what they answer, and the order in which a tenant's addresses are declared. */
import type { Check, Write } from '../../store/store.ts';
import { storeKey } from '../mirror.ts';
import type { View } from '../tables.ts';
import type { FreeTag } from './tags.ts';

export interface Given {
  /** Stored with the object's own fields, seen by agents, not in answers. */
  readonly fields: object;
  readonly checks: readonly Check[];
  readonly writes: readonly Write[];
}

export interface Allocator<T = object> {
  /** Throws a Refusal where there is nothing to give. `before` is the object that is updated. */
  give?(view: View, key: string, object: T, before: (T & object) | undefined, freeTag: FreeTag): Given;
  take(view: View, key: string, object: T): Write[];
}

/** Whose object says addresses of a tenant comes after the one before, and sees them. */
export function inOrder(view: View, tenant: string, last: string): Given {
  const subnets = { key: storeKey('subnets', tenant) };
  return {
    fields: {},
    checks: [{ ...subnets, revision: view.stored('subnets', tenant)?.revision ?? 0 }],
    writes: [{ ...subnets, value: { last } }],
  };
}
