/** The agent's own socket, for tools on this host: GET /health, /state, /attachments, /metrics. Root only. */
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import type { Replica } from './intent/replica.ts';
import type { Attachment } from './intent/view.ts';
import type { Metrics } from './metrics.ts';
import type { HostState } from './state.ts';
import { droppedText, type Firewalls } from './underlay/firewalls.ts';
import type { Followed } from './underlay/underlay.ts';

export interface Control {
  close(): Promise<void>;
}

export interface ControlSubject {
  state(): HostState;
  readonly replica: Replica;
  readonly attachments: ReadonlyMap<string, Attachment>;
  readonly firewalls: Firewalls;
  readonly metrics: Metrics;
  readonly underlay: Pick<Followed, 'now' | 'problem'>;
  /** netmaster takes this host for what it says it is. */
  registered(): boolean;
}

export async function startControl(socket: string, subject: ControlSubject): Promise<Control> {
  const answers: Record<string, () => unknown> = {
    // Live: it follows netmaster, which knows where it is, and other hosts can reach it there.
    '/health': () => ({
      live: subject.replica.live && subject.registered() && subject.underlay.problem === '',
      store: subject.replica.store,
      revision: subject.replica.revision,
      attached: subject.attachments.size,
      underlay: { ...subject.underlay.now, problem: subject.underlay.problem },
      dropped: subject.firewalls.dropped.map(droppedText),
    }),
    '/state': () => subject.state(),
    '/attachments': () => [...subject.attachments.values()],
  };
  const paths = [...Object.keys(answers), '/metrics'];
  const server = http.createServer((request, response) => {
    const { url = '' } = request;
    const say = (status: number, type: string, text: string): void => {
      response.writeHead(status, { 'content-type': type }).end(text);
    };
    const refuse = (status: number, code: string, message: string): void =>
      say(status, 'application/json', JSON.stringify({ error: { code, message } }));
    const reply = async (): Promise<void> => {
      if (url === '/metrics') return say(200, subject.metrics.contentType, await subject.metrics.text());
      const answer = answers[url];
      if (answer === undefined) return refuse(404, 'not_found', `ask for one of ${paths.join(', ')}`);
      say(200, 'application/json', JSON.stringify(answer()));
    };
    reply().catch((error) => refuse(500, 'internal', (error as Error).message));
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
