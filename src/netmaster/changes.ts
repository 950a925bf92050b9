/** What a write changes of an object, field by field, in the fields that people declare. */
import type { TObject } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import type { Allocation, Kind } from '../model/kind.ts';
import type { FieldChanges } from '../protocol/declared.ts';
import type { Plain } from './fields.ts';

/** Fields that netmaster fills where the user gives none, to the stored field that has what it gave. */
export function givenFields(kind: Kind): Map<string, string> {
  return new Map((kind.allocates ?? []).flatMap((allocation) => GIVEN[allocation] ?? []));
}
const GIVEN: Partial<Record<Allocation, [field: string, stored: string][]>> = {
  tag: [['pktTag', 'vni']],
  vlan: [['pktTag', 'vlan']],
  vip: [['ipAddress', 'vip']],
  vip6: [['ipv6VirtualAddress', 'ipv6VirtualAddress']],
};

/** The object as a user would declare it: with what was given to it, so that it is given the same again. */
export function declaredForm(kind: Kind, stored: Plain): Plain {
  const declared: Plain = {};
  const given = givenFields(kind);
  for (const field of Object.keys((kind.schema as TObject).properties)) {
    const value = stored[field] ?? stored[given.get(field) ?? ''];
    const isUnset = value === '' || value === 0 || (Array.isArray(value) && value.length === 0);
    if (value !== undefined && (kind.orchestrated || !isUnset)) declared[field] = value;
  }
  return declared;
}

/** Of two declared forms; `{}` for one that is not there. */
export function changedFields(before: Plain, after: Plain): FieldChanges {
  const changes: Record<string, { before?: unknown; after?: unknown }> = {};
  for (const field of new Set([...Object.keys(before), ...Object.keys(after)]))
    if (!Value.Equal(before[field], after[field]))
      changes[field] = {
        ...(before[field] === undefined ? {} : { before: before[field] }),
        ...(after[field] === undefined ? {} : { after: after[field] }),
      };
  return changes;
}
