/**
 * The API server: lists, watches and small writes of any resource, as JSON. Where it is and who we are is the official client's
 * (kubeconfig, service account, its token's renewal). Its calls and informers are not used: they make an object of a class of each
 * list entry and keep all of its fields, and exceptions in a watch's callback are lost in them.
 */
import http from 'node:http';
import https from 'node:https';
import type { KubeConfig } from '@kubernetes/client-node';
import { lines } from '../../client/lines.ts';

/** The API server refused (`status`), or could not be reached (0). */
export class KubernetesError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

export type Patch = 'merge' | 'strategic';

export interface KubernetesApi {
  get<T>(path: string): Promise<T>;
  create<T>(path: string, body: object): Promise<T>;
  replace<T>(path: string, body: object): Promise<T>;
  patch<T>(path: string, type: Patch, body: object): Promise<T>;
  /** Until the signal aborts, the server ends it or says nothing for long; throws where it refuses. */
  watch(path: string, signal: AbortSignal): AsyncIterable<WatchEvent>;
  close(): void;
}

export interface WatchEvent {
  readonly type: 'ADDED' | 'MODIFIED' | 'DELETED' | 'BOOKMARK' | 'ERROR';
  readonly object: { readonly metadata?: { readonly resourceVersion?: string } } & Record<string, unknown>;
}

/**
 * Milliseconds for an answer; and of silence after which a watch is begun anew. The server bookmarks one about once a minute, but (1.37)
 * nothing of a resource that has not changed since the server started: so silence is no failure. Where the server is dead, the next
 * request says so.
 */
const ANSWER = 30_000;
const SILENCE = 150_000;

class Silence extends Error {
  override readonly message = 'it was silent for too long';
}

const CONTENT: Readonly<Record<Patch, string>> = {
  merge: 'application/merge-patch+json',
  strategic: 'application/strategic-merge-patch+json',
};

export function openKubernetes(config: KubeConfig, silence = SILENCE): KubernetesApi {
  const server = config.getCurrentCluster()?.server;
  if (server === undefined) throw new Error('kubeconfig: no cluster is chosen');
  const base = new URL(server);
  const secure = base.protocol === 'https:';
  const agent = secure ? undefined : new http.Agent({ keepAlive: true });
  let kept: https.Agent | undefined;

  async function open(
    method: string,
    path: string,
    type: string,
    body: object | undefined,
  ): Promise<http.IncomingMessage> {
    const options: https.RequestOptions = {
      host: base.hostname.replace(/^\[|\]$/g, ''),
      port: base.port || (secure ? 443 : 80),
      path: base.pathname.replace(/\/$/, '') + path,
      method,
    };
    await config.applyToHTTPSOptions(options);
    // The client makes a new agent each time: connections are kept in one of our own, with its certificates.
    if (secure) {
      kept ??= new https.Agent({
        keepAlive: true,
        ...(options.agent instanceof https.Agent ? options.agent.options : {}),
      });
      options.agent = kept;
    } else options.agent = agent;
    const text = body === undefined ? undefined : JSON.stringify(body);
    options.headers = {
      ...(options.headers as http.OutgoingHttpHeaders),
      accept: 'application/json',
      'user-agent': 'netkube',
      ...(text === undefined ? {} : { 'content-type': type, 'content-length': Buffer.byteLength(text) }),
    };
    const request = (secure ? https : http).request(options);
    request.setTimeout(ANSWER, () => request.destroy(new Error(`no answer in ${ANSWER / 1000} s`)));
    const answered = Promise.withResolvers<http.IncomingMessage>();
    request.once('response', (response) => {
      // Whoever reads it says how long it may be silent.
      request.setTimeout(0);
      response.setTimeout(ANSWER, () => response.destroy(new Silence()));
      answered.resolve(response);
    });
    // Also later, when nobody waits for it any more: what is read of it breaks off then.
    request.on('error', answered.reject);
    request.end(text);
    try {
      return await answered.promise;
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      throw new KubernetesError(0, `the API server cannot be reached at ${base.origin} (${code ?? message})`);
    }
  }

  async function call<T>(method: string, path: string, body?: object, type = 'application/json'): Promise<T> {
    const response = await open(method, path, type, body);
    const text = await readText(response);
    const status = response.statusCode ?? 0;
    if (status < 200 || status >= 300) throw refusal(status, text);
    return JSON.parse(text) as T;
  }

  return {
    get: (path) => call('GET', path),
    create: (path, body) => call('POST', path, body),
    replace: (path, body) => call('PUT', path, body),
    patch: (path, type, body) => call('PATCH', path, body, CONTENT[type]),
    async *watch(path, signal) {
      const response = await open('GET', path, '', undefined);
      const status = response.statusCode ?? 0;
      if (status !== 200) throw refusal(status, await readText(response));
      const stop = (): void => void response.destroy();
      signal.addEventListener('abort', stop);
      if (signal.aborted) stop();
      response.socket.setTimeout(silence);
      try {
        for await (const line of lines(response)) yield JSON.parse(line) as WatchEvent;
      } catch (error) {
        if (!signal.aborted && !(error instanceof Silence))
          throw new KubernetesError(0, `the watch broke off: ${(error as Error).message}`);
      } finally {
        signal.removeEventListener('abort', stop);
        response.destroy();
      }
    },
    close() {
      agent?.destroy();
      kept?.destroy();
    },
  };
}

async function readText(response: http.IncomingMessage): Promise<string> {
  response.setEncoding('utf8');
  let text = '';
  try {
    for await (const chunk of response) text += chunk;
  } catch (error) {
    throw new KubernetesError(0, `the API server's answer broke off: ${(error as Error).message}`);
  }
  return text;
}

function refusal(status: number, text: string): KubernetesError {
  try {
    const { message } = JSON.parse(text) as { message?: unknown };
    if (typeof message === 'string') return new KubernetesError(status, message);
  } catch {
    // a proxy's page: its text is all there is
  }
  return new KubernetesError(status, `status ${status}: ${text.slice(0, 200).replace(/\s+/g, ' ')}`);
}
