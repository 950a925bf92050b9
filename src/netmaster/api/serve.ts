/**
 * Handlers for the routes of the table (protocol/routes.ts): nothing else is served. What a handler is given and gives back follows
 * from its route; one that is missing, or of no route, does not compile.
 */
import type { TObject, TSchema } from '@sinclair/typebox';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import {
  type Answered,
  type Body,
  type Contract,
  type Contracts,
  type Family,
  type Frozen,
  type PathParameters,
  type Query,
  routesOf,
} from '../../protocol/routes.ts';
import type { RouteName } from '../../protocol/wire.ts';
import { read, readQuery } from './request.ts';

export interface Call<P, Q, B> {
  readonly parameters: P;
  readonly query: Q;
  /** Throws a Refusal where it is not as the schema says, which calls it `what`. */
  body(what: string): B;
  readonly request: FastifyRequest;
  readonly reply: FastifyReply;
}

/** An answer that is JSON already. */
export class Bytes {
  readonly json: Buffer | string;
  constructor(json: Buffer | string) {
    this.json = json;
  }
}

type CallOf<N extends RouteName, C, F extends string> = Call<PathParameters<N, F>, Query<C>, Body<C>>;
/** Gives back the answer; nothing where there is none, and where it writes lines as they come. */
type Handler<N extends RouteName, C, F extends string> = C extends {
  readonly answer: TSchema;
  readonly as?: 'text';
}
  ? (call: CallOf<N, C, F>) => Promise<Frozen<Answered<C>> | Bytes> | Frozen<Answered<C>> | Bytes
  : (call: CallOf<N, C, F>) => void;

export type Handlers<C, F extends string = never> = {
  readonly [N in keyof C & RouteName]: Handler<N, C[N], F>;
};

/** As it is while it is called. */
type Any = (call: Call<unknown, unknown, unknown>) => unknown;

export function serve<const C extends Contracts, F extends string>(
  server: FastifyInstance,
  family: Family<C, F>,
  handlers: Handlers<C, F>,
): void {
  for (const route of routesOf(family)) {
    const { method, path: url, bodyLimit, as } = route;
    const answer = answering(route, handlers[route.name as keyof C & RouteName] as unknown as Any);
    server.route({
      method,
      url,
      ...(bodyLimit === undefined ? {} : { bodyLimit }),
      config: { contract: route },
      exposeHeadRoute: method === 'GET' && as !== 'lines', // what has no end has no HEAD either
      handler: answer,
    });
  }
}

const EMPTY = {};

/** All that does not depend on the request is found out here, once. */
function answering({ query, body, answer, as }: Contract, handle: Any) {
  const names = query === undefined ? undefined : Object.keys(query.properties);
  const isText = as === undefined && answer?.type === 'string';
  return async (request: FastifyRequest, reply: FastifyReply): Promise<unknown> => {
    const answered = await handle({
      parameters: request.params,
      query: names === undefined ? EMPTY : readQuery(request, names),
      body: (what) => read(what, body as TObject, request.body),
      request,
      reply,
    });
    if (answer === undefined) return reply.status(204).send();
    const ready = answered instanceof Bytes;
    if (!isText && !ready) return answered;
    void reply.type('application/json'); // fastify takes text and bytes for ready
    return ready ? answered.json : JSON.stringify(answered);
  };
}
