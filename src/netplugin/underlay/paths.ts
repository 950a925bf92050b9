/**
 * Whether packets as large as this host and another may send arrive there. What is larger than something on the way between them
 * is cut or refused by a router, and by a switch or a tunnel it is dropped without a word: small packets pass, and connections
 * hang as soon as they send much.
 *
 *   the smaller MTU of both ends --> an echo of that size  --answered--> it fits
 *                                          | not, and one of 64 bytes is
 *                                          v
 *                                    halving, until it is known what fits
 *
 * Hosts that answer no echo at all are left out: their firewall may drop it, and let tunnels pass.
 */
import type { Logger } from 'pino';
import { echoes, LEAST_ECHO } from '../../linux/echo.ts';
import { inTurn } from '../../turns.ts';
import { PATHS_INTERVAL } from '../intervals.ts';

/** Hosts that are asked in one round: the others' turn comes in the next ones. */
const AT_ONCE = 32;
/** Milliseconds for an answer, and how often what was lost is sent again. */
const PATIENCE = 500;
const TRIES = 3;
/** The same, beside three times what an answer took, where it is known that the host answers. */
const HASTE = 50;
const SMALL = 64;
/** Bytes: as exact as people set an MTU. */
const EXACT = 4;

export interface Peer {
  readonly name: string;
  readonly underlay: string;
  readonly mtu?: number | undefined;
}

/** Bytes of an IP packet: those that should arrive at a host, and those that do. */
export interface NarrowPath {
  readonly host: string;
  readonly wanted: number;
  readonly fits: number;
}

export interface Paths {
  readonly narrow: readonly NarrowPath[];
  close(): void;
}

export interface PathsOptions {
  /** Of this host, as it is now. */
  underlay(): { readonly address: string; readonly mtu: number };
  /** All other hosts. */
  peers(): readonly Peer[];
  readonly log: Logger;
}

export interface Way {
  /** Addresses of this host and the other. */
  readonly from: string;
  readonly to: string;
  /** Bytes that should arrive. */
  readonly wanted: number;
  /** What fitted when it was measured last, of as much: it is asked first. */
  readonly known?: number | undefined;
  /** Nobody wants to know any more. */
  readonly ended?: () => boolean;
}

/** How many of the bytes arrive in one packet, `wanted` at most; `silent`: no echo is answered, however small. */
export async function measure({
  from,
  to,
  wanted,
  known,
  ended = () => false,
}: Way): Promise<number | 'silent'> {
  let patience = PATIENCE;
  const passes = async (size: number): Promise<boolean> => {
    for (let i = 0; i < TRIES && !ended(); i++) if (await echoes({ from, to, size, patience })) return true;
    return false;
  };
  if (await passes(wanted)) return wanted;
  const least = Math.max(SMALL, LEAST_ECHO[to.includes(':') ? 6 : 4]);
  const asked = performance.now();
  if (!(await passes(least))) return 'silent';
  patience = Math.min(PATIENCE, HASTE + 3 * (performance.now() - asked));
  let [fits, fails] = [least, wanted];
  if (known !== undefined && !(await passes(known + EXACT)) && (await passes(known))) return known;
  while (fails - fits > EXACT) {
    const middle = (fits + fails) >> 1;
    if (await passes(middle)) fits = middle;
    else fails = middle;
  }
  return fits;
}

export function followPaths({ underlay, peers, log }: PathsOptions): Paths {
  /** By host. */
  const narrow = new Map<string, NarrowPath>();
  let next = 0;
  let closed = false;
  let complained = false;

  async function look({ name, underlay: to, mtu }: Peer): Promise<void> {
    const { address: from, mtu: own } = underlay();
    const wanted = Math.min(own, mtu ?? own);
    const before = narrow.get(name);
    const known = before?.wanted === wanted ? before.fits : undefined;
    const fits = await measure({ from, to, wanted, known, ended: () => closed });
    if (closed || fits === 'silent') return; // what was not answered was not asked; nothing is known, or nothing new
    if (fits === wanted) {
      if (narrow.delete(name))
        log.info({ host: name }, `packets of ${wanted} bytes arrive at host ${name} again`);
      return;
    }
    if (before === undefined)
      log.error(
        { host: name, fits, wanted },
        `packets of ${wanted} bytes, the MTU, do not arrive at host ${name}, only those up to ${fits}: large packets between containers there and here are lost`,
      );
    narrow.set(name, { host: name, wanted, fits });
  }

  const looks = inTurn(
    async () => {
      const all = peers();
      const names = new Set(all.map(({ name }) => name));
      for (const name of narrow.keys()) if (!names.has(name)) narrow.delete(name);
      const first = next % Math.max(1, all.length);
      const turn = [...all.slice(first), ...all.slice(0, first)].slice(0, AT_ONCE);
      next = first + turn.length;
      await Promise.all(turn.map(look));
      complained = false;
    },
    {
      every: PATHS_INTERVAL,
      failed(error) {
        if (!complained) log.warn({ err: error }, 'cannot see whether large packets arrive at other hosts');
        complained = true;
      },
    },
  );

  return {
    get narrow() {
      return [...narrow.values()];
    },
    close() {
      closed = true;
      void looks.close();
    },
  };
}
