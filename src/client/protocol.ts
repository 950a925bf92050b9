/**
 * What travels between netplugin and netmaster beside the /api/v1/ collections of 1.x.
 *
 *   PUT    /api/v1/hosts/NAME                  Registration          -> HostAnswer   (register and heartbeat)
 *   POST   /api/v1/hosts/NAME/applied          Applied               -> 204          (404: register first; flows too)
 *   POST   /api/v1/hosts/NAME/flows            FlowReport            -> 204
 *   POST   /api/v1/hosts/NAME/answers/ID       LiveAnswer            -> 204
 *   POST   /api/v1/addresses                   AddressRequest        -> AddressAnswer
 *   DELETE /api/v1/addresses/NETWORK-KEY/ADDRESS?host=NAME           -> 204 (also when it was free already)
 *   PUT    /api/v1/endpoints/ID[?wait=SECONDS] Endpoint              -> WriteAnswer  (create or update)
 *   DELETE /api/v1/endpoints/ID?host=NAME                            -> WriteAnswer  (200 also when it is unknown; without
 *          the host's name, for operators: of a host that is dead only, 404 when it is unknown)
 *   GET    /api/v1/endpoints/                                        -> Endpoint[]
 *   GET    /api/v1/hosts/                                            -> Host[] (live ones)
 *   GET    /api/v1/watch[?store=ID&after=REVISION][&host=NAME]       -> NDJSON of WatchMessage
 *
 * and between netctl and netmaster:
 *
 *   GET    /api/v1/trace?tenant=T&from=X&to=Y&protocol=tcp&port=80[&live=true]  -> Trace
 *   GET    /api/v1/flows?denied=true[&tenant=T]                      -> NamedDeniedFlow[] (the oldest first)
 *
 * A delete of an endpoint keeps its addresses reserved for the host until the runtime releases them, or
 * the grace period ends: a runtime's late release must not free what another has got meanwhile.
 */
import type { Endpoint } from '../model/endpoint.ts';
import type { Host } from '../model/host.ts';
import type { Action, Side } from '../model/verdict.ts';

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
/** Header of an answer to a write that was done and may surprise: lines for people, with '; ' between them. */
export const WARNING_HEADER = 'contiv-warning';

/** Header of the answer to a create: `created`, or `changed` where the object was there before. */
export const RESULT_HEADER = 'contiv-result';

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
 * Without `after`: an `object` line for each object, then `synced`, then `change` lines. An object that changes while the list
 * is sent has a second line, with null where it is gone: the last one counts. With `after`:
 * `synced` at once (its revision is `after`), then the changes since. 410 {error: {code: 'compacted'}} when the store is
 * another or the revision too old. 429 where the client has too many watches open, 503 where all have. A watch that has fallen
 * too far behind, or of which nothing was taken for a minute, is closed, and may be resumed. A `ping` comes at least every 3 s: a silent connection is dead. An `ask` comes only
 * where the watcher named its host: it posts its answer.
 */
export type WatchMessage =
  | ({ type: 'object' } & WatchedObject)
  | { type: 'synced'; store: string; revision: number }
  | { type: 'change'; revision: number; changes: WatchedObject[] }
  | { type: 'ping'; revision: number }
  | { type: 'ask'; id: string; question: LiveQuestion };

/** What a host's policy did since its last report. One that is sent again has the same sequence, and counts once. */
export interface FlowReport {
  /** A run of an agent; its sequence goes up. */
  reporter: string;
  sequence: number;
  hits: RuleHits[];
  denied: DeniedFlow[];
}

/**
 * First packets of connections that a rule decided: one for each connection that it let through, one for each attempt
 * (a TCP client repeats its own) that it denied. Of UDP without an answer each packet.
 */
export interface RuleHits {
  /** Key of the rule. */
  rule: string;
  packets: number;
  bytes: number;
}

export interface DeniedFlow {
  tenant: string;
  /** Which side of it denied. */
  direction: 'in' | 'out';
  from: string;
  to: string;
  /** IANA number. */
  protocol: number;
  /** Destination port, where the protocol has ports. */
  port?: number;
  /** Key of the rule; '' where it was gone when the packet was read. */
  rule: string;
  /** Packets of it that were logged: some of them where they are many. */
  count: number;
  /** Of the last one, milliseconds, Unix time. */
  last: number;
}

/** With the names that the addresses had when it was reported; absent where they were no endpoint's. */
export interface NamedDeniedFlow extends DeniedFlow {
  /** `last` in ISO 8601. */
  time: string;
  host: string;
  fromContainer?: string;
  fromGroup?: string;
  toContainer?: string;
  toGroup?: string;
}

/** What would the kernel of a host do with the first packet of a connection, on one side. */
export interface LiveQuestion {
  tenant: string;
  direction: 'in' | 'out';
  /** Address of the endpoint on that host. */
  own: string;
  peer: string;
  protocol: number;
  port?: number;
}

export interface LiveAnswer {
  verdict: Action;
  /** Key of the rule that decides; '' where none does. */
  rule: string;
  /** Chains that are not as the agent set them up: then the verdict is not to be relied on. */
  changed: string[];
  /** Why there is no verdict. */
  problem?: string;
}

/** Why a connection passes or not, as declared. */
export interface Trace {
  tenant: string;
  protocol: number;
  port?: number;
  from: TraceEnd;
  to: TraceEnd;
  /** `unreachable`: whatever policy says, nothing is there or no way leads there. */
  verdict: Action | 'unreachable';
  out: Side;
  in: Side;
  /** What else is to be known, one plain line each. */
  notes: string[];
  /** Only where it was asked for: the kernel of each end's host. */
  live?: LiveSide[];
}

export interface TraceEnd {
  /** As asked for. */
  asked: string;
  address: string;
  /** `container web`, `group db`, `address 20.1.1.7`. */
  name: string;
  group?: string;
  network?: string;
  /** Where its container runs. */
  host?: string;
}

export interface LiveSide {
  host: string;
  direction: 'in' | 'out';
  agrees: boolean;
  /** Such as "agrees: rule default:prod_web:1 says deny". */
  text: string;
}

/** Body of every answer with status >= 400. `position`: of the object in a set, from 1. */
export interface ErrorBody {
  error: { code: string; message: string; field?: string; position?: number };
}

export type { Endpoint, Host };
