/**
 * What travels between netplugin and netmaster beside the /api/v1/ collections of 1.x.
 *
 *   PUT    /api/v1/hosts/NAME                  Registration          -> HostAnswer   (register and heartbeat)
 *   POST   /api/v1/hosts/NAME/applied          Applied               -> 204
 *   POST   /api/v1/addresses                   AddressRequest        -> AddressAnswer
 *   DELETE /api/v1/addresses/NETWORK-KEY/ADDRESS?host=NAME           -> 204 (also when it was free already)
 *   PUT    /api/v1/endpoints/ID[?wait=SECONDS] Endpoint              -> WriteAnswer  (create or update)
 *   DELETE /api/v1/endpoints/ID                                      -> WriteAnswer  (200 also when it is unknown)
 *   GET    /api/v1/endpoints/                                        -> Endpoint[]
 *   GET    /api/v1/hosts/                                            -> Host[] (live ones)
 *   GET    /api/v1/watch[?store=ID&after=REVISION]                   -> NDJSON of WatchMessage
 *
 * A delete of an endpoint keeps its addresses reserved for the host until the runtime releases them, or
 * the grace period ends: a runtime's late release must not free what another has got meanwhile.
 */
import type { Endpoint } from '../model/endpoint.ts';
import type { Host } from '../model/host.ts';

export type Registration = Host;

/** `revision` of the store when it answered; `store` its id. */
export interface HostAnswer {
  store: string;
  revision: number;
}

/** The host's kernel equals intent as of this revision. */
export interface Applied {
  store: string;
  revision: number;
}

export interface AddressRequest {
  tenantName: string;
  networkName: string;
  /** Its ip-pool is used where it has one. */
  groupName?: string;
  /** A given address instead of the next free one. */
  address?: string;
  family: 4 | 6;
  host: string;
}

export interface AddressAnswer {
  address: string;
  /** Of the network's subnet. */
  prefixLength: number;
}

/** Which live hosts had not applied the write when the deadline passed; empty when all had. */
export interface WriteAnswer {
  revision: number;
  late: string[];
}

/** Header of every answer to a write of intent that names hosts which had not applied it: `node1,node2`. */
export const LATE_HEADER = 'contiv-late-hosts';

/**
 * The kinds on the watch: `tenant`, `network`, `endpointGroup`, `global` and all further intent, `endpoint`, `host`.
 * A `network` carries `vni`, the tag on the wire, also where it was given out automatically, and a `serviceLB` in the
 * same way `vip`, its virtual address.
 * Objects are without `key`, `links` and `link-sets`.
 */
export interface WatchedObject {
  kind: string;
  key: string;
  /** null: it is gone. */
  object: unknown;
}

/**
 * Without `after`: an `object` line for each object, then `synced`, then `change` lines. With `after`:
 * `synced` at once (its revision is `after`), then the changes since. 410 {error: {code: 'compacted'}} when the store is
 * another or the revision too old. A `ping` comes at least every 3 s: a silent connection is dead.
 */
export type WatchMessage =
  | ({ type: 'object' } & WatchedObject)
  | { type: 'synced'; store: string; revision: number }
  | { type: 'change'; revision: number; changes: WatchedObject[] }
  | { type: 'ping'; revision: number };

/** Body of every answer with status >= 400. `position`: of the object in a set, from 1. */
export interface ErrorBody {
  error: { code: string; message: string; field?: string; position?: number };
}

export type { Endpoint, Host };
