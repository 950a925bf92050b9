/**
 * Answers that nobody reads. A list is megabytes, and stays in memory until its client has taken it: one that asks on and on and
 * reads nothing is refused further answers, and a connection that takes nothing for a minute is closed.
 */
import type { ServerResponse } from 'node:http';
import { Socket } from 'node:net';
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

/** Smaller ones are not worth to be counted: the number of connections bounds them. */
const LARGE = 64 << 10;
const [, WATCH] = methodAndPath('watch');
/** Milliseconds. */
const PATIENCE = 60_000;

export function limitAnswers(server: FastifyInstance, limits: AnswerLimits): void {
  /** Large ones on their way, by client. */
  const waiting = new Map<string, Set<ServerResponse>>();
  const bytesOf = (answers: Iterable<ServerResponse>): number =>
    [...answers].reduce((sum, answer) => sum + answer.writableLength, 0);

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
    const answers = waiting.get(client) ?? new Set();
    waiting.set(client, answers.add(reply.raw));
    // Node closes one that makes no progress; for the next request it sets its own.
    if (raw.socket instanceof Socket) raw.socket.setTimeout(PATIENCE);
    reply.raw.once('close', () => {
      answers.delete(reply.raw);
      if (answers.size === 0 && waiting.get(client) === answers) waiting.delete(client);
    });
    return payload;
  });
}
