/** A netmaster's parts in this process, and netmaster and netctl as processes. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { onTestFinished, vi } from 'vitest';
import { GLOBAL_DEFAULTS } from '../src/model/global.ts';
import { type Mirror, openMirror, storeKey } from '../src/netmaster/mirror.ts';
import { openWriter, type Writer } from '../src/netmaster/writer.ts';
import { openMemory } from '../src/store/memory.ts';
import type { Store } from '../src/store/store.ts';

const ROOT = join(import.meta.dirname, '..');

export interface Parts {
  readonly store: Store;
  readonly mirror: Mirror;
  readonly writer: Writer;
}

/** An empty cluster: tenant default and global settings, as netmaster makes them. */
export async function openCluster(): Promise<Parts> {
  const store = openMemory();
  await store.transact(
    [],
    [
      { key: storeKey('tenant', 'default'), value: { tenantName: 'default' } },
      { key: storeKey('global', 'global'), value: GLOBAL_DEFAULTS },
    ],
  );
  const mirror = await openMirror(store);
  return { store, mirror, writer: openWriter(store, mirror) };
}

export async function closeCluster({ store, mirror }: Parts): Promise<void> {
  await mirror.close();
  await store.close();
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return port;
}

/** URL of a netmaster that ends with the test. */
export async function startNetmaster(store: string): Promise<string> {
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const child: ChildProcess = spawn(
    join(ROOT, 'bin/netmaster'),
    ['--listen', `127.0.0.1:${port}`, '--store', store, '--log-level', 'error'],
    { stdio: ['ignore', 'ignore', 'inherit'], env: { ...process.env, NODE_NO_WARNINGS: '1' } },
  );
  const ended = once(child, 'exit');
  onTestFinished(async () => {
    child.kill();
    await ended;
  });
  await vi.waitFor(() => fetch(`${url}/healthz`), { timeout: 30_000, interval: 50 });
  return url;
}

export interface Ran {
  readonly status: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a line as a user types it, in a folder, with netctl on the PATH. */
export function shell(url: string, cwd: string, line: string): Promise<Omit<Ran, 'out'>> {
  const env = { ...process.env, NETMASTER: url, PATH: `${join(ROOT, 'bin')}:${process.env.PATH}` };
  return new Promise((done) => {
    const child = execFile('/bin/sh', ['-c', line], { cwd, env }, (_error, _out, err) =>
      done({ status: child.exitCode ?? -1, err }),
    );
  });
}

export function netctl(url: string, args: readonly string[], input = ''): Promise<Ran> {
  return new Promise((done) => {
    const child = execFile(
      join(ROOT, 'bin/netctl'),
      args,
      { env: { ...process.env, NETMASTER: url }, maxBuffer: 64 << 20 },
      (_error, out, err) => done({ status: child.exitCode ?? -1, out, err }),
    );
    child.stdin?.on('error', () => {}); // a command that does not read its input
    child.stdin?.end(input);
  });
}
