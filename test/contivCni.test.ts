/** contiv-cni as runtimes execute it, before an agent that answers as the test says. */
import { execFile, execFileSync } from 'node:child_process';
import http from 'node:http';
import path from 'node:path';
import { beforeAll, expect, it, onTestFinished } from 'vitest';
import { temporaryFolder } from './folder.ts';

const ROOT = path.dirname(import.meta.dirname);
const PROGRAM = path.join(ROOT, 'dist/contiv-cni');

beforeAll(() => void execFileSync(path.join(ROOT, 'bin/netctl'), ['version', '--help']));

interface Ended {
  readonly status: number;
  readonly out: string;
}

function call(socket: string, environment: Record<string, string>, configuration: string): Promise<Ended> {
  return new Promise((done) => {
    const env = { ...environment, CONTIV_SOCKET: socket };
    const child = execFile(PROGRAM, { env }, (error, out) =>
      done({ status: error === null ? 0 : Number(error.code), out }),
    );
    child.stdin?.on('error', () => {}); // it ends without reading where it knows already
    child.stdin?.end(configuration);
  });
}

/** Answers one request after the other; those that come are told. */
async function agent(...answers: ((response: http.ServerResponse) => void)[]) {
  const socket = path.join(temporaryFolder(), 'netplugin.sock');
  const bodies: string[] = [];
  const server = http.createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk);
    bodies.push(`${request.method} ${request.url} ${Buffer.concat(chunks)}`);
    answers.shift()?.(response);
  });
  await new Promise<void>((done) => server.listen(socket, done));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { socket, bodies };
}

const say = (status: number, text: string) => (response: http.ServerResponse) =>
  void response.writeHead(status, { 'content-length': Buffer.byteLength(text) }).end(text);

it('hands over environment and configuration, and prints the answer', async () => {
  const { socket, bodies } = await agent(say(200, '{"ips":[]}'), say(500, '{"code":7}'));
  const environment = { CNI_COMMAND: 'ADD', CNI_CONTAINERID: 'c1', CNI_ARGS: 'A=1;B=2', OTHER: 'x' };
  expect(await call(socket, environment, '{"name":"n"}')).toEqual({ status: 0, out: '{"ips":[]}' });
  expect(await call(socket, environment, '')).toEqual({ status: 1, out: '{"code":7}' });
  const variables = 'CNI_COMMAND=ADD\0CNI_CONTAINERID=c1\0CNI_ARGS=A=1;B=2\0\0';
  expect(bodies).toEqual([`POST /cni ${variables}{"name":"n"}`, `POST /cni ${variables}`]);
});

it('asks again where an answer is cut off', async () => {
  const half = (response: http.ServerResponse): void => {
    response.writeHead(200, { 'content-length': 100 }).write('{"ips":');
    setTimeout(() => response.destroy(), 50);
  };
  const { socket, bodies } = await agent((r) => void r.destroy(), half, say(200, '{}'));
  expect(await call(socket, { CNI_COMMAND: 'ADD' }, '{}')).toEqual({ status: 0, out: '{}' });
  expect(bodies).toHaveLength(3);
});

it('answers VERSION without an agent, says that STATUS has none, and lets DEL succeed', async () => {
  const nobody = path.join(temporaryFolder(), 'with "quotes"');
  const configuration = '{"name":"n", "cniVersion" : "0.4.0"}';
  const version = await call(nobody, { CNI_COMMAND: 'VERSION' }, configuration);
  expect(JSON.parse(version.out)).toEqual({
    cniVersion: '0.4.0',
    supportedVersions: ['0.1.0', '0.2.0', '0.3.0', '0.3.1', '0.4.0', '1.0.0', '1.1.0'],
  });
  const status = await call(nobody, { CNI_COMMAND: 'STATUS' }, configuration);
  expect(status.status).toBe(1);
  expect(JSON.parse(status.out)).toEqual({
    cniVersion: '0.4.0',
    code: 50,
    msg: `netplugin does not answer at ${nobody}: is it running on this host?`,
  });
  const del = { CNI_COMMAND: 'DEL', CNI_CONTAINERID: 'c1', CNI_IFNAME: 'eth0' };
  expect(await call(nobody, del, configuration)).toEqual({ status: 0, out: '' });
  expect(await call(nobody, { ...del, CNI_NETNS: '/nowhere' }, configuration)).toEqual({
    status: 0,
    out: '',
  });
  expect(JSON.parse((await call(nobody, {}, '')).out)).toMatchObject({ code: 4 });
});
