/** GET /api/v1/watch: the list, then changes by revision, one JSON object a line (client/protocol.ts). */
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { WatchMessage } from '../../client/protocol.ts';
import { KINDS } from '../../model/kinds.ts';
import type { Mirror } from '../mirror.ts';
import { Refusal } from '../problem.ts';
import type { Questions } from '../questions.ts';
import { readQuery, readRevision } from './request.ts';

const PING_INTERVAL = 3000;
/** Bytes that a watcher may be behind: one that is slower is dropped, and resumes. */
const BACKLOG = 64 << 20;

const line = (message: WatchMessage): string => `${JSON.stringify(message)}\n`;

export function watchStream(
  request: FastifyRequest,
  reply: FastifyReply,
  mirror: Mirror,
  questions: Questions,
): void {
  const { store, after, host } = readQuery(request, ['store', 'after', 'host']);
  let missed: readonly { line: string }[] | undefined = [];
  if (after !== undefined) {
    const revision = readRevision('after', after);
    missed = store === mirror.storeId ? mirror.since(revision) : undefined;
    if (missed === undefined)
      throw new Refusal(410, `changes after revision ${after} of store ${store} are not kept: list again`);
  }

  reply.hijack();
  const out = reply.raw;
  out.writeHead(200, { 'content-type': 'application/x-ndjson', 'cache-control': 'no-store' });
  if (after === undefined) {
    for (const kind of [...KINDS.map((k) => k.name), 'endpoint', 'host'])
      for (const [key, { object }] of mirror.entries(kind))
        out.write(line({ type: 'object', kind, key, object }));
    out.write(line({ type: 'synced', store: mirror.storeId, revision: mirror.revision }));
  } else {
    out.write(line({ type: 'synced', store: mirror.storeId, revision: Number(after) }));
    for (const batch of missed) out.write(batch.line);
  }

  // What was there or missed may itself be larger: whoever takes it is not slow, and would be dropped again and again.
  let limit = out.writableLength + BACKLOG;
  out.once('drain', () => {
    limit = BACKLOG;
  });
  const send = (text: string): void => {
    out.write(text);
    if (out.writableLength > limit) out.destroy();
  };
  const unsubscribe = mirror.onChange((batch) => send(batch.line));
  const pinging = setInterval(() => send(line({ type: 'ping', revision: mirror.revision })), PING_INTERVAL);
  const detach = host === undefined ? () => {} : questions.attach(host, (message) => send(line(message)));
  out.on('close', () => {
    detach();
    unsubscribe();
    clearInterval(pinging);
  });
}
