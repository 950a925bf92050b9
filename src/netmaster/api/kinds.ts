/** The objects of each kind, as 1.x has them: one set of handlers serves every kind. */
import type { FastifyInstance } from 'fastify';
import type { Kind } from '../../model/kind.ts';
import { keyOf, kindByCollection } from '../../model/kinds.ts';
import type { NetworkPolicy } from '../../model/networkPolicy.ts';
import { INSPECT, OBJECTS } from '../../protocol/routes.ts';
import { RESULT_HEADER } from '../../protocol/wire.ts';
import type { Plain } from '../fields.ts';
import { decideWrite, present, readObject, remove } from '../intent.ts';
import type { Mirror } from '../mirror.ts';
import { operOf, presentEndpoint } from '../oper.ts';
import { Refusal } from '../problem.ts';
import { findEndpoints } from './agents.ts';
import { type Explaining, networkPolicyFlows, policyFlows } from './explain.ts';
import { waitSeconds } from './request.ts';
import { type Handlers, serve } from './serve.ts';
import { reportLate, type WriteParts, warn } from './writes.ts';

type Contracts = (typeof OBJECTS)[number]['contracts'];

export function serveKinds(server: FastifyInstance, parts: WriteParts): void {
  for (const { kind, ...family } of OBJECTS) serve(server, family, handlersOf(kind, parts));
}

function handlersOf(
  kind: Kind,
  { mirror, writer, acknowledgements }: WriteParts,
): Handlers<Contracts, 'collection'> {
  const write =
    (mode: 'post' | 'put'): Handlers<Contracts, 'collection'>['post'] =>
    async ({ parameters: { key }, query, request, reply }) => {
      const seconds = waitSeconds(query);
      const object = readObject(kind, key, request.body);
      let existed = false;
      const { answer, revision } = await writer.write(() => {
        existed = mirror.get(kind.name, key) !== undefined;
        return decideWrite(kind, key, object, mode, mirror);
      });
      void reply.header(RESULT_HEADER, existed ? 'changed' : 'created');
      if (!existed) await warn(reply, [{ kind: kind.name, key }]);
      await reportLate(acknowledgements, reply, revision, seconds);
      return present(kind, answer, mirror);
    };
  return {
    list: () => mirror.list<Plain>(kind.name).map((object) => present(kind, object, mirror)),
    get: ({ parameters: { key } }) => present(kind, find(kind, key, mirror), mirror),
    post: write('post'),
    put: write('put'),
    async delete({ parameters: { key }, query, reply }) {
      const seconds = waitSeconds(query);
      const { answer, revision } = await remove(kind, key, mirror, writer);
      await reportLate(acknowledgements, reply, revision, seconds);
      return keyOf(kind, answer);
    },
  };
}

export function serveInspect(server: FastifyInstance, explaining: Explaining): void {
  const { mirror, counts } = explaining;
  serve(server, INSPECT, {
    async inspect({ parameters: { collection, key } }) {
      if (collection === 'endpoints') {
        const { dropped } = await counts();
        const shown = findEndpoints(key, mirror).map((endpoint) => {
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
      const object = find(kind, key, mirror);
      const judged =
        kind.name === 'policy'
          ? await policyFlows(key, explaining)
          : kind.name === 'networkPolicy'
            ? await networkPolicyFlows(object as unknown as NetworkPolicy, explaining)
            : {};
      return { Config: present(kind, object, mirror), Oper: { ...operOf(kind, object, mirror), ...judged } };
    },
  });
}

function find(kind: Kind, key: string, mirror: Mirror): Plain {
  const object = mirror.get<Plain>(kind.name, key);
  if (object === undefined) throw new Refusal(404, `${kind.name} ${key} does not exist`);
  return object;
}
