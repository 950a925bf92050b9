/**
 * Events of the cluster: what netmaster says of an object that somebody has made, where they look for it (`kubectl describe`). One
 * for each object and sentence, counted up; those that are the same are not written again within a while.
 */
import { createHash } from 'node:crypto';
import { type KubernetesApi, KubernetesError } from './api.ts';
import type { Metadata } from './objects.ts';
import { now } from './time.ts';

export interface About {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: Metadata;
}

export interface Events {
  /** Milliseconds pass until the same is said again. */
  warn(about: About, reason: string, message: string): void;
  /** What was said of it may be said anew: it is right now. */
  forget(about: About): void;
}

/** Milliseconds; the API server keeps an event for an hour. */
const AGAIN = 15 * 60_000;
/** How many objects are remembered to have been spoken of. */
const REMEMBERED = 10_000;
/** Of an event's note. */
const LONGEST = 1024;

interface EventObject {
  readonly metadata: { readonly resourceVersion?: string };
  readonly count?: number;
}

export function openEvents(api: KubernetesApi, failed: (error: Error) => void): Events {
  /** Of an object, what was said last and when, by performance.now. */
  const said = new Map<string, { message: string; at: number }>();
  const idOf = ({ kind, metadata }: About): string => `${kind} ${metadata.namespace ?? ''}/${metadata.name}`;

  async function write({ apiVersion, kind, metadata }: About, reason: string, text: string): Promise<void> {
    const { name, namespace = 'default', uid } = metadata;
    const message = text.slice(0, LONGEST);
    const hash = createHash('sha256')
      .update(`${kind} ${uid} ${reason} ${message}`)
      .digest('hex')
      .slice(0, 12);
    const events = `/api/v1/namespaces/${namespace}/events`;
    const own = `${name.slice(0, 240)}.${hash}`;
    const time = now();
    try {
      await api.create(events, {
        apiVersion: 'v1',
        kind: 'Event',
        metadata: { name: own, namespace },
        involvedObject: {
          apiVersion,
          kind,
          name,
          ...(metadata.namespace ? { namespace } : {}),
          ...(uid ? { uid } : {}),
        },
        type: 'Warning',
        reason,
        message,
        source: { component: 'netkube' },
        reportingComponent: 'netkube',
        reportingInstance: 'netkube',
        firstTimestamp: time,
        lastTimestamp: time,
        count: 1,
      });
    } catch (error) {
      if (!(error instanceof KubernetesError) || error.status !== 409) throw error;
      const { count = 1 } = await api.get<EventObject>(`${events}/${own}`);
      await api.patch(`${events}/${own}`, 'merge', { count: count + 1, lastTimestamp: time });
    }
  }

  return {
    warn(about, reason, message) {
      const id = idOf(about);
      const before = said.get(id);
      const at = performance.now();
      if (before?.message === message && at - before.at < AGAIN) return;
      said.delete(id);
      said.set(id, { message, at });
      for (const oldest of said.keys()) {
        if (said.size <= REMEMBERED) break;
        said.delete(oldest);
      }
      write(about, reason, message).catch(failed);
    },
    forget: (about) => void said.delete(idOf(about)),
  };
}
