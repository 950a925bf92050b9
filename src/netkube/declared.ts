/**
 * contiv's own objects as custom resources (contiv.io/v1): `kubectl apply` declares a tenant, a network, a group as `netctl apply`
 * does, and netmaster says in the object's status what it thinks of it. Each has a finalizer, so that what is deleted while netkube is away
 * is deleted in netmaster too; what is declared by others is left alone.
 *
 *   spec, with the object's own name where it names none --> netmaster's object
 *   netmaster's words --> condition Accepted     hosts that are late --> condition Applied
 */
import type { KubernetesApi } from './cluster/api.ts';
import { type Followed, type Following, follow, type Resource } from './cluster/follow.ts';
import type { Condition, Declared } from './cluster/objects.ts';
import { now } from './cluster/time.ts';
import type { Outcome, Plain, Source } from './source.ts';
import { Untranslatable } from './translate/protocol.ts';

export const GROUP = 'contiv.io';
const FINALIZER = 'contiv.io/netkube';
const DEFAULT_TENANT = 'default';

/** In the order in which they are created. */
export const DECLARED = [
  { kind: 'tenant', collection: 'tenants', resource: 'tenants', keyFields: ['tenantName'] },
  { kind: 'network', collection: 'networks', resource: 'networks', keyFields: ['tenantName', 'networkName'] },
  { kind: 'policy', collection: 'policys', resource: 'policies', keyFields: ['tenantName', 'policyName'] },
  {
    kind: 'netprofile',
    collection: 'netprofiles',
    resource: 'netprofiles',
    keyFields: ['tenantName', 'profileName'],
  },
  {
    kind: 'endpointGroup',
    collection: 'endpointGroups',
    resource: 'endpointgroups',
    keyFields: ['tenantName', 'groupName'],
  },
  {
    kind: 'externalEndpoint',
    collection: 'externalEndpoints',
    resource: 'externalendpoints',
    keyFields: ['tenantName', 'endpointName'],
  },
  { kind: 'rule', collection: 'rules', resource: 'rules', keyFields: ['tenantName', 'policyName', 'ruleId'] },
] as const;
type Kind = (typeof DECLARED)[number];

/** The fields as netmaster takes them: the last part of the key is the object's own name where it is not given. */
export function fieldsOf({ keyFields }: Pick<Kind, 'keyFields'>, { metadata, spec }: Declared): Plain {
  const own = keyFields[keyFields.length - 1] as string;
  return {
    ...(own === 'tenantName' ? {} : { tenantName: DEFAULT_TENANT }),
    [own]: metadata.name,
    ...spec,
  };
}

const keyOf = ({ keyFields }: Pick<Kind, 'keyFields'>, fields: Plain): string =>
  keyFields.map((field) => String(fields[field] ?? '')).join(':');

/** What the status is to say, in the API's words. */
export function conditionsOf(outcome: Outcome): Pick<Condition, 'type' | 'status' | 'reason' | 'message'>[] {
  if (!outcome.accepted)
    return [
      { type: 'Accepted', status: 'False', reason: 'Refused', message: outcome.message },
      { type: 'Applied', status: 'False', reason: 'Refused', message: 'it is not accepted' },
    ];
  const { late } = outcome;
  return [
    { type: 'Accepted', status: 'True', reason: 'Accepted', message: '' },
    late.length === 0
      ? { type: 'Applied', status: 'True', reason: 'Applied', message: '' }
      : { type: 'Applied', status: 'False', reason: 'Late', message: `not yet on ${late.join(', ')}` },
  ];
}

export interface DeclaredOptions {
  readonly api: KubernetesApi;
  touch(kind: string, key: string): void;
  touchAll(): void;
  leads(): boolean;
  failed(resource: string, error: Error, first: boolean): void;
  /** A status or finalizer is not written. */
  unwritten(error: Error): void;
}

export interface Declaring {
  readonly sources: readonly Source[];
  readonly followed: readonly Followed<Declared>[];
  close(): Promise<void>;
}

export function openDeclared(options: DeclaredOptions): Declaring {
  const opened = DECLARED.map((kind) => openKind(kind, options));
  return {
    sources: opened.map(({ source }) => source),
    followed: opened.map(({ followed }) => followed),
    async close() {
      await Promise.all(opened.map(({ followed }) => followed.close()));
    },
  };
}

const resourceOf = ({ resource }: Kind): Resource<Declared> => ({
  name: `${resource}.${GROUP}`,
  paths: [`/apis/${GROUP}/v1/${resource}`],
  keep: ({ metadata, spec, status }) => {
    const { name, uid, generation, deletionTimestamp, finalizers, resourceVersion } = metadata;
    return {
      metadata: {
        name,
        ...(resourceVersion === undefined ? {} : { resourceVersion }),
        ...(uid === undefined ? {} : { uid }),
        ...(generation === undefined ? {} : { generation }),
        ...(deletionTimestamp === undefined ? {} : { deletionTimestamp }),
        ...(finalizers === undefined ? {} : { finalizers }),
      },
      spec: spec ?? {},
      ...(status === undefined ? {} : { status }),
    };
  },
});

function openKind(
  kind: Kind,
  { api, touch, touchAll, leads, failed, unwritten }: DeclaredOptions,
): { readonly source: Source; readonly followed: Following<Declared> } {
  /** By key: names of those that declare it, the first of which counts. */
  const names = new Map<string, string[]>();
  const keyFor = (object: Declared): string => keyOf(kind, fieldsOf(kind, object));
  const isHeld = ({ metadata }: Declared): boolean => metadata.finalizers?.includes(FINALIZER) === true;
  const path = (name: string): string => `/apis/${GROUP}/v1/${kind.resource}/${name}`;

  function index(name: string, before: Declared | undefined, now: Declared | undefined): void {
    const [was, is] = [before && keyFor(before), now && keyFor(now)];
    if (was !== undefined && was !== is) {
      const left = (names.get(was) ?? []).filter((other) => other !== name);
      if (left.length === 0) names.delete(was);
      else names.set(was, left);
    }
    if (is !== undefined && !names.get(is)?.includes(name)) names.set(is, [...(names.get(is) ?? []), name]);
  }

  function hold(name: string, { metadata }: Declared, finalizers: readonly string[]): void {
    if (!leads()) return;
    // The version is compared: another's finalizer that came meanwhile is not taken away.
    api.patch(path(name), 'merge', { metadata: { finalizers, uid: metadata.uid } }).catch(unwritten);
  }

  function look(name: string, object: Declared): void {
    if (!isHeld(object) && object.metadata.deletionTimestamp === undefined)
      hold(name, object, [...(object.metadata.finalizers ?? []), FINALIZER]);
    else touch(kind.kind, keyFor(object));
  }

  const followed = follow<Declared>(api, resourceOf(kind), {
    changed(name, before, now) {
      index(name, before, now);
      const said = (object: Declared | undefined): string => JSON.stringify([object?.metadata, object?.spec]);
      // Its status is ours.
      if (said(before) === said(now)) return;
      if (before !== undefined && (now === undefined || keyFor(before) !== keyFor(now)))
        touch(kind.kind, keyFor(before));
      if (now !== undefined) look(name, now);
    },
    listed: touchAll,
    failed: (error, first) => failed(`${kind.resource}.${GROUP}`, error, first),
  });

  const declaredBy = (key: string): readonly Declared[] =>
    (names.get(key) ?? []).flatMap((name) => followed.objects.get(name) ?? []);

  function report(object: Declared, outcome: Outcome): void {
    const { name, generation, deletionTimestamp, finalizers = [] } = object.metadata;
    if (deletionTimestamp !== undefined && outcome.accepted) {
      if (isHeld(object))
        hold(
          name,
          object,
          finalizers.filter((finalizer) => finalizer !== FINALIZER),
        );
      return;
    }
    const before = object.status?.conditions ?? [];
    const conditions = conditionsOf(outcome).map((condition): Condition => {
      const same = before.find(({ type }) => type === condition.type);
      const lastTransitionTime = same?.status === condition.status ? same.lastTransitionTime : undefined;
      return {
        ...condition,
        ...(generation === undefined ? {} : { observedGeneration: generation }),
        lastTransitionTime: lastTransitionTime ?? now(),
      };
    });
    const text = (all: readonly Condition[]): string =>
      JSON.stringify(all.map((c) => [c.type, c.status, c.reason, c.message, c.observedGeneration]));
    if (text(before) === text(conditions)) return;
    api.patch(`${path(name)}/status`, 'merge', { status: { conditions } }).catch(unwritten);
  }

  const source: Source = {
    kind: kind.kind,
    collection: kind.collection,
    ready: () => followed.synced,
    *keys() {
      for (const [name, object] of followed.objects)
        if (isHeld(object)) yield keyFor(object);
        else look(name, object);
    },
    want(key) {
      const [first] = declaredBy(key);
      if (first === undefined || first.metadata.deletionTimestamp !== undefined || !isHeld(first))
        return undefined;
      const fields = fieldsOf(kind, first);
      for (const field of kind.keyFields)
        if (typeof fields[field] !== 'string' || fields[field] === '')
          throw new Untranslatable(
            `spec.${field} is missing: it must be the name of a ${field.replace(/Name$|Id$/, '')}`,
          );
      return fields;
    },
    // Only what is being deleted: a key that is declared no more may be somebody else's.
    owns: (key) => declaredBy(key)[0]?.metadata.deletionTimestamp !== undefined,
    tell(key, outcome) {
      const [first, ...others] = declaredBy(key);
      if (first !== undefined) report(first, outcome);
      for (const other of others)
        report(other, { accepted: false, message: `${key} is declared by ${first?.metadata.name} already` });
    },
    wait: 2,
  };
  return { source, followed };
}
