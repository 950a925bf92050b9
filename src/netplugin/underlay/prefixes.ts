/**
 * Prefixes that this host has routes to which are not ours: its links, Docker's bridges, what an operator or a routing daemon set. There an
 * address of a network of encapsulation direct would mean two things, so netmaster is told them (model/direct.ts).
 */
import type { Logger } from 'pino';
import { openListener, openNetlink, PATH_GROUPS } from '../../linux/netlink.ts';
import { listLinks, listRoutes, ROUTE_PROTOCOL } from '../../linux/route.ts';
import { inTurn } from '../../turns.ts';
import { PREFIXES_INTERVAL } from '../intervals.ts';

export interface FollowedPrefixes {
  /** The widest first; the same array until they change. */
  readonly now: string[];
  close(): void;
}

/** Every network has these, or none may. */
const isTold = (prefix: string): boolean =>
  !prefix.endsWith('/0') && !/^(fe80|ff)[^/]*:/.test(prefix) && !prefix.startsWith('169.254.');

export interface PrefixesOptions {
  /** How the names of devices begin by which what is ours is reached. */
  readonly ours: string;
  /** How many there are at most. */
  readonly most: number;
}

/** In the current namespace. */
export function listPrefixes({ ours, most }: PrefixesOptions): string[] {
  const netlink = openNetlink();
  try {
    const exits = new Set(
      listLinks(netlink).flatMap(({ index, name }) => (name.startsWith(ours) ? [index] : [])),
    );
    const found = ([4, 6] as const)
      .flatMap((version) => listRoutes(netlink, version))
      .filter((r) => r.type === 'unicast' && r.protocol !== ROUTE_PROTOCOL && !exits.has(r.device ?? 0))
      .map((r) => r.destination)
      .filter(isTold);
    const length = (prefix: string): number => Number(prefix.split('/')[1]) / (prefix.includes(':') ? 4 : 1);
    return [...new Set(found)].sort((a, b) => length(a) - length(b) || (a < b ? -1 : 1)).slice(0, most);
  } finally {
    netlink.close();
  }
}

export function followPrefixes(options: PrefixesOptions, log: Logger): FollowedPrefixes {
  const listener = openListener(PATH_GROUPS);
  let now = listPrefixes(options);
  let complained = false;
  const looks = inTurn(
    async () => {
      const found = listPrefixes(options);
      if (found.join() !== now.join()) now = found;
      complained = false;
    },
    {
      every: PREFIXES_INTERVAL,
      due: () => listener.heard(),
      failed(error) {
        if (!complained) log.warn({ err: error }, "cannot see this host's routes");
        complained = true;
      },
    },
  );
  return {
    get now() {
      return now;
    },
    close() {
      void looks.close();
      listener.close();
    },
  };
}
