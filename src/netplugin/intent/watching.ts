/**
 * What the messages of a watch make of what is known, without disk, connection or clock: replica.ts does what is to be done.
 *
 *   list --beside--> knows what runs on this host? --yes--> view
 *                      | no: changes are taken beside too, and it is asked again
 *                      +--> the old objects stay in force
 *
 * A netmaster that lost its store, or came back with an older one, knows nothing of what runs. It is believed when it
 * knows the networks and groups of this host's containers again (`netctl apply` of an export); endpoints of other hosts
 * stay a while longer, until those have registered them anew.
 *
 * Nor does a netmaster that has lost the addresses of this host tell it of their tenants: they stay in force until it was told of what runs here,
 * and has told of them. It may lose them while it is followed too, where somebody has removed a host that lives.
 */

import type { Endpoint } from '../../model/endpoint.ts';
import type { LiveQuestion, WatchedObject, WatchMessage } from '../../protocol/messages.ts';
import { isWhole, type KnownNetwork, type MutableView, openView, type View } from './view.ts';

/** What is to be done about a message, in this order. */
export type Effect =
  /** These are in force now; all that is known, and nothing else, where it was `listed`. */
  | { readonly type: 'changed'; readonly objects: readonly WatchedObject[]; readonly listed: boolean }
  /** What is known is followed again from where it was. */
  | { readonly type: 'resumed' }
  /** A list is not in force: it lacks something that runs here. */
  | { readonly type: 'lacks'; readonly store: string; readonly what: string }
  /** After a while these endpoints are to be dropped that nobody has registered. */
  | { readonly type: 'lingering'; readonly keys: readonly string[] }
  | { readonly type: 'asked'; readonly id: string; readonly question: LiveQuestion };

/** Before the first list `store` is '' and `revision` 0. */
interface Position {
  readonly store: string;
  readonly revision: number;
}

export interface Watching extends Position {
  readonly view: MutableView;
  /** netmaster is followed now. */
  readonly live: boolean;
  /** What netmaster says now, in force or not; undefined: it is not followed, or its list is not whole. */
  readonly listed: View | undefined;
  /** Endpoints in the view that netmaster does not know, by key. */
  readonly lingering: ReadonlyMap<string, Endpoint>;
  /** A watch begins: what it is to ask for. */
  begin(): { store?: string; after?: number };
  take(message: WatchMessage): Effect[];
  /** Those of them that still linger are gone. */
  drop(keys: readonly string[]): Effect[];
  /** The watch has ended; `gone`: what it asked for is no longer kept. */
  end(gone: boolean): void;
}

export interface WatchingOptions extends Position {
  readonly objects: readonly WatchedObject[];
  /** This host's name. */
  readonly host?: string;
  /** What of a list's objects runs on this host and is not among them; '' for nothing. */
  missing?(list: View): string;
}

const addressesOf = (e: Endpoint): string[] =>
  e.ipAddress.map((address) => `${e.tenantName}:${e.networkName} ${address}`);

const ended = (keys: readonly string[]): WatchedObject[] =>
  keys.map((key) => ({ kind: 'endpoint', key, object: null }));

export function openWatching({ objects, host, missing, ...saved }: WatchingOptions): Watching {
  const view = openView(objects);
  let { store, revision } = saved;
  let live = false;
  /** Changes after what is known cannot be had: all is listed. */
  let relist = revision === 0;
  const lingering = new Map<string, Endpoint>();
  /** Of a list that is on its way. */
  let incoming: WatchedObject[] | undefined;
  /** What was listed and is not in force yet. */
  let beside: (Position & { readonly view: MutableView; readonly foreign: boolean }) | undefined;

  function put(objects: readonly WatchedObject[]): void {
    for (const object of objects) {
      view.put(object);
      if (object.kind === 'endpoint') lingering.delete(object.key);
    }
  }

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
  function adopt(list: MutableView, foreign: boolean): Effect[] {
    const listed = list.contents();
    const kept = new Set(listed.map(({ kind, key }) => `${kind} ${key}`));
    const gone = view.contents().filter(({ kind, key }) => !kept.has(`${kind} ${key}`));
    const stays = ({ kind, object }: WatchedObject): boolean => {
      if (!foreign || kind !== 'endpoint') return false;
      const { tenantName, networkName, homingHost } = object as Endpoint;
      return homingHost !== host && list.networks.has(`${tenantName}:${networkName}`);
    };
    const changes = [...gone.filter((o) => !stays(o)).map((o) => ({ ...o, object: null })), ...listed];
    lingering.clear();
    put(changes);
    for (const entry of gone) if (stays(entry)) lingering.set(entry.key, entry.object as Endpoint);
    const replaced = ended(displaced(listed));
    put(replaced);
    const keys = [...lingering.keys()];
    return [
      { type: 'changed', objects: [...changes, ...replaced], listed: true },
      ...(keys.length === 0 ? [] : [{ type: 'lingering', keys } as const]),
    ];
  }

  /** Whether what was listed may be in force by now. */
  function judge(): Effect[] {
    if (beside === undefined) return [];
    const what = missing?.(beside.view) ?? '';
    if (what !== '') {
      beside = { ...beside, foreign: true };
      return [{ type: 'lacks', store: beside.store, what }];
    }
    const { view: list, foreign } = beside;
    ({ store, revision } = beside);
    beside = undefined;
    relist = false;
    live = true;
    return adopt(list, foreign);
  }

  function change(objects: readonly WatchedObject[], at: number, called?: string): Effect[] {
    if (beside !== undefined) {
      for (const object of objects) beside.view.put(object);
      beside = { ...beside, store: called ?? beside.store, revision: at };
      return judge();
    }
    const forgets = ({ kind, key, object }: WatchedObject): boolean =>
      kind === 'network' &&
      object !== null &&
      !isWhole(object as KnownNetwork) &&
      isWhole(view.networks.get(key));
    if (objects.some(forgets)) {
      const next = openView([...view.contents(), ...objects]);
      if ((missing?.(next) ?? '') !== '') {
        beside = { store: called ?? store, revision: at, view: next, foreign: true };
        live = false;
        return judge();
      }
    }
    revision = at;
    store = called ?? store;
    const changes = [...objects, ...ended(displaced(objects))];
    put(changes);
    return [{ type: 'changed', objects: changes, listed: false }];
  }

  function synced(at: Position): Effect[] {
    if (incoming === undefined) {
      live = true;
      return [{ type: 'resumed' }];
    }
    const foreign = store !== '' && (at.store !== store || at.revision < revision);
    beside = { ...at, view: openView(incoming), foreign };
    incoming = undefined;
    return judge();
  }

  return {
    view,
    lingering,
    get listed() {
      return beside?.view ?? (live ? view : undefined);
    },
    get store() {
      return store;
    },
    get revision() {
      return revision;
    },
    get live() {
      return live;
    },
    begin() {
      beside = undefined;
      incoming = relist ? [] : undefined;
      return relist ? {} : { store, after: revision };
    },
    take(message) {
      switch (message.type) {
        case 'ask':
          return [{ type: 'asked', id: message.id, question: message.question }];
        case 'object':
          incoming?.push(message);
          return [];
        case 'ping':
          return judge();
        case 'synced':
          return synced({ store: message.store, revision: message.revision });
        case 'change':
          return change(message.changes, message.revision, message.store);
        default:
          return []; // of a newer netmaster
      }
    },
    drop(keys) {
      const late = ended(keys.filter((key) => lingering.has(key)));
      put(late);
      return late.length === 0 ? [] : [{ type: 'changed', objects: late, listed: false }];
    },
    end(gone) {
      live = false;
      beside = undefined;
      relist ||= gone;
    },
  };
}
