/** A store by what the command line says. */
import type { EtcdOptions } from './etcd/members.ts';
import type { Store } from './store.ts';

/** `memory`, `sqlite:FILE`, `etcd://HOST:PORT,...`. Throws an Error with one plain line where it is none of them. */
export function checkStoreSpec(spec: string): void {
  if (spec === 'memory' || (spec.startsWith('sqlite:') && spec.length > 7)) return;
  if (spec.startsWith('etcd:')) {
    readEtcd(spec);
    return;
  }
  throw new Error(`--store '${spec}': not one of memory, sqlite:FILE, etcd://HOST:PORT,...`);
}

const ETCD_OPTIONS = ['ca', 'cert', 'key', 'user', 'passwordFile'] as const;

/** `etcd://a:2379,b:2379/NAME?ca=FILE&cert=FILE&key=FILE&user=NAME&passwordFile=FILE` */
export function readEtcd(spec: string): EtcdOptions {
  const wrong = (text: string): Error => new Error(`--store '${spec}': ${text}`);
  const match = /^etcd:\/\/([^/?]+)(?:\/([^?]*))?(?:\?(.*))?$/.exec(spec);
  const endpoints = (match?.[1] ?? '').split(',');
  for (const endpoint of endpoints)
    if (!/^(?:\[[\da-f:.]+\]|[\w.-]+):\d{1,5}$/i.test(endpoint))
      throw wrong(`'${endpoint}' must be HOST:PORT, as in etcd://etcd1:2379,etcd2:2379,etcd3:2379`);
  const name = match?.[2] ?? '';
  if (!/^[\w.-]*$/.test(name)) throw wrong(`'${name}' must be letters, digits, '-', '_' or '.'`);
  const given = new URLSearchParams(match?.[3] ?? '');
  const options: Partial<Record<(typeof ETCD_OPTIONS)[number], string>> = {};
  for (const [name, value] of given) {
    const option = ETCD_OPTIONS.find((known) => known === name);
    if (option === undefined) throw wrong(`'${name}' must be one of ${ETCD_OPTIONS.join(', ')}`);
    if (value === '') throw wrong(`${name} must not be empty`);
    options[option] = value;
  }
  if ((options.cert === undefined) !== (options.key === undefined))
    throw wrong('cert and key must be given together');
  if ((options.user === undefined) !== (options.passwordFile === undefined))
    throw wrong('user and passwordFile must be given together');
  return { endpoints, ...(name === '' ? {} : { name }), ...options };
}

/** Throws an Error with one plain line where it cannot be opened. `warn` is told of what was found in it, in one line. */
export async function openStore(spec: string, warn: (line: string) => void): Promise<Store> {
  checkStoreSpec(spec);
  if (spec === 'memory') return (await import('./memory.ts')).openMemory();
  if (spec.startsWith('etcd:')) {
    try {
      return await (await import('./etcd/etcd.ts')).openEtcd(readEtcd(spec));
    } catch (error) {
      throw new Error(`store ${spec}: ${(error as Error).message}`);
    }
  }
  return (await import('./sqlite.ts')).openSqlite(spec.slice(7), warn);
}
