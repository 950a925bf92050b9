import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { expect, it, onTestFinished } from 'vitest';
import { type ApiError, connect } from './client.ts';

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

it('goes on with the next URL when one does not answer, and keeps to the one that did', async () => {
  const asked: string[] = [];
  const open = async (name: string, answers: boolean): Promise<string> => {
    const server = http.createServer((request, response) => {
      asked.push(`${name} ${request.method}`);
      if (answers) response.end('[]');
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    onTestFinished(() => {
      server.closeAllConnections();
      server.close();
    });
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  };
  const client = connect({ urls: [await open('silent', false), await open('other', true)], timeoutMs: 200 });
  onTestFinished(() => client.close());
  // It may have been done: it is the caller's to ask again.
  await expect(client.call('applied', { name: 'a' }, { store: 's', revision: 1 })).rejects.toThrow(
    'no answer in 0.2 s',
  );
  await client.call('hosts');
  await client.call('applied', { name: 'a' }, { store: 's', revision: 1 });
  expect(asked).toEqual(['silent POST', 'other GET', 'other POST']);
});

it('says of a request that failed whether any netmaster may have taken it', async () => {
  const server = http.createServer((request) => request.socket.destroy());
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const untaken = async (): Promise<boolean> => {
    // The other one is a port where nobody ever listens (RFC 6335 reserves it).
    const client = connect({ urls: ['http://127.0.0.1:0', url] });
    onTestFinished(() => client.close());
    const error = await client
      .call('applied', { name: 'a' }, { store: 's', revision: 1 })
      .catch((e: ApiError) => e);
    expect(error).toMatchObject({ code: 'unreachable' });
    return (error as ApiError).untaken;
  };
  expect(await untaken()).toBe(false);
  server.close();
  await once(server, 'close');
  expect(await untaken()).toBe(true);
});
