import fs from 'node:fs';
import http from 'node:http';
import path from 'node:path';
import { pino } from 'pino';
import { expect, it, onTestFinished, vi } from 'vitest';
import { temporaryFolder } from '../../../test/folder.ts';
import { NOTHING, port, REPORT, state } from '../../../test/hostState.ts';
import { lines } from '../../client/lines.ts';
import type { WatchedObject } from '../../protocol/messages.ts';
import type { HostState } from '../state.ts';
import type { Told } from './protocol.ts';
import { followNames } from './supervisor.ts';

const endpoint = (key: string): WatchedObject => ({ kind: 'endpoint', key, object: { endpointID: key } });
const view = (...objects: WatchedObject[]) => ({ type: 'view', objects, listed: false }) as const;
const withPort = state({ ports: [port(2)] });
const KERNEL = { type: 'kernel', state: NOTHING, report: REPORT, verified: false } as const;

/** A process that answers names, as far as the agent sees it; the program only says that it was started. */
function answering() {
  const folder = temporaryFolder();
  const program = path.join(folder, 'names.cjs');
  const started = path.join(folder, 'started');
  fs.writeFileSync(program, `require('fs').writeFileSync(${JSON.stringify(started)}, '')`);
  const { ino, size, mtimeMs } = fs.statSync(program);
  const feeds: http.ServerResponse[] = [];
  const state = { told: [] as Told[], asked: 0, holding: true, hangs: false, looks: 0 };
  const say = (id: number): void => void feeds.at(-1)?.write(`${JSON.stringify({ holds: id })}\n`);
  const server = http.createServer(async (request, response) => {
    if (request.url === '/health') state.looks++;
    if (request.url === '/health' && state.hangs) return;
    if (request.url === '/health')
      return response.end(
        JSON.stringify({
          pid: 1,
          program: `${ino}.${size}.${mtimeMs}`,
          routers: [],
          residentBytes: 0,
          cpuSeconds: 0,
        }),
      );
    response.writeHead(200).flushHeaders();
    feeds.push(response);
    try {
      for await (const line of lines(request)) {
        const told = JSON.parse(line) as Told;
        state.told.push(told);
        if (told.type === 'routers') state.asked = told.id;
        if (told.type === 'routers' && state.holding) say(told.id);
      }
    } catch {
      // the line has ended
    }
  });
  server.listen(path.join(folder, 'names.sock'));
  const names = followNames({
    folder,
    host: 'node1',
    logLevel: 'silent',
    log: pino({ level: 'silent' }),
    known: () => [endpoint('all')],
    program,
  });
  onTestFinished(() => {
    void names.close();
    server.close();
    server.closeAllConnections();
  });
  let settled = 0;
  return {
    ...{ state, names, feeds },
    /** Another process, in its place. */
    started: () => fs.existsSync(started),
    say: () => say(state.asked),
    /** How many of those that were waited for have settled. */
    settled: () => settled,
    wait: () => void names.settled().then(() => settled++),
    sees: (type: Told['type'], times: number) =>
      vi.waitFor(() => expect(state.told.filter((t) => t.type === type)).toHaveLength(times), {
        timeout: 20_000,
        interval: 10,
      }),
  };
}
const becomes = (what: () => number, wanted: number): Promise<void> =>
  vi.waitFor(() => expect(what()).toBe(wanted), { timeout: 20_000, interval: 10 });
const aWhile = () => new Promise((done) => setTimeout(done, 50));

it('names have settled when the process says that it goes by all that was told before', async () => {
  const { names, state, sees, say, settled, wait } = answering();
  await names.started;
  state.holding = false;
  names.changed(view(endpoint('a')));
  names.changed(KERNEL);
  wait();
  await sees('routers', 1);
  await aWhile();
  expect(settled()).toBe(0);
  say();
  await becomes(settled, 1);
});

it('a name that comes after the kernel’s pass is confirmed too, and what concerns no name is not waited for', async () => {
  const { names, state, sees, say, settled, wait } = answering();
  await names.started;
  names.changed(KERNEL);
  wait();
  await becomes(settled, 1);
  state.holding = false;
  expect(names.changed(view({ kind: 'rule', key: 'r', object: {} }))).toBe(false);
  wait();
  await becomes(settled, 2);
  expect(names.changed(view(endpoint('late')))).toBe(true);
  wait();
  await sees('routers', 2);
  expect(state.told.map((t) => t.type)).toEqual(['list', 'routers', 'changes', 'routers']);
  expect(settled()).toBe(2);
  say();
  await becomes(settled, 3);
});

it('a pass of the kernel that changes nothing for nameservers is not told them, but where a router was made anew', async () => {
  const { names, sees } = answering();
  await names.started;
  const [one, two] = [withPort, state({ ports: [port(2), port(3)] })];
  const passed = (state: HostState, created: string[] = []) =>
    names.changed({ ...KERNEL, state, report: { ...REPORT, created } });
  await sees('list', 1);
  expect(passed(one)).toBe(true);
  await sees('routers', 1);
  expect(passed({ ...one, routers: one.routers.map((router) => ({ ...router, hosts: [] })) })).toBe(false);
  expect(passed(two)).toBe(true);
  expect(passed(two)).toBe(false);
  expect(passed(two, ['contiv-default'])).toBe(true);
  await sees('routers', 3);
});

it('a pass of the kernel concerns no names while no process answers them, and is told the next one', async () => {
  const { names, state, feeds, sees } = answering();
  expect(names.changed({ ...KERNEL, state: withPort })).toBe(false);
  await sees('routers', 1);
  expect(feeds).toHaveLength(1);
  expect(state.asked).toBe(1);
});

it('what was told before there was a process, or while it ended, has settled when the next one goes by it', async () => {
  const { names, state, feeds, sees, settled, wait } = answering();
  names.changed(view(endpoint('early')));
  names.changed(KERNEL);
  wait();
  expect(settled()).toBe(0);
  await becomes(settled, 1);
  state.holding = false;
  names.changed(view(endpoint('b')));
  names.changed(KERNEL);
  wait();
  await sees('routers', 2);
  feeds.at(-1)?.destroy();
  await aWhile();
  expect(settled()).toBe(1);
  state.holding = true;
  await becomes(settled, 2);
  // All that is known, once more.
  expect(state.told.filter((t) => t.type === 'list')).toHaveLength(2);
});

it('one that has not answered three looks is followed by another, without a fourth', async () => {
  const { names, state, sees, started } = answering();
  await names.started;
  await sees('list', 1);
  const looks = state.looks;
  state.hangs = true;
  await vi.waitFor(() => expect(started()).toBe(true), { timeout: 60_000, interval: 10 });
  expect(state.looks - looks).toBe(3);
});
