/**
 * What netmaster has, by its watch: of the kinds that are written from the cluster their text, of groups their network, and which
 * hosts live. Whoever else changes what is ours is seen here, and a netmaster that lost its store too.
 */
import { setTimeout as after } from 'node:timers/promises';
import { ApiError, type Client } from '../client/client.ts';
import type { EndpointGroup } from '../model/endpointGroup.ts';
import type { WatchedObject } from '../protocol/messages.ts';
import { canonical } from './canonical.ts';

export interface Actual {
  /** All is known. */
  readonly synced: boolean;
  /** Its text (canonical.ts); undefined where netmaster has none. */
  text(kind: string, key: string): string | undefined;
  keys(kind: string): Iterable<string>;
  /** Of `tenant:group`. */
  networkOfGroup(key: string): string | undefined;
  /** Names of hosts whose agent lives. */
  readonly hosts: ReadonlySet<string>;
  close(): Promise<void>;
}

export interface ActualOptions {
  readonly client: Client;
  /** Kinds whose objects are compared. */
  readonly kinds: readonly string[];
  changed(kind: string, key: string): void;
  synced(): void;
  failed(error: Error, first: boolean): void;
}

/** Milliseconds until the watch is asked for again. */
const FIRST_DELAY = 500;
const LONGEST_DELAY = 8000;

export function followNetmaster({ client, kinds, changed, synced, failed }: ActualOptions): Actual {
  const texts = new Map<string, Map<string, string>>(kinds.map((kind) => [kind, new Map()]));
  const networks = new Map<string, string>();
  const hosts = new Set<string>();
  const stop = new AbortController();
  let position: { store: string; after: number } | undefined;
  let known = false;

  function put({ kind, key, object }: WatchedObject): void {
    if (kind === 'host') {
      if (object === null ? hosts.delete(key) : !hosts.has(key) && hosts.add(key)) changed(kind, key);
      return;
    }
    if (kind === 'endpointGroup') {
      const network = (object as EndpointGroup | null)?.networkName;
      const before = networks.get(key);
      if (network === undefined) networks.delete(key);
      else networks.set(key, network);
      if (before !== network && texts.get(kind) === undefined) changed(kind, key);
    }
    const ofKind = texts.get(kind);
    if (ofKind === undefined) return;
    const before = ofKind.get(key);
    const now = object === null ? undefined : canonical(object as object);
    if (now === before) return;
    if (now === undefined) ofKind.delete(key);
    else ofKind.set(key, now);
    changed(kind, key);
  }

  /** What was known and is not among what was listed is gone. */
  function forget(listed: ReadonlySet<string>): void {
    const gone = (kind: string, keys: Iterable<string>): void => {
      for (const key of [...keys]) if (!listed.has(`${kind} ${key}`)) put({ kind, key, object: null });
    };
    for (const [kind, ofKind] of texts) gone(kind, ofKind.keys());
    gone('endpointGroup', networks.keys());
    gone('host', hosts);
  }

  async function watch(): Promise<void> {
    const listed = position === undefined ? new Set<string>() : undefined;
    for await (const message of client.watch({ ...position, signal: stop.signal }))
      switch (message.type) {
        case 'object':
          if (message.object === null) listed?.delete(`${message.kind} ${message.key}`);
          else listed?.add(`${message.kind} ${message.key}`);
          put(message);
          break;
        case 'synced':
          if (listed !== undefined) forget(listed);
          position = { store: message.store, after: message.revision };
          known = true;
          synced();
          break;
        case 'change':
          for (const change of message.changes) put(change);
          if (position !== undefined)
            position = { store: message.store ?? position.store, after: message.revision };
          break;
      }
  }

  const running = (async () => {
    let failures = 0;
    while (!stop.signal.aborted)
      try {
        await watch();
      } catch (error) {
        if (stop.signal.aborted) return;
        if (error instanceof ApiError && error.status === 410) {
          position = undefined;
          continue;
        }
        failed(error as Error, failures === 0);
        const delay = Math.min(FIRST_DELAY * 2 ** failures++, LONGEST_DELAY);
        await after(delay, undefined, { signal: stop.signal }).catch(() => {});
        if (known) failures = 0;
      }
  })();

  return {
    get synced() {
      return known;
    },
    text: (kind, key) => texts.get(kind)?.get(key),
    keys: (kind) => texts.get(kind)?.keys() ?? [],
    networkOfGroup: (key) => networks.get(key),
    hosts,
    async close() {
      stop.abort();
      await running;
    },
  };
}
