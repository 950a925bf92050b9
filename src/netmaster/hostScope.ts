/**
 * What a host is told by its certificate: of the tenants that it has addresses of all that an agent acts on, of others what it takes to
 * offer them to who starts containers there, and no more.
 *
 *   address records --of a host, by tenant--> its tenants --> whole(kind, object)     a container's address is reserved before it is attached,
 *                                                             outline(kind, object)   so its tenant is on the watch before the container is
 *
 * Which tenants those are follows from the store's contents at a revision, so every netmaster says the same.
 */

import type { Plain } from './fields.ts';
import type { AddressRecord } from './tables.ts';

/** `is`: the host has addresses of the tenant now, and had none before; else the reverse. */
export interface ScopeChange {
  readonly host: string;
  readonly tenant: string;
  readonly is: boolean;
}

export interface HostScopes {
  /** Tenants that the host has addresses of. */
  of(host: string): ReadonlySet<string>;
  /** An address record, by its key, as it was and as it is. */
  put(key: string, before: AddressRecord | undefined, after: AddressRecord | undefined): void;
  /** What has become another since the last call. */
  changes(): ScopeChange[];
}

const NONE: ReadonlyMap<string, number> = new Map();

export function openHostScopes(): HostScopes {
  /** By host, how many addresses it has of each tenant. */
  const counts = new Map<string, Map<string, number>>();
  /** What was touched since: whether the host had any. */
  const before = new Map<string, ScopeChange>();

  function add(host: string | undefined, tenant: string, one: 1 | -1): void {
    if (host === undefined) return;
    const own = counts.get(host) ?? new Map<string, number>();
    counts.set(host, own);
    const count = own.get(tenant) ?? 0;
    const key = `${tenant} ${host}`;
    if (!before.has(key)) before.set(key, { host, tenant, is: count > 0 });
    if (count + one === 0) own.delete(tenant);
    else own.set(tenant, count + one);
    if (own.size === 0) counts.delete(host);
  }

  return {
    of: (host) => new Set((counts.get(host) ?? NONE).keys()),
    put(key, was, is) {
      const tenant = key.slice(0, key.indexOf(':'));
      if (was?.host === is?.host) return;
      add(was?.host, tenant, -1);
      add(is?.host, tenant, 1);
    },
    changes() {
      const changed = [...before.values()].flatMap(({ host, tenant, is: was }): ScopeChange[] => {
        const is = counts.get(host)?.has(tenant) === true;
        return is === was ? [] : [{ host, tenant, is }];
      });
      before.clear();
      return changed;
    },
  };
}

/** Whose an object is; undefined: no tenant's. */
export function tenantOf(object: unknown): string | undefined {
  const { tenantName } = (object ?? {}) as { readonly tenantName?: unknown };
  return typeof tenantName === 'string' ? tenantName : undefined;
}

type Form = (object: Plain) => Plain | undefined;

const only =
  (...fields: readonly string[]) =>
  (object: Plain): Plain =>
    Object.fromEntries(fields.flatMap((f) => (object[f] === undefined ? [] : [[f, object[f]]])));
const nothing: Form = () => undefined;
const all: Form = (object) => object;

/**
 * Of a tenant, each kind that agents act on: what a host is told of it that has no address there. Networks and groups are Docker networks
 * on every host, and in some networks each host has an address; a pod's place is asked for before it has an address. A network without its
 * tag says that the tenant is not here as a whole.
 */
const OUTLINES: ReadonlyMap<string, Form> = new Map<string, Form>([
  ['tenant', nothing],
  [
    'network',
    only(
      'tenantName',
      'networkName',
      'nwType',
      'encap',
      'subnet',
      'gateway',
      'ipv6Subnet',
      'ipv6Gateway',
      'hostAccess',
    ),
  ],
  ['endpointGroup', only('tenantName', 'groupName', 'networkName')],
  ['externalEndpoint', nothing],
  ['rule', nothing],
  ['netprofile', nothing],
  ['serviceLB', nothing],
  ['workload', only('namespaceName', 'workloadName', 'uid', 'tenantName', 'networkName', 'groupName')],
  ['clusterService', nothing],
  ['swarmService', nothing],
  ['endpoint', nothing],
]);

/** Of no tenant: what every host is told. An orchestrator's policies select by labels, whatever tenant somebody is in. */
const COMMON: ReadonlyMap<string, Form> = new Map<string, Form>([
  ['global', only('name', 'fwdMode', 'encryption')],
  ['networkPolicy', all],
  ['host', all],
  ['draining', all],
  ['keyEpochs', all],
]);

/** Of one host alone, by whose name it goes: its key is that, or begins with it. */
export const OWN: ReadonlySet<string> = new Set(['Bgp', 'reserve']);
export const isOwn = (host: string, kind: string, key: string): boolean =>
  OWN.has(kind) && (key === host || key.startsWith(`${host}/`));

/** Kinds of which hosts are told something. */
export const TOLD_HOSTS: readonly string[] = [...OUTLINES.keys(), ...COMMON.keys(), ...OWN];
/** Those that belong to tenants. */
export const OF_TENANTS: readonly string[] = [...OUTLINES.keys()];

/** The object as the host is told it, which has these tenants; undefined: it is not told of it. */
export function toldHost(
  host: string,
  tenants: ReadonlySet<string>,
  { kind, key, object }: { readonly kind: string; readonly key: string; readonly object: unknown },
): Plain | undefined {
  if (object === undefined || object === null) return undefined;
  const outline = OUTLINES.get(kind);
  if (outline === undefined)
    return isOwn(host, kind, key) ? (object as Plain) : COMMON.get(kind)?.(object as Plain);
  return tenants.has(tenantOf(object) ?? '') ? (object as Plain) : outline(object as Plain);
}

/** Ends the position of who is told so: it is no place to go on from for who is told all, nor the reverse. Older netmasters and agents take no notice. */
const MARK = '.scoped';
export const hostPosition = (storeId: string): string => `${storeId}${MARK}`;
export const isHostPosition = (position: string): boolean => position.endsWith(MARK);
