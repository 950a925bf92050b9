/** /healthz, /readyz and /metrics of netkube, for who runs it. */
import { once } from 'node:events';
import http from 'node:http';
import type { Metrics } from './metrics.ts';

export interface StatusSubject {
  /** What is not known yet, a line each. */
  ready(): readonly string[];
  readonly metrics: Metrics;
}

export async function serveStatus(
  { host, port }: { readonly host: string; readonly port: number },
  { ready, metrics }: StatusSubject,
): Promise<{ close(): Promise<void> }> {
  const server = http.createServer((request, response) => {
    const say = (status: number, text: string, type = 'text/plain'): void =>
      void response.writeHead(status, { 'content-type': type }).end(text);
    const reply = async (): Promise<void> => {
      if (request.url === '/healthz') return say(200, 'ok\n');
      if (request.url === '/metrics') return say(200, await metrics.text(), metrics.contentType);
      if (request.url !== '/readyz') return say(404, 'ask for one of /healthz, /readyz, /metrics\n');
      const missing = ready();
      say(missing.length === 0 ? 200 : 503, missing.length === 0 ? 'ok\n' : `${missing.join('\n')}\n`);
    };
    reply().catch((error) => say(500, `${(error as Error).message}\n`));
  });
  server.listen(port, host === '' ? '0.0.0.0' : host);
  await once(server, 'listening');
  return {
    close: () =>
      new Promise((done) => {
        server.close(() => done());
        server.closeAllConnections();
      }),
  };
}
