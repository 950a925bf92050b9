/** Health checks as they are asked, of servers that only a router's namespace reaches. */
import http from 'node:http';
import net from 'node:net';
import { afterEach, beforeAll, beforeEach, expect, it } from 'vitest';
import { isolate, sh } from '../../../test/isolation.ts';
import { bindPort, createNamespace, deleteNamespace, inNamespace, namespacePath } from '../../linux/netns.ts';
import { askNow } from './checks.ts';

beforeAll(isolate);

const ROUTER = 'contiv-checked';
const HOST = '127.0.0.1';
const never = new AbortController().signal;
const asked: string[] = [];
const closing: net.Server[] = [];

function serve<S extends net.Server>(port: number, server: S): S {
  const fd = inNamespace(namespacePath(ROUTER), () => bindPort('tcp', HOST, port, { nonblocking: true }));
  closing.push(server.listen({ fd }));
  return server;
}

beforeEach(() => {
  createNamespace(ROUTER);
  inNamespace(namespacePath(ROUTER), () => sh('ip link set lo up'));
});
afterEach(async () => {
  for (const server of closing.splice(0)) await new Promise((done) => server.close(done));
  asked.splice(0);
  deleteNamespace(ROUTER);
});

it('a TCP connection is enough, and none where nobody listens', async () => {
  serve(
    631,
    net.createServer((socket) => socket.destroy()),
  );
  expect(await askNow(ROUTER, HOST, { port: 631 }, never)).toBeUndefined();
  expect(await askNow(ROUTER, HOST, { port: 632 }, never)).toBe('connection refused');
  expect(await askNow(ROUTER, '192.0.2.1', { port: 631 }, never)).toBe('no way leads there');
});

it('an HTTP server is asked for the path, by the address that it has, and judged by the status', async () => {
  serve(
    8080,
    http.createServer(({ url, headers }, response) => {
      asked.push(`${headers.host}${url}`);
      response.writeHead(url === '/well' ? 204 : url === '/moved' ? 302 : 503).end();
    }),
  );
  const ask = (path: string) => askNow(ROUTER, HOST, { port: 8080, path }, never);
  expect(await ask('/well')).toBeUndefined();
  expect(await ask('/moved')).toBeUndefined();
  expect(await ask('/ill?full=1')).toBe('HTTP status 503');
  expect(asked).toEqual(['/well', '/moved', '/ill?full=1'].map((path) => `${HOST}:8080${path}`));
});

it('who takes the connection and says nothing, or something else, is not well by HTTP', async () => {
  serve(
    81,
    net.createServer((socket) => socket.resume()),
  );
  serve(
    82,
    net.createServer((socket) => socket.resume().end('what?\r\n\r\n')),
  );
  serve(
    83,
    net.createServer((socket) => socket.destroy()),
  );
  expect(await askNow(ROUTER, HOST, { port: 81, path: '/' }, never)).toBe('no answer within 2 s');
  expect(await askNow(ROUTER, HOST, { port: 82, path: '/' }, never)).toContain('Parse Error');
  expect(await askNow(ROUTER, HOST, { port: 83, path: '/' }, never)).toBe(
    'it ends the connection without an answer',
  );
});
