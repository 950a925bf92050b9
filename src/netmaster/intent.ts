/** Creating, updating and deleting intent: validate, allocate, decide on one transaction. */

import type { TSchema } from '@sinclair/typebox';
import { Value } from '@sinclair/typebox/value';
import { type Endpoint, endpoint } from '../model/endpoint.ts';
import type { Kind, Problem } from '../model/kind.ts';
import { keyOf, kindByName, type Relation } from '../model/kinds.ts';
import { oneLine, shown } from '../model/text.ts';
import type { FieldChanges, ObjectOutcome } from '../protocol/declared.ts';
import type { Check, Write } from '../store/store.ts';
import { refusedByFabric } from './aci/refusal.ts';
import { ALLOCATORS } from './allocator/index.ts';
import { type FreeTag, freeTags } from './allocator/tags.ts';
import { changedFields, declaredForm } from './changes.ts';
import type { Caller, Occurrence } from './events.ts';
import { checkFields, type Plain, readBody } from './fields.ts';
import { decideGuard, releaseGuard, relyOn } from './guards.ts';
import { storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import type { Right } from './scope.ts';
import type { View } from './tables.ts';
import type { Decision, Writer, Written } from './writer.ts';

export function refuse(problem: Problem): never {
  throw new Refusal(problem.status ?? 422, problem.message, problem.field, undefined, problem.elsewhere);
}

/** 1.x clients send the zero value of a field for what is unset. */
function isZero(value: unknown, schema: TSchema): boolean {
  if (schema.type === 'array') return Array.isArray(value) && value.length === 0;
  return value === (schema.type === 'integer' ? 0 : '');
}

/** The object as the caller means it: known fields only, the key's fields from the URL where the body has none. */
export function readObject(kind: Kind, key: string, body: unknown): Plain {
  // Of settings there is one object, whose key is the kind's name.
  const what = key === kind.name ? key : `${kind.name} ${oneLine(key, 200)}`;
  const { properties } = kind.schema;
  // links are computed, whatever the client sends in them
  const { links: _links, 'link-sets': _sets, key: _key, ...given } = readBody(what, body);
  const object: Plain = Object.fromEntries(
    Object.entries(given).filter(
      ([field, value]) =>
        kind.orchestrated ||
        !(Object.hasOwn(properties, field) && isZero(value, properties[field] as TSchema)),
    ),
  );
  const parts = key.split(':');
  for (const [i, field] of kind.keyFields.entries()) {
    if (object[field] === undefined) object[field] = parts[i] ?? '';
    if (object[field] !== parts[i] || parts.length !== kind.keyFields.length)
      throw new Refusal(400, `${what}: the URL must end in ${kind.keyFields.join(':')} of the body`, field);
  }
  checkFields(what, kind.schema, object);
  return kind.normalize?.(object as never) ?? object;
}

/** Checks that what an object refers to is there; the transaction relies on it staying. */
function checkReferences(kind: Kind, key: string, object: Plain, view: View) {
  const checks: Check[] = [];
  const writes: Write[] = [];
  for (const reference of kind.references)
    for (const target of reference.keys(object as never)) {
      if (view.stored(reference.kind, target) === undefined)
        refuse({
          status: 404,
          field: reference.field,
          message: `${kind.name} ${key}: ${reference.field} names ${reference.kind} ${target}, which does not exist`,
        });
      const relying = relyOn(view, reference.kind, target);
      checks.push(...relying.checks);
      writes.push(...relying.writes);
    }
  return { checks, writes };
}

/** What the user said of an object, without what netmaster gave to it. */
function said(kind: Kind, stored: Plain): Plain {
  return Object.fromEntries(
    Object.entries(stored).filter(([field]) => Object.hasOwn(kind.schema.properties, field)),
  );
}

export type WriteMode = 'post' | 'put';

/** A write of one object, and what it changes of it. */
export interface ObjectDecision extends Decision<Plain> {
  readonly outcome: ObjectOutcome;
}

/** What is kept of a change of intent; undefined: there was none. */
export function occurrenceOf(kind: Kind, { key, result, fields }: ObjectOutcome): Occurrence | undefined {
  return result === 'unchanged' ? undefined : occurrence(kind, key, result, fields);
}

function occurrence(kind: Kind, key: string, action: string, fields: FieldChanges = {}): Occurrence {
  const [first] = kind.keyFields;
  const tenant = first === 'tenantName' ? key.split(':')[0] : undefined;
  return {
    kind: kind.orchestrated ? 'orchestrator' : 'intent',
    action,
    object: kind.name,
    key,
    ...(tenant === undefined ? {} : { tenant }),
    fields,
  };
}

/** What a write makes of an object that was so before; undefined: it was not there. */
function outcomeOf(kind: Kind, key: string, before: Plain | undefined, after: Plain): ObjectOutcome {
  const declared = declaredForm(kind, after);
  const fields = changedFields(before === undefined ? {} : declaredForm(kind, before), declared);
  if (before !== undefined && Object.keys(fields).length === 0)
    return { kind: kind.name, key, result: 'unchanged' };
  return { kind: kind.name, key, result: before === undefined ? 'created' : 'changed', fields };
}

export function decideWrite(
  kind: Kind,
  key: string,
  object: Plain,
  mode: WriteMode,
  view: View,
  freeTag: FreeTag = freeTags(view),
  right?: Right,
): ObjectDecision {
  const before = view.stored<Plain>(kind.name, key);
  right?.(kind, key, { before: before?.object, after: object }, view);
  if (before !== undefined && !kind.updatable) {
    const is = said(kind, before.object);
    const different = Object.keys(kind.schema.properties).filter((f) => !Value.Equal(is[f], object[f]));
    // One that was given says more than one that was left out.
    const field = different.find((f) => object[f] !== undefined) ?? different[0];
    if (field === undefined && mode === 'put') {
      const outcome = outcomeOf(kind, key, before.object, before.object);
      return { checks: [], writes: [], answer: before.object, outcome };
    }
    const exists = `${kind.name} ${key} exists already`;
    if (field === undefined) throw new Refusal(409, exists);
    const text = (value: unknown): string => (value === undefined ? 'unset' : shown(value));
    throw new Refusal(
      409,
      `${exists}: ${field} is ${text(is[field])} and cannot change to ${text(object[field])}: delete it and create it anew`,
      field,
    );
  }
  const { checks, writes } = checkReferences(kind, key, object, view);
  const problem =
    kind.check?.(object as never, view, before?.object as never) ??
    refusedByFabric(kind.name, key, object, view);
  if (problem !== undefined) refuse(problem);
  claimName(kind, key, object, view, checks, writes);
  let stored = object;
  for (const allocation of kind.allocates ?? []) {
    const given = ALLOCATORS[allocation].give?.(view, key, object, before?.object, freeTag);
    if (given === undefined) continue;
    stored = { ...stored, ...given.fields };
    checks.push(...given.checks);
    writes.push(...given.writes);
  }
  checks.push({ key: storeKey(kind.name, key), revision: before?.revision ?? 0 });
  writes.push({ key: storeKey(kind.name, key), value: stored });
  const outcome = outcomeOf(kind, key, before?.object, stored);
  const event = occurrenceOf(kind, outcome);
  return { checks, writes, answer: stored, outcome, events: event === undefined ? [] : [event] };
}

/** Key of the record that says whose a name is; undefined where containers do not look it up. */
function nameKey(kind: Kind, object: Plain): string | undefined {
  if (kind.lookupName === undefined) return undefined;
  return `${object.tenantName}/${String(object[kind.lookupName]).toLowerCase()}`;
}

/** Names are unique over kinds in a tenant: concurrent creates must see each other, so each name is a key. */
function claimName(
  kind: Kind,
  key: string,
  object: Plain,
  view: View,
  checks: Check[],
  writes: Write[],
): void {
  const name = nameKey(kind, object);
  if (name === undefined) return;
  const claim = view.stored<{ by: string }>('name', name);
  const by = `${kind.name} ${key}`;
  if (claim === undefined) {
    checks.push({ key: storeKey('name', name), revision: 0 });
    writes.push({ key: storeKey('name', name), value: { by } });
  } else if (claim.object.by !== by)
    throw new Refusal(
      409,
      `${by}: ${kind.lookupName} is the name of ${claim.object.by} already: names of networks, groups, services and external endpoints are unique in a tenant, whatever their case`,
      kind.lookupName,
    );
}

/** How a message names what refers to something. */
function callUser({ kind }: Relation, key: string, view: View): string {
  const running = kind === endpoint.name ? view.get<Endpoint>(kind, key) : undefined;
  return running === undefined ? `${kind} ${key}` : endpoint.call(running);
}

function isOwned({ kind, reference }: Relation, key: string, view: View): boolean {
  if (reference.owned === undefined) return false;
  const object = view.get<object>(kind, key);
  return object !== undefined && reference.owned(object);
}

/** Throws a Refusal where the object is not there or must stay. */
function checkRemoval(kind: Kind, key: string, view: View, right: Right | undefined): Plain {
  const object = view.get<Plain>(kind.name, key);
  right?.(kind, key, { before: object }, view);
  if (object === undefined) throw new Refusal(404, `${kind.name} ${key} does not exist`);
  const problem = kind.checkRemoval?.(object as never, view);
  if (problem !== undefined) refuse(problem);
  let count = 0;
  const shown: string[] = [];
  for (const [relation, keys] of view.referrers(kind.name, key)) {
    const users = [...keys].filter((user) => !isOwned(relation, user, view));
    count += users.length;
    for (const user of users) {
      if (shown.length === 5) break;
      shown.push(callUser(relation, user, view));
    }
  }
  if (count === 0) return object;
  const more = count > shown.length ? ` and ${count - shown.length} more` : '';
  throw new Refusal(409, `${kind.name} ${key} is in use by ${shown.join(', ')}${more}: delete them first`);
}

/** Deletes it with what it owns. In two steps where something can refer to it: guards.ts. */
export async function remove(
  kind: Kind,
  key: string,
  writer: Writer,
  caller?: Caller,
  right?: Right,
): Promise<Written<Plain>> {
  for (;;) {
    await writer.writeTogether((view) => {
      checkRemoval(kind, key, view, right);
      return decideGuard(view, kind.name, key);
    });
    const { answer, revision } = await writer.writeTogether(
      (view) => decideDelete(kind, key, view, right),
      caller,
    );
    if (answer !== undefined) return { answer, revision };
  }
}

const goneOf = (kind: Kind, key: string, object: Plain): Occurrence =>
  occurrence(kind, key, 'deleted', changedFields(declaredForm(kind, object), {}));

/** The answer is undefined where the guard has gone. */
export function decideDelete(
  kind: Kind,
  key: string,
  view: View,
  right?: Right,
): Decision<Plain | undefined> {
  const object = checkRemoval(kind, key, view, right);
  const guard = releaseGuard(view, kind.name, key);
  if (guard === undefined) return { checks: [], writes: [], answer: undefined };
  const writes: Write[] = [...guard.writes];
  const events: Occurrence[] = [];
  const remove = (of: Kind, its: string, gone: Plain): void => {
    writes.push({ key: storeKey(of.name, its), value: undefined });
    const made = `${of.name}/${its}`;
    if (view.stored('made', made) !== undefined)
      writes.push({ key: storeKey('made', made), value: undefined });
    events.push(goneOf(of, its, gone));
  };
  remove(kind, key, object);
  for (const [relation, keys] of view.referrers(kind.name, key))
    for (const owned of keys) {
      const ownedKind = kindByName.get(relation.kind);
      const gone = view.get<Plain>(relation.kind, owned);
      if (isOwned(relation, owned, view) && ownedKind !== undefined && gone !== undefined) {
        right?.(ownedKind, owned, { before: gone }, view);
        remove(ownedKind, owned, gone);
      }
    }
  for (const allocation of kind.allocates ?? [])
    writes.push(...ALLOCATORS[allocation].take(view, key, object));
  const name = nameKey(kind, object);
  if (name !== undefined) writes.push({ key: storeKey('name', name), value: undefined });
  const revision = view.stored(kind.name, key)?.revision ?? 0;
  const checks = [...guard.checks, { key: storeKey(kind.name, key), revision }];
  return { checks, writes, answer: object, events };
}

/** For answers: `key`, the links, nothing that is empty, nothing of ours. */
export function present(kind: Kind, stored: Plain, view: View): Plain {
  const key = keyOf(kind, stored);
  const links: Record<string, Plain> = Object.fromEntries((kind.emptyLinks ?? []).map((name) => [name, {}]));
  const sets: Record<string, Plain> = {};
  for (const { link, many, kind: type, keys } of kind.references) {
    if (link === undefined) continue;
    const targets = keys(stored as never);
    if (many) {
      if (targets.length > 0) sets[link] = Object.fromEntries(targets.map((k) => [k, { type, key: k }]));
    } else if (targets[0] !== undefined) links[link] = { type, key: targets[0] };
    else links[link] ??= {};
  }
  for (const [{ kind: type, reference }, users] of view.referrers(kind.name, key)) {
    const { backLink, backSingle } = reference;
    if (backLink === undefined) continue;
    const sorted = [...users].sort();
    if (backSingle) links[backLink] = { type, key: sorted[0] };
    else
      sets[backLink] = { ...sets[backLink], ...Object.fromEntries(sorted.map((k) => [k, { type, key: k }])) };
  }
  const fields = Object.entries(said(kind, stored)).filter(
    ([, value]) =>
      value !== '' && value !== 0 && value !== false && !(Array.isArray(value) && value.length === 0),
  );
  return {
    key,
    ...Object.fromEntries(fields),
    'link-sets': sets,
    ...(Object.keys(links).length > 0 ? { links } : {}),
  };
}
