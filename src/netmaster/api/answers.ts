/**
 * Answers that nobody reads. A list is megabytes, and stays in memory until its client has taken it: one that asks on and on and
 * reads nothing is refused further answers, and a connection that takes nothing for a minute is closed.
 *
 * They are written in pieces: by TLS Node keeps for each connection, as long as it is open, as much as was ever written on it at once, so that a
 * client with many connections and a list on each would have all of these lists kept (findings/node-tls-keeps-largest-write.sh).
 */
import type { ServerResponse } from 'node:http';
import { Socket } from 'node:net';
import { Readable } from 'node:stream';
import type { FastifyInstance } from 'fastify';
import { methodAndPath } from '../../protocol/wire.ts';
import { Refusal } from '../problem.ts';
import { clientOf } from './connections.ts';

/** Bytes that may wait: for one client, and for all. */
export interface AnswerLimits {
  readonly client: number;
  readonly all: number;
}
export const ANSWER_LIMITS: AnswerLimits = { client: 32 << 20, all: 256 << 20 };

/** Bytes of a piece. Smaller answers are not worth to be counted: the number of connections bounds them. */
const LARGE = 64 << 10;
const [, WATCH] = methodAndPath('watch');
/** Milliseconds. */
const PATIENCE = 60_000;

/** On its way. */
interface Answer {
  readonly response: ServerResponse;
  /** Bytes that are not handed to it yet. */
  left: number;
}

function* piecesOf(bytes: Buffer, answer: Answer): Generator<Buffer> {
  for (let at = 0; at < bytes.length; at += LARGE) {
    const piece = bytes.subarray(at, at + LARGE);
    answer.left -= piece.length;
    yield piece;
  }
}

export function limitAnswers(server: FastifyInstance, limits: AnswerLimits): void {
  /** Large ones on their way, by client. */
  const waiting = new Map<string, Set<Answer>>();
  const bytesOf = (answers: Iterable<Answer>): number =>
    [...answers].reduce((sum, { response, left }) => sum + response.writableLength + left, 0);

  // What agents need goes on, whoever else asks from their address: writes have small answers, watches limits of their own.
  server.addHook('onRequest', async ({ raw, routeOptions }) => {
    if (waiting.size === 0 || raw.method !== 'GET' || routeOptions.url === WATCH) return;
    const client = clientOf(raw.socket);
    const own = bytesOf(waiting.get(client) ?? []);
    if (own > limits.client)
      throw new Refusal(429, `${own} bytes of answers wait for ${client}: read them before you ask again`);
    const all = bytesOf([...waiting.values()].flatMap((answers) => [...answers]));
    if (all > limits.all)
      throw new Refusal(503, `${all} bytes of answers wait for clients that do not read: try again later`);
  });
  server.addHook('onSend', async ({ raw }, reply, payload) => {
    const counted = typeof payload === 'string' || Buffer.isBuffer(payload);
    if (!counted || payload.length < LARGE || reply.raw.destroyed) return payload;
    const client = clientOf(raw.socket);
    const bytes = Buffer.from(payload);
    const answer: Answer = { response: reply.raw, left: bytes.length };
    const answers = waiting.get(client) ?? new Set();
    waiting.set(client, answers.add(answer));
    // Node closes one that makes no progress; for the next request it sets its own.
    if (raw.socket instanceof Socket) raw.socket.setTimeout(PATIENCE);
    reply.raw.once('close', () => {
      answers.delete(answer);
      if (answers.size === 0 && waiting.get(client) === answers) waiting.delete(client);
    });
    reply.header('content-length', bytes.length);
    return Readable.from(piecesOf(bytes, answer), { objectMode: false, highWaterMark: LARGE });
  });
}
