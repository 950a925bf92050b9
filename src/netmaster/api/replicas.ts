/** What other netmasters ask (replicas.ts). */
import type { FastifyInstance } from 'fastify';
import type { ReplicaMessage } from '../../protocol/messages.ts';
import { REPLICAS } from '../../protocol/routes.ts';
import type { Flows } from '../flows.ts';
import type { Questions } from '../questions.ts';
import type { Replicas } from '../replicas.ts';
import { serve } from './serve.ts';

/** Milliseconds. */
const PING_INTERVAL = 3000;
/** Bytes that may wait for another netmaster: who reads nothing is asked to begin anew. */
const BACKLOG = 16 << 20;

export interface ReplicaParts {
  readonly replicas: Replicas;
  readonly flows: Flows;
  /** Of the hosts that watch here, and of no others. */
  readonly own: Questions;
}

export function serveReplicas(server: FastifyInstance, { replicas, flows, own }: ReplicaParts): void {
  serve(server, REPLICAS, {
    replicaHosts({ reply }) {
      reply.hijack();
      const out = reply.raw;
      if (out.socket?.destroyed) return;
      out.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
      const send = (message: ReplicaMessage): void => {
        out.write(`${JSON.stringify(message)}\n`);
        if (out.writableLength > BACKLOG) out.destroy();
      };
      const pinging = setInterval(send, PING_INTERVAL, { type: 'ping' });
      const unsubscribe = replicas.subscribe(send);
      out.on('close', () => {
        clearInterval(pinging);
        unsubscribe();
      });
    },
    async replicaAsk({ body }) {
      const { host, question, seconds } = body('a question of a netmaster');
      return { answer: await own.ask(host, question, seconds) };
    },
    replicaReports: () => flows.kept(),
  });
}
