/**
 * The API as a table: for each route what it takes and answers, who may ask, and a line about it. netmaster serves what is here and
 * nothing else (netmaster/api/serve.ts), /openapi.json describes it, and the calls of clients have their types from it
 * (client/client.ts). Where a route is, is in wire.ts.
 */
import { type Static, type TObject, type TSchema, Type } from '@sinclair/typebox';
import { EndpointSchema } from '../model/endpoint.ts';
import { HostSchema } from '../model/host.ts';
import type { Kind } from '../model/kind.ts';
import { KINDS } from '../model/kinds.ts';
import { ObjectSetSchema, SetAnswerSchema } from './declared.ts';
import { EventMessageSchema, EventSchema } from './events.ts';
import {
  DrainedHostSchema,
  HostStateSchema,
  InspectedHostSchema,
  ReadySchema,
  RegistrationSchema,
  RemovedHostSchema,
  RotationSchema,
  StatusSchema,
} from './hosts.ts';
import {
  DeviceAnswerSchema,
  DeviceRequestSchema,
  DeviceSchema,
  ListedUserSchema,
  LoginRequestSchema,
  OwnPasswordRequestSchema,
  PasswordRequestSchema,
  SessionSchema,
  UserRequestSchema,
} from './login.ts';
import {
  AddressAnswerSchema,
  AddressRequestSchema,
  AppliedSchema,
  CheckedReportSchema,
  DroppedPacketsSchema,
  FlowReportSchema,
  HealthSchema,
  HostAnswerSchema,
  KeptReportSchema,
  LiveAnswerSchema,
  NamedDeniedFlowSchema,
  ReplicaAnswerSchema,
  ReplicaMessageSchema,
  ReplicaQuestionSchema,
  SwarmAnswerSchema,
  SwarmReportSchema,
  TraceSchema,
  VersionAnswerSchema,
  WatchMessageSchema,
  WriteAnswerSchema,
} from './messages.ts';
import {
  CertificateAnswerSchema,
  CertificateRequestSchema,
  JoinRequestSchema,
  ListedTokenSchema,
  TokenAnswerSchema,
  TokenRequestSchema,
  WhoamiSchema,
} from './security.ts';
import { EVENT_KINDS, type Method, methodAndPath, type PATHS, type RouteName } from './wire.ts';

/** Where a request names a tenant or a host. Of a key it is the first part. */
export type Place = { readonly path: string } | { readonly query: string } | { readonly body: string };

/**
 * Who may ask beside an admin, who may ask everything; what is only read, who may read besides. What that means for whom is in access.ts.
 *
 *   anyone           who shows nothing too
 *   known            everybody who shows who it is
 *   cluster          who has the whole cluster
 *   tenants          also who has some tenants only: the handler answers and changes what is of these (netmaster/scope.ts)
 *   { tenant }       the same, and the tenant that the request names must be one of them
 *   { host }         that host's agent; with `tenants` where no host is named, also who has some tenants only
 *   netmaster        another netmaster
 */
export type Who =
  | 'anyone'
  | 'known'
  | 'cluster'
  | 'tenants'
  | 'netmaster'
  | { readonly tenant: Place }
  | { readonly host: Place; readonly tenants?: true };

export interface Contract {
  readonly summary: string;
  readonly who: Who;
  /** An orchestrator's controller may ask it too, for no host; of objects those of kinds that are for it (`forOrchestrators`). */
  readonly orchestrators?: true;
  /** Text, each at most once, and no others. Absent: the query is not looked at. */
  readonly query?: TObject;
  readonly body?: TObject;
  /** Bytes, where it may be larger than others. */
  readonly bodyLimit?: number;
  /** As JSON. Absent: nothing is answered, with status 204. */
  readonly answer?: TSchema;
  /** The answer is plain text instead, or JSON objects, a line each, without an end. */
  readonly as?: 'text' | 'lines';
}

export type Contracts = { readonly [N in RouteName]?: Contract };

/** Routes that belong together. */
export interface Family<C extends Contracts = Contracts, F extends string = string> {
  /** In OpenAPI; '' for none. */
  readonly tag: string;
  readonly contracts: C;
  /** Parameters of the paths that are the same in all of the family. */
  readonly fixed: Readonly<Record<F, string>>;
}

const family = <const C extends Contracts>(tag: string, contracts: C): Family<C, never> => ({
  tag,
  contracts,
  fixed: {},
});

const Text = (description: string) => Type.Optional(Type.String({ description }));
const wait = Text('seconds to wait for the live hosts to apply it: 0 to 600, 2 where absent');

const dryRun = Text('true: nothing is written, the answer says what would be');

type Plain = Record<string, unknown>;
const PlainSchema = Type.Unsafe<Plain>(Type.Object({}, { additionalProperties: true }));

/** Of many objects at once: some 100,000. */
const SET_LIMIT = 64 << 20;
/** Of all rules that a host has: some 100,000. */
const REPORT_LIMIT = 16 << 20;
/** Of what an agent sees. */
const HEARTBEAT_LIMIT = 1 << 20;

/** An object as it is answered: with its key and links, without fields that are unset. */
const presented = (kind: Kind) =>
  Type.Unsafe<Plain>(
    Type.Object({
      key: Type.String(),
      ...Type.Partial(kind.schema).properties,
      'link-sets': PlainSchema,
      links: Type.Optional(PlainSchema),
    }),
  );

/** The objects of one kind, as 1.x has them. */
function objectsOf(kind: Kind) {
  const { name, collection, keyFields, updatable, forTenants, forOrchestrators } = kind;
  const named: Who = keyFields[0] === 'tenantName' ? { tenant: { path: 'key' } } : 'tenants';
  const reads: Who = forTenants === undefined ? 'cluster' : named;
  const writes: Who = forTenants?.sets === undefined ? 'cluster' : named;
  const answer = presented(kind);
  const orchestrators = forOrchestrators && ({ orchestrators: true } as const);
  const written = { who: writes, ...orchestrators, query: Type.Object({ wait }), body: kind.schema, answer };
  const again = updatable ? 'updates it' : 'of another content is refused';
  const contracts = {
    list: {
      summary: `lists every ${name}`,
      who: forTenants === undefined ? 'cluster' : 'tenants',
      ...orchestrators,
      answer: Type.Array(answer),
    },
    get: { summary: `answers one ${name}`, who: reads, ...orchestrators, answer },
    post: { summary: `creates a ${name}; a second one ${again}`, ...written },
    put: { summary: `creates a ${name}; a second one ${again}`, ...written },
    delete: {
      summary: `deletes a ${name} that nothing uses, and answers its key`,
      who: writes,
      ...orchestrators,
      query: Type.Object({ wait }),
      answer: Type.String(),
    },
  } as const satisfies Contracts;
  return { kind, tag: name, contracts, fixed: { collection } };
}

export const OBJECTS = KINDS.map(objectsOf);

export const INSPECT = family('', {
  inspect: {
    summary: 'an object and what runs in it; of COLLECTION endpoints by the id or name of the container too',
    // By the name of a container it is any tenant's.
    who: 'tenants',
    answer: Type.Object({
      Config: Type.Optional(PlainSchema),
      Oper: Type.Unsafe<Plain>(
        Type.Object(
          { dropped: Type.Optional(Type.Array(DroppedPacketsSchema)) },
          { additionalProperties: true },
        ),
      ),
    }),
  },
});

export const SETS = family('set', {
  apply: {
    summary: 'makes true what many objects declare, in one step: all of it, or nothing',
    who: 'tenants',
    orchestrators: true,
    query: Type.Object({
      wait,
      dryRun,
      set: Text('a name for the set: of what it makes it is kept that it was this one'),
      prune: Text(
        'true: what a set of this name made before and is not in it any more is deleted in that step',
      ),
    }),
    body: ObjectSetSchema,
    bodyLimit: SET_LIMIT,
    answer: SetAnswerSchema,
  },
  removeSet: {
    summary: 'deletes many objects in one step, by kind and key: all of them, or none',
    who: 'tenants',
    query: Type.Object({ wait, dryRun }),
    body: ObjectSetSchema,
    bodyLimit: SET_LIMIT,
    answer: SetAnswerSchema,
  },
  export: {
    summary: 'all objects, or those of a kind, as apply reads them',
    who: 'tenants',
    query: Type.Object({ kind: Text('such as network') }),
    answer: ObjectSetSchema,
  },
});

/** A host that is away cannot say that its containers run. */
const ListedEndpointSchema = Type.Object({
  ...EndpointSchema.properties,
  /** '' of an external endpoint, which has its key for its id. */
  macAddress: Type.String(),
  homingHost: Type.String(),
  external: Type.Optional(Type.Literal(true)),
  status: Type.Union([EndpointSchema.properties.status, Type.Literal('unreachable')]),
  /** Since when its host is being drained, ISO 8601: it has new connections where nobody else takes them. */
  draining: Type.Optional(Type.String()),
});

export const AGENTS = family('agent', {
  hosts: { summary: 'the hosts that live', who: 'cluster', answer: Type.Array(HostSchema) },
  register: {
    summary: 'registers a host, and is its heartbeat',
    who: { host: { path: 'name' } },
    body: RegistrationSchema,
    bodyLimit: HEARTBEAT_LIMIT,
    answer: HostAnswerSchema,
  },
  applied: {
    summary: 'a registered host says up to which revision its kernel is as declared',
    who: { host: { path: 'name' } },
    body: AppliedSchema,
  },
  reserve: {
    summary: 'reserves an address of a network for a host',
    who: { host: { body: 'host' } },
    body: AddressRequestSchema,
    answer: AddressAnswerSchema,
  },
  release: {
    summary: 'frees an address that is reserved for the host; one that is free stays so',
    who: { host: { query: 'host' } },
    query: Type.Object({
      host: Text('the host that it is reserved for'),
      swarm: Text('true: Docker Swarm keeps it no more, whoever has it now'),
    }),
  },
  swarm: {
    summary:
      'says which services and addresses a Swarm of Docker has: its others are gone, addresses after the grace period',
    who: { host: { body: 'host' } },
    body: SwarmReportSchema,
    bodyLimit: SET_LIMIT,
    answer: SwarmAnswerSchema,
  },
  checked: {
    summary: 'a registered host says what came of the health check of an external endpoint',
    who: { host: { path: 'name' } },
    body: CheckedReportSchema,
  },
  endpoints: {
    summary: 'all endpoints, external ones too; those of hosts that are away with status unreachable',
    who: 'tenants',
    answer: Type.Array(ListedEndpointSchema),
  },
  attach: {
    summary: 'creates or updates an endpoint',
    who: { host: { body: 'homingHost' } },
    query: Type.Object({ wait, host: Text('is not waited for: it is the one that asks') }),
    body: EndpointSchema,
    answer: WriteAnswerSchema,
  },
  /**
   * Its addresses stay reserved for the host until the runtime releases them, or the grace period ends: a runtime's late
   * release must not free what another has got meanwhile.
   */
  detach: {
    summary: 'removes an endpoint; without the name of its host only where that host is dead',
    who: { host: { query: 'host' } },
    query: Type.Object({ wait, host: Text('the host that it is on; then an unknown one is no error') }),
    answer: WriteAnswerSchema,
  },
  watch: {
    summary: 'all objects, then their changes as they come',
    who: { host: { query: 'host' }, tenants: true },
    orchestrators: true,
    query: Type.Object({
      store: Text('id of the store that `after` is a revision of'),
      after: Text('the revision that is known: only what came later'),
      host: Text('the host that watches, which may then be asked'),
    }),
    answer: WatchMessageSchema,
    as: 'lines',
  },
});

export const ROSTER = family('host', {
  status: {
    summary: 'netmaster, hosts, networks and what is wrong, each problem with what mends it',
    who: 'cluster',
    answer: StatusSchema,
  },
  hostStates: {
    summary: 'every host that is known: those that live, are away, or are refused',
    who: 'cluster',
    answer: Type.Array(HostStateSchema),
  },
  hostState: {
    summary: 'a host, and the endpoints that are on it',
    who: 'cluster',
    answer: InspectedHostSchema,
  },
  hostDrain: {
    summary:
      'a host takes no new containers from now on, nor connections that others may take; what runs there stays',
    who: 'cluster',
    query: Type.Object({ wait }),
    answer: DrainedHostSchema,
  },
  hostUndrain: {
    summary: 'a host takes new containers and connections again',
    who: 'cluster',
    query: Type.Object({ wait }),
    answer: DrainedHostSchema,
  },
  rotateKeys: {
    summary: 'hosts make new keys of WireGuard and change over to them, without a packet lost',
    who: 'cluster',
    query: Type.Object({ wait }),
    answer: RotationSchema,
  },
  hostRemove: {
    summary:
      'removes a host that is away for good, with its endpoints and certificates; refused for one that lives',
    who: 'cluster',
    query: Type.Object({ wait }),
    answer: RemovedHostSchema,
  },
});

export const EXPLAIN = family('explain', {
  trace: {
    summary: 'which rules decide whether a connection passes, as declared now',
    who: { tenant: { query: 'tenant' } },
    query: Type.Object({
      tenant: Text('default where absent'),
      from: Text('container, group or address'),
      to: Text("container, group, orchestrator's service or address"),
      protocol: Text('tcp, udp, icmp or a number; tcp where absent'),
      port: Text('1 to 65535'),
      live: Text('true: the kernels of both hosts are asked too'),
    }),
    answer: TraceSchema,
  },
  flows: {
    summary: 'connections that policy denied, or that rules which log allowed, the oldest first',
    who: { tenant: { query: 'tenant' } },
    query: Type.Object({
      denied: Text('true: what was denied'),
      allowed: Text('true: what rules that log allowed; one of the two'),
      tenant: Text('all that the caller may see where absent'),
    }),
    answer: Type.Array(NamedDeniedFlowSchema),
  },
  report: {
    summary: 'a registered host says what its policy did since its agent began',
    who: { host: { path: 'name' } },
    body: FlowReportSchema,
    bodyLimit: REPORT_LIMIT,
  },
  answer: {
    summary: 'a registered host answers what it was asked on its watch',
    who: { host: { path: 'name' } },
    body: LiveAnswerSchema,
  },
});

const eventsWanted = {
  kind: Text(`only these, with commas between them: ${EVENT_KINDS.join(', ')}`),
  since: Text('from this time on: 2026-11-28T09:30:00Z'),
  after: Text('only what came behind this event, by its id, or behind a revision'),
  tenant: Text('only what names this tenant'),
};

export const EVENTS = family('event', {
  events: {
    summary:
      'what happened: changes of intent with before and after, hosts, endpoints, repairs; the oldest first',
    who: { tenant: { query: 'tenant' } },
    query: Type.Object({ ...eventsWanted, limit: Text('so many at most, the newest: 1 to 100000') }),
    answer: Type.Array(EventSchema),
  },
  followEvents: {
    summary: 'the same, then events as they come',
    who: { tenant: { query: 'tenant' } },
    query: Type.Object(eventsWanted),
    answer: EventMessageSchema,
    as: 'lines',
  },
});

export const SECURITY = family('security', {
  whoami: { summary: 'who asks, and what that one may do', who: 'known', answer: WhoamiSchema },
  tokens: {
    summary: 'the tokens that there are: what each is for, and when it ends',
    who: 'cluster',
    answer: Type.Array(ListedTokenSchema),
  },
  tokenCreate: {
    summary: 'makes a token, by which a host joins once, or programs and people ask; it is told here only',
    who: 'cluster',
    body: TokenRequestSchema,
    answer: TokenAnswerSchema,
  },
  tokenRemove: {
    summary: 'removes a token: who shows it is refused from then on',
    who: 'cluster',
  },
  join: {
    summary:
      "signs a host's certificate, for who uses up a join token, or in Kubernetes is an agent's or netkube's service account",
    who: 'anyone',
    body: JoinRequestSchema,
    answer: CertificateAnswerSchema,
  },
  certificate: {
    summary: 'signs a new certificate for a host that has one',
    who: { host: { path: 'name' } },
    body: CertificateRequestSchema,
    answer: CertificateAnswerSchema,
  },
  hostRevoke: {
    summary: "refuses a host's certificates from now on; it joins again with a new token",
    who: 'cluster',
  },
});

export const LOGIN = family('login', {
  users: {
    summary: 'the users that there are: what each may do, and since when the password is what it is',
    who: 'cluster',
    answer: Type.Array(ListedUserSchema),
  },
  userCreate: {
    summary: 'makes a user, who logs in with a password',
    who: 'cluster',
    body: UserRequestSchema,
  },
  userRemove: { summary: 'removes a user, and ends the sessions that there are of it', who: 'cluster' },
  userPassword: {
    summary: "sets a user's password, and ends the sessions that there are of it",
    who: 'cluster',
    body: PasswordRequestSchema,
  },
  login: {
    summary: 'a session for whoever knows the password of a user',
    who: 'anyone',
    body: LoginRequestSchema,
    answer: SessionSchema,
  },
  loginDevice: {
    summary: 'begins to log in at the OpenID provider: what is to be opened in a browser (RFC 8628)',
    who: 'anyone',
    answer: DeviceSchema,
  },
  loginDeviceEnd: {
    summary: 'a session for who has logged in there, asked for again until then',
    who: 'anyone',
    body: DeviceRequestSchema,
    answer: DeviceAnswerSchema,
  },
  ownPassword: {
    summary: 'changes the password of the user whose session asks, and ends all sessions of that one',
    who: 'known',
    body: OwnPasswordRequestSchema,
  },
  logout: { summary: 'ends the session that asks', who: 'known' },
});

export const REPLICAS = family('replica', {
  replicaHosts: {
    summary: 'to another netmaster: which hosts watch here and what they have applied, then what they say',
    who: 'netmaster',
    answer: ReplicaMessageSchema,
    as: 'lines',
  },
  replicaAsk: {
    summary: 'asks a host whose watch is here, for another netmaster',
    who: 'netmaster',
    body: ReplicaQuestionSchema,
    answer: ReplicaAnswerSchema,
  },
  replicaReports: {
    summary: 'what hosts reported here, to another netmaster',
    who: 'netmaster',
    answer: Type.Array(KeptReportSchema),
  },
});

export const STATUS = family('', {
  version: { summary: 'the version of netmaster', who: 'anyone', answer: VersionAnswerSchema },
  health: { summary: 'whether netmaster can write', who: 'anyone', answer: HealthSchema },
  ready: {
    summary: 'whether netmaster does all that it should: 503 and what is wrong where not',
    who: 'anyone',
    answer: ReadySchema,
  },
  metrics: { summary: 'metrics for Prometheus', who: 'anyone', answer: Type.String(), as: 'text' },
  backup: {
    summary:
      'all that is in the store, as netmaster restore reads it; with hashes of tokens and passwords, so for admins alone',
    who: 'cluster',
    answer: Type.String(),
  },
  openapi: { summary: 'this API as OpenAPI', who: 'anyone', answer: PlainSchema },
});

export interface Route extends Contract {
  readonly name: RouteName;
  readonly tag: string;
  readonly method: Method;
  /** `/api/v1/hosts/:name`, without a slash at the end. */
  readonly path: string;
}

export const routesOf = ({ tag, contracts, fixed }: Family): Route[] =>
  Object.entries(contracts).map(([key, contract]) => {
    const name = key as RouteName;
    const [method, path] = methodAndPath(name);
    const filled = path
      .replace(/:(\w+)/g, (parameter, n: string) => fixed[n] ?? parameter)
      .replace(/\/$/, '');
    return { ...contract, name, tag, method, path: filled };
  });

/** Every route there is. */
export const ROUTES: readonly Route[] = [
  ...OBJECTS,
  SETS,
  AGENTS,
  ROSTER,
  EXPLAIN,
  EVENTS,
  SECURITY,
  LOGIN,
  REPLICAS,
  STATUS,
  INSPECT,
].flatMap(routesOf);

type All = (typeof OBJECTS)[number]['contracts'] &
  (typeof INSPECT)['contracts'] &
  (typeof SETS)['contracts'] &
  (typeof AGENTS)['contracts'] &
  (typeof ROSTER)['contracts'] &
  (typeof EXPLAIN)['contracts'] &
  (typeof EVENTS)['contracts'] &
  (typeof SECURITY)['contracts'] &
  (typeof LOGIN)['contracts'] &
  (typeof REPLICAS)['contracts'] &
  (typeof STATUS)['contracts'];

/** Names of a path's parameters: `'network' | 'address'`. */
type NamesIn<P extends string> = P extends `${string}:${infer N}/${infer Rest}`
  ? N | NamesIn<Rest>
  : P extends `${string}:${infer N}`
    ? N
    : never;
/** The same, to be read only: what is sent may be. */
export type Frozen<T> = T extends readonly (infer E)[]
  ? readonly Frozen<E>[]
  : T extends object
    ? { readonly [K in keyof T]: Frozen<T[K]> }
    : T;

/** Parameters in the path of a route, but for those that its family fixes. */
export type PathParameters<N extends RouteName, F extends string = never> = {
  readonly [K in Exclude<NamesIn<(typeof PATHS)[N]>, F>]: string;
};
export type Query<C> = C extends { readonly query: infer S extends TObject } ? Readonly<Static<S>> : unknown;
/** never: it takes none. */
export type Body<C> = C extends { readonly body: infer S extends TObject } ? Static<S> : never;
export type Answered<C> = C extends { readonly answer: infer S extends TSchema } ? Static<S> : undefined;

/** What a client gives: parameters of path and query together, and the body. */
export type Given<N extends RouteName> = [Body<All[N]>] extends [never]
  ? object extends PathParameters<N> & Query<All[N]>
    ? [parameters?: PathParameters<N> & Query<All[N]>]
    : [parameters: PathParameters<N> & Query<All[N]>]
  : [parameters: PathParameters<N> & Query<All[N]>, body: Frozen<Body<All[N]>>];
/** What it gets. */
export type AnswerOf<N extends RouteName> = Answered<All[N]>;
