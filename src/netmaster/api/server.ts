/**
 * The REST API: routes for each kind of the model, and what agents use (client/protocol.ts). Bodies are
 * checked here, once; what lies behind trusts them.
 */
import swagger from '@fastify/swagger';
import { Type } from '@sinclair/typebox';
import fastify, {
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';
import type { Logger } from 'pino';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { Applied, ObjectOutcome, ObjectSet } from '../../client/declared.ts';
import {
  type AddressRequest,
  type HostAnswer,
  type Applied as HostApplied,
  LATE_HEADER,
  RESULT_HEADER,
  WARNING_HEADER,
  type WriteAnswer,
} from '../../client/protocol.ts';
import { type Endpoint, EndpointSchema } from '../../model/endpoint.ts';
import { checkHost, type Host, HostSchema } from '../../model/host.ts';
import type { Kind } from '../../model/kind.ts';
import { KINDS, keyOf, kindByCollection, kindByName } from '../../model/kinds.ts';
import { shown } from '../../model/text.ts';
import type { Store } from '../../store/store.ts';
import type { Acknowledgements } from '../acknowledgements.ts';
import { decideApply, exportSet, readSet } from '../apply.ts';
import { decideEndpoint, decideEndpointRemoval, decideRelease, decideReserve } from '../endpoints.ts';
import { openFeed } from '../feed.ts';
import { trackFlows } from '../flows.ts';
import { hidingNames } from '../hidden.ts';
import { openHosts } from '../hosts.ts';
import { decideWrite, present, readObject, refuse, remove, type WriteMode } from '../intent.ts';
import type { Mirror } from '../mirror.ts';
import { operOf, presentEndpoint } from '../oper.ts';
import { Refusal } from '../problem.ts';
import { openQuestions } from '../questions.ts';
import type { Writer } from '../writer.ts';
import { answerBroken, answerError, answerExpectation, collectRoutes } from './errors.ts';
import { policyFlows, routeExplain } from './explain.ts';
import { openOrigins } from './origin.ts';
import { parameter, type Query, read, readQuery, readSwitch, registered } from './request.ts';
import { openWatches, WATCH_LIMITS, type WatchLimits } from './watch.ts';

/** Seconds that a write waits for the live hosts. */
const DEADLINE = 2;
/** Bytes. */
const BODY_LIMIT = 1 << 20;
/** Of a whole cluster at once: some 100,000 objects. */
const SET_LIMIT = 64 << 20;

export interface Parts {
  readonly store: Store;
  readonly mirror: Mirror;
  readonly writer: Writer;
  readonly acknowledgements: Acknowledgements;
  readonly version: string;
  readonly log: Logger;
  /** How clients call this machine beside its addresses and its host name. */
  readonly names?: readonly string[];
  readonly timeouts?: Timeouts;
  readonly watchLimits?: WatchLimits;
}

/** Milliseconds that a client has to send the head of a request, and all of it; a larger one is told so by then. */
export interface Timeouts {
  readonly headers: number;
  readonly request: number;
}
const TIMEOUTS: Timeouts = { headers: 10_000, request: 60_000 };

const AddressRequestSchema = Type.Object(
  {
    tenantName: Type.String({ minLength: 1, maxLength: 63 }),
    networkName: Type.String({ minLength: 1, maxLength: 63 }),
    groupName: Type.Optional(Type.String({ maxLength: 63 })),
    address: Type.Optional(Type.String({ maxLength: 64 })),
    family: Type.Union([Type.Literal(4), Type.Literal(6)]),
    host: Type.String({ minLength: 1, maxLength: 253 }),
  },
  { additionalProperties: false },
);
const ObjectSetSchema = Type.Object({
  objects: Type.Array(
    Type.Object({ kind: Type.Union(KINDS.map((k) => Type.Literal(k.name))) }, { additionalProperties: true }),
    { description: 'each with its kind and its fields as in its collection, in any order' },
  ),
});
const AppliedSchema = Type.Object(
  {
    store: Type.String({ maxLength: 64 }),
    revision: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
  },
  { additionalProperties: false },
);

/** A header has its limits. */
const MAX_WARNINGS = 10;
const createdOf = (outcomes: readonly ObjectOutcome[]): ObjectOutcome[] =>
  outcomes.filter(({ result }) => result === 'created');

/** `wait` of a query, in seconds. */
function waitSeconds({ wait }: Query): number {
  if (wait === undefined) return DEADLINE;
  if (!/^\d{1,3}(?:\.\d{1,3})?$/.test(wait) || Number(wait) > 600)
    throw new Refusal(400, `wait: ${shown(wait)} must be 0 to 600 seconds`, 'wait');
  return Number(wait);
}

export async function createServer(parts: Parts): Promise<FastifyInstance> {
  const { mirror, writer, acknowledgements, store, log, names = [], timeouts = TIMEOUTS } = parts;
  const { watchLimits: limits = WATCH_LIMITS } = parts;
  const explaining = { mirror, flows: trackFlows(mirror), questions: openQuestions() };
  const feed = openFeed(mirror);
  const watches = openWatches({ mirror, feed, questions: explaining.questions, log, limits });
  const server = fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: BODY_LIMIT,
    requestTimeout: timeouts.request,
    http: {
      headersTimeout: timeouts.headers,
      connectionsCheckingInterval: timeouts.headers / 5,
      requireHostHeader: false, // Node would answer without a body
    },
    clientErrorHandler: answerBroken,
    frameworkErrors: answerError,
    forceCloseConnections: true,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 1000 },
  }) as unknown as FastifyInstance;

  const judgeOrigin = openOrigins(names);
  server.addHook('onRequest', async ({ raw }) => judgeOrigin(raw));
  // JSON whatever the content type says: 1.x clients do not always send one.
  server.removeAllContentTypeParsers();
  server.addContentTypeParser('*', { parseAs: 'string' }, ({ method, url }, body, done) => {
    if (body === '') return done(null, undefined);
    try {
      done(null, JSON.parse(body as string));
    } catch {
      done(new Refusal(400, `${method} ${url}: the body is not JSON`));
    }
  });
  server.setValidatorCompiler(() => () => true); // intent.ts checks, with messages for people
  server.server.on('checkExpectation', answerExpectation);
  server.setErrorHandler(answerError);
  const routes = collectRoutes(server);
  server.setNotFoundHandler((request, reply) => {
    const { method, url } = request;
    const methods = routes.methodsOf(url.split('?')[0] as string);
    if (methods.length === 0)
      return answerError(
        new Refusal(404, `${method} ${url}: no such path; see /openapi.json`),
        request,
        reply,
      );
    void reply.header('allow', methods.join(', '));
    const text = `${method} ${url}: this path takes ${methods.join(', ')} only`;
    return answerError(new Refusal(405, text), request, reply);
  });

  const registry = new Registry();
  collectDefaultMetrics({ register: registry, prefix: 'contiv_netmaster_' });
  const requests = new Counter({
    name: 'contiv_netmaster_requests_total',
    help: 'requests by method, route and status',
    labelNames: ['method', 'route', 'status'],
    registers: [registry],
  });
  const durations = new Histogram({
    name: 'contiv_netmaster_request_seconds',
    help: 'time to answer',
    labelNames: ['method', 'route'],
    registers: [registry],
  });
  new Gauge({
    name: 'contiv_netmaster_objects',
    help: 'objects by kind',
    labelNames: ['kind'],
    registers: [registry],
    collect() {
      for (const kind of [...KINDS.map((k) => k.name), 'endpoint', 'host', 'address'])
        this.set({ kind }, mirror.count(kind));
    },
  });
  for (const [name, help, collect] of [
    ['watches', 'watches that are open', () => watches.count],
    ['watch_queued_bytes', 'bytes that wait for connections of watches', () => watches.queued()],
    ['watches_refused', 'watches that were refused, as too many were open', () => watches.refused],
    ['watches_closed', 'watches that were closed, as they were behind or took nothing', () => watches.closed],
    ['lists', 'lists that were made for watches', () => feed.lists],
  ] as const)
    new Gauge({
      name: `contiv_netmaster_${name}`,
      help,
      registers: [registry],
      collect() {
        this.set(collect());
      },
    });
  server.addHook('onClose', async () => watches.close());
  server.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'unknown';
    requests.inc({ method: request.method, route, status: reply.statusCode });
    durations.observe({ method: request.method, route }, reply.elapsedTime / 1000);
  });

  await server.register(swagger, {
    openapi: {
      info: {
        title: 'Contiv netmaster',
        version: parts.version,
        description: 'Tenants, networks, groups and policy',
      },
    },
  });
  // Registered as a plugin so that it comes after swagger, which collects routes as they are added.
  await server.register(async (api) => {
    for (const kind of KINDS) routeKind(api, kind);
    routeSets(api);
    routeAgents(api);
    routeExplain(api, explaining);

    api.get('/version', async () => ({ GitCommit: '', Version: parts.version, BuildTime: '' }));
    api.get('/healthz', async () => {
      const problem = await store.problem();
      const status = problem === undefined ? { status: 'ok' } : { status: 'unwritable', problem };
      return { ...status, store: store.id, revision: mirror.revision };
    });
    api.get('/metrics', async (_request, reply) => {
      void reply.header('content-type', registry.contentType);
      return registry.metrics();
    });
    api.get('/openapi.json', { schema: { hide: true } }, async () => server.swagger());
    // HEAD would never end.
    api.get('/api/v1/watch', { exposeHeadRoute: false }, (request, reply) => watches.open(request, reply));
    api.get('/api/v1/inspect/:collection/:key', async (request) => {
      const collection = parameter(request, 'collection');
      const key = parameter(request, 'key');
      if (collection === 'endpoints') return { Oper: presentEndpoint(findEndpoint(key), mirror) };
      const kind = kindByCollection.get(collection);
      if (kind === undefined) throw new Refusal(404, `there is no collection ${collection}`);
      const object = find(kind, key);
      const flows = kind.name === 'policy' ? policyFlows(key, explaining) : {};
      return { Config: present(kind, object, mirror), Oper: { ...operOf(kind, object, mirror), ...flows } };
    });
  });

  function find(kind: Kind, key: string): Record<string, unknown> {
    const object = mirror.get<Record<string, unknown>>(kind.name, key);
    if (object === undefined) throw new Refusal(404, `${kind.name} ${key} does not exist`);
    return object;
  }

  /** By its id, its container's id (12 characters or more) or its container's name. */
  function findEndpoint(id: string): Endpoint {
    const exact = mirror.get<Endpoint>('endpoint', id);
    if (exact !== undefined) return exact;
    const found = mirror
      .list<Endpoint>('endpoint')
      .filter((e) => e.containerName === id || (id.length >= 12 && (e.containerID ?? '').startsWith(id)));
    const [endpoint] = found;
    if (endpoint === undefined)
      throw new Refusal(
        404,
        `endpoint ${id} does not exist: no endpoint has this id, no container this id or name`,
      );
    if (found.length > 1) {
      const ids = found.map((e) => `${(e.containerID ?? e.endpointID).slice(0, 12)} on ${e.homingHost}`);
      throw new Refusal(
        409,
        `${id} is the name of several containers: say the id of one (${ids.join(', ')})`,
      );
    }
    return endpoint;
  }

  /** Id of an endpoint that nobody else will remove: its host's own agent does it, while there is one. */
  function findForsaken(id: string): string {
    const { endpointID, homingHost } = findEndpoint(id);
    if (mirror.get<Host>('host', homingHost) !== undefined)
      throw new Refusal(
        409,
        `endpoint ${id}: host ${homingHost} is alive, and removes it when its container ends: end that one`,
      );
    return endpointID;
  }

  /** Names the hosts that have not applied it in time, but for the one that wrote it. */
  async function reportLate(
    reply: FastifyReply,
    revision: number,
    seconds: number,
    writer?: string,
  ): Promise<string[]> {
    const late = await acknowledgements.wait(revision, seconds, writer);
    if (late.length > 0) void reply.header(LATE_HEADER, late.join(','));
    return late;
  }

  /** Of what was created: changes leave names as they are. */
  async function warn(
    reply: FastifyReply,
    created: readonly { readonly kind: string; readonly key: string }[],
  ): Promise<void> {
    const all = await hidingNames(created);
    const more = all.length - MAX_WARNINGS;
    const lines = more > 0 ? [...all.slice(0, MAX_WARNINGS), `and ${more} more such names`] : all;
    if (lines.length > 0) void reply.header(WARNING_HEADER, lines.join('; '));
  }

  function routeKind(api: FastifyInstance, kind: Kind): void {
    const base = `/api/v1/${kind.collection}`;
    const body = { body: kind.schema, tags: [kind.name] };
    const write = (mode: WriteMode) => async (request: FastifyRequest, reply: FastifyReply) => {
      const seconds = waitSeconds(readQuery(request, ['wait']));
      const key = parameter(request, 'key');
      const object = readObject(kind, key, request.body);
      let existed = false;
      const { answer, revision } = await writer.write(() => {
        existed = mirror.get(kind.name, key) !== undefined;
        return decideWrite(kind, key, object, mode, mirror);
      });
      void reply.header(RESULT_HEADER, existed ? 'changed' : 'created');
      if (!existed) await warn(reply, [{ kind: kind.name, key }]);
      await reportLate(reply, revision, seconds);
      return present(kind, answer, mirror);
    };
    api.get(base, { schema: { tags: [kind.name] } }, async () =>
      mirror.list<Record<string, unknown>>(kind.name).map((object) => present(kind, object, mirror)),
    );
    api.get(`${base}/:key`, { schema: { tags: [kind.name] } }, async (request) =>
      present(kind, find(kind, parameter(request, 'key')), mirror),
    );
    api.post(`${base}/:key`, { schema: body }, write('post'));
    api.put(`${base}/:key`, { schema: body }, write('put'));
    api.delete(`${base}/:key`, { schema: { tags: [kind.name] } }, async (request, reply) => {
      const seconds = waitSeconds(readQuery(request, ['wait']));
      const key = parameter(request, 'key');
      const { answer, revision } = await remove(kind, key, mirror, writer);
      await reportLate(reply, revision, seconds);
      void reply.type('application/json');
      return JSON.stringify(keyOf(kind, answer));
    });
  }

  /** Many objects at once: client/declared.ts. */
  function routeSets(api: FastifyInstance): void {
    const tags = ['set'];
    const schema = { tags, body: ObjectSetSchema };
    api.post('/api/v1/apply', { schema, bodyLimit: SET_LIMIT }, async (request, reply) => {
      const query = readQuery(request, ['wait', 'dryRun']);
      const seconds = waitSeconds(query);
      const dryRun = readSwitch(query, 'dryRun');
      const set = readSet(request.body);
      if (dryRun) {
        const { answer } = decideApply(set, mirror);
        await warn(reply, createdOf(answer));
        return { dryRun: true, revision: mirror.revision, objects: answer } satisfies Applied;
      }
      const { answer, revision } = await writer.write(() => decideApply(set, mirror));
      await warn(reply, createdOf(answer));
      await reportLate(reply, revision, seconds);
      return { dryRun: false, revision, objects: answer } satisfies Applied;
    });
    api.get('/api/v1/export', { schema: { tags } }, async (request) => {
      const { kind } = readQuery(request, ['kind']);
      if (kind !== undefined && !kindByName.has(kind))
        throw new Refusal(
          404,
          `kind: ${shown(kind)} must be one of ${KINDS.map((k) => k.name).join(', ')}`,
          'kind',
        );
      return { objects: exportSet(mirror, kind) } satisfies ObjectSet;
    });
  }

  function routeAgents(api: FastifyInstance): void {
    const hosts = openHosts({ store, mirror, writer });
    const tags = ['agent'];

    api.get('/api/v1/hosts', { schema: { tags } }, async () => mirror.list<Host>('host'));
    api.put('/api/v1/hosts/:name', { schema: { tags, body: HostSchema } }, async (request) => {
      const name = parameter(request, 'name');
      const host = read<Host>(`host ${name}`, HostSchema, request.body);
      if (host.name !== name) throw new Refusal(400, `host ${name}: the body says ${host.name}`, 'name');
      const problem = checkHost(host);
      if (problem !== undefined) refuse(problem);
      await hosts.beat(host);
      return { store: store.id, revision: mirror.revision } satisfies HostAnswer;
    });
    api.post(
      '/api/v1/hosts/:name/applied',
      { schema: { tags, body: AppliedSchema } },
      async (request, reply) => {
        const name = registered(request, mirror);
        const applied = read<HostApplied>(`host ${name}: applied`, AppliedSchema, request.body);
        if (applied.store === store.id) acknowledgements.applied(name, applied.revision);
        return reply.status(204).send();
      },
    );

    api.post('/api/v1/addresses', { schema: { tags, body: AddressRequestSchema } }, async (request) => {
      const wanted = read<AddressRequest>('an address', AddressRequestSchema, request.body);
      return (await writer.write(() => decideReserve(mirror, wanted))).answer;
    });
    api.delete('/api/v1/addresses/:network/:address', { schema: { tags } }, async (request, reply) => {
      const { host = '' } = readQuery(request, ['host']);
      await writer.write(() =>
        decideRelease(mirror, parameter(request, 'network'), parameter(request, 'address'), host),
      );
      return reply.status(204).send();
    });

    api.get('/api/v1/endpoints', { schema: { tags } }, async () => mirror.list<Endpoint>('endpoint'));
    api.put('/api/v1/endpoints/:id', { schema: { tags, body: EndpointSchema } }, async (request) => {
      const query = readQuery(request, ['wait', 'host']);
      const seconds = waitSeconds(query);
      const id = parameter(request, 'id');
      const endpoint = read<Endpoint>(`endpoint ${id}`, EndpointSchema, request.body);
      if (endpoint.endpointID !== id)
        throw new Refusal(400, `endpoint ${id}: the body says ${endpoint.endpointID}`, 'endpointID');
      const { revision } = await writer.write(() => decideEndpoint(mirror, endpoint));
      const late = await acknowledgements.wait(revision, seconds, query.host);
      return { revision, late } satisfies WriteAnswer;
    });
    api.delete('/api/v1/endpoints/:id', { schema: { tags } }, async (request, reply) => {
      const query = readQuery(request, ['wait', 'host']);
      const seconds = waitSeconds(query);
      const id = parameter(request, 'id');
      const { revision } = await writer.write(() =>
        decideEndpointRemoval(mirror, query.host === undefined ? findForsaken(id) : id),
      );
      const late = await reportLate(reply, revision, seconds, query.host);
      return { revision, late } satisfies WriteAnswer;
    });
  }

  return server;
}
