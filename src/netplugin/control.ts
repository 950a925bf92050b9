/**
 * The agent's own socket. Root only. For tools on this host: GET /health, /state, /attachments, /examined, /metrics; for what runtimes start there:
 * POST /cni (src/cni/contiv-cni.c), which is answered with status 200, or 500 and a CNI error.
 */
import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import type { Problems } from './condition.ts';
import type { Replica } from './intent/replica.ts';
import type { Attachment } from './intent/view.ts';
import type { Metrics } from './metrics.ts';
import type { HostState } from './state.ts';
import { droppedText, type Firewalls } from './underlay/firewalls.ts';
import type { Peer } from './underlay/paths.ts';
import type { Followed } from './underlay/underlay.ts';

export interface Control {
  close(): Promise<void>;
}

/** What the doctor asks the agent, beside its health and its attachments (doctor/). */
export interface Examined {
  readonly host: string;
  readonly netmasters: readonly string[];
  /** All other hosts that live, as far as the agent knows. */
  readonly peers: readonly Peer[];
  /** What it sees of this host; the ways to others the doctor measures anew. */
  readonly problems: Problems;
  /** What it put right in the kernel within the last minute. */
  readonly repaired: readonly string[];
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
  /** Looks for it now. */
  examined(): Promise<Examined>;
  /** To what contiv-cni hands over; `gone`: it has hung up. */
  cni(body: Buffer, gone: AbortSignal): Promise<{ readonly ok: boolean; readonly text: string }>;
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
    '/examined': () => subject.examined(),
  };
  const paths = [...Object.keys(answers), '/metrics'];
  const server = http.createServer((request, response) => {
    const { url = '' } = request;
    const say = (status: number, type: string, text: string): void => {
      response.writeHead(status, { 'content-type': type }).end(text);
    };
    const refuse = (status: number, code: string, message: string): void =>
      say(status, 'application/json', JSON.stringify({ error: { code, message } }));
    const gone = new AbortController();
    response.once('close', () => gone.abort());
    const reply = async (): Promise<void> => {
      if (request.method === 'POST' && url === '/cni') {
        const { ok, text } = await subject.cni(await readBody(request), gone.signal);
        response.writeHead(ok ? 200 : 500, {
          'content-type': 'application/json',
          'content-length': Buffer.byteLength(text),
        });
        return void response.end(text);
      }
      if (url === '/metrics') return say(200, subject.metrics.contentType, await subject.metrics.text());
      const answer = answers[url];
      if (answer === undefined) return refuse(404, 'not_found', `ask for one of ${paths.join(', ')}`);
      say(200, 'application/json', JSON.stringify(await answer()));
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

/** Bytes. A list of GC's has a line for each container of the host. */
const BODY_LIMIT = 16 << 20;

async function readBody(request: http.IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size > BODY_LIMIT) throw new Error(`the request is larger than ${BODY_LIMIT} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
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
