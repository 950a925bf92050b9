/** The agent's own socket, for tools on this host: GET /health, /state, /attachments, /metrics. Root only. */
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import type { Metrics } from './metrics.ts';
import type { Replica } from './replica.ts';
import type { HostState } from './state.ts';
import type { Attachment } from './view.ts';

export interface Control {
  close(): Promise<void>;
}

export interface ControlSubject {
  state(): HostState;
  readonly replica: Replica;
  readonly attachments: ReadonlyMap<string, Attachment>;
  readonly metrics: Metrics;
}

export async function startControl(socket: string, subject: ControlSubject): Promise<Control> {
  const answers: Record<string, () => unknown> = {
    '/health': () => ({
      live: subject.replica.live,
      store: subject.replica.store,
      revision: subject.replica.revision,
      attached: subject.attachments.size,
    }),
    '/state': () => subject.state(),
    '/attachments': () => [...subject.attachments.values()],
  };
  const server = http.createServer(async (request, response) => {
    if (request.url === '/metrics') {
      response.setHeader('content-type', subject.metrics.contentType);
      response.end(await subject.metrics.text());
      return;
    }
    const answer = answers[request.url ?? ''];
    response.setHeader('content-type', 'application/json');
    response.statusCode = answer === undefined ? 404 : 200;
    const paths = [...Object.keys(answers), '/metrics'];
    response.end(
      JSON.stringify(
        answer?.() ?? { error: { code: 'not_found', message: `ask for one of ${paths.join(', ')}` } },
      ),
    );
  });
  await listenOnSocket(server, socket);
  return {
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}

/** Listens on a unix socket for root only, in place of what an earlier, dead process left there. */
export async function listenOnSocket(server: http.Server, socket: string): Promise<void> {
  fs.mkdirSync(path.dirname(socket), { recursive: true });
  // Bound beside and renamed: whoever connects finds the old process's socket or this one, never a gap.
  const draft = `${socket}.new`;
  fs.rmSync(draft, { force: true });
  await new Promise<void>((done, fail) => {
    server.once('error', fail);
    server.listen(draft, () => done());
  });
  fs.chmodSync(draft, 0o600);
  fs.renameSync(draft, socket);
}
