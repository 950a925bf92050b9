/**
 * The host's copy of netmaster's objects: fed by the watch, kept on disk, so that the agent starts and
 * goes on without netmaster.
 *
 *   watch --object/synced/change--> view --debounced, what changed--> view.db (SQLite)
 *
 * When the history is gone or the store is another one, the list is taken anew beside the old copy,
 * which stays in force until the new one is whole: nothing is torn down meanwhile.
 *
 *   list --beside--> knows what runs on this host? --yes--> view
 *                      | no: changes are taken beside too, and it is asked again
 *                      +--> log, and the old copy stays
 *
 * A netmaster that lost its store, or came back with an older one, knows nothing of what runs. It is believed when it
 * knows the networks and groups of this host's containers again (`netctl apply` of an export); endpoints of other hosts
 * stay a while longer, until those have registered them anew.
 */
import type { Logger } from 'pino';
import { ApiError, type Client } from '../client/client.ts';
import type { Host, LiveQuestion, WatchedObject } from '../client/protocol.ts';
import type { Endpoint } from '../model/endpoint.ts';
import { openCopy } from './copy.ts';
import { FILES_INTERVAL, RETRY_DELAY, retryDelay, SAVE_DELAY } from './intervals.ts';
import { inTurn } from './turns.ts';
import { type MutableView, openView, type View } from './view.ts';

/** Milliseconds that endpoints of other hosts stay which another store does not know: until their hosts have told it. */
const REGISTRATION = 15_000;

export interface Replica {
  readonly view: View & Pick<MutableView, 'contents'>;
  /** Underlay addresses by host, also of hosts that have gone: their containers may run on. */
  readonly lastUnderlays: ReadonlyMap<string, string>;
  /** Of the store that the copy comes from; '' before the first list. */
  readonly store: string;
  /** Store revision that the copy shows; 0 before the first list. */
  readonly revision: number;
  /** The copy follows netmaster now, not only the disk. */
  readonly live: boolean;
  /**
   * Writes to disk what is not there yet. What is told to be applied must not be lost by a kill: the copy of before would bring
   * back what netmaster takes for forgotten.
   */
  keep(): void;
  close(): void;
}

export interface ReplicaOptions {
  readonly client: Client;
  readonly folder: string;
  readonly log: Logger;
  /** This host's name: netmaster may ask it. */
  readonly host?: string;
  asked?(id: string, question: LiveQuestion): void;
  /** What of a list's objects runs on this host and is not among them; '' for nothing. */
  missing?(list: View): string;
  /** A list was taken that lacks something: it is not in force. */
  waiting?(store: string): void;
  /** Called after each batch, and after a list; `objects` are those that changed, all of them after a list. */
  changed(objects: readonly WatchedObject[], listed: boolean): void;
}

const addressesOf = (e: Endpoint): string[] =>
  e.ipAddress.map((address) => `${e.tenantName}:${e.networkName} ${address}`);

/** Starts to follow; what was on disk is in force at once. */
export function openReplica(options: ReplicaOptions): Replica {
  const { client, folder, log, host, asked, changed, missing, waiting } = options;
  const copy = openCopy(folder);
  const { store: savedStore, revision: savedRevision, objects, underlays } = copy.load();
  const view = openView(objects);
  const lastUnderlays = new Map(underlays);
  const stop = new AbortController();
  let store = savedStore;
  let revision = savedRevision;
  let live = false;
  /** Changes after what is known cannot be had: all is listed. */
  let relist = revision === 0;
  let saving: NodeJS.Timeout | undefined;
  /** Changed since the last save, by kind and key; undefined: everything. */
  let unsaved: Map<string, WatchedObject> | undefined = new Map();
  let unsavedUnderlays = new Map<string, string>();
  /** Endpoints in the view that netmaster does not know, by key: not on disk. */
  const lingering = new Map<string, Endpoint>();

  const save = (): void => {
    clearTimeout(saving);
    saving = undefined;
    try {
      const isLost = copy.lost();
      if (isLost) log.error('the copy on disk was deleted or moved away: it is written anew');
      const underlays = isLost ? lastUnderlays : unsavedUnderlays;
      copy.save({ store, revision, underlays }, isLost ? undefined : unsaved?.values(), () =>
        view.contents().filter(({ kind, key }) => !(kind === 'endpoint' && lingering.has(key))),
      );
      unsaved = new Map();
      unsavedUnderlays = new Map();
    } catch (error) {
      log.error({ err: error }, 'the copy on disk is not written; it is tried again');
      if (!stop.signal.aborted) saving = setTimeout(save, RETRY_DELAY);
    }
  };
  const looks = inTurn(async () => save(), {
    every: FILES_INTERVAL,
    due: () => revision > 0 && copy.lost(),
  });
  const take = (objects: readonly WatchedObject[]): void => {
    for (const object of objects) {
      view.put(object);
      unsaved?.set(`${object.kind} ${object.key}`, object);
      if (object.kind === 'endpoint') lingering.delete(object.key);
      if (object.kind !== 'host' || object.object === null) continue;
      const { underlay } = object.object as Host;
      lastUnderlays.set(object.key, underlay);
      unsavedUnderlays.set(object.key, underlay);
    }
    saving ??= setTimeout(save, SAVE_DELAY);
  };
  const drop = (keys: Iterable<string>): WatchedObject[] =>
    [...keys].map((key) => ({ kind: 'endpoint', key, object: null }));

  /** Keys of lingering endpoints whose address one of these has, which is another. */
  function displaced(objects: readonly WatchedObject[]): string[] {
    if (lingering.size === 0) return [];
    const owners = new Map(
      objects
        .filter(({ kind, object }) => kind === 'endpoint' && object !== null)
        .flatMap(({ key, object }) => addressesOf(object as Endpoint).map((a) => [a, key] as const)),
    );
    const taken = (key: string, address: string): boolean => (owners.get(address) ?? key) !== key;
    return [...lingering].filter(([key, e]) => addressesOf(e).some((a) => taken(key, a))).map(([key]) => key);
  }

  /** The list replaces the view. `foreign`: of a store that may not know yet what runs. */
  function adopt(list: MutableView, foreign: boolean): void {
    const listed = list.contents();
    const kept = new Set(listed.map(({ kind, key }) => `${kind} ${key}`));
    const gone = view.contents().filter(({ kind, key }) => !kept.has(`${kind} ${key}`));
    const stays = ({ kind, object }: WatchedObject): boolean => {
      if (!foreign || kind !== 'endpoint') return false;
      const { tenantName, networkName, homingHost } = object as Endpoint;
      return homingHost !== host && list.networks.has(`${tenantName}:${networkName}`);
    };
    const changes = [...gone.filter((o) => !stays(o)).map((o) => ({ ...o, object: null })), ...listed];
    unsaved = undefined;
    lingering.clear();
    take(changes);
    for (const entry of gone) if (stays(entry)) lingering.set(entry.key, entry.object as Endpoint);
    const ended = drop(displaced(listed));
    take(ended);
    changed([...changes, ...ended], true);
    const expected = [...lingering.keys()];
    if (expected.length > 0)
      setTimeout(() => {
        const late = drop(expected.filter((key) => lingering.has(key)));
        if (stop.signal.aborted || late.length === 0) return;
        take(late);
        changed(late, false);
      }, REGISTRATION).unref();
  }

  async function follow(): Promise<void> {
    /** What was listed and is not in force yet. */
    let beside: { view: MutableView; store: string; revision: number; foreign: boolean } | undefined;
    let complained = false;
    let incoming: WatchedObject[] | undefined = relist ? [] : undefined;
    const resume = relist ? {} : { store, after: revision };
    const named = host === undefined ? {} : { host };

    const judge = (): void => {
      if (beside === undefined) return;
      const lacks = missing?.(beside.view) ?? '';
      if (lacks !== '') {
        if (!complained)
          log.error(
            { store: beside.store },
            `netmaster does not know ${lacks} of running containers: what was declared before stays in force on this host until netmaster's store is restored, an export is applied to it, or those containers are gone`,
          );
        complained = true;
        beside.foreign = true;
        waiting?.(beside.store);
        return;
      }
      const { view: list, foreign } = beside;
      ({ store, revision } = beside);
      beside = undefined;
      relist = false;
      live = true;
      adopt(list, foreign);
    };

    for await (const message of client.watch({ ...resume, ...named, signal: stop.signal })) {
      if (message.type === 'ask') asked?.(message.id, message.question);
      if (message.type === 'object') incoming?.push(message);
      if (message.type === 'ping') judge();
      if (message.type === 'synced') {
        const listed = incoming;
        incoming = undefined;
        if (listed === undefined) {
          live = true;
          changed([], true);
          continue;
        }
        const foreign = store !== '' && (message.store !== store || message.revision < revision);
        beside = { view: openView(listed), store: message.store, revision: message.revision, foreign };
        judge();
      }
      if (message.type === 'change' && beside !== undefined) {
        for (const change of message.changes) beside.view.put(change);
        beside.revision = message.revision;
        judge();
      } else if (message.type === 'change') {
        revision = message.revision;
        const changes = [...message.changes, ...drop(displaced(message.changes))];
        take(changes);
        changed(changes, false);
      }
    }
  }

  const isGone = (error: unknown): boolean => error instanceof ApiError && error.status === 410;
  let complained = false;
  /** Of the watch, in a row. */
  let refusals = 0;
  const watches = inTurn(
    async () => {
      try {
        await follow();
        complained = false;
      } finally {
        live = false;
      }
    },
    {
      again(_, error) {
        if (isGone(error)) return 0;
        const { status } = (error ?? {}) as Partial<ApiError>;
        refusals = status === 429 || status === 503 ? refusals + 1 : 0;
        return retryDelay(refusals);
      },
      failed(error) {
        if (stop.signal.aborted) return;
        if (isGone(error)) {
          log.warn('the history that was asked for is no longer kept: listing everything again');
          relist = true;
          return;
        }
        if (!complained) log.warn({ err: error }, 'no watch on netmaster; going on with the copy on disk');
        complained = true;
      },
    },
  );
  watches.ask();

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
    keep() {
      if (saving !== undefined && !stop.signal.aborted) save();
    },
    close() {
      if (stop.signal.aborted) return;
      stop.abort();
      void looks.close();
      void watches.close();
      if (revision > 0) save();
      copy.close();
    },
  };
}
