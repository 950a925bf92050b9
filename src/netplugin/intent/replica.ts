/**
 * The host's copy of netmaster's objects: fed by the watch, kept on disk, so that the agent starts and
 * goes on without netmaster.
 *
 *   watch --object/synced/change--> view --debounced, what changed--> view.db (SQLite)
 *
 * When the history is gone or the store is another one, the list is taken anew beside the old copy,
 * which stays in force until the new one is whole: nothing is torn down meanwhile (watching.ts).
 */
import type { Logger } from 'pino';
import { ApiError, type Client } from '../../client/client.ts';
import type { HostKey } from '../../model/encryption.ts';
import type { Endpoint } from '../../model/endpoint.ts';
import type { Host, LiveQuestion, WatchedObject } from '../../protocol/messages.ts';
import { inTurn } from '../../turns.ts';
import { FILES_INTERVAL, RETRY_DELAY, retryDelay, SAVE_DELAY } from '../intervals.ts';
import { openCopy } from './copy.ts';
import type { MutableView, View } from './view.ts';
import { type Effect, openWatching } from './watching.ts';

/** Milliseconds that endpoints of other hosts stay which another store does not know: until their hosts have told it. */
const REGISTRATION = 15_000;

export interface Replica {
  readonly view: View & Pick<MutableView, 'contents'>;
  /** Underlay addresses by host, also of hosts that have gone: their containers may run on. */
  readonly lastUnderlays: ReadonlyMap<string, string>;
  /** The same of the keys by which what is for them is encrypted. */
  readonly lastKeys: ReadonlyMap<string, readonly HostKey[]>;
  /** Of the store that the copy comes from; '' before the first list. */
  readonly store: string;
  /** Store revision that the copy shows; 0 before the first list. */
  readonly revision: number;
  /** The copy follows netmaster now, not only the disk. */
  readonly live: boolean;
  /** What netmaster says now, be it in force or not; undefined: it is not followed. */
  readonly listed: View | undefined;
  /**
   * Writes to disk what is not there yet. What is told to be applied must not be lost by a kill: the copy of before would bring
   * back what netmaster takes for forgotten.
   */
  keep(): void;
  /**
   * An endpoint of this host is shown as it is here, `null` where it has ended, until netmaster tells of it again: it cannot be told now.
   * Not on disk.
   */
  assume(key: string, endpoint: Endpoint | null): void;
  /** Endpoints that are shown so, with what netmaster had told of them, by key. */
  readonly assumed: ReadonlyMap<string, Endpoint | null>;
  /** What netmaster has told is not enough: all is listed anew. What is known stays in force until then. */
  relist(): void;
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

/** Starts to follow; what was on disk is in force at once. */
export function openReplica(options: ReplicaOptions): Replica {
  const { client, folder, log, host, asked, changed, missing, waiting } = options;
  const copy = openCopy(folder);
  const { underlays, keys, ...saved } = copy.load();
  const known = openWatching({
    ...saved,
    ...(host === undefined ? {} : { host }),
    ...(missing === undefined ? {} : { missing }),
  });
  const { view } = known;
  const lastUnderlays = new Map(underlays);
  const lastKeys = new Map(keys);
  const stop = new AbortController();
  let saving: NodeJS.Timeout | undefined;
  /** Changed since the last save, by kind and key; undefined: everything. */
  let unsaved: Map<string, WatchedObject> | undefined = new Map();
  let unsavedUnderlays = new Map<string, string>();
  let unsavedKeys = new Map<string, readonly HostKey[]>();
  const assumed = new Map<string, Endpoint | null>();
  const toldContents = (): WatchedObject[] => {
    const told = [...assumed].flatMap(([key, object]) => (object ? [{ kind: 'endpoint', key, object }] : []));
    const asTold = view.contents().filter(({ kind, key }) => !(kind === 'endpoint' && assumed.has(key)));
    return [...asTold, ...told];
  };

  const save = (): void => {
    clearTimeout(saving);
    saving = undefined;
    try {
      const isLost = copy.lost();
      if (isLost) log.error('the copy on disk was deleted or moved away: it is written anew');
      const underlays = isLost ? lastUnderlays : unsavedUnderlays;
      const keys = isLost ? lastKeys : unsavedKeys;
      const { store, revision, lingering } = known;
      // What netmaster does not know is not on disk.
      copy.save({ store, revision, underlays, keys }, isLost ? undefined : unsaved?.values(), () =>
        toldContents().filter(({ kind, key }) => !(kind === 'endpoint' && lingering.has(key))),
      );
      unsaved = new Map();
      unsavedUnderlays = new Map();
      unsavedKeys = new Map();
    } catch (error) {
      log.error({ err: error }, 'the copy on disk is not written; it is tried again');
      if (!stop.signal.aborted) saving = setTimeout(save, RETRY_DELAY);
    }
  };
  const looks = inTurn(async () => save(), {
    every: FILES_INTERVAL,
    due: () => known.revision > 0 && copy.lost(),
  });
  const note = (objects: readonly WatchedObject[]): void => {
    for (const object of objects) {
      unsaved?.set(`${object.kind} ${object.key}`, object);
      if (object.kind !== 'host' || object.object === null) continue;
      const { underlay, keys = [] } = object.object as Host;
      lastKeys.set(object.key, keys);
      unsavedKeys.set(object.key, keys);
      lastUnderlays.set(object.key, underlay);
      unsavedUnderlays.set(object.key, underlay);
    }
    saving ??= setTimeout(save, SAVE_DELAY);
  };

  /** Of the watch that is open: it was said what its list lacks. */
  let toldLack = false;
  function act(effect: Effect): void {
    switch (effect.type) {
      case 'asked':
        asked?.(effect.id, effect.question);
        break;
      case 'resumed':
        changed([], true);
        break;
      case 'changed':
        if (effect.listed) unsaved = undefined;
        if (effect.listed) assumed.clear();
        for (const { kind, key } of effect.objects) if (kind === 'endpoint') assumed.delete(key);
        note(effect.objects);
        changed(effect.objects, effect.listed);
        break;
      case 'lacks':
        if (!toldLack)
          log.error(
            { store: effect.store },
            `netmaster does not know ${effect.what} of running containers: what was declared before stays in force on this host until it has taken what runs here, its store is restored, an export is applied to it, or those containers are gone`,
          );
        toldLack = true;
        waiting?.(effect.store);
        break;
      case 'lingering':
        setTimeout(() => {
          if (!stop.signal.aborted) for (const next of known.drop(effect.keys)) act(next);
        }, REGISTRATION).unref();
    }
  }

  /** Of the watch that is open. */
  let watch = new AbortController();
  async function follow(): Promise<void> {
    toldLack = false;
    watch = new AbortController();
    const named = host === undefined ? {} : { host };
    const signal = AbortSignal.any([stop.signal, watch.signal]);
    for await (const message of client.watch({ ...known.begin(), ...named, signal }))
      for (const effect of known.take(message)) act(effect);
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
      } catch (error) {
        known.end(isGone(error));
        throw error;
      }
      known.end(false);
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
    lastKeys,
    get store() {
      return known.store;
    },
    get revision() {
      return known.revision;
    },
    get live() {
      return known.live;
    },
    get listed() {
      return known.listed;
    },
    keep() {
      if (saving !== undefined && !stop.signal.aborted) save();
    },
    assumed,
    assume(key, endpoint) {
      if (!assumed.has(key)) assumed.set(key, view.endpoints.get(key) ?? null);
      const shown = { kind: 'endpoint', key, object: endpoint };
      view.put(shown);
      if (endpoint === assumed.get(key)) assumed.delete(key); // it was never told of, and is gone
      changed([shown], false);
    },
    relist() {
      known.end(true);
      watch.abort();
    },
    close() {
      if (stop.signal.aborted) return;
      stop.abort();
      void looks.close();
      void watches.close();
      if (known.revision > 0) save();
      copy.close();
    },
  };
}
