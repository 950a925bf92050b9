/**
 * The REST API: the listener, and the handlers of every family of routes (protocol/routes.ts). What comes in is
 * checked there, once; what lies behind trusts it.
 */
import type { FastifyInstance } from 'fastify';
import type { Logger } from 'pino';
import type { Store } from '../../store/store.ts';
import type { Acknowledgements } from '../acknowledgements.ts';
import { openFeed } from '../feed.ts';
import { trackFlows } from '../flows.ts';
import type { Mirror } from '../mirror.ts';
import { openQuestions } from '../questions.ts';
import type { Writer } from '../writer.ts';
import { serveAgents } from './agents.ts';
import { ANSWER_LIMITS, type AnswerLimits } from './answers.ts';
import { serveExplain } from './explain.ts';
import { openListener, TIMEOUTS, type Timeouts } from './http.ts';
import { serveInspect, serveKinds } from './kinds.ts';
import { serveSets } from './sets.ts';
import { serveStatus } from './status.ts';
import { openWatches, WATCH_LIMITS, type WatchLimits } from './watch.ts';

export type { Timeouts } from './http.ts';

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
  readonly answerLimits?: AnswerLimits;
}

export function createServer(parts: Parts): FastifyInstance {
  const { store, mirror, version, log, names = [], timeouts = TIMEOUTS } = parts;
  const { watchLimits: limits = WATCH_LIMITS, answerLimits = ANSWER_LIMITS } = parts;
  const explaining = { mirror, flows: trackFlows(mirror), questions: openQuestions() };
  const feed = openFeed(mirror);
  const watches = openWatches({ mirror, feed, questions: explaining.questions, log, limits });
  const server = openListener({ log, names, timeouts, answerLimits });
  server.addHook('onClose', async () => watches.close());

  serveStatus(server, { store, mirror, feed, watches, version });
  serveKinds(server, parts);
  serveInspect(server, explaining);
  serveSets(server, parts);
  serveAgents(server, { ...parts, watches });
  serveExplain(server, explaining);
  return server;
}
