/**
 * Many objects as one decision, in any order, all or nothing: what a file declares becomes true in one step.
 *
 *   read each --> order by references --> decide each on an overlay of the mirror --> one transaction
 *
 * Each object is decided on as the API of single objects does it (intent.ts); the overlay shows it what the objects
 * before it write. What is as it should be already is not written. What is not in the set stays as it is.
 */
import type { TSchema } from '@sinclair/typebox';
import type { Kind } from '../model/kind.ts';
import { KINDS, keyOf, kindByName, REFERRED } from '../model/kinds.ts';
import { DEFAULT_TENANT } from '../model/tenant.ts';
import { shown } from '../model/text.ts';
import type { ObjectOutcome } from '../protocol/declared.ts';
import type { Check, Write } from '../store/store.ts';
import { type FreeTag, freeTags } from './allocator/tags.ts';
import { changedFields, declaredForm, givenFields } from './changes.ts';
import type { Plain } from './fields.ts';
import { decideDelete, decideWrite, occurrenceOf, readObject } from './intent.ts';
import { type Mirror, parseStoreKey, storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import type { Tables, View } from './tables.ts';
import type { Decision } from './writer.ts';

/** An object of the set, read. */
export interface Declared {
  /** In the set, from 1. */
  readonly position: number;
  readonly kind: Kind;
  readonly key: string;
  readonly object: Plain;
}

/** Kinds so that each comes after those that it refers to: settings, tenants, what is in them, what joins that. */
export const ORDER: readonly Kind[] = (() => {
  const ordered = new Set<Kind>([kindByName.get('global') as Kind]);
  const visit = (kind: Kind, above: readonly Kind[]): void => {
    if (ordered.has(kind) || above.includes(kind)) return;
    for (const reference of kind.references) {
      const target = kindByName.get(reference.kind);
      if (target !== undefined) visit(target, [...above, kind]);
    }
    ordered.add(kind);
  };
  for (const kind of KINDS) visit(kind, []);
  return [...ordered];
})();

const natural = new Intl.Collator('en', { numeric: true });
/** Of keys: rule 9 before rule 10, and always the same. */
const byKey = (a: string, b: string): number => natural.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0);

/** The refusal with the place in the set in front. */
function placed(error: unknown, position: number, name: string): unknown {
  if (!(error instanceof Refusal)) return error;
  const named = error.message.includes(name) ? '' : ` (${name})`;
  return new Refusal(error.status, `object ${position}${named}: ${error.message}`, error.field, position);
}

/** Objects of `{objects: [...]}` with kind, key and known fields only; a tenant that is not named is default. */
export function readSet(body: unknown): Declared[] {
  const { objects, ...rest } = (typeof body === 'object' && body !== null ? body : {}) as Plain;
  if (!Array.isArray(objects) || Object.keys(rest).length > 0)
    throw new Refusal(400, 'the body must be {"objects": [...]}, each with kind and fields', 'objects');
  const first = new Map<string, number>();
  return objects.map((entry: unknown, i) => {
    const position = i + 1;
    const { kind: kindName, ...fields } = (typeof entry === 'object' && entry !== null ? entry : {}) as Plain;
    const kind = typeof kindName === 'string' ? kindByName.get(kindName) : undefined;
    if (kind === undefined)
      throw new Refusal(
        400,
        `object ${position}: kind ${kindName === undefined ? 'is missing: it' : shown(kindName)} must be one of ${KINDS.map((k) => k.name).join(', ')}`,
        'kind',
        position,
      );
    for (const field of kind.keyFields) {
      if (fields[field] === undefined)
        fields[field] =
          field === 'tenantName' && kind.keyFields.length > 1
            ? DEFAULT_TENANT
            : (kind.schema.properties[field]?.const ?? (mayBeEmpty(kind, field) ? '' : undefined));
      const value = fields[field];
      if (typeof value !== 'string' || (value === '' && !mayBeEmpty(kind, field)) || value.includes(':'))
        throw new Refusal(
          400,
          `object ${position} (${kind.name}): ${field} ${value === undefined ? 'is missing: it' : shown(value)} must be text without ':'`,
          field,
          position,
        );
    }
    const key = keyOf(kind, fields);
    const name = `${kind.name} ${key}`;
    const before = first.get(name);
    if (before !== undefined)
      throw new Refusal(400, `object ${position}: ${name} is object ${before} already`, undefined, position);
    first.set(name, position);
    try {
      return { position, kind, key, object: readObject(kind, key, fields) };
    } catch (error) {
      throw placed(error, position, name);
    }
  });
}

/** A part of the key that some have none for: a policy that is of no namespace. */
const mayBeEmpty = ({ schema }: Kind, field: string): boolean => {
  const property: TSchema | undefined = schema.properties[field];
  return property?.type === 'string' && property.minLength === undefined;
};

/** Decides on the whole set or throws a Refusal that names the object. */
export function decideApply(set: readonly Declared[], mirror: Mirror): Decision<ObjectOutcome[]> {
  const overlay = mirror.overlay();
  const freeTag = freeTags(overlay);
  const checks = new Map<string, Check>();
  const writes = new Map<string, Write>();
  const take = (decision: Decision<unknown>): void => {
    // Of a key that the set itself wrote before, the overlay's revision says nothing: it was checked then.
    for (const check of decision.checks)
      if (!writes.has(check.key) && !checks.has(check.key)) checks.set(check.key, check);
    for (const write of decision.writes) {
      const { kind, key } = parseStoreKey(write.key);
      overlay.put(kind, key, write.value, 0);
      writes.set(write.key, write);
    }
  };
  const outcomes: ObjectOutcome[] = [];
  for (const declared of inOrder(set)) {
    try {
      outcomes[declared.position - 1] = decideOne(declared, overlay, freeTag, take);
    } catch (error) {
      throw placed(error, declared.position, `${declared.kind.name} ${declared.key}`);
    }
  }
  const events = inOrder(set).flatMap(
    ({ kind, position }) => occurrenceOf(kind, outcomes[position - 1] as ObjectOutcome) ?? [],
  );
  return { checks: [...checks.values()], writes: [...writes.values()], answer: outcomes, events };
}

/** By references; what asks for a given tag or address before what takes any that is free. */
function inOrder(set: readonly Declared[]): Declared[] {
  const rank = new Map(ORDER.map((kind, i) => [kind, i]));
  const takesAny = ({ kind, object }: Declared): number =>
    [...givenFields(kind).keys()].some((field) => object[field] === undefined) ? 1 : 0;
  return [...set].sort(
    (a, b) =>
      (rank.get(a.kind) ?? 0) - (rank.get(b.kind) ?? 0) || takesAny(a) - takesAny(b) || byKey(a.key, b.key),
  );
}

function decideOne(
  { kind, key, object }: Declared,
  overlay: Tables,
  freeTag: FreeTag,
  take: (decision: Decision<unknown>) => void,
): ObjectOutcome {
  const stored = overlay.stored<Plain>(kind.name, key);
  const write = (wanted: Plain): ObjectOutcome => {
    const decision = decideWrite(kind, key, wanted, 'post', overlay, freeTag);
    take(decision);
    return decision.outcome;
  };
  if (stored === undefined) return write(object);
  const before = declaredForm(kind, stored.object);
  const kept = Object.fromEntries(
    [...givenFields(kind).keys()].map((field) => [field, object[field] ?? before[field]]),
  );
  const fields = changedFields(before, declaredForm(kind, { ...object, ...kept }));
  const [field] = Object.keys(fields);
  if (field === undefined) {
    take({
      checks: [{ key: storeKey(kind.name, key), revision: stored.revision }],
      writes: [],
      answer: stored.object,
    });
    return { kind: kind.name, key, result: 'unchanged' };
  }
  if (!kind.updatable) {
    if (REFERRED.has(kind.name))
      throw new Refusal(
        409,
        `${kind.name} ${key}: ${field} is ${text(before[field])} and cannot change to ${text(fields[field]?.after)}: delete the ${kind.name} and create it anew`,
        field,
      );
    // Nothing can refer to it, so that one step does: a rule.
    take(decideDelete(kind, key, overlay));
  }
  write(object);
  return { kind: kind.name, key, result: 'changed', fields };
}

const text = (value: unknown): string => (value === undefined ? 'unset' : JSON.stringify(value));

/** All objects that are declared by people, or all of a kind, in the form that readSet reads, in an order that reads well: tenants, settings, then tenant by tenant. */
export function exportSet(view: View, kindName?: string): Plain[] {
  const place = ({ name }: Kind): number => (name === 'tenant' ? 0 : name === 'global' ? 1 : 2);
  const isExported = ({ name, orchestrated }: Kind): boolean =>
    kindName === undefined ? !orchestrated : name === kindName;
  const found = ORDER.flatMap((kind, rank) =>
    !isExported(kind)
      ? []
      : view.list<Plain>(kind.name).map((stored) => ({
          place: place(kind),
          // Of no tenant: after all that are.
          tenant: kind.keyFields[0] === 'tenantName' ? String(stored.tenantName) : '\uffff',
          rank,
          key: keyOf(kind, stored),
          object: { kind: kind.name, ...declaredForm(kind, stored) },
        })),
  );
  return found
    .sort((a, b) => a.place - b.place || byKey(a.tenant, b.tenant) || a.rank - b.rank || byKey(a.key, b.key))
    .map(({ object }) => object);
}
