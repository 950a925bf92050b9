/**
 * The host's copy of netmaster's objects: fed by the watch, kept on disk, so that the agent starts and
 * goes on without netmaster.
 *
 *   watch --object/synced/change--> view --debounced, what changed--> view.db (SQLite)
 *
 * When the history is gone or the store is another one, the list is taken anew beside the old copy,
 * which stays in force until the new one is whole: nothing is torn down meanwhile.
 */
import type { Logger } from 'pino';
import { ApiError, type Client } from '../client/client.ts';
import type { Host, LiveQuestion, WatchedObject } from '../client/protocol.ts';
import { openCopy } from './copy.ts';
import { openView, type View } from './view.ts';

/**
 * Milliseconds between a change and its copy on disk. What a kill loses is fetched again by revision, but not while
 * netmaster is away too: so it is soon.
 */
const SAVE_DELAY = 20;
const RETRY_DELAY = 500;

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
  /** This host's name: netmaster may ask it. */
  readonly host?: string;
  asked?(id: string, question: LiveQuestion): void;
  /** Called after each batch, and after a list; `objects` are those that changed, all of them after a list. */
  changed(objects: readonly WatchedObject[], listed: boolean): void;
}

/** Starts to follow; what was on disk is in force at once. */
export function openReplica({ client, folder, log, host, asked, changed }: ReplicaOptions): Replica {
  const copy = openCopy(folder);
  const { store: savedStore, revision: savedRevision, objects, underlays } = copy.load();
  const view = openView(objects);
  const lastUnderlays = new Map(underlays);
  const stop = new AbortController();
  let store = savedStore;
  let revision = savedRevision;
  let live = false;
  let saving: NodeJS.Timeout | undefined;
  /** Changed since the last save, by kind and key; undefined: everything. */
  let unsaved: Map<string, WatchedObject> | undefined = new Map();
  let unsavedUnderlays = new Map<string, string>();

  const save = (): void => {
    clearTimeout(saving);
    saving = undefined;
    try {
      copy.save({ store, revision, underlays: unsavedUnderlays }, unsaved?.values(), () => view.contents());
      unsaved = new Map();
      unsavedUnderlays = new Map();
    } catch (error) {
      log.error({ err: error }, 'the copy on disk is not written; it is tried again');
      if (!stop.signal.aborted) saving = setTimeout(save, RETRY_DELAY);
    }
  };
  const take = (objects: readonly WatchedObject[]): void => {
    for (const object of objects) {
      view.put(object);
      unsaved?.set(`${object.kind} ${object.key}`, object);
      if (object.kind !== 'host' || object.object === null) continue;
      const { underlay } = object.object as Host;
      lastUnderlays.set(object.key, underlay);
      unsavedUnderlays.set(object.key, underlay);
    }
    saving ??= setTimeout(save, SAVE_DELAY);
  };

  async function follow(): Promise<void> {
    let incoming: WatchedObject[] | undefined = revision === 0 ? [] : undefined;
    const resume = incoming === undefined ? { store, after: revision } : {};
    const named = host === undefined ? {} : { host };
    for await (const message of client.watch({ ...resume, ...named, signal: stop.signal })) {
      if (message.type === 'ask') asked?.(message.id, message.question);
      if (message.type === 'object') incoming?.push(message);
      if (message.type === 'synced') {
        store = message.store;
        revision = message.revision;
        live = true;
        const listed = incoming;
        incoming = undefined;
        if (listed === undefined) {
          changed([], true);
          continue;
        }
        const kept = new Set(listed.map(({ kind, key }) => `${kind} ${key}`));
        const gone = view
          .contents()
          .filter(({ kind, key }) => !kept.has(`${kind} ${key}`))
          .map((entry) => ({ ...entry, object: null }));
        unsaved = undefined;
        take([...gone, ...listed]);
        changed([...gone, ...listed], true);
      }
      if (message.type === 'change') {
        revision = message.revision;
        take(message.changes);
        changed(message.changes, false);
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
    view,
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
      if (stop.signal.aborted) return;
      stop.abort();
      if (revision > 0) save();
      copy.close();
    },
  };
}
