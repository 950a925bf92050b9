/** What is no HTTP, too much of it, or never ends; then the same against a netmaster process with its memory in view. */
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it, onTestFinished, vi } from 'vitest';
import { connect } from '../src/client/client.ts';
import { type Api, judge, openApi } from './apiServer.ts';
import { temporaryFolder } from './folder.ts';
import { startNetmaster } from './netmaster.ts';

let api: Api;
beforeAll(async () => {
  api = await openApi({ headers: 1500, request: 2500 });
});
afterAll(() => api.close());

/** Sends the bytes and answers everything that comes back until the other side closes. */
async function raw(port: number, bytes: string | Buffer): Promise<string> {
  const socket = net.connect(port, '127.0.0.1');
  let text = '';
  socket.setEncoding('utf8').on('data', (chunk) => {
    text += chunk;
  });
  socket.on('error', () => {}); // reset: the text says what came before
  socket.write(bytes);
  await once(socket, 'close');
  return text;
}

/** Each answer in a stream of them, judged. */
function answers(text: string, what: string): number[] {
  const statuses: number[] = [];
  let rest = text;
  while (rest !== '') {
    const head = /^HTTP\/1\.1 (\d{3}) [\s\S]*?\r\n\r\n/.exec(rest);
    expect(head, `${what}: ${rest.slice(0, 200)}`).not.toBeNull();
    const [all = '', status] = head ?? [];
    const length = Number(/content-length: (\d+)/i.exec(all)?.[1] ?? 0);
    const body = Buffer.from(rest.slice(all.length)).subarray(0, length).toString();
    judge(Number(status), body, what);
    statuses.push(Number(status));
    rest = rest.slice(all.length + body.length);
  }
  return statuses;
}

/** What clients of 1.x print: they read a body at status 500 only. */
it('the line of a refusal is its reason phrase too, in ASCII, of a bounded length, on one line', async () => {
  const reasonOf = async (head: string, body = ''): Promise<string> => {
    const text = await raw(
      api.port,
      `${head}\r\nhost: x\r\nconnection: close\r\ncontent-length: ${Buffer.byteLength(body)}\r\n\r\n${body}`,
    );
    const reason = /^HTTP\/1\.1 \d{3} (.*)\r\n/.exec(text)?.[1] ?? '';
    expect(reason).toMatch(/^[\x20-\x7e]{1,202}$/);
    return reason;
  };
  expect(await reasonOf('DELETE /api/v1/tenants/default/ HTTP/1.1')).toBe(
    'tenant default cannot be deleted: everything without a tenant is in it',
  );
  expect(await reasonOf('POST /api/v1/tenants/blau/ HTTP/1.1', '{"tenantName":"grün\\r\\nX: y"}')).toContain(
    'tenant blau: the URL must end in tenantName of the body',
  );
  expect(
    await reasonOf('POST /api/v1/policys/default:p/ HTTP/1.1', `{"x\u2028${'ä'.repeat(500)}":1}`),
  ).toContain('???');
  expect(await reasonOf('GET /nowhere HTTP/1.1\r\nexpect: 200-ok')).toBe(
    'GET /nowhere: expect must be 100-continue or absent',
  );
  expect(await reasonOf('no http')).toBe('the request is not HTTP');
});

/** As clients do: the answer is read when all has been sent. */
function request(port: number, body: Buffer, headers: http.OutgoingHttpHeaders): Promise<[number, string]> {
  return new Promise((done, fail) => {
    const sent = http.request(
      { port, host: '127.0.0.1', method: 'POST', path: '/api/v1/tenants/blue', headers },
      async (response) => {
        let text = '';
        for await (const chunk of response.setEncoding('utf8')) text += chunk;
        done([response.statusCode ?? 0, text]);
      },
    );
    sent.on('error', fail);
    sent.end(body);
  });
}

const POST = 'POST /api/v1/tenants/blue HTTP/1.1\r\nHost: x\r\nConnection: close\r\n';

it.each<[what: string, bytes: string | Buffer, status: number | undefined]>([
  ['no HTTP', 'hello\r\n\r\n', 400],
  ['zeros', Buffer.alloc(1000), 400],
  ['TLS', Buffer.from('16030100c8010000c40303', 'hex'), 400],
  ['HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 400],
  ['HTTP/9.9', 'GET / HTTP/9.9\r\n\r\n', 400],
  ['no such method', 'BREW /api/v1/tenants/ HTTP/1.1\r\nHost: x\r\n\r\n', 400],
  ['no Host', 'GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n', 200],
  ['a space in the path', 'GET /api v1 HTTP/1.1\r\nHost: x\r\n\r\n', 400],
  ['a NUL in a header', 'GET / HTTP/1.1\r\nHost: x\r\nA: \u0000\r\n\r\n', 400],
  ['a header without a colon', 'GET / HTTP/1.1\r\nHost\r\n\r\n', 400],
  ['a long path', `GET /${'x'.repeat(20_000)} HTTP/1.1\r\nHost: x\r\n\r\n`, 431],
  ['many headers', `GET / HTTP/1.1\r\n${'a: b\r\n'.repeat(10_000)}\r\n`, 431],
  [
    'a path of dots',
    'GET /api/v1/tenants/../../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    404,
  ],
  ['a name of dots', `${POST.replace('blue', '..')}Content-Length: 2\r\n\r\n{}`, 400],
  ['a whole URL', 'GET http://x/api/v1/nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 404],
  ['percent signs', 'GET /api/v1/tenants/%zz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 400],
  [
    'bytes in the path',
    Buffer.from('GET /api/v1/tenants/\xff\xfe HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n', 'latin1'),
    undefined,
  ],
  ['two lengths', `${POST}Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}`, 400],
  ['a negative length', `${POST}Content-Length: -2\r\n\r\n{}`, 400],
  ['a length that is no number', `${POST}Content-Length: x\r\n\r\n{}`, 400],
  ['a length and chunks', `${POST}Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`, 400],
  ['chunks that are none', `${POST}Transfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n`, 400],
  ['an unknown encoding', `${POST}Transfer-Encoding: foo\r\n\r\n{}`, 400],
  ['a body that is shorter than its length', `${POST}Content-Length: 200\r\n\r\n{}`, 408],
  ['a length beyond everything', `${POST}Content-Length: 99999999999\r\n\r\n{}`, 408],
  ['a body behind its length', `${POST}Content-Length: 2\r\n\r\n{}{}{}`, 200],
  ['a media type that is none', `${POST}Content-Type: ;;;\r\nContent-Length: 2\r\n\r\n{}`, 415],
  ['another media type', `${POST}Content-Type: text/html\r\nContent-Length: 1\r\n\r\n{`, 400],
  [
    'a body that is not UTF-8',
    Buffer.concat([
      Buffer.from(`${POST}Content-Length: 21\r\n\r\n{"tenantName":"bl`),
      Buffer.from([0xff, 0xfe]),
      Buffer.from('"}'),
    ]),
    400,
  ],
  ['an expectation', `${POST}Expect: the unexpected\r\nContent-Length: 2\r\n\r\n{}`, 417],
  [
    'an upgrade',
    'GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: upgrade, close\r\nUpgrade: websocket\r\n\r\n',
    200,
  ],
  [
    'a body with GET',
    'GET /api/v1/tenants/nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\n{',
    404,
  ],
  [
    'a body with DELETE',
    'DELETE /api/v1/tenants/nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\n{',
    400,
  ],
])('%s is answered with one line and the end of the connection', async (what, bytes, status) => {
  const text = await raw(api.port, bytes);
  const statuses = answers(text, what);
  if (status !== undefined) expect(statuses, text).toEqual([status]);
  if (status === 200 && what === 'a body behind its length') await api.send('DELETE', '/api/v1/tenants/blue');
});

it('CONNECT and HEAD end too', async () => {
  expect(await raw(api.port, 'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n')).toMatch(/^(?:HTTP\/1\.1 4\d\d |$)/);
  const head = await raw(api.port, 'HEAD /api/v1/watch HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n');
  expect(head).toMatch(/^HTTP\/1\.1 \d{3} /);
});

it('requests in a row on one connection are answered in a row, up to the one that is none', async () => {
  const get = 'GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n';
  const wrong = 'POST /api/v1/tenants/blue HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n[]';
  expect(answers(await raw(api.port, `${get.repeat(20)}${wrong}${get}garbage\r\n\r\n`), 'pipelined')).toEqual(
    expect.arrayContaining([200, 400]),
  );
});

it('10 MB are refused with one line that arrives, with a length and without', async () => {
  // With the usual timeouts: however slow the machine is, it is no slow client.
  const patient = await openApi();
  onTestFinished(() => patient.close());
  const body = Buffer.alloc(10 << 20, 'x');
  for (const headers of [{ 'content-length': body.length }, { 'transfer-encoding': 'chunked' }])
    for (let i = 0; i < 3; i++) {
      const [status, text] = await request(patient.port, body, headers);
      expect(status).toBe(413);
      expect(judge(status, text, '10 MB').message).toBe(
        'POST /api/v1/tenants/blue: the body is larger than 1048576 bytes',
      );
    }
});

it('clients that never finish are closed, and keep nobody waiting', async () => {
  const starts = [
    '',
    'GET /healthz HT',
    'GET /healthz HTTP/1.1\r\nHost: x\r\nA: ',
    'POST /api/v1/tenants/blue HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\n{"a',
    'POST /api/v1/tenants/blue HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"a":',
    'POST /api/v1/apply HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n{"objects":[',
    'POST /api/v1/tenants/blue HTTP/1.1\r\nHost: x\r\nContent-Length: 60000000\r\n\r\n{',
  ];
  // A watch is a request that was sent in time: it stays.
  const stop = new AbortController();
  const watch = connect({ urls: [`http://127.0.0.1:${api.port}`] }).watch({ signal: stop.signal });
  const messages = watch[Symbol.asyncIterator]();
  let open = 0;
  const texts = Array.from({ length: 350 }, async (_, i) => {
    const socket = net.connect(api.port, '127.0.0.1');
    let text = '';
    socket.setEncoding('utf8').on('data', (chunk) => {
      text += chunk;
    });
    socket.on('error', () => {});
    open++;
    socket.write(starts[i % starts.length] as string);
    // One byte now and then: being slow is no way to stay.
    const dripping = setInterval(() => socket.writable && socket.write('x'), 200);
    await new Promise((closed) => socket.once('close', closed)); // once() of node:events would throw what a write meets
    clearInterval(dripping);
    open--;
    return text;
  });
  expect(open).toBe(350);
  for (let i = 0; i < 20; i++) {
    expect((await fetch(`http://127.0.0.1:${api.port}/healthz`)).status).toBe(200);
    await sleep(20);
  }
  for (const text of await Promise.all(texts))
    for (const status of answers(text, 'slow')) expect([400, 408]).toContain(status);
  expect(open).toBe(0);
  expect(api.mirror.get('tenant', 'blue')).toBeUndefined();
  for (let type = ''; type !== 'ping'; ) type = (await messages.next()).value.type;
  stop.abort();
});

it('a watcher that reads nothing keeps nobody waiting, and one that breaks off is forgotten', async () => {
  const sockets = Array.from({ length: 20 }, () => net.connect(api.port, '127.0.0.1').pause());
  for (const socket of sockets) socket.write('GET /api/v1/watch HTTP/1.1\r\nHost: x\r\n\r\n');
  await api.send('POST', '/api/v1/tenants/green', {});
  await api.send('DELETE', '/api/v1/tenants/green');
  for (const socket of sockets) socket.destroy();
  await vi.waitFor(
    () =>
      new Promise<void>((done, fail) =>
        api.server.server.getConnections((_e, n) => (n < 10 ? done() : fail(new Error(`${n} open`)))),
      ),
    { timeout: 20_000 },
  );
});

it('a client that asks for lists and reads none is refused more of them, others are not', async () => {
  const small = await openApi(undefined, { answerLimits: { client: 4 << 20, all: 1 << 30 } });
  onTestFinished(() => small.close());
  const objects: object[] = [{ kind: 'policy', policyName: 'p' }];
  for (let i = 0; i < 20_000; i++)
    objects.push({ kind: 'rule', policyName: 'p', ruleId: `${i}`, direction: 'in', action: 'deny' });
  expect((await small.send('POST', '/api/v1/apply', { objects })).status).toBe(200);
  const sockets: net.Socket[] = [];
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
  });
  const status = async (localAddress: string): Promise<number> => {
    const asked = http.get({ port: small.port, host: '127.0.0.1', path: '/healthz', localAddress });
    const [response] = (await once(asked, 'response')) as [http.IncomingMessage];
    response.resume();
    return response.statusCode ?? 0;
  };
  await vi.waitFor(
    async () => {
      const socket = net.connect(small.port, '127.0.0.1').pause();
      socket.on('error', () => {});
      socket.write('GET /api/v1/rules/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
      sockets.push(socket);
      expect(await status('127.0.0.1')).toBe(429);
    },
    { timeout: 30_000, interval: 0 },
  );
  expect(await status('127.0.0.2')).toBe(200);
  const beat = { method: 'PUT', body: JSON.stringify({ name: 'h', underlay: '10.0.0.1', version: '2' }) };
  expect((await fetch(`http://127.0.0.1:${small.port}/api/v1/hosts/h`, beat)).status).toBe(200);
  // Once they are read, it is answered again.
  for (const socket of sockets) socket.resume();
  await vi.waitFor(async () => expect(await status('127.0.0.1')).toBe(200), { timeout: 30_000 });
});

it('a large answer is written in pieces, as Node keeps for a connection by TLS as much as was ever written on it at once', async () => {
  const large = await openApi();
  onTestFinished(() => large.close());
  const objects: object[] = [{ kind: 'policy', policyName: 'p' }];
  for (let i = 0; i < 5000; i++)
    objects.push({ kind: 'rule', policyName: 'p', ruleId: `${i}`, direction: 'in', action: 'deny' });
  expect((await large.send('POST', '/api/v1/apply', { objects })).status).toBe(200);
  const written = vi.spyOn(http.ServerResponse.prototype, 'write');
  const ended = vi.spyOn(http.ServerResponse.prototype, 'end');
  onTestFinished(() => {
    written.mockRestore();
    ended.mockRestore();
  });
  const url = `http://127.0.0.1:${large.port}/api/v1/rules/`;
  const answer = await fetch(url);
  const text = await answer.text();
  expect(JSON.parse(text)).toHaveLength(5000);
  expect(answer.headers.get('content-length')).toBe(`${text.length}`);
  const pieces = [...written.mock.calls, ...ended.mock.calls].map(
    ([piece]) => (piece as Buffer)?.length ?? 0,
  );
  expect(pieces.reduce((sum, length) => sum + length, 0)).toBe(text.length);
  expect(Math.max(...pieces)).toBe(64 << 10);
  const head = await fetch(url, { method: 'HEAD' });
  expect([head.status, await head.text()]).toEqual([200, '']);
});

it('clients are told to end a connection on which they ask nothing for the time of three heartbeats', async () => {
  const [response] = (await once(
    http.get(`http://127.0.0.1:${api.port}/healthz`, { agent: new http.Agent({ keepAlive: true }) }),
    'response',
  )) as [http.IncomingMessage];
  response.resume();
  expect(response.headers['keep-alive']).toBe('timeout=9');
});

it('a netmaster process on SQLite answers after all of it, and keeps none of the bodies', async () => {
  const url = await startNetmaster(`sqlite:${join(temporaryFolder(), 'store.db')}`);
  const port = Number(new URL(url).port);
  const memory = async (): Promise<number> => {
    const text = await (await fetch(`${url}/metrics`)).text();
    return Number(/^contiv_netmaster_process_resident_memory_bytes (\S+)$/m.exec(text)?.[1]);
  };
  const revision = async (): Promise<number> =>
    ((await (await fetch(`${url}/healthz`)).json()) as { revision: number }).revision;
  const large = Buffer.alloc(10 << 20, 'x');
  const text = 'x'.repeat(900_000);
  const deep = '['.repeat(400_000) + ']'.repeat(400_000);
  const flood = async (): Promise<number> => {
    let sent = 0;
    for (const value of [`"${text}"`, deep, `["${text}"]`, `{"${text}":1}`, text]) {
      for (const path of [
        'networks/default:a',
        'endpointGroups/default:a',
        'endpoints/a',
        'hosts/a',
        'apply',
        'nope',
      ]) {
        const body =
          path === 'apply' ? `{"objects":[{"kind":${value}}]}` : `{"subnet":${value},"labels":${value}}`;
        const method = path === 'apply' ? 'POST' : 'PUT';
        const answer = await fetch(`${url}/api/v1/${path}`, { method, body });
        expect(judge(answer.status, await answer.text(), path).status).toBeGreaterThanOrEqual(400);
        sent += body.length;
      }
    }
    for (let i = 0; i < 4; i++) {
      expect((await request(port, large, { 'content-length': large.length }))[0]).toBe(413);
      sent += large.length;
    }
    return sent;
  };
  const before = await revision();
  await flood(); // grows the heap to what it needs
  const grown = await memory();
  let sent = 0;
  for (let i = 0; i < 4; i++) sent += await flood();
  expect((await memory()) - grown).toBeLessThan(sent / 3);
  expect(await revision()).toBe(before);
  expect((await fetch(`${url}/api/v1/tenants/blue`, { method: 'POST', body: '{}' })).status).toBe(200);
  expect(await revision()).toBeGreaterThan(before);
});
