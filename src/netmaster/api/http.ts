/**
 * The listener: what it takes of a request, who is answered at all, and what every refusal is like. It has no routes of its own;
 * serve.ts adds them.
 */
import http from 'node:http';
import type https from 'node:https';
import type { Socket } from 'node:net';
import fastify, { type FastifyInstance, LogController } from 'fastify';
import type { Logger } from 'pino';
import { HEARTBEAT } from '../../model/host.ts';
import { Refusal } from '../problem.ts';
import { namesOf, type Security } from '../security.ts';
import { type AnswerLimits, limitAnswers } from './answers.ts';
import { answerBroken, answerError, answerExpectation, collectRoutes } from './errors.ts';
import { openOrigins } from './origin.ts';

/** Bytes. */
const BODY_LIMIT = 1 << 20;

/** Milliseconds that a client has to send the head of a request, and all of it; a larger one is told so by then. */
export interface Timeouts {
  readonly headers: number;
  readonly request: number;
}
export const TIMEOUTS: Timeouts = { headers: 10_000, request: 60_000 };

export interface ListenerOptions {
  readonly log: Logger;
  /** How clients call this machine beside its addresses and its host name. */
  readonly names: readonly string[];
  readonly timeouts: Timeouts;
  readonly answerLimits: AnswerLimits;
  /** Absent: whoever reaches it speaks plain HTTP. */
  readonly security?: Security | undefined;
}

/**
 * Parsers of 10 kB that Node keeps for connections that come later, of the 1,000 that it would: watches give theirs back (lines.ts), so that as many agents that
 * come back at once would leave as many behind. To make one anew costs microseconds, once a connection.
 */
const IDLE_PARSERS = 64;

/**
 * Milliseconds after which a connection ends on which nothing is asked. By TLS each takes 60 to 120 kB of memory, and of an agent's one is enough, on which
 * it says every few seconds that it lives: those beside it were for what was asked at once.
 */
const IDLE = 3 * HEARTBEAT * 1000;

/** Milliseconds that a client has to greet by TLS. */
const HANDSHAKE = 10_000;

/** A client without a certificate, or with one that does not hold, is told so in an answer (access.ts): a handshake that is refused says nothing. */
const secured = ({ certificate, key, authority, issuer }: Security) => ({
  // The authority goes with it: who joins knows it by its fingerprint.
  cert: issuer === undefined ? certificate : `${certificate}\n${issuer.certificate}`,
  key,
  ca: authority,
  minVersion: 'TLSv1.3' as const,
  requestCert: true,
  rejectUnauthorized: false,
  handshakeTimeout: HANDSHAKE,
});

export function openListener(options: ListenerOptions): FastifyInstance {
  const { log, names, timeouts, answerLimits, security } = options;
  http.setMaxIdleHTTPParsers(IDLE_PARSERS);
  const limits = {
    headersTimeout: timeouts.headers,
    connectionsCheckingInterval: timeouts.headers / 5,
    requireHostHeader: false, // Node would answer without a body
  };
  const server = fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: BODY_LIMIT,
    requestTimeout: timeouts.request,
    keepAliveTimeout: IDLE,
    ...(security === undefined ? { http: limits } : { https: { ...limits, ...secured(security) } }),
    clientErrorHandler: answerBroken,
    frameworkErrors: answerError,
    forceCloseConnections: true,
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 1000 },
  }) as unknown as FastifyInstance;

  const judging = (now: Security | undefined) =>
    openOrigins(now === undefined ? names : [...names, ...namesOf(now)]);
  let judgeOrigin = judging(security);
  security?.renewed?.((now) => {
    (server.server as unknown as https.Server).setSecureContext(secured(now));
    judgeOrigin = judging(now);
  });
  server.addHook('onRequest', async ({ raw }) => judgeOrigin(raw));
  limitAnswers(server, answerLimits);
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
  server.server.on('checkExpectation', answerExpectation);
  if (security !== undefined) endUngreeted(server);
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
  return server;
}

/**
 * Connections that have not greeted by TLS are no requests yet: Node has whoever answers broken requests end them, by an answer that waits for
 * the greeting, and a server that closes waits for them. Here they end when their time is over, and when the server closes: all connections
 * then, as it ends at once those that have greeted too (`forceCloseConnections`).
 */
function endUngreeted(server: FastifyInstance): void {
  const open = new Set<Socket>();
  server.server.on('connection', (socket: Socket) => {
    open.add(socket);
    socket.once('close', () => open.delete(socket));
  });
  // First of all: who answers broken requests finds nobody to answer.
  server.server.prependListener('tlsClientError', (_error: Error, socket: Socket) => void socket.destroy());
  server.addHook('preClose', async () => {
    for (const socket of open) socket.destroy();
  });
}
