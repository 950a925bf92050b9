/** A netmaster's parts in this process, and netctl as the process that it is. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { GLOBAL_DEFAULTS } from '../src/model/settings.ts';
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
