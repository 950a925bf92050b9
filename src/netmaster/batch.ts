/**
 * Many objects as one decision, in any order, all or nothing: what a file declares becomes true in one step.
 *
 *   read each --> order by references --> decide each on an overlay of the mirror --> one transaction
 *
 * Each object is decided on as the API of single objects does it (intent.ts); the overlay shows it what the objects
 * before it write. What is as it should be already is not written. What is not in the set stays as it is, unless the set has a name,
 * and objects that it made before are to go when they are in it no more: of each object that a named set makes, made/KIND/KEY
 * says by which it was, until the object goes.
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
import type { Caller, Occurrence } from './events.ts';
import type { Plain } from './fields.ts';
import { decideGuard } from './guards.ts';
import { decideDelete, decideWrite, occurrenceOf, readObject } from './intent.ts';
import { type Mirror, parseStoreKey, storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import { declaredFor, isShown, mustNameTheirs, rightOf, type Scope } from './scope.ts';
import type { View } from './tables.ts';
import type { Decision, Writer, Written } from './writer.ts';

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
  const at = (message: string): string => `object ${position}${named}: ${message}`;
  const { status, message, field, elsewhere } = error;
  const refusal = new Refusal(
    status,
    at(message),
    field,
    position,
    elsewhere && { ...elsewhere, message: at(elsewhere.message) },
  );
  refusal.cause = error;
  return refusal;
}

/** An object that is to go. */
export type Target = Pick<Declared, 'kind' | 'key'> & { readonly position?: number };

/** Of `{objects: [...]}`, by kind and key: other fields are not looked at. */
export const readTargets = (body: unknown): Declared[] =>
  readEach(body, (_kind, _key, fields) => fields as Plain);

/** Objects of `{objects: [...]}` with kind, key and known fields only; a tenant that is not named is default. */
export const readSet = (body: unknown): Declared[] => readEach(body, readObject);

function readEach(body: unknown, read: typeof readObject): Declared[] {
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
      return { position, kind, key, object: read(kind, key, fields) };
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

/** Of a set that has a name. */
export interface Named {
  readonly name: string;
  /** What it made and does not have any more goes. */
  readonly prune: boolean;
}

/** Throws a Refusal where the caller may not do this to one of them. */
function each(targets: readonly Target[], judge: (target: Target) => void): void {
  for (const target of targets)
    try {
      judge(target);
    } catch (error) {
      const { kind, key, position } = target;
      throw position === undefined ? error : placed(error, position, `${kind.name} ${key}`);
    }
}

/** Before anything is written, and told: not as much of another's as that it is not there, or as it should be. */
function mustNameOnlyTheirs(set: readonly Declared[], scope: Scope | undefined): void {
  if (scope !== undefined) each(set, ({ kind, key }) => mustNameTheirs(scope, kind, key));
}
function mustBeTheirs(targets: readonly Target[], mirror: Mirror, scope: Scope | undefined): void {
  const right = rightOf(scope);
  if (right !== undefined)
    each(targets, ({ kind, key }) => right(kind, key, { before: mirror.get(kind.name, key) }, mirror));
}

/** Decisions one after the other as one, each on what those before it write. */
function openBatch(mirror: Mirror, scope: Scope | undefined) {
  const overlay = mirror.overlay();
  const checks = new Map<string, Check>();
  const writes = new Map<string, Write>();
  const events: Occurrence[] = [];
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
  const decided = <T>(answer: T): Decision<T> => ({
    checks: [...checks.values()],
    writes: [...writes.values()],
    answer,
    events,
  });
  return { overlay, take, events, decided, right: rightOf(scope) };
}
type Batch = ReturnType<typeof openBatch>;

/** Decides on the whole set or throws a Refusal that names the object. What is pruned stands behind the objects of the set. */
export function decideApply(
  set: readonly Declared[],
  mirror: Mirror,
  named?: Named,
  scope?: Scope,
): Decision<ObjectOutcome[]> {
  const batch = openBatch(mirror, scope);
  const { overlay, take } = batch;
  const asked = set.flatMap(({ kind, object: { pktTag } }) =>
    kind.name === 'endpointGroup' && typeof pktTag === 'number' ? [pktTag] : [],
  );
  const freeTag = freeTags(overlay, asked);
  const doomed = named?.prune ? unnamed(set, mirror, named.name, scope) : [];
  // As much as possible before, so that an address of theirs may be taken; the rest when nothing of the set uses it any more.
  const used = removeFree(doomed, batch);
  const outcomes: ObjectOutcome[] = [];
  for (const declared of inOrder(set)) {
    const { kind, key } = declared;
    const made = `${kind.name}/${key}`;
    const maker = overlay.get<Made>('made', made);
    try {
      const outcome = decideOne(declared, batch, freeTag);
      outcomes[declared.position - 1] = outcome;
      const madeBy = outcome.result === 'created' ? named?.name : maker?.set;
      if (madeBy !== undefined && overlay.get<Made>('made', made)?.set !== madeBy)
        take({
          checks: [],
          writes: [{ key: storeKey('made', made), value: { set: madeBy } }],
          answer: undefined,
        });
    } catch (error) {
      throw placed(error, declared.position, `${kind.name} ${key}`);
    }
  }
  for (const { kind, position } of inOrder(set)) {
    const event = occurrenceOf(kind, outcomes[position - 1] as ObjectOutcome);
    if (event !== undefined) batch.events.push(event);
  }
  for (const target of used) removeOne(target, batch);
  return batch.decided([...outcomes, ...doomed.map(deleted)]);
}

/** Of an object: the set that made it. */
interface Made {
  readonly set: string;
}

const deleted = ({ kind, key }: Target): ObjectOutcome => ({ kind: kind.name, key, result: 'deleted' });

/** What a set of this name made before and has no more, in the order in which it can go: of who has some tenants, in these. */
export function unnamed(set: readonly Declared[], view: View, name: string, scope?: Scope): Target[] {
  const present = new Set(set.map(({ kind, key }) => `${kind.name}/${key}`));
  const found = [...view.entries<Made>('made')].flatMap(([id, { object: made }]): Target[] => {
    if (made.set !== name || present.has(id)) return [];
    const kind = kindByName.get(id.slice(0, id.indexOf('/')));
    const key = id.slice(id.indexOf('/') + 1);
    const there = kind && view.get<Plain>(kind.name, key);
    if (kind === undefined || there === undefined) return [];
    return scope === undefined || isShown(scope, kind.name, there) ? [{ kind, key }] : [];
  });
  return usersFirst(found);
}

const usersFirst = <T extends Target>(targets: readonly T[]): T[] => {
  const rank = new Map(ORDER.map((kind, i) => [kind, i]));
  return [...targets].sort(
    (a, b) => (rank.get(b.kind) ?? 0) - (rank.get(a.kind) ?? 0) || byKey(a.key, b.key),
  );
};

/** Another netmaster has taken a guard away meanwhile, or it was not there: guards.ts. */
class Unguarded extends Error {}

/** Gone with what owned it is as good as gone. */
function removeOne({ kind, key, position }: Target, { overlay, take, events, right }: Batch): void {
  if (overlay.stored(kind.name, key) === undefined) return;
  try {
    const decision = decideDelete(kind, key, overlay, right);
    if (decision.answer === undefined) throw new Unguarded();
    take(decision);
    events.push(...(decision.events ?? []));
  } catch (error) {
    throw position === undefined ? error : placed(error, position, `${kind.name} ${key}`);
  }
}

/** Answers those that something uses. */
const removeFree = (targets: readonly Target[], batch: Batch): Target[] =>
  targets.filter((target) => {
    try {
      removeOne(target, batch);
      return false;
    } catch (error) {
      if (error instanceof Refusal && error.status !== 403) return true;
      throw error;
    }
  });

/** All of them that are there, in one step; throws a Refusal where something else uses one. */
function decideRemoval(
  set: readonly Declared[],
  mirror: Mirror,
  scope: Scope | undefined,
): Decision<ObjectOutcome[]> {
  const batch = openBatch(mirror, scope);
  const isThere = ({ kind, key }: Declared): boolean => mirror.stored(kind.name, key) !== undefined;
  const answer = set.map((target): ObjectOutcome => {
    const { kind, key } = target;
    return isThere(target) ? deleted(target) : { kind: kind.name, key, result: 'absent' };
  });
  for (const target of usersFirst(set.filter(isThere))) removeOne(target, batch);
  return batch.decided(answer);
}

/** What is decided with objects to delete, with their guards, in two steps: guards.ts. */
async function guarded(
  targets: () => readonly Target[],
  decide: (view: Mirror) => Decision<ObjectOutcome[]>,
  { mirror, writer }: Deciding,
  caller: Caller | undefined,
): Promise<Written<ObjectOutcome[]>> {
  for (;;) {
    if (targets().length > 0)
      await writer.write(() => {
        const guards = targets().map(({ kind, key }) => decideGuard(mirror, kind.name, key));
        return { checks: [], writes: guards.flatMap(({ writes }) => writes), answer: undefined };
      });
    try {
      return await writer.write(() => decide(mirror), caller);
    } catch (error) {
      if (!(error instanceof Unguarded)) throw error;
    }
  }
}

/** The mirror with these guarded, for what is not to be written. */
function asGuarded(targets: readonly Target[], mirror: Mirror): Mirror {
  return {
    ...mirror,
    overlay() {
      const overlay = mirror.overlay();
      for (const { kind, key } of targets)
        for (const write of decideGuard(overlay, kind.name, key).writes) {
          const { kind: guard, key: its } = parseStoreKey(write.key);
          overlay.put(guard, its, write.value, 0);
        }
      return overlay;
    },
  };
}

type Deciding = { readonly mirror: Mirror; readonly writer: Writer };
/** `revision` of the store: that of the mirror where nothing was to be written. */
export type Outcome = Written<ObjectOutcome[]>;

export async function applySet(
  set: readonly Declared[],
  named: Named | undefined,
  dryRun: boolean,
  { mirror, writer }: Deciding,
  caller?: Caller,
  scope?: Scope,
): Promise<Outcome> {
  mustNameOnlyTheirs(set, scope);
  const targets = (): Target[] => (named?.prune ? unnamed(set, mirror, named.name, scope) : []);
  mustBeTheirs(targets(), mirror, scope);
  const decide = (view: Mirror): Decision<ObjectOutcome[]> => decideApply(set, view, named, scope);
  if (!dryRun) return guarded(targets, decide, { mirror, writer }, caller);
  // An address that is in reserve is given up for this already (reserves.ts).
  return writer.write(() => {
    const { answer } = decide(asGuarded(targets(), mirror));
    return { checks: [], writes: [], answer };
  }, caller);
}

export async function removeSet(
  set: readonly Declared[],
  dryRun: boolean,
  { mirror, writer }: Deciding,
  caller?: Caller,
  scope?: Scope,
): Promise<Outcome> {
  mustBeTheirs(set, mirror, scope);
  if (!dryRun)
    return guarded(
      () => set.filter(({ kind, key }) => mirror.stored(kind.name, key) !== undefined),
      (view) => decideRemoval(set, view, scope),
      { mirror, writer },
      caller,
    );
  return { answer: decideRemoval(set, asGuarded(set, mirror), scope).answer, revision: mirror.revision };
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
  { overlay, take, right }: Batch,
  freeTag: FreeTag,
): ObjectOutcome {
  const stored = overlay.stored<Plain>(kind.name, key);
  const write = (wanted: Plain): ObjectOutcome => {
    const decision = decideWrite(kind, key, wanted, 'post', overlay, freeTag, right);
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
  right?.(kind, key, { before: stored.object, after: object }, overlay);
  if (!kind.updatable) {
    if (REFERRED.has(kind.name))
      throw new Refusal(
        409,
        `${kind.name} ${key}: ${field} is ${text(before[field])} and cannot change to ${text(fields[field]?.after)}: delete the ${kind.name} and create it anew`,
        field,
      );
    // Nothing can refer to it, so that one step does: a rule.
    take(decideDelete(kind, key, overlay, right));
  }
  write(object);
  return { kind: kind.name, key, result: 'changed', fields };
}

const text = (value: unknown): string => (value === undefined ? 'unset' : JSON.stringify(value));

/** All objects that are declared by people, or all of a kind, in the form that readSet reads, in an order that reads well: tenants, settings, then tenant by tenant. */
export function exportSet(view: View, kindName?: string, scope?: Scope): Plain[] {
  const place = ({ name }: Kind): number => (name === 'tenant' ? 0 : name === 'global' ? 1 : 2);
  const isExported = ({ name, orchestrated, forTenants }: Kind): boolean =>
    (kindName === undefined ? !orchestrated : name === kindName) &&
    (scope === undefined || forTenants !== undefined);
  const found = ORDER.flatMap((kind, rank) =>
    !isExported(kind)
      ? []
      : view.list<Plain>(kind.name).map((stored) => ({
          place: place(kind),
          // Of no tenant: after all that are.
          tenant: kind.keyFields[0] === 'tenantName' ? String(stored.tenantName) : '\uffff',
          rank,
          key: keyOf(kind, stored),
          object: { kind: kind.name, ...declaredFor(scope, kind, stored, declaredForm(kind, stored)) },
        })),
  );
  return found
    .sort((a, b) => a.place - b.place || byKey(a.tenant, b.tenant) || a.rank - b.rank || byKey(a.key, b.key))
    .map(({ object }) => object);
}
