/**
 * The REST API: the listener, and the handlers of every family of routes (protocol/routes.ts). What comes in is
 * checked there, once; what lies behind trusts it.
 */
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import { STALE_HEADER } from '../../protocol/wire.ts';
import type { Store } from '../../store/store.ts';
import type { Acknowledgements } from '../acknowledgements.ts';
import { openFeed } from '../feed.ts';
import { trackFlows } from '../flows.ts';
import type { Kubernetes } from '../kubernetes.ts';
import { openLineage } from '../lineage.ts';
import type { Mirror } from '../mirror.ts';
import { elsewhere, openQuestions } from '../questions.ts';
import { openReplicas, type Replicas } from '../replicas.ts';
import { openRoster, type Roster } from '../roster.ts';
import type { Security } from '../security.ts';
import type { Writer } from '../writer.ts';
import { holdToAccess } from './access.ts';
import { serveAgents } from './agents.ts';
import { ANSWER_LIMITS, type AnswerLimits } from './answers.ts';
import { serveEvents } from './events.ts';
import { serveExplain } from './explain.ts';
import { openListener, TIMEOUTS, type Timeouts } from './http.ts';
import { serveInspect, serveKinds } from './kinds.ts';
import { type LoginOptions, serveLogin } from './login.ts';
import { serveReplicas } from './replicas.ts';
import { serveRoster } from './roster.ts';
import { serveSecurity } from './security.ts';
import { serveSets } from './sets.ts';
import { serveStatus } from './status.ts';
import { openWatches, WATCH_LIMITS, type WatchLimits } from './watch.ts';

export type { Timeouts } from './http.ts';

const FRESH = /^\/api\/v1\/(?!watch|replicas\/|hosts\/:)/;

export interface Parts {
  readonly store: Store;
  readonly mirror: Mirror;
  readonly writer: Writer;
  readonly acknowledgements: Acknowledgements;
  /** Absent: one of its own. */
  readonly roster?: Roster;
  /** Absent: this netmaster is the only one. */
  readonly replicas?: Replicas;
  /** No other netmaster writes to the store; absent: so it is. */
  readonly alone?: boolean;
  readonly version: string;
  readonly log: Logger;
  /** How clients call this machine beside its addresses and its host name. */
  readonly names?: readonly string[];
  readonly timeouts?: Timeouts;
  readonly watchLimits?: WatchLimits;
  readonly answerLimits?: AnswerLimits;
  /** Absent: nobody is asked who he is, and all may do all. */
  readonly security?: Security | undefined;
  readonly login?: LoginOptions;
  /** By whose word hosts and controllers join too. */
  readonly kubernetes?: Kubernetes | undefined;
  /** Milliseconds for which an address stays reserved that nobody uses. */
  readonly grace?: number;
}

export function createServer(parts: Parts): FastifyInstance {
  const {
    store,
    mirror,
    version,
    log,
    names = [],
    timeouts = TIMEOUTS,
    roster = openRoster(mirror, log, { alone: true }),
    replicas = openReplicas({ ...parts, roster }),
  } = parts;
  const {
    watchLimits: limits = WATCH_LIMITS,
    answerLimits = ANSWER_LIMITS,
    grace = 60_000,
    security,
  } = parts;
  const flows = trackFlows(mirror);
  const own = openQuestions({ attached: replicas.attached });
  const explaining = {
    mirror,
    flows,
    questions: elsewhere(own, replicas),
    counts: async () => flows.including(await replicas.reports()),
  };
  const feed = openFeed(mirror);
  const { writer, alone = true } = parts;
  const lineage = openLineage({ mirror, writer, log, alone });
  const { known } = replicas;
  const watches = openWatches({ mirror, feed, known, lineage, questions: own, log, limits });
  const server = openListener({ log, names, timeouts, answerLimits, security });
  if (security !== undefined)
    holdToAccess(server, { mirror, admits: security.issuer !== undefined, fresh: replicas.fresh });
  server.addHook('preClose', async () => watches.close()); // it waits for connections that are none of its own any more
  // What was written at another netmaster is seen here. What agents say of themselves needs nothing of it.
  server.addHook('preHandler', async ({ routeOptions }, reply) => {
    if (FRESH.test(routeOptions.url ?? '') && !(await replicas.fresh()))
      void reply.header(STALE_HEADER, 'true');
  });

  serveStatus(server, { store, mirror, feed, watches, roster, version });
  serveKinds(server, parts);
  serveInspect(server, { ...explaining, roster });
  serveSets(server, parts);
  serveAgents(server, { ...parts, lineage, watches, replicas, roster, grace });
  serveRoster(server, { ...parts, roster });
  serveExplain(server, { ...explaining, writer: parts.writer });
  serveEvents(server, { mirror });
  serveSecurity(server, parts);
  serveLogin(server, parts);
  serveReplicas(server, { replicas, flows, own });
  return server;
}
