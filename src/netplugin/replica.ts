/**
 * The host's copy of netmaster's objects: fed by the watch, kept on disk, so that the agent starts and
 * goes on without netmaster.
 *
 *   watch --object/synced/change--> maps (View) --debounced--> view.json
 *
 * When the history is gone or the store is another one, the list is taken anew beside the old copy,
 * which stays in force until the new one is whole: nothing is torn down meanwhile.
 */
import path from 'node:path';
import type { Logger } from 'pino';
import { ApiError, type Client } from '../client/client.ts';
import type { WatchedObject } from '../client/protocol.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { EndpointGroup } from '../model/endpointGroup.ts';
import type { Host } from '../model/host.ts';
import type { Tenant } from '../model/tenant.ts';
import { readJson, writeJson } from './file.ts';
import type { View, WatchedNetwork } from './view.ts';

/**
 * Milliseconds at least between a change and its copy on disk, and the part of the time that writing may take. What a
 * kill loses is fetched again by revision, but not while netmaster is away too: so it is soon, and cheap under churn.
 */
const SAVE_DELAY = 20;
const SAVE_SHARE = 0.05;
const RETRY_DELAY = 500;

interface Tables {
  tenants: Map<string, Tenant>;
  networks: Map<string, WatchedNetwork>;
  groups: Map<string, EndpointGroup>;
  endpoints: Map<string, Endpoint>;
  hosts: Map<string, Host>;
}

const TABLE_OF_KIND: Readonly<Record<string, keyof Tables>> = {
  tenant: 'tenants',
  network: 'networks',
  endpointGroup: 'groups',
  endpoint: 'endpoints',
  host: 'hosts',
};

interface Saved {
  store: string;
  revision: number;
  objects: WatchedObject[];
  underlays: [host: string, underlay: string][];
}

export interface Replica {
  readonly view: View;
  /** Underlay addresses by host, also of hosts that have gone: their containers may run on. */
  readonly lastUnderlays: ReadonlyMap<string, string>;
  /** Of the store that the copy comes from; '' before the first list. */
  readonly store: string;
  /** Store revision that the copy shows; 0 before the first list. */
  readonly revision: number;
  /** The copy follows netmaster now, not only the disk. */
  readonly live: boolean;
  close(): void;
}

export interface ReplicaOptions {
  readonly client: Client;
  readonly folder: string;
  readonly log: Logger;
  /** Called after each batch, and after a list; `objects` are those that changed, all of them after a list. */
  changed(objects: readonly WatchedObject[], listed: boolean): void;
}

const emptyTables = (): Tables => ({
  tenants: new Map(),
  networks: new Map(),
  groups: new Map(),
  endpoints: new Map(),
  hosts: new Map(),
});

function put(tables: Tables, { kind, key, object }: WatchedObject): void {
  const table = TABLE_OF_KIND[kind];
  if (table === undefined) return; // a kind that this agent does not act on
  const map = tables[table] as Map<string, unknown>;
  if (object === null) map.delete(key);
  else map.set(key, object);
}

function contents(tables: Tables): WatchedObject[] {
  return Object.entries(TABLE_OF_KIND).flatMap(([kind, table]) =>
    [...(tables[table] as Map<string, unknown>)].map(([key, object]) => ({ kind, key, object })),
  );
}

/** Starts to follow; what was on disk is in force at once. */
export function openReplica({ client, folder, log, changed }: ReplicaOptions): Replica {
  const file = path.join(folder, 'view.json');
  const tables = emptyTables();
  const lastUnderlays = new Map<string, string>();
  const stop = new AbortController();
  let store = '';
  let revision = 0;
  let live = false;
  let saving: NodeJS.Timeout | undefined;

  const saved = readJson<Saved>(file);
  if (saved !== undefined) {
    for (const object of saved.objects) put(tables, object);
    for (const [name, underlay] of saved.underlays) lastUnderlays.set(name, underlay);
    ({ store, revision } = saved);
  }

  const remember = (): void => {
    for (const [name, { underlay }] of tables.hosts) lastUnderlays.set(name, underlay);
  };
  remember();

  const save = (): void => {
    saving = undefined;
    const start = performance.now();
    writeJson(file, {
      store,
      revision,
      objects: contents(tables),
      underlays: [...lastUnderlays],
    } satisfies Saved);
    saveDelay = Math.max(SAVE_DELAY, (performance.now() - start) / SAVE_SHARE);
  };
  let saveDelay = SAVE_DELAY;
  const saveSoon = (): void => {
    saving ??= setTimeout(save, saveDelay);
  };

  async function follow(): Promise<void> {
    let incoming = revision === 0 ? emptyTables() : undefined;
    const resume = incoming === undefined ? { store, after: revision } : {};
    for await (const message of client.watch({ ...resume, signal: stop.signal })) {
      if (message.type === 'object' && incoming !== undefined) put(incoming, message);
      if (message.type === 'synced') {
        store = message.store;
        revision = message.revision;
        live = true;
        const listed = incoming;
        if (listed !== undefined) {
          const gone = contents(tables).map((entry) => ({ ...entry, object: null }));
          for (const name of Object.keys(tables) as (keyof Tables)[]) {
            const map = tables[name] as Map<string, unknown>;
            map.clear();
            for (const [key, object] of listed[name]) map.set(key, object);
          }
          incoming = undefined;
          remember();
          changed([...gone, ...contents(tables)], true);
        } else changed([], true);
        saveSoon();
      }
      if (message.type === 'change') {
        for (const object of message.changes) put(tables, object);
        revision = message.revision;
        remember();
        changed(message.changes, false);
        saveSoon();
      }
    }
  }

  void (async () => {
    let complained = false;
    while (!stop.signal.aborted) {
      try {
        await follow();
        complained = false;
      } catch (error) {
        if (stop.signal.aborted) break;
        if (error instanceof ApiError && error.status === 410) {
          log.warn('the history that was asked for is no longer kept: listing everything again');
          revision = 0;
          continue;
        }
        if (!complained) log.warn({ err: error }, 'no watch on netmaster; going on with the copy on disk');
        complained = true;
      }
      live = false;
      await new Promise((done) => setTimeout(done, RETRY_DELAY));
    }
  })();

  return {
    view: tables,
    lastUnderlays,
    get store() {
      return store;
    },
    get revision() {
      return revision;
    },
    get live() {
      return live;
    },
    close() {
      stop.abort();
      clearTimeout(saving);
      if (revision > 0) save();
    },
  };
}
