/** What happens without a write of its own, as decisions on one transaction each: hosts that leave, and what agents tell of. */
import { HOST_TTL } from '../model/host.ts';
import { oneLine } from '../model/text.ts';
import type { Event, ToldEvent } from '../protocol/events.ts';
import { recordKey } from './events.ts';
import { type Mirror, storeKey } from './mirror.ts';
import type { Decision } from './writer.ts';

/**
 * Hosts that have left since they joined: their leases end in the store, where nobody writes what happened. Any netmaster does it, later where
 * none was there; each departure is written once.
 */
export function decideDepartures(mirror: Mirror): Decision<readonly string[]> {
  const last = new Map<string, Event>();
  for (const event of mirror.events.list({ kinds: HOSTS }))
    if (event.host !== undefined) last.set(event.host, event);
  const gone = [...last.values()].filter(
    ({ action, host = '' }) => action !== 'left' && mirror.get('host', host) === undefined,
  );
  return {
    // One that has come again meanwhile has not left.
    checks: gone.flatMap(({ id, host = '' }) => [
      { key: storeKey('event', recordKey('host', `left-${id}`)), revision: 0 },
      { key: storeKey('host', host), revision: 0 },
    ]),
    writes: [],
    answer: gone.map(({ host = '' }) => host),
    events: gone.map(({ id, host = '' }) => ({
      kind: 'host',
      action: 'left',
      object: 'host',
      key: host,
      host,
      once: `left-${id}`,
      text: `its agent has not been heard of for ${HOST_TTL} s`,
    })),
  };
}
const HOSTS: ReadonlySet<string> = new Set(['host']);

/** What a run of a host's agent tells; what it has told before is not written again, whether or not it heard so. */
export function decideTold(
  mirror: Mirror,
  host: string,
  run: string,
  told: readonly ToldEvent[],
): Decision<undefined> {
  const idOf = ({ number }: ToldEvent): string => `${run}-${number}`;
  const news = told.filter((event) => mirror.get('event', recordKey(event.kind, idOf(event))) === undefined);
  return {
    checks: news.map((event) => ({
      key: storeKey('event', recordKey(event.kind, idOf(event))),
      revision: 0,
    })),
    writes: [],
    answer: undefined,
    events: news.map((event) => ({
      kind: event.kind,
      action: 'told',
      host,
      text: oneLine(event.text),
      once: idOf(event),
      at: event.time,
    })),
  };
}
