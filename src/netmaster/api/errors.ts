/** Every refusal as {error: {...}} (protocol/messages.ts), whoever makes it: a handler, fastify, or Node's HTTP parser. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import { oneLine } from '../../model/text.ts';
import type { ErrorBody } from '../../protocol/messages.ts';
import { UncertainError, UnwritableError } from '../../store/store.ts';
import { Refusal } from '../problem.ts';

const bodyOf = ({ code, message, field, position }: Refusal): ErrorBody => ({
  error: {
    code,
    message,
    ...(field === undefined ? {} : { field }),
    ...(position === undefined ? {} : { position }),
  },
});

const REASON_LIMIT = 200;

/**
 * The line as HTTP's reason phrase, which is what clients of 1.x print of a refusal: they read a body at status 500 only. RFC 9112, 4: what
 * can be seen, and blanks; here ASCII alone, since what others make of the rest differs.
 */
const reasonOf = ({ message }: Refusal): string =>
  oneLine(message, REASON_LIMIT)
    .replace(/\u2026/g, '...')
    .replace(/[^\x20-\x7e]/g, '?');

/** What fastify refuses, in words for people: https://fastify.dev/docs/latest/Reference/Errors */
function refusalOf(error: Error & { statusCode?: number; code?: string }, request: FastifyRequest): Refusal {
  if (error instanceof Refusal) return error;
  const { method, url } = request;
  switch (error.code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return new Refusal(
        413,
        `${method} ${url}: the body is larger than ${request.routeOptions.bodyLimit} bytes`,
      );
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return new Refusal(
        415,
        `${method} ${url}: content-type '${request.headers['content-type']}' must be application/json`,
      );
    case 'FST_ERR_BAD_URL':
      return new Refusal(400, `${method} ${url}: the path must be UTF-8 in percent encoding`);
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return new Refusal(414, `${method} ${url}: a name in the path is too long`);
  }
  if (error.statusCode !== undefined && error.statusCode < 500)
    return new Refusal(error.statusCode, `${method} ${url}: ${error.message}`);
  request.log.error({ err: error, method, url }, 'request failed');
  if (error instanceof UnwritableError || error instanceof UncertainError)
    return new Refusal(503, error.message);
  return new Refusal(500, 'netmaster failed; its log says why');
}

/** Without what is of a tenant that the caller may not see. */
function toldTo({ identity }: FastifyRequest, refusal: Refusal): Refusal {
  const { status, field, position, elsewhere } = refusal;
  if (elsewhere === undefined || (identity?.scope?.tenants.has(elsewhere.tenant) ?? true)) return refusal;
  return new Refusal(status, elsewhere.message, field, position);
}

export async function answerError(error: Error, request: FastifyRequest, reply: FastifyReply): Promise<void> {
  const refusal = toldTo(request, refusalOf(error, request));
  // Closed while the client still sends, the connection would be reset and the client never read why.
  if (refusal.status === 413) await receivedAll(request.raw);
  reply.raw.statusMessage = reasonOf(refusal);
  void reply
    .status(refusal.status)
    .type('application/json')
    .send(JSON.stringify(bodyOf(refusal)));
}

/** When the rest of the request has been read and dropped, or the connection ended: the server's timeout sees to that. */
const receivedAll = (request: FastifyRequest['raw']): Promise<void> =>
  new Promise((done) => {
    if (request.readableEnded || request.destroyed) return done();
    request.once('end', done).once('close', done);
    request.resume();
  });

const BROKEN: Readonly<Record<string, readonly [status: number, message: string]>> = {
  HPE_HEADER_OVERFLOW: [431, 'the path and headers are larger than 16384 bytes'],
  HPE_CHUNK_EXTENSIONS_OVERFLOW: [413, 'the chunk extensions are larger than 16384 bytes'],
  ERR_HTTP_REQUEST_TIMEOUT: [408, 'the request was not sent in time'],
};

/** What Node's parser refuses comes before there is a request: the answer goes to the socket. */
export function answerBroken(error: NodeJS.ErrnoException, socket: Socket): void {
  const answering = (socket as Socket & { _httpMessage?: ServerResponse })._httpMessage;
  if (answering?.req.complete && !answering.writableFinished) {
    // It is behind a request that is whole, and is being answered: that answer is the last one.
    answering.shouldKeepAlive = false;
    answering.once('finish', () => socket.destroySoon());
    return;
  }
  if (socket.writable && !answering?.headersSent) {
    const [status, message] = BROKEN[error.code ?? ''] ?? [400, 'the request is not HTTP'];
    const refusal = new Refusal(status, message);
    const body = JSON.stringify(bodyOf(refusal));
    socket.write(
      `HTTP/1.1 ${status} ${reasonOf(refusal)}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
    );
  }
  socket.destroySoon();
}

/** `Expect:` anything but 100-continue, which Node would refuse without a body. */
export function answerExpectation(request: IncomingMessage, response: ServerResponse): void {
  const refusal = new Refusal(417, `${request.method} ${request.url}: expect must be 100-continue or absent`);
  const body = Buffer.from(JSON.stringify(bodyOf(refusal)));
  response.writeHead(417, reasonOf(refusal), {
    'content-type': 'application/json',
    'content-length': body.length,
    connection: 'close',
  });
  response.end(body);
}

/** Which methods a path takes; none where there is no such path. */
export function collectRoutes(server: FastifyInstance): { methodsOf(path: string): string[] } {
  const routes: { parts: string[]; methods: string[] }[] = [];
  const split = (path: string): string[] => path.replace(/\/$/, '').split('/');
  server.addHook('onRoute', ({ url, method }) => {
    routes.push({ parts: split(url), methods: [method].flat() });
  });
  return {
    methodsOf(path) {
      const parts = split(path);
      const found = routes.filter(
        (route) =>
          route.parts.length === parts.length &&
          route.parts.every((part, i) => (part.startsWith(':') ? parts[i] !== '' : part === parts[i])),
      );
      return [...new Set(found.flatMap((route) => route.methods))].sort();
    },
  };
}
