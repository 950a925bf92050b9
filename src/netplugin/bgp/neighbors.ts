/** How the sessions are, from what the daemon answers to `show protocols all`. */
import { type Bgp, neighborsOf } from '../../model/bgp.ts';
import type { NeighborState } from '../../protocol/hosts.ts';
import { neighborProtocol } from './config.ts';

const UNKNOWN = 'Down';

/** Of one protocol: its first line has no blank before it, all others do. */
function sectionsOf(lines: readonly string[]): ReadonlyMap<string, string> {
  const sections = new Map<string, string>();
  let name = '';
  for (const line of lines) {
    if (/^\S/.test(line)) name = line.split(/\s/)[0] as string;
    sections.set(name, `${sections.get(name) ?? ''}${line}\n`);
  }
  return sections;
}

/** Of all that are given; no `lines`: no daemon runs. */
export function neighborStates(bgp: Bgp, lines: readonly string[] | undefined): NeighborState[] {
  const sections = sectionsOf(lines ?? []);
  return neighborsOf(bgp).map(({ address, as }, i): NeighborState => {
    const text = sections.get(neighborProtocol(i));
    if (text === undefined) return { address, as, state: UNKNOWN, sent: 0, received: 0 };
    const found = (pattern: RegExp): string | undefined => pattern.exec(text)?.[1]?.trim();
    const state = found(/^\s*BGP state: *(.*)$/m) ?? UNKNOWN;
    const since = found(/^\S+ +\S+ +\S+ +\S+ +(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)/);
    const [received, sent] = /(\d+) imported(?:, \d+ filtered)?, (\d+) exported/.exec(text)?.slice(1) ?? [];
    const reason = state === 'Established' ? undefined : found(/^\s*Last error: *(.*)$/m);
    return {
      address,
      as,
      state,
      // By this host's clock and zone, which the daemon has too.
      ...(since === undefined ? {} : { since: new Date(since.replace(' ', 'T')).toISOString() }),
      sent: Number(sent ?? 0),
      received: Number(received ?? 0),
      ...(reason && { reason: reason.replace(/\s+/g, ' ') }),
      ...(/^\s*Import limit: .*\[HIT\]/m.test(text) ? { limited: true as const } : {}),
    };
  });
}
