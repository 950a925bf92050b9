/** Of netmaster itself: its version, whether it can write, metrics for Prometheus, and its API as OpenAPI. */
import type { FastifyInstance } from 'fastify';
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { backupLines } from '../../client/backupFile.ts';
import { KINDS } from '../../model/kinds.ts';
import { oneLine } from '../../model/text.ts';
import { STATUS } from '../../protocol/routes.ts';
import type { Store } from '../../store/store.ts';
import { type FabricState, fabricOf } from '../aci/state.ts';
import { contentsOf } from '../backup.ts';
import type { Feed } from '../feed.ts';
import type { Mirror } from '../mirror.ts';
import { readiness } from '../readiness.ts';
import type { Roster } from '../roster.ts';
import { describe } from './openapi.ts';
import { serve } from './serve.ts';
import type { Watches } from './watch.ts';

export interface StatusParts {
  readonly store: Store;
  readonly mirror: Mirror;
  readonly feed: Feed;
  readonly watches: Watches;
  readonly roster: Roster;
  readonly version: string;
}

/** Before other routes are added: their requests are counted. */
export function serveStatus(server: FastifyInstance, parts: StatusParts): void {
  const { store, mirror, version } = parts;
  const registry = openMetrics(server, parts);
  serve(server, STATUS, {
    version: () => ({ GitCommit: '', Version: version, BuildTime: '' }),
    async health() {
      const problem = await store.problem();
      const status = problem === undefined ? { status: 'ok' } : { status: 'unwritable', problem };
      return { ...status, store: store.id, revision: mirror.revision };
    },
    async ready({ reply }) {
      const problems = (await readiness(store, mirror)).map(({ problem, remedy }) => `${problem}: ${remedy}`);
      if (problems.length === 0) return { problems };
      void reply.code(503);
      return { problems, error: { code: 'unavailable', message: oneLine(problems.join('; ')) } };
    },
    metrics({ reply }) {
      void reply.header('content-type', registry.contentType);
      return registry.metrics();
    },
    openapi: () => describe(version),
    backup: async () => [...backupLines(await contentsOf(store), version)].join(''),
  });
}

function openMetrics(server: FastifyInstance, { mirror, feed, watches, roster }: StatusParts): Registry {
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
  new Gauge({
    name: 'contiv_netmaster_hosts',
    help: 'hosts by state: ready, late, away, refused, draining',
    labelNames: ['state'],
    registers: [registry],
    collect() {
      const states = roster.states();
      for (const state of ['ready', 'late', 'away', 'refused', 'draining'] as const)
        this.set({ state }, states.filter((host) => host.state === state).length);
    },
  });
  new Gauge({
    name: 'contiv_netmaster_host_problems',
    help: 'what is wrong on a host, as its agent says; netctl status has it in words',
    labelNames: ['host'],
    registers: [registry],
    collect() {
      this.reset();
      for (const { name, problems } of roster.states())
        if (problems.length > 0) this.set({ host: name }, problems.length);
    },
  });
  for (const [name, help, value] of [
    ['reached', 'whether the ACI fabric is followed: 1 or 0', (f) => (f.state === 'reached' ? 1 : 0)],
    ['objects', 'objects that are declared in the ACI fabric', (f) => f.objects],
    [
      'problems',
      'what is wrong with the ACI fabric; netctl status has it in words',
      (f) => f.problems.length,
    ],
  ] as const satisfies readonly [string, string, (fabric: FabricState) => number][])
    new Gauge({
      name: `contiv_netmaster_fabric_${name}`,
      help,
      labelNames: ['fabric'],
      registers: [registry],
      collect() {
        this.reset();
        const fabric = fabricOf(mirror);
        if (fabric !== undefined) this.set({ fabric: 'aci' }, value(fabric));
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
  server.addHook('onResponse', async (request, reply) => {
    const route = request.routeOptions.url ?? 'unknown';
    requests.inc({ method: request.method, route, status: reply.statusCode });
    durations.observe({ method: request.method, route }, reply.elapsedTime / 1000);
  });
  return registry;
}
