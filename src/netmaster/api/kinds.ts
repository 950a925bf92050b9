/** The objects of each kind, as 1.x has them: one set of handlers serves every kind. */
import type { FastifyInstance } from 'fastify';
import type { Endpoint } from '../../model/endpoint.ts';
import type { Kind } from '../../model/kind.ts';
import { keyOf, kindByCollection, kindByName } from '../../model/kinds.ts';
import type { NetworkPolicy } from '../../model/networkPolicy.ts';
import { INSPECT, OBJECTS } from '../../protocol/routes.ts';
import { RESULT_HEADER } from '../../protocol/wire.ts';
import { findExternal } from '../external.ts';
import type { Plain } from '../fields.ts';
import { decideWrite, present, readObject, remove } from '../intent.ts';
import type { Mirror } from '../mirror.ts';
import { bgpOper, operOf, presentEndpoint } from '../oper.ts';
import { Refusal } from '../problem.ts';
import type { Roster } from '../roster.ts';
import { mustSee, rightOf, type Scope, viewOf } from '../scope.ts';
import { findEndpoints } from './agents.ts';
import { type Explaining, networkPolicyFlows, policyFlows } from './explain.ts';
import { jsonOf, openLists } from './lists.ts';
import { callerOf, scopeOf, waitSeconds } from './request.ts';
import { Bytes, type Handlers, serve } from './serve.ts';
import { reportChanges, reportLate, type WriteParts, warn } from './writes.ts';

type Contracts = (typeof OBJECTS)[number]['contracts'];

export function serveKinds(server: FastifyInstance, parts: WriteParts): void {
  const lists = openLists(parts.mirror);
  for (const { kind, ...family } of OBJECTS) serve(server, family, handlersOf(kind, parts, lists));
}

function handlersOf(
  kind: Kind,
  { mirror, writer, acknowledgements }: WriteParts,
  listOf: (kind: Kind, scope?: Scope) => Bytes,
): Handlers<Contracts, 'collection'> {
  const write =
    (mode: 'post' | 'put'): Handlers<Contracts, 'collection'>['post'] =>
    async ({ parameters: { key }, query, request, reply }) => {
      const seconds = waitSeconds(query);
      const object = readObject(kind, key, request.body);
      const right = rightOf(scopeOf(request));
      const {
        answer: { stored, outcome },
        revision,
      } = await writer.writeTogether((view) => {
        const made = decideWrite(kind, key, object, mode, view, undefined, right);
        const { answer: stored, outcome, ...decision } = made;
        return { ...decision, answer: { stored, outcome } };
      }, callerOf(request));
      void reply.header(RESULT_HEADER, outcome.result === 'created' ? 'created' : 'changed');
      reportChanges(reply, outcome);
      await warn(reply, [{ kind, object, outcome }]);
      await reportLate(acknowledgements, reply, revision, seconds);
      return present(kind, stored, viewOf(mirror, scopeOf(request)));
    };
  return {
    list: ({ request }) => listOf(kind, scopeOf(request)),
    get({ parameters: { key }, request }) {
      const view = viewOf(mirror, scopeOf(request));
      return new Bytes(jsonOf(kind, find(kind, key, view), view));
    },
    post: write('post'),
    put: write('put'),
    async delete({ parameters: { key }, query, request, reply }) {
      const seconds = waitSeconds(query);
      const right = rightOf(scopeOf(request));
      const { answer, revision } = await remove(kind, key, writer, callerOf(request), right);
      await reportLate(acknowledgements, reply, revision, seconds);
      return keyOf(kind, answer);
    },
  };
}

export function serveInspect(
  server: FastifyInstance,
  explaining: Explaining & { readonly roster: Roster },
): void {
  serve(server, INSPECT, {
    async inspect({ parameters: { collection, key }, request }) {
      const scope = scopeOf(request);
      const mirror = viewOf(explaining.mirror, scope);
      const { counts, roster } = explaining;
      if (collection === 'endpoints') {
        const { dropped } = await counts();
        const { endpoints, external } = findMembers(key, mirror);
        if (external !== undefined) return { Oper: external };
        const shown = endpoints.map((endpoint) => {
          const ofEndpoint = dropped(endpoint.endpointID);
          return {
            ...presentEndpoint(endpoint, mirror),
            ...(ofEndpoint.length === 0 ? {} : { dropped: ofEndpoint }),
          };
        });
        const [Oper, ...others] = shown;
        // Of a container in several networks 1.x showed one.
        return { Oper: { ...Oper, ...(others.length === 0 ? {} : { others }) } };
      }
      const kind = kindByCollection.get(collection);
      if (kind === undefined) throw new Refusal(404, `there is no collection ${collection}`);
      mustSee(scope, kind, key);
      const object = find(kind, key, mirror);
      const judged =
        kind.name === 'policy'
          ? await policyFlows(key, { mirror, counts })
          : kind.name === 'networkPolicy'
            ? await networkPolicyFlows(object as unknown as NetworkPolicy, { mirror, counts })
            : kind.name === 'Bgp'
              ? bgpOper(key, roster.condition(key))
              : {};
      return { Config: present(kind, object, mirror), Oper: { ...operOf(kind, object, mirror), ...judged } };
    },
  });
}

/** Endpoints; where there are none of that name, what is shown of the external one. */
function findMembers(
  key: string,
  mirror: Mirror,
): { readonly endpoints: readonly Endpoint[]; readonly external?: Plain } {
  try {
    return { endpoints: findEndpoints(key, mirror) };
  } catch (error) {
    const external = findExternal(mirror, key);
    if (external === undefined) throw error;
    const kind = kindByName.get('externalEndpoint') as Kind;
    return { endpoints: [], external: operOf(kind, external, mirror) };
  }
}

function find(kind: Kind, key: string, mirror: Mirror): Plain {
  const object = mirror.get<Plain>(kind.name, key);
  if (object === undefined) throw new Refusal(404, `${kind.name} ${key} does not exist`);
  return object;
}
