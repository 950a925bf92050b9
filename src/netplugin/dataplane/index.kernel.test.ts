import dgram from 'node:dgram';
import { once } from 'node:events';
import fs from 'node:fs';
import type { Worker } from 'node:worker_threads';
import { afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { clean, inRouter, MAP, NOTHING, port, state } from '../../../test/hostState.ts';
import { isolate, sh } from '../../../test/isolation.ts';
import {
  bindPort,
  closeSocket,
  createNamespace,
  inNamespace,
  listNamespaces,
  namespacePath,
} from '../../linux/netns.ts';
import type { HostState, RuleSet } from '../state.ts';
import { type Dataplane, startDataplane } from './index.ts';

beforeAll(isolate);
afterEach(clean);

it('the worker applies states one after the other, the last one holds', async () => {
  const dataplane = await startDataplane();
  const many = [state({}), state({ ports: [port(2), port(3)] }), NOTHING, state({ publications: [MAP] })];
  const reports = await Promise.all(many.map((wanted) => dataplane.apply(wanted)));
  expect(reports.map((r) => r.failed)).toEqual([[], [], [], []]);
  expect(inRouter('ip route')).toContain(`20.1.1.2 dev ${port(2).device}`);
  expect(inRouter('ip route')).not.toContain('20.1.1.3 ');
  await dataplane.close();
});

it('closing leaves the kernel as it is, calls afterwards fail', async () => {
  const dataplane = await startDataplane();
  await dataplane.apply(state({}));
  await dataplane.close();
  expect(listNamespaces()).toEqual(['contiv-default']);
  expect(inRouter('ip route')).toContain('20.1.1.2');
  await expect(dataplane.apply(state({}))).rejects.toThrow('the data plane has ended');
});

it('closing leaves alone what others have opened since', async () => {
  const dataplane = await startDataplane();
  await dataplane.apply(state({}));
  const files = Array.from({ length: 64 }, () => fs.openSync('/dev/null', 'r'));
  await dataplane.close();
  for (const fd of files) {
    expect(() => fs.fstatSync(fd)).not.toThrow();
    fs.closeSync(fd);
  }
});

it('a call that fails is refused with its reason, and the worker goes on', async () => {
  const dataplane = await startDataplane();
  await expect(dataplane.openNameserver('contiv-nowhere')).rejects.toThrow(/contiv-nowhere: ENOENT/);
  await dataplane.apply(state({}));
  const sockets = await dataplane.openNameserver('contiv-default');
  for (const fd of Object.values(sockets)) closeSocket(fd);
  const client = { address: '20.1.1.2', port: 4711 };
  expect(await dataplane.originalDestination('contiv-default', 'udp', client)).toBeUndefined();
  expect(await dataplane.originalDestination('contiv-nowhere', 'udp', client)).toBeUndefined();
  await dataplane.close();
});

function isBpf(link: string): boolean {
  try {
    return fs.readlinkSync(link).startsWith('anon_inode:bpf-');
  } catch {
    return false; // the one that read the folder
  }
}

describe('a thread that ends by itself', () => {
  const RULES: RuleSet = {
    id: 7,
    name: 'in default: prod_web',
    narrowed: [],
    decisions: [{ group: 0, protocol: 6, rule: 1, action: 'deny', key: 'default:prod_web:1' }],
  };
  const judged = (...more: number[]): HostState =>
    state({ ports: [port(2, { judgedIn: 7 }), ...more.map((n) => port(n))], ruleSets: [RULES] });

  interface Mortal {
    readonly dataplane: Dataplane;
    readonly causes: Error[];
    readonly started: Worker[];
    /** An error that nobody catches ends the thread that runs now, after what it was asked before. */
    kill(): void;
  }
  const ends: (() => Promise<void>)[] = [];
  afterEach(async () => {
    for (const end of ends.splice(0)) await end();
  });
  async function start(): Promise<Mortal> {
    const started: Worker[] = [];
    const keep = (worker: Worker): void => void started.push(worker);
    process.on('worker', keep);
    const causes: Error[] = [];
    const dataplane = await startDataplane((cause) => causes.push(cause));
    ends.push(async () => {
      process.off('worker', keep);
      await dataplane.close();
    });
    return { dataplane, causes, started, kill: () => started.at(-1)?.postMessage(undefined) };
  }
  async function die({ causes, kill }: Mortal): Promise<void> {
    const before = causes.length;
    kill();
    await vi.waitFor(() => expect(causes).toHaveLength(before + 1), { timeout: 20_000 });
  }

  it('is followed by another, whose first apply reads the kernel and writes what differs', async () => {
    const mortal = await start();
    const { dataplane, causes } = mortal;
    await dataplane.apply(judged());
    await die(mortal);
    expect(causes[0]).toBeInstanceOf(TypeError);
    inRouter('ip route delete 20.1.1.2');
    const report = await dataplane.apply(judged(3));
    expect(report).toMatchObject({ failed: [], created: [], reads: 1 });
    expect(inRouter('ip route')).toContain(`20.1.1.2 dev ${port(2).device}`);
    expect(inRouter('ip route')).toContain(`20.1.1.3 dev ${port(3).device}`);
    expect(await dataplane.apply(judged(3), { verify: true })).toMatchObject({ writes: 0, repaired: [] });
  });

  it('loses nothing that was to be applied', async () => {
    const { dataplane, causes, started, kill } = await start();
    await dataplane.apply(judged());
    kill();
    const reports = await Promise.all([judged(3), judged(3, 4), judged(4)].map((s) => dataplane.apply(s)));
    expect(reports.map((r) => r.failed)).toEqual([[], [], []]);
    expect(causes).toHaveLength(1);
    expect(started).toHaveLength(2);
    expect(inRouter('ip route')).toContain('20.1.1.4 ');
    expect(inRouter('ip route')).not.toContain('20.1.1.3 ');
  });

  it('is followed by one other only for an apply that ends both; the next apply is tried again', async () => {
    const { dataplane, started, causes, kill } = await start();
    await dataplane.apply(judged());
    process.once('worker', (second: Worker) => void second.terminate());
    kill();
    await expect(dataplane.apply(judged(3))).rejects.toThrow('the data plane has ended: ');
    expect(causes).toHaveLength(2);
    expect(started).toHaveLength(2);
    await expect(dataplane.observe()).rejects.toThrow('the data plane has ended');
    expect(await dataplane.apply(judged(3))).toMatchObject({ failed: [], created: [] });
    expect(started).toHaveLength(3);
  });

  it('takes no nameserver with it', async () => {
    const mortal = await start();
    const { dataplane } = mortal;
    await dataplane.apply(judged());
    const { udp4, ...others } = await dataplane.openNameserver('contiv-default');
    for (const fd of Object.values(others)) closeSocket(fd);
    const server = dgram.createSocket('udp4').bind({ fd: udp4 });
    server.on('message', (bytes, from) => server.send(bytes, from.port, from.address));
    await die(mortal);
    await dataplane.apply(judged());
    createNamespace('box');
    sh(`ip link set ${port(2).peer} netns box name eth0`);
    const box = namespacePath('box');
    const client = inNamespace(box, () => {
      sh('ip link set eth0 up; ip addr add 20.1.1.2/24 dev eth0; ip route add default via 20.1.1.254');
      return bindPort('udp', '20.1.1.2', 0);
    });
    const asking = dgram.createSocket('udp4').bind({ fd: client });
    const answer = once(asking, 'message');
    asking.send('still here?', 53, '20.1.1.254');
    expect(String((await answer)[0])).toBe('still here?');
    asking.close();
    server.close();
  });

  it('leaves the denied packets to the next, and nothing open in routers', async () => {
    const mortal = await start();
    const { dataplane } = mortal;
    /** Netlink port of the socket that gets what is logged. */
    const logged = (): string | undefined =>
      inRouter('cat /proc/net/netfilter/nfnetlink_log').trim().split(/\s+/)[1];
    const sockets = (): number => inRouter('cat /proc/net/netlink').split('\n').length;
    await dataplane.apply(judged());
    const [before] = await dataplane.observe();
    const programs = (): number =>
      fs.readdirSync('/proc/self/fd').filter((fd) => isBpf(`/proc/self/fd/${fd}`)).length;
    const first = { log: logged(), sockets: sockets(), programs: programs() };
    expect(first.programs).toBe(4); // three maps and a program
    expect(first.log).toBeDefined();
    await die(mortal);
    expect(logged()).toBeUndefined();
    await dataplane.apply(judged());
    const [after] = await dataplane.observe();
    expect(logged()).toBeDefined();
    expect(sockets()).toBe(first.sockets);
    expect(programs()).toBe(first.programs);
    expect(after?.table).not.toBe(before?.table); // its counters are 0 again
    await dataplane.apply(NOTHING);
    expect(listNamespaces()).toEqual([]);
  });
});
