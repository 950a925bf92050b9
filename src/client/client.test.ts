import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { connect } from './client.ts';

it('ends a watch that is stopped while netmaster has not answered yet, and its connection', async () => {
  const server = http.createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const client = connect({ urls: [`http://127.0.0.1:${(server.address() as AddressInfo).port}`] });
  onTestFinished(() => client.close());

  const stop = new AbortController();
  const messages: unknown[] = [];
  const watching = (async () => {
    for await (const message of client.watch({ signal: stop.signal })) messages.push(message);
  })();
  const [, response] = (await once(server, 'request')) as [unknown, http.ServerResponse];
  const closed = once(response, 'close');
  stop.abort();
  response.write('{"type":"ping","revision":1}\n');
  await Promise.all([watching, closed]);
  expect(messages).toEqual([]);
});
