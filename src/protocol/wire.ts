/**
 * Where each route of the API is, the headers of its answers, and the kinds of events: all of the protocol that a client must have loaded. What each
 * takes and answers, and who may ask, is in routes.ts, of which a client has the types alone: the schemas and what makes
 * them would be a quarter of netctl's start.
 */

/** Method and path by the route's name. With a slash at the end where 1.x has one; it is optional. */
export const PATHS = {
  // The objects of each kind: COLLECTION such as networks, KEY such as default:contiv-net.
  list: 'GET /api/v1/:collection/',
  get: 'GET /api/v1/:collection/:key/',
  post: 'POST /api/v1/:collection/:key/',
  put: 'PUT /api/v1/:collection/:key/',
  delete: 'DELETE /api/v1/:collection/:key/',
  inspect: 'GET /api/v1/inspect/:collection/:key/',

  // Many objects as one document (declared.ts).
  apply: 'POST /api/v1/apply',
  removeSet: 'POST /api/v1/delete',
  export: 'GET /api/v1/export',

  // Of the hosts' agents.
  hosts: 'GET /api/v1/hosts/',
  hostRemove: 'DELETE /api/v1/hosts/:name',
  register: 'PUT /api/v1/hosts/:name',
  applied: 'POST /api/v1/hosts/:name/applied',
  checked: 'POST /api/v1/hosts/:name/checked',
  reserve: 'POST /api/v1/addresses',
  release: 'DELETE /api/v1/addresses/:network/:address',
  swarm: 'PUT /api/v1/swarms/:id',
  endpoints: 'GET /api/v1/endpoints/',
  attach: 'PUT /api/v1/endpoints/:id',
  detach: 'DELETE /api/v1/endpoints/:id',
  watch: 'GET /api/v1/watch',

  // What netmaster knows of them.
  status: 'GET /api/v1/status',
  hostStates: 'GET /api/v1/status/hosts',
  hostState: 'GET /api/v1/status/hosts/:name',
  hostDrain: 'POST /api/v1/hosts/:name/drain',
  hostUndrain: 'DELETE /api/v1/hosts/:name/drain',
  rotateKeys: 'POST /api/v1/encryption/rotation',

  // Why a connection passes or not.
  trace: 'GET /api/v1/trace',
  flows: 'GET /api/v1/flows',
  report: 'POST /api/v1/hosts/:name/flows',
  answer: 'POST /api/v1/hosts/:name/answers/:id',

  // What happened (events.ts).
  events: 'GET /api/v1/events',
  followEvents: 'GET /api/v1/events/watch',

  // Who is let in: tokens, and hosts' certificates.
  whoami: 'GET /api/v1/whoami',
  tokens: 'GET /api/v1/tokens',
  tokenCreate: 'POST /api/v1/tokens',
  tokenRemove: 'DELETE /api/v1/tokens/:id',
  join: 'POST /api/v1/join',
  certificate: 'POST /api/v1/hosts/:name/certificate',
  hostRevoke: 'DELETE /api/v1/hosts/:name/certificate',

  // People (login.ts).
  users: 'GET /api/v1/users',
  userCreate: 'POST /api/v1/users',
  userRemove: 'DELETE /api/v1/users/:name',
  userPassword: 'PUT /api/v1/users/:name/password',
  login: 'POST /api/v1/login',
  loginDevice: 'POST /api/v1/login/device',
  loginDeviceEnd: 'POST /api/v1/login/device/end',
  ownPassword: 'PUT /api/v1/session/password',
  logout: 'DELETE /api/v1/session',

  // Between netmasters.
  replicaHosts: 'GET /api/v1/replicas/hosts',
  replicaAsk: 'POST /api/v1/replicas/ask',
  replicaReports: 'GET /api/v1/replicas/reports',

  // Of netmaster itself.
  version: 'GET /version',
  health: 'GET /healthz',
  ready: 'GET /readyz',
  metrics: 'GET /metrics',
  openapi: 'GET /openapi.json',
  backup: 'POST /api/v1/backup',
} as const satisfies Readonly<Record<string, `${Method} /${string}`>>;

export type Method = 'GET' | 'POST' | 'PUT' | 'DELETE';
export type RouteName = keyof typeof PATHS;
/** Routes whose answer is lines without an end. */
export type LinesName = 'watch' | 'replicaHosts' | 'followEvents';

/** Their bodies hold what nobody else may read: they go by https: alone, to who shows a certificate that holds. */
export const SECRET_ROUTES: ReadonlySet<RouteName> = new Set<RouteName>([
  'login',
  'loginDevice',
  'loginDeviceEnd',
  'ownPassword',
  'userCreate',
  'userPassword',
]);

/** Header of every answer to a write of intent that names live hosts which had not applied it: `node1,node2`, or `node1,node2,and 300 more`. */
export const LATE_HEADER = 'contiv-late-hosts';
/** The same of hosts that are away and have containers: these go on by what was applied there before. */
export const AWAY_HEADER = 'contiv-away-hosts';
/** Header of an answer to a write that was done and may surprise: lines for people, with '; ' between them. */
export const WARNING_HEADER = 'contiv-warning';
/**
 * Header of an answer that was made without the store's word, which did not come in time: what it says was so once, and may not be so any more.
 * Without it what was written before the request, at whichever netmaster, is in the answer.
 */
export const STALE_HEADER = 'contiv-stale';
/** Header of the answer to a create: `created`, or `changed` where the object was there before. */
export const RESULT_HEADER = 'contiv-result';

/**
 * Header of the answer to a write that changed an object: JSON in ASCII, FieldChanges of declared.ts. Of more than a header takes, the
 * fields alone.
 */
export const CHANGES_HEADER = 'contiv-changes';

/** Header of a request: what asks, and for whom, such as `netctl root@node1`. It is kept with what is changed. */
export const CLIENT_HEADER = 'contiv-client';

/**
 * `intent`: what people declare; `orchestrator`: what an orchestrator's controller declares; `host` and `endpoint`: those that come and go;
 * `repair`: an agent found the kernel another than it was set up; `denial`: a container was not attached; `name`: a network was not
 * offered to a runtime; `neighbor`: a session with a router of the fabric came up or went; `access`: people who logged in or out, or were
 * refused; `fabric`: an ACI fabric that netmaster speaks to, or not any more, and what was put right there. Of each kind so much is kept
 * (netmaster/events.ts): one does not take another's place.
 */
export const EVENT_KINDS = [
  'intent',
  'orchestrator',
  'host',
  'endpoint',
  'repair',
  'denial',
  'name',
  'neighbor',
  'access',
  'fabric',
] as const;
export type EventKind = (typeof EVENT_KINDS)[number];

/** `GET` and `/api/v1/hosts/:name`. */
export function methodAndPath(name: RouteName): [method: Method, path: string] {
  return PATHS[name].split(' ') as [Method, string];
}

/** Of parameters, those that the path names are filled in, the others that are defined follow it as query, in their order. */
export function requestOf(
  name: RouteName,
  parameters: Readonly<Record<string, string | undefined>> = {},
): { readonly method: Method; readonly url: string } {
  const [method, path] = methodAndPath(name);
  const query = new Map(Object.entries(parameters));
  const filled = path.replace(/:(\w+)/g, (_, parameter: string) => {
    const text = encodeURIComponent((query.get(parameter) ?? '').toWellFormed());
    query.delete(parameter);
    // As 1.x has it: default:contiv-net.
    return parameter === 'key' ? text.replaceAll('%3A', ':') : text;
  });
  const rest = new URLSearchParams();
  for (const [parameter, value] of query) if (value !== undefined) rest.set(parameter, value);
  return { method, url: rest.size === 0 ? filled : `${filled}?${rest}` };
}
