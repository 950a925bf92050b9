/** A store by what the command line says. */
import type { Store } from './store.ts';

/** `memory`, `sqlite:FILE`. Throws an Error with one plain line where it is neither. */
export function checkStoreSpec(spec: string): void {
  if (spec === 'memory' || (spec.startsWith('sqlite:') && spec.length > 7)) return;
  if (spec.startsWith('etcd:'))
    throw new Error(`--store ${spec}: etcd is not supported yet; use sqlite:FILE`);
  throw new Error(`--store '${spec}': not one of memory, sqlite:FILE`);
}

/** Throws an Error with one plain line where it cannot be opened. `warn` is told of what was found in it, in one line. */
export async function openStore(spec: string, warn: (line: string) => void): Promise<Store> {
  checkStoreSpec(spec);
  if (spec === 'memory') return (await import('./memory.ts')).openMemory();
  return (await import('./sqlite.ts')).openSqlite(spec.slice(7), warn);
}
