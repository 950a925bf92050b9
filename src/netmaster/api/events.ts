/** What happened, listed and followed (events.ts). */
import type { FastifyInstance } from 'fastify';
import { shown } from '../../model/text.ts';
import type { EventMessage } from '../../protocol/events.ts';
import { EVENTS } from '../../protocol/routes.ts';
import { EVENT_KINDS } from '../../protocol/wire.ts';
import { type Filter, matches, readPosition } from '../events.ts';
import type { Mirror } from '../mirror.ts';
import { Refusal } from '../problem.ts';
import { viewOf } from '../scope.ts';
import { type Query, scopeOf } from './request.ts';
import { serve } from './serve.ts';

/** Milliseconds. */
const PING_INTERVAL = 3000;
/** Bytes that may wait for who follows; one that is further behind is closed, and resumes. */
const BACKLOG = 16 << 20;
const FOLLOWERS = 256;

export function serveEvents(server: FastifyInstance, { mirror }: { readonly mirror: Mirror }): void {
  let followers = 0;
  serve(server, EVENTS, {
    events({ query, request }) {
      const found = viewOf(mirror, scopeOf(request)).events.list(readFilter(query, mirror));
      const { limit } = query;
      return limit === undefined ? found : found.slice(-readLimit(limit));
    },
    followEvents({ query, request, reply }) {
      const { events } = viewOf(mirror, scopeOf(request));
      const filter = readFilter(query, mirror);
      if (followers >= FOLLOWERS)
        throw new Refusal(503, `events: ${followers} are followed, as many as may be: try again later`);
      reply.hijack();
      const out = reply.raw;
      if (out.socket?.destroyed) return;
      followers++;
      out.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
      const send = (message: EventMessage): void => {
        out.write(`${JSON.stringify(message)}\n`);
        if (out.writableLength > BACKLOG) out.destroy();
      };
      for (const event of events.list(filter)) send({ type: 'event', event });
      const unsubscribe = events.onEvents((came) => {
        for (const event of came) if (matches(event, filter)) send({ type: 'event', event });
      });
      const pinging = setInterval(send, PING_INTERVAL, { type: 'ping' });
      out.on('close', () => {
        followers--;
        clearInterval(pinging);
        unsubscribe();
      });
    },
  });
}

/** ISO 8601 with a time zone: what is meant must not depend on where netmaster is. */
const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)$/;

/** Throws a Refusal where it is not as the route says. */
function readFilter({ kind, since, after, tenant }: Query, mirror: Mirror): Filter {
  const kinds = kind?.split(',');
  for (const each of kinds ?? [])
    if (!EVENT_KINDS.some((known) => known === each))
      throw new Refusal(400, `kind: ${shown(each)} must be one of ${EVENT_KINDS.join(', ')}`, 'kind');
  const time = since !== undefined && TIME.test(since) ? Date.parse(since) : Number.NaN;
  if (since !== undefined && Number.isNaN(time))
    throw new Refusal(400, `since: ${shown(since)} must be a time like 2026-11-28T09:30:00Z`, 'since');
  const position = after === undefined ? undefined : readPosition(after);
  if (after !== undefined && position === undefined)
    throw new Refusal(
      400,
      `after: ${shown(after)} must be the id of an event or a revision, like 12-0 or 12`,
      'after',
    );
  if (tenant !== undefined && mirror.get('tenant', tenant) === undefined)
    throw new Refusal(404, `tenant ${tenant} does not exist`, 'tenant');
  return {
    kinds: kinds === undefined ? undefined : new Set(kinds),
    since: since === undefined ? undefined : time,
    after: position,
    tenant,
  };
}

function readLimit(text: string): number {
  const limit = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (limit < 1 || limit > 100_000)
    throw new Refusal(400, `limit: ${shown(text)} must be 1 to 100000`, 'limit');
  return limit;
}
