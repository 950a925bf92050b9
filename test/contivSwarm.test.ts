/** contiv-swarm as Docker runs it, before an agent that answers as the test says. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { beforeAll, beforeEach, expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from './folder.ts';

const ROOT = path.dirname(import.meta.dirname);

beforeAll(() => void execFileSync(path.join(ROOT, 'bin/netctl'), ['version', '--help']));

let folder: string;
let relay: ChildProcess;

beforeEach(async () => {
  folder = temporaryFolder();
  const env = { CONTIV_PLUGIN_SOCKET: `${folder}/plugin.sock`, CONTIV_SOCKET: `${folder}/agent.sock` };
  relay = spawn(path.join(ROOT, 'dist/contiv-swarm'), { env, stdio: 'ignore' });
  onTestFinished(() => void relay.kill('SIGKILL'));
  // Its socket is there a moment before somebody listens.
  while (!(await isHeard(env.CONTIV_PLUGIN_SOCKET))) await new Promise((done) => setTimeout(done, 10));
});

const isHeard = (socket: string): Promise<boolean> =>
  new Promise((done) => {
    const client = net.connect(socket, () => {
      client.destroy();
      done(true);
    });
    client.on('error', () => done(false));
  });

/** As dockerd calls a plugin. */
function call(name: string, body = ''): Promise<string> {
  return new Promise((done, fail) => {
    const options = { socketPath: `${folder}/plugin.sock`, path: `/${name}`, method: 'POST' };
    http
      .request(options, async (response) => {
        let text = '';
        for await (const chunk of response) text += chunk;
        done(text);
      })
      .on('error', fail)
      .end(body);
  });
}

/** Answers one request after the other; those that come are told. */
async function agent(...answers: ((response: http.ServerResponse) => void)[]): Promise<string[]> {
  const bodies: string[] = [];
  const server = http.createServer(async (request, response) => {
    let text = '';
    for await (const chunk of request) text += chunk;
    bodies.push(`${request.method} ${request.url} ${text}`);
    answers.shift()?.(response);
  });
  await new Promise<void>((done) => server.listen(`${folder}/agent.sock`, done));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return bodies;
}

const say = (text: string) => (response: http.ServerResponse) => void response.end(text);

it('hands a call over with all that it has, and its answer back', async () => {
  const large = JSON.stringify({ Options: 'x'.repeat(300_000) });
  const bodies = await agent(say('{"a":1}'), say(large));
  expect(await call('NetworkDriver.Join', '{"EndpointID":"e"}')).toBe('{"a":1}');
  expect(await call('IpamDriver.RequestPool', large)).toBe(large);
  expect(bodies).toEqual([
    'POST /NetworkDriver.Join {"EndpointID":"e"}',
    `POST /IpamDriver.RequestPool ${large}`,
  ]);
});

it('waits for an agent that is away, and asks again where an answer is cut off', async () => {
  const asked = call('NetworkDriver.Join', '{"EndpointID":"e"}');
  const half = (response: http.ServerResponse): void => {
    response.writeHead(200, { 'content-length': 100 }).write('{"a":');
    setTimeout(() => response.destroy(), 50);
  };
  const bodies = await agent((response) => void response.destroy(), half, say('{}'));
  expect(await asked).toBe('{}');
  expect(bodies).toEqual(Array(3).fill('POST /NetworkDriver.Join {"EndpointID":"e"}'));
});

it('says itself what dockerd asks of a driver before it takes it, so that it is enabled without an agent', async () => {
  expect(JSON.parse(await call('Plugin.Activate'))).toEqual({ Implements: ['NetworkDriver', 'IpamDriver'] });
  expect(JSON.parse(await call('NetworkDriver.GetCapabilities'))).toEqual({
    Scope: 'global',
    ConnectivityScope: 'global',
  });
  expect(JSON.parse(await call('IpamDriver.GetDefaultAddressSpaces'))).toEqual({
    LocalDefaultAddressSpace: 'contiv-node',
    GlobalDefaultAddressSpace: 'contiv-swarm',
  });
});

it('ends at SIGTERM', async () => {
  const ended = new Promise((done) => relay.once('exit', done));
  relay.kill('SIGTERM');
  expect(await ended).toBe(0);
});
