/**
 * Events of a range, in etcd's order and without a gap: a watch that breaks off goes on with another member behind the last revision that
 * came whole.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { CompactedError } from '../store.ts';
import { LostError, type Members } from './members.ts';
import type { WatchResponse } from './protocol.ts';

/** Milliseconds: before another member is tried; until a member must have begun the watch, or must have brought what is known to be written. */
const PAUSE = 200;
const PATIENCE = 3000;

export type Event = WatchResponse['events'][number];
/** All that changed with one revision. */
export interface Revision {
  readonly revision: number;
  readonly events: readonly Event[];
}

export interface Following {
  readonly members: Members;
  readonly range: { readonly key: Buffer; readonly rangeEnd?: Buffer };
  readonly after: number;
  readonly signal: AbortSignal;
  /** A revision of the range that is known to be written. */
  written?(): number;
}

/** Until the signal aborts. Throws a CompactedError where what comes next is not kept. */
export async function* follow(following: Following): AsyncGenerator<Revision> {
  const { members, range, after, signal, written = () => 0 } = following;
  /** All up to it has been given. */
  let position = after;
  while (!signal.aborted) {
    let failed = (): void => {};
    let end = (): void => {};
    try {
      const stream = await members.stream('watch');
      ({ failed } = stream);
      const { call } = stream;
      const stop = (): void => call.cancel();
      signal.addEventListener('abort', stop);
      let isCreated = false;
      let received = position;
      let isBehind = false;
      // A member that is stopped keeps its connection and says nothing: long before the keep-alive, this does.
      const looking = setInterval(() => {
        const lags = !isCreated || written() > received;
        if (lags && isBehind) stop();
        isBehind = lags;
      }, PATIENCE / 2);
      end = () => {
        clearInterval(looking);
        signal.removeEventListener('abort', stop);
        stop();
      };
      if (signal.aborted) stop();
      call.write({ create: { ...range, startRevision: position + 1, progressNotify: true, fragment: true } });
      let events: Event[] = [];
      for await (const response of call) {
        if (response.canceled) {
          if (response.compactRevision !== '0')
            throw new CompactedError(
              `what came after revision ${position} is no longer kept: etcd's history begins at ${response.compactRevision}`,
            );
          throw new LostError(response.cancelReason);
        }
        if (response.created) {
          isCreated = true;
          continue;
        }
        events.push(...response.events);
        if (response.fragment) continue;
        // Without events it says that there are none up to its revision.
        if (events.length === 0) position = Math.max(position, Number(response.header.revision));
        received = Number(events.at(-1)?.kv.modRevision ?? position);
        const revisions = Map.groupBy(events, ({ kv }) => Number(kv.modRevision));
        events = [];
        for (const [revision, own] of revisions) {
          yield { revision, events: own };
          position = revision;
        }
      }
    } catch (error) {
      if (error instanceof CompactedError) throw error;
    } finally {
      end();
    }
    if (signal.aborted) return;
    failed();
    await sleep(PAUSE, undefined, { signal }).catch(() => {});
  }
}
