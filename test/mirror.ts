/** A mirror over a store in memory, filled with objects as they are stored. */
import { onTestFinished } from 'vitest';
import { keyOf, kindByName } from '../src/model/kinds.ts';
import { type Mirror, openMirror, storeKey } from '../src/netmaster/mirror.ts';
import type { AddressRecord } from '../src/netmaster/tables.ts';
import { openMemory } from '../src/store/memory.ts';
import type { Write } from '../src/store/store.ts';

export interface TestMirror {
  readonly mirror: Mirror;
  /** Objects by kind. An endpoint takes its addresses, a service its virtual address. */
  put(objects: Readonly<Record<string, readonly object[]>>): Promise<void>;
  /** One whose key its fields do not say. */
  set(kind: string, key: string, object: object): Promise<void>;
  remove(kind: string, key: string): Promise<void>;
}

export async function openTestMirror(
  objects: Readonly<Record<string, readonly object[]>>,
): Promise<TestMirror> {
  const store = openMemory();
  const mirror = await openMirror(store);
  onTestFinished(() => mirror.close());
  const write = async (writes: readonly Write[]): Promise<void> => {
    const outcome = await store.transact([], writes);
    if (outcome.ok) await mirror.seen(outcome.revision);
  };
  const opened: TestMirror = {
    mirror,
    put: (more) =>
      write(Object.entries(more).flatMap(([kind, list]) => list.flatMap((o) => writesOf(kind, o as Plain)))),
    set: (kind, key, object) => write([{ key: storeKey(kind, key), value: object }]),
    remove: (kind, key) => write([{ key: storeKey(kind, key), value: undefined }]),
  };
  await opened.put(objects);
  return opened;
}

type Plain = Record<string, unknown>;

function writesOf(kind: string, object: Plain): Write[] {
  const own = { endpoint: 'endpointID', host: 'name', draining: 'name' }[kind];
  const found = kindByName.get(kind);
  const key = own === undefined ? found && keyOf(found, object) : String(object[own]);
  if (key === undefined) throw new Error(`there is no kind ${kind}`);
  const owner = kind === 'endpoint' ? { endpoint: key, host: String(object.homingHost) } : { service: key };
  const addresses =
    kind === 'endpoint' ? (object.ipAddress as string[]) : kind === 'serviceLB' ? [object.vip] : [];
  return [
    { key: storeKey(kind, key), value: object },
    ...addresses.map((address) => ({
      key: storeKey('address', `${object.tenantName}:${object.networkName}/${address}`),
      value: { ...owner } satisfies AddressRecord,
    })),
  ];
}
