/**
 * Who has some tenants only: what such a caller sees, and what he may make so. The route's `who` says that he may ask at all
 * (protocol/access.ts); here is what of.
 *
 *   reads    a handler looks at viewOf(mirror, scope) in place of the mirror: objects of other tenants are not there, for whatever is
 *            computed from it: lists, totals, traces, events
 *   writes   are decided on all there is, as they may collide with what the caller does not see; each object that is written or goes is
 *            held to what its kind says of tenants (model/kind.ts), within the decision
 *
 * What says nothing is not his: a kind, a field of one, a kind that is of no tenant.
 */
import { Value } from '@sinclair/typebox/value';
import type { Kind, World } from '../model/kind.ts';
import { KINDS, kindByName } from '../model/kinds.ts';
import type { Event } from '../protocol/events.ts';
import { givenFields } from './changes.ts';
import type { Plain } from './fields.ts';
import { tenantOf } from './hostScope.ts';
import type { Mirror } from './mirror.ts';
import { Refusal } from './problem.ts';

export interface Scope {
  readonly tenants: ReadonlySet<string>;
  /** `operator alice`. */
  readonly whom: string;
}

/** Throws a Refusal where an object must not become so, or go (no `after`), by the caller's will; one that is not there has no `before`. */
export type Right = (
  kind: Kind,
  key: string,
  change: { readonly before?: Plain | undefined; readonly after?: Plain | undefined },
  world: World,
) => void;

/** Of no tenant, and needed to say what is: that a host is away, which policy of an orchestrator's judges. No route shows them for that. */
const LOOKED_AT: ReadonlySet<string> = new Set(['host', 'draining', 'networkPolicy']);
const ofNoTenant = ({ schema }: Kind): boolean => !Object.hasOwn(schema.properties, 'tenantName');
const SHOWN: ReadonlySet<string> = new Set(
  KINDS.filter((kind) => kind.forTenants !== undefined && ofNoTenant(kind)).map(({ name }) => name),
);

/** Whether an object may be told to the caller: of a kind that says so, and of one of his tenants or of none. */
export function isShown({ tenants }: Scope, kind: string, object: unknown): boolean {
  if (kind !== 'endpoint' && kindByName.get(kind)?.forTenants === undefined) return false;
  const tenant = tenantOf(object);
  return tenant === undefined ? SHOWN.has(kind) : tenants.has(tenant);
}

/** Tenant that a key begins with; undefined where keys of the kind do not. */
export const tenantOfKey = (kind: Kind, key: string): string | undefined =>
  kind.keyFields[0] === 'tenantName' ? key.split(':')[0] : undefined;

/** Throws a Refusal where the caller has some tenants, and this is none of them. */
export function mustHave(scope: Scope | undefined, tenant: string, what: string, field?: string): void {
  if (scope === undefined || scope.tenants.has(tenant)) return;
  throw new Refusal(403, `${what}: ${scope.whom} has no rights in tenant ${tenant}`, field);
}

/** Throws a Refusal where the caller may not as much as know whether there is such an object. */
export function mustSee(scope: Scope | undefined, kind: Kind, key: string): void {
  if (scope === undefined) return;
  const what = `${kind.name} ${key}`;
  if (kind.forTenants === undefined)
    throw new Refusal(403, `${what}: is for who has the whole cluster, which ${scope.whom} has not`);
  const tenant = tenantOfKey(kind, key);
  if (tenant !== undefined) mustHave(scope, tenant, what, 'tenantName');
}

/** Throws a Refusal where the caller may not declare it, be it as it is: what an orchestrator has is in no file of his. */
export function mustNameTheirs(scope: Scope, kind: Kind, key: string): void {
  mustSee(scope, kind, key);
  if (tenantOfKey(kind, key) === undefined && !ofNoTenant(kind)) throw onlyAdmin(scope, kind, key);
}

const onlyAdmin = ({ whom }: Scope, kind: Kind, key: string): Refusal =>
  new Refusal(403, `${kind.name} ${key}: an admin makes and deletes it, ${whom} may not`);

/** undefined: he may make everything so. */
export function rightOf(scope: Scope | undefined): Right | undefined {
  if (scope === undefined) return undefined;
  return (kind, key, { before, after }, world) => {
    mustSee(scope, kind, key);
    const what = `${kind.name} ${key}`;
    const { sets, exceeds } = kind.forTenants ?? {};
    if (sets === undefined || tenantOfKey(kind, key) === undefined) throw onlyAdmin(scope, kind, key);
    for (const field of Object.keys(kind.schema.properties)) {
      if (sets.some((known) => known === field)) continue;
      // What goes, or is made anew, must be nothing that only an admin could make.
      const [was, is] = after === undefined ? [undefined, before?.[field]] : [before?.[field], after[field]];
      if (!Value.Equal(was, is))
        throw new Refusal(403, `${what}: ${field} is an admin's to set, ${scope.whom} may not`, field);
    }
    for (const side of [before, after]) {
      const problem = side && exceeds?.(side as never, world);
      if (problem !== undefined) throw new Refusal(403, problem.message, problem.field);
    }
    // Keys are made of the object's own tenant; one that is not would reach into another's.
    for (const reference of kind.references)
      for (const target of after === undefined ? [] : reference.keys(after as never)) {
        const of = kindByName.get(reference.kind);
        const tenant = of && tenantOfKey(of, target);
        if (tenant !== undefined) mustHave(scope, tenant, `${what}: ${reference.field}`, reference.field);
      }
  };
}

/** The object as it is told to the caller: what only an admin may set is left out where netmaster gave it, so that he may make it anew. */
export function declaredFor(scope: Scope | undefined, kind: Kind, stored: Plain, declared: Plain): Plain {
  if (scope === undefined) return declared;
  const sets: readonly string[] = kind.forTenants?.sets ?? [];
  const given = givenFields(kind);
  const isKept = (field: string): boolean =>
    !given.has(field) || stored[field] !== undefined || sets.includes(field);
  return Object.fromEntries(Object.entries(declared).filter(([field]) => isKept(field)));
}

const isEventShown = ({ tenants }: Scope, { tenant }: Pick<Event, 'tenant'>): boolean =>
  tenant !== undefined && tenants.has(tenant);

/** The mirror without what is of other tenants, and without what netmaster keeps for itself. Nothing is decided on it. */
export function viewOf(mirror: Mirror, scope: Scope | undefined): Mirror {
  if (scope === undefined) return mirror;
  const isSeen = (kind: string, object: unknown): boolean => {
    const tenant = tenantOf(object);
    return tenant === undefined ? SHOWN.has(kind) || LOOKED_AT.has(kind) : scope.tenants.has(tenant);
  };
  const seen = <T>(kind: string, objects: readonly T[]): T[] => objects.filter((o) => isSeen(kind, o));
  const list = <T>(kind: string): T[] => seen(kind, mirror.list<T>(kind));
  function get<T>(kind: string, key: string): T | undefined {
    const object = mirror.get<T>(kind, key);
    return object !== undefined && isSeen(kind, object) ? object : undefined;
  }
  const { events } = mirror;
  return {
    ...mirror,
    get revision() {
      return mirror.revision;
    },
    get told() {
      return mirror.told;
    },
    get,
    list,
    where: (kind, index, value) => seen(kind, mirror.where(kind, index, value)),
    users: <T>(kind: string, key: string, of: string) => seen(of, mirror.users<T>(kind, key, of)),
    stored: <T>(kind: string, key: string) =>
      get(kind, key) === undefined ? undefined : mirror.stored<T>(kind, key),
    *entries<T>(kind: string) {
      for (const [key, stored] of mirror.entries<T>(kind))
        if (isSeen(kind, stored.object)) yield [key, stored] as const as [string, typeof stored];
    },
    addresses: (network) =>
      scope.tenants.has(network.split(':')[0] as string) ? mirror.addresses(network) : new Map(),
    count: (kind) => list(kind).length,
    referrers: (kind, key) =>
      new Map(
        [...mirror.referrers(kind, key)].flatMap(([relation, keys]) => {
          const own = [...keys].filter((user) => get(relation.kind, user) !== undefined);
          return own.length === 0 ? [] : [[relation, new Set(own)] as const];
        }),
      ),
    // What is kept for all shows what all refer to.
    shown: { of: (_kind, _key, make) => make(), changes: () => Number.NaN },
    events: {
      ...events,
      list: (filter) => events.list(filter).filter((event) => isEventShown(scope, event)),
      onEvents: (listener) =>
        events.onEvents((all) => {
          const own = all.filter((event) => isEventShown(scope, event));
          if (own.length > 0) listener(own);
        }),
    },
  };
}
