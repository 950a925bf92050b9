/**
 * Other firewalls of this host that drop what containers send out, or what comes in to published ports or tunnels: said once
 * when it begins and when it ends, and kept for who asks.
 */
import type { Logger } from 'pino';
import { inTurn } from '../../turns.ts';
import type { Dataplane, DroppedWay } from '../dataplane/index.ts';

const WAYS = {
  out: 'what containers send out',
  in: 'what comes in to published ports',
  tunnel: 'what other hosts send to tunnels (UDP 4789)',
  encrypted: 'what other hosts send to WireGuard (UDP 14789 and 14790)',
} as const;

/** `table ip filter, chain FORWARD (its policy) drops what containers send out, IPv4`. */
export const droppedText = ({ way, family, table, chain, by }: DroppedWay): string =>
  `table ${table}, chain ${chain} (${by === 'policy' ? 'its policy' : 'a rule'}) drops ${WAYS[way]}, ${family}`;

export interface Firewalls {
  /** What is dropped now, as far as is known. */
  readonly dropped: readonly DroppedWay[];
  look(): Promise<void>;
}

export function followFirewalls(dataplane: Pick<Dataplane, 'probe'>, log: Logger): Firewalls {
  let dropped: readonly DroppedWay[] = [];
  let complained = false;
  async function look(): Promise<void> {
    let found: readonly DroppedWay[] | undefined;
    try {
      found = await dataplane.probe();
      complained = false;
    } catch (error) {
      if (!complained)
        log.warn({ err: error }, 'cannot see whether another firewall drops what containers send');
      complained = true;
    }
    if (found === undefined) return;
    const [before, now] = [dropped, found].map((list) => new Set(list.map(droppedText))) as [
      Set<string>,
      Set<string>,
    ];
    dropped = found;
    for (const dropping of now)
      if (!before.has(dropping))
        log.error(
          { dropping },
          'another firewall of this host drops what netplugin lets pass: allow it there',
        );
    for (const dropping of before)
      if (!now.has(dropping)) log.info({ dropping }, 'another firewall of this host does so no more');
  }
  const looks = inTurn(look);
  return {
    get dropped() {
      return dropped;
    },
    look: () => looks.next(),
  };
}
