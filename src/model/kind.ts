/**
 * What the model knows of one kind of object. A new kind is one file beside this one and its line in
 * kinds.ts; store keys, REST routes, links, OpenAPI, the watch and netctl's checks follow from it.
 */
import type { Static, TObject } from '@sinclair/typebox';

/** A many-to-one relation that follows from an object's own fields. */
export interface Reference<T> {
  /** The field that is named when the reference is wrong. */
  readonly field: string & keyof T;
  /** The kind that is referred to, e.g. `network`. */
  readonly kind: string;
  /** Keys of the objects referred to, e.g. `['default:contiv-net']`; empty where the field is unset. */
  keys(object: T): readonly string[];
  /** Name under `links` (single) or `link-sets` (many) of this object, as 1.x has it, e.g. `Network`. */
  readonly link?: string;
  readonly many?: boolean;
  /** Name under `link-sets` of the object referred to, e.g. `EndpointGroups`. Absent: not shown there. */
  readonly backLink?: string;
  /** `backLink` is under `links`, as 1.x has a group's one application profile. */
  readonly backSingle?: boolean;
  /** It goes with what it refers to, as rules with their policy; otherwise it keeps that from being deleted. */
  owned?(object: T): boolean;
}

/** Values that an object is found by. Each function is an index of its own, kept up to date: a constant, not a closure. */
export type Index<T> = (object: T) => readonly string[];

/** Read access to the other objects, for checks that need them. */
export interface World {
  get<T>(kind: string, key: string): T | undefined;
  /** All of a kind: not for checks of what there are many of. */
  list<T>(kind: string): readonly T[];
  /** Those of a kind that refer to an object, as the networks of a tenant: `users('tenant', 'blue', 'network')`. */
  users<T>(kind: string, key: string, of: string): readonly T[];
  /** Objects of the kind that the index gives this value, at once whatever their number. */
  where<T>(kind: string, index: Index<T>, value: string): readonly T[];
}

export interface Elsewhere {
  readonly tenant: string;
  /** As true as the whole one, and names nothing of that tenant. */
  readonly message: string;
}

/** Why an object is refused: a plain sentence that names the object, the field and what would be right. */
export interface Problem {
  readonly field?: string;
  readonly message: string;
  /** It names what is of another tenant: what is said in its place to who may not see that one. */
  readonly elsewhere?: Elsewhere;
  /** HTTP status; 422 where absent (400 malformed, 404 refers to nothing, 409 collides with another). */
  readonly status?: 400 | 404 | 409 | 422;
}

/**
 * `tag`: a VNI or VLAN id, stored as `vni`. `subnet`: the addresses of a network. `subnets`: those of a tenant.
 * `pool`: a group's cursor in its network. `vip`: an address of the network, stored as `vip`. `vip6`: one of its IPv6 subnet, of a service of
 * Docker's Swarm, stored as `ipv6VirtualAddress`. `member`: those of an external endpoint. `vlan`: a group's own VLAN id in an ACI fabric,
 * stored under that name; `fabric`: nothing, where the mode by which groups have one changes.
 */
export type Allocation =
  | 'tag'
  | 'vlan'
  | 'fabric'
  | 'subnet'
  | 'subnets'
  | 'pool'
  | 'vip'
  | 'vip6'
  | 'member';

/**
 * What callers who have some tenants only may do with the objects of these; of what is in no tenant all of them read all. What a kind or a
 * field does not name here is for who has the whole cluster.
 */
export interface TenantUse<T> {
  /** Fields that a tenant's operator may set, those of the key among them; the others stay as an admin has set them. Absent: he only reads. */
  readonly sets?: readonly (string & keyof T)[];
  /** What `exceeds` says, for the reference. */
  readonly exceeding?: string;
  /** Why one with such fields is an admin's all the same, to make and to delete: it touches the fabric or the hosts. */
  exceeds?(object: T, world: World): Problem | undefined;
}

export interface Kind<S extends TObject = TObject, T = Static<S>> {
  /** As in links: `tenant`, `network`, `endpointGroup`. */
  readonly name: string;
  /** As in URLs: `tenants`, `networks`, `endpointGroups`. */
  readonly collection: string;
  readonly schema: S;
  /** Fields whose values, joined by ':', are the key. */
  readonly keyFields: readonly (string & keyof T)[];
  /** A second POST updates (groups, profiles, globals); otherwise it is a conflict. */
  readonly updatable: boolean;
  readonly references: readonly Reference<T>[];
  /** Names under `links` that are present as {} when unset, beyond those of `references`. */
  readonly emptyLinks?: readonly string[];
  /** Absent: nothing for who has some tenants only. */
  readonly forTenants?: TenantUse<T>;
  /** An orchestrator's controller writes it, from what it has itself: an export is without it, as it is without endpoints. */
  readonly orchestrated?: boolean;
  /** An orchestrator's controller may write it: what it has itself, and what people declare there. */
  readonly forOrchestrators?: true;
  /** Field with the name that containers look it up by: unique in the tenant, whatever its case and kind. */
  readonly lookupName?: string & keyof T;
  /** What netmaster gives to it when it is written, and takes back: netmaster/allocator/index.ts. */
  readonly allocates?: readonly Allocation[];
  /** What inspect says besides, e.g. that nothing acts on it yet. */
  note?(object: T): string | undefined;
  /** What of it may surprise who sets it, beside the note: `subnet 20.1.1.5/24 is 20.1.1.0/24`; a line each, plain ASCII without `;`. */
  remarks?(object: T): readonly string[];
  /** Puts defaults in and text into canonical form. What users wrote stays as they wrote it where 1.x echoes it. */
  normalize?(object: T): T;
  /** What the schema cannot say. `before` is the object that is updated. */
  check?(object: T, world: World, before: T | undefined): Problem | undefined;
  /** Why it must not go although nothing refers to it. */
  checkRemoval?(object: T, world: World): Problem | undefined;
}
