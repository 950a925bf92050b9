/** What the hosts' agents ask: they register, say what they have applied, reserve addresses, tell of endpoints, and watch. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import type { Endpoint } from '../../model/endpoint.ts';
import type { StoredExternalEndpoint } from '../../model/externalEndpoint.ts';
import { checkHost, type Host } from '../../model/host.ts';
import { AGENTS } from '../../protocol/routes.ts';
import type { Store } from '../../store/store.ts';
import {
  decideEndpoint,
  decideEndpointRemoval,
  decideRelease,
  decideReserve,
  decideSwarmRelease,
} from '../endpoints.ts';
import { decideChecked, externalMember } from '../external.ts';
import { openHosts } from '../hosts.ts';
import { refuse } from '../intent.ts';
import type { Lineage } from '../lineage.ts';
import { Refusal } from '../problem.ts';
import type { Replicas } from '../replicas.ts';
import { drainingSince, type Roster, statusOf } from '../roster.ts';
import { viewOf } from '../scope.ts';
import { applySwarmServices, decideSwarm, type Unlisted } from '../swarms.ts';
import type { View } from '../tables.ts';
import { callerOf, registered, scopeOf, waitSeconds } from './request.ts';
import { serve } from './serve.ts';
import type { Watches } from './watch.ts';
import { reportLate, type WriteParts } from './writes.ts';

export interface AgentParts extends WriteParts {
  readonly store: Store;
  readonly lineage: Lineage;
  readonly watches: Watches;
  readonly replicas: Replicas;
  readonly roster: Roster;
  /** Milliseconds for which an address stays reserved that its Swarm has no more. */
  readonly grace: number;
}

export function serveAgents(server: FastifyInstance, parts: AgentParts): void {
  const { store, mirror, writer, acknowledgements, lineage, watches, replicas, roster, grace } = parts;
  const hosts = openHosts({ store, mirror, writer });
  const unlisted: Unlisted = new Map();
  serve(server, AGENTS, {
    hosts: () => mirror.list<Host>('host'),
    async register({ parameters: { name }, body, request }) {
      const { condition, ...host } = body(`host ${name}`);
      if (host.name !== name) throw new Refusal(400, `host ${name}: the body says ${host.name}`, 'name');
      const problem = checkHost(host);
      if (problem !== undefined) refuse(problem);
      try {
        await hosts.beat(host, callerOf(request));
      } catch (error) {
        if (error instanceof Refusal && error.status === 409)
          replicas.refused(roster.refuse(host, error.message));
        throw error;
      }
      replicas.heard(name, roster.beat(name, condition));
      return { store: store.id, revision: mirror.revision };
    },
    applied({ parameters: { name }, body }) {
      const host = registered(name, mirror);
      const applied = body(`host ${host}: applied`);
      if (!lineage.holds(applied.store, applied.revision, `host ${host}`)) return;
      acknowledgements.applied(host, applied.revision);
      replicas.applied(host, applied.revision);
    },

    async reserve({ body }) {
      const wanted = body('an address');
      return (await writer.writeTogether((view) => decideReserve(view, wanted))).answer;
    },
    async release({ parameters: { network, address }, query: { host = '', swarm } }) {
      await writer.writeTogether((view) =>
        swarm === 'true'
          ? decideSwarmRelease(view, network, address)
          : decideRelease(view, network, address, host),
      );
    },
    async swarm({ parameters: { id }, body, request }) {
      const has = body(`swarm ${id}`);
      const decide = () => decideSwarm(mirror, id, has, unlisted, grace, performance.now());
      const missed = (await writer.write(decide)).answer;
      if (has.services !== undefined)
        await applySwarmServices(id, has.services, { mirror, writer }, callerOf(request));
      return { missed };
    },

    async checked({ parameters: { name }, body, request }) {
      const host = registered(name, mirror);
      const report = body(`host ${host}: checked`);
      await writer.writeTogether((view) => decideChecked(view, host, report), callerOf(request));
    },

    endpoints({ request }) {
      const view = viewOf(mirror, scopeOf(request));
      return [
        ...view
          .list<StoredExternalEndpoint>('externalEndpoint')
          .map((external) => ({ ...externalMember(view, external), external: true as const })),
        ...view.list<Endpoint>('endpoint').map((endpoint) => {
          const draining = drainingSince(mirror, endpoint.homingHost);
          return {
            ...endpoint,
            status: statusOf(endpoint, mirror),
            ...(draining === undefined ? {} : { draining }),
          };
        }),
      ];
    },
    async attach({ parameters: { id }, query, body, request }) {
      const seconds = waitSeconds(query);
      const endpoint = body(`endpoint ${id}`);
      if (endpoint.endpointID !== id)
        throw new Refusal(400, `endpoint ${id}: the body says ${endpoint.endpointID}`, 'endpointID');
      const { revision } = await writer.writeTogether((view) => {
        mustBeOwn(id, view, request);
        return decideEndpoint(view, endpoint);
      }, callerOf(request));
      const late = await acknowledgements.wait(revision, seconds, query.host);
      return { revision, late };
    },
    async detach({ parameters: { id }, query, request, reply }) {
      const seconds = waitSeconds(query);
      const { revision } = await writer.writeTogether((view) => {
        mustBeOwn(id, view, request);
        return decideEndpointRemoval(view, query.host === undefined ? findOfDeadHost(id, view) : id);
      }, callerOf(request));
      const late = await reportLate(acknowledgements, reply, revision, seconds, query.host);
      return { revision, late };
    },

    async watch({ query, request, reply }) {
      await watches.open(query, request, reply);
    },
  });
}

/** Throws a Refusal where a host asks about an endpoint that is another's. */
function mustBeOwn(id: string, view: View, { identity }: FastifyRequest): void {
  const host = view.get<Endpoint>('endpoint', id)?.homingHost;
  if (identity?.role !== 'host' || host === undefined || host === identity.name) return;
  throw new Refusal(403, `endpoint ${id}: is on host ${host}, and host ${identity.name} may not change it`);
}

/**
 * By its id, its container's id (12 characters or more) or its container's name: one, or those of one container in several networks. Throws
 * a Refusal where there is none, or several containers are called so.
 */
export function findEndpoints(id: string, view: View): readonly [Endpoint, ...Endpoint[]] {
  const exact = view.get<Endpoint>('endpoint', id);
  if (exact !== undefined) return [exact];
  const found = view
    .list<Endpoint>('endpoint')
    .filter((e) => e.containerName === id || (id.length >= 12 && (e.containerID ?? '').startsWith(id)));
  const [endpoint, ...others] = found;
  if (endpoint === undefined)
    throw new Refusal(
      404,
      `endpoint ${id} does not exist: no endpoint has this id, no container or external endpoint this id or name`,
    );
  const { homingHost, containerID } = endpoint;
  const isSame = (e: Endpoint): boolean =>
    containerID !== undefined && e.containerID === containerID && e.homingHost === homingHost;
  if (!others.every(isSame)) {
    const ids = found.map((e) => `${(e.containerID ?? e.endpointID).slice(0, 12)} on ${e.homingHost}`);
    throw new Refusal(409, `${id} is the name of several containers: say the id of one (${ids.join(', ')})`);
  }
  return [endpoint, ...others];
}

/** The only one. */
function findEndpoint(id: string, view: View): Endpoint {
  const [endpoint, ...others] = findEndpoints(id, view);
  if (others.length === 0) return endpoint;
  const ids = [endpoint, ...others].map((e) => `${e.endpointID} in ${e.networkName}`);
  throw new Refusal(409, `${id} is in several networks: say the id of one endpoint (${ids.join(', ')})`);
}

/** Id of an endpoint that nobody else will remove: its host's own agent does it, while there is one. */
function findOfDeadHost(id: string, view: View): string {
  const { endpointID, homingHost } = findEndpoint(id, view);
  if (view.get<Host>('host', homingHost) !== undefined)
    throw new Refusal(
      409,
      `endpoint ${id}: host ${homingHost} is alive, and removes it when its container ends: end that one`,
    );
  return endpointID;
}
