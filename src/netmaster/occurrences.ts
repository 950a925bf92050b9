/** What agents tell of, as decisions on one transaction each. */
import { oneLine } from '../model/text.ts';
import type { ToldEvent } from '../protocol/events.ts';
import { recordKey } from './events.ts';
import { type Mirror, storeKey } from './mirror.ts';
import type { Decision } from './writer.ts';

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
