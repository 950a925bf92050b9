/**
 * Follows the objects of a resource: list, then changes by resourceVersion.
 *
 *   list, page by page --> synced --> watch --> ended: again from where it was --> 410: list
 *                   404: nothing is there; asked again, as the resource may come later
 *
 * What an object is kept as (`keep`) is all that stays in memory. A list that follows another tells what went meanwhile.
 */
import { setTimeout as after } from 'node:timers/promises';
import type { KubernetesApi, WatchEvent } from './api.ts';
import { KubernetesError } from './api.ts';
import type { KubernetesObject } from './objects.ts';

export interface Resource<T extends KubernetesObject> {
  /** As in `pods`: in logs and metrics. */
  readonly name: string;
  /** Of its collection over all namespaces; the first that the server has. */
  readonly paths: readonly string[];
  readonly keep: (object: T) => T;
}

/** `namespace/name`, or the name alone. */
export const nameOf = ({ metadata: { name, namespace } }: KubernetesObject): string =>
  namespace === undefined ? name : `${namespace}/${name}`;

export interface Followed<T> {
  readonly name: string;
  /** All that is known, by nameOf. */
  readonly objects: ReadonlyMap<string, T>;
  /** A whole list has been read, once. */
  readonly synced: boolean;
  /** Of the first path that the server has; undefined where it has none of them. */
  readonly path: string | undefined;
}

export interface Following<T> extends Followed<T> {
  close(): Promise<void>;
}

export interface FollowOptions<T> {
  /** After each change: before is undefined where it is new, now where it is gone. */
  changed(name: string, before: T | undefined, now: T | undefined): void;
  /** A list has been read. */
  listed(): void;
  /** It cannot be followed; `first`: it could before. */
  failed(error: Error, first: boolean): void;
}

const PAGE = 500;
/** Milliseconds until it is tried again: the first, the longest, and for a resource that is not there. */
const FIRST_DELAY = 500;
const LONGEST_DELAY = 16_000;
const ABSENT_DELAY = 5000;
/** Seconds after which the server ends a watch: they are not all begun anew at once. */
const watchSeconds = (): number => Math.round(300 + Math.random() * 300);

export function follow<T extends KubernetesObject>(
  api: KubernetesApi,
  { name, paths, keep }: Resource<T>,
  { changed, listed, failed }: FollowOptions<T>,
): Following<T> {
  const objects = new Map<string, T>();
  const stop = new AbortController();
  let synced = false;
  let path: string | undefined;
  /** '' where all is to be listed. */
  let version = '';

  function put(object: T): string {
    const kept = keep(object);
    const key = nameOf(kept);
    const before = objects.get(key);
    objects.set(key, kept);
    changed(key, before, kept);
    return key;
  }

  function remove(key: string): void {
    const before = objects.get(key);
    if (before === undefined) return;
    objects.delete(key);
    changed(key, before, undefined);
  }

  async function list(): Promise<void> {
    const present = new Set<string>();
    let found: string | undefined;
    for (const candidate of paths) {
      found = await listAt(candidate, present);
      if (found !== undefined) {
        path = candidate;
        break;
      }
    }
    if (found === undefined) path = undefined;
    for (const key of [...objects.keys()]) if (!present.has(key)) remove(key);
    version = found ?? '';
    synced = true;
    listed();
  }

  /** The version of the list; undefined where there is no such resource. */
  async function listAt(candidate: string, present: Set<string>): Promise<string | undefined> {
    let next: string | undefined;
    let version = '';
    do {
      const query = new URLSearchParams({ limit: `${PAGE}`, ...(next ? { continue: next } : {}) });
      let page: { metadata: { resourceVersion: string; continue?: string }; items: T[] | null };
      try {
        page = await api.get(`${candidate}?${query}`);
      } catch (error) {
        if (error instanceof KubernetesError && error.status === 404) return undefined;
        throw error;
      }
      for (const item of page.items ?? []) present.add(put(item));
      version = page.metadata.resourceVersion;
      next = page.metadata.continue;
    } while (next);
    return version;
  }

  async function watch(): Promise<void> {
    const query = new URLSearchParams({
      watch: 'true',
      allowWatchBookmarks: 'true',
      resourceVersion: version,
      timeoutSeconds: `${watchSeconds()}`,
    });
    for await (const event of api.watch(`${path}?${query}`, stop.signal)) take(event);
  }

  function take({ type, object }: WatchEvent): void {
    if (type === 'ERROR') {
      const { code, message } = object as { code?: number; message?: string };
      throw new KubernetesError(code ?? 500, message ?? 'the watch was ended');
    }
    const of = object as unknown as T;
    if (type === 'DELETED') remove(nameOf(of));
    else if (type !== 'BOOKMARK') put(of);
    version = object.metadata?.resourceVersion ?? version;
  }

  const running = (async () => {
    let failures = 0;
    while (!stop.signal.aborted) {
      let delay = 0;
      try {
        if (version === '') await list();
        if (path === undefined) delay = ABSENT_DELAY;
        else await watch();
        failures = 0;
      } catch (error) {
        if (stop.signal.aborted) return;
        const { status } = error as Partial<KubernetesError>;
        // 410: its history is gone; 404: so is the resource.
        if (status === 410 || status === 404) version = '';
        else {
          failed(error as Error, failures === 0);
          delay = Math.min(FIRST_DELAY * 2 ** failures, LONGEST_DELAY) * (0.5 + Math.random() / 2);
          failures++;
        }
      }
      // Also an end that is none of ours is not answered at once, were it to come again and again.
      await after(Math.max(delay, 50), undefined, { signal: stop.signal }).catch(() => {});
    }
  })();

  return {
    name,
    objects,
    get synced() {
      return synced;
    },
    get path() {
      return path;
    },
    async close() {
      stop.abort();
      await running;
    },
  };
}
