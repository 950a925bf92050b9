/** Tags on the wire: the lowest free one of the global range. */
import { GLOBAL_DEFAULTS, type Global, parseRange } from '../../model/global.ts';
import type { World } from '../../model/kind.ts';
import type { Network } from '../../model/network.ts';
import { Refusal } from '../problem.ts';

/**
 * Docker Swarm gives its own networks VNIs from 4097 up (moby, libnetwork/drivers/overlay/ovmanager): hosts that run
 * both keep out of its way until nothing else is free.
 */
const SWARM_FIRST = 4096;
const SWARM_LAST = 6143;

export function nextTag(world: World, encap: 'vlan' | 'vxlan', network: string): number {
  const global = world.get<Global>('global', 'global') ?? GLOBAL_DEFAULTS;
  const text = (encap === 'vlan' ? global.vlans : global.vxlans) ?? '';
  const [low, high] = parseRange(text) ?? [1, 0];
  const taken = new Set(
    world
      .list<Network & { vni: number }>('network')
      .filter((n) => n.encap === encap)
      .map((n) => n.vni),
  );
  const free = (from: number, to: number): number | undefined => {
    for (let tag = from; tag <= to; tag++) if (!taken.has(tag)) return tag;
    return undefined;
  };
  const tag =
    encap === 'vlan' || low >= SWARM_FIRST
      ? free(low, high)
      : (free(low, Math.min(high, SWARM_FIRST - 1)) ?? free(SWARM_LAST + 1, high) ?? free(low, high));
  if (tag === undefined)
    throw new Refusal(
      409,
      `network ${network}: all ${encap} tags of the global range ${text} are taken`,
      'pktTag',
    );
  return tag;
}

/** `1-2, 7` for 1, 2, 7. */
export function tagRanges(tags: readonly number[]): string {
  const ranges: [number, number][] = [];
  for (const tag of [...tags].sort((a, b) => a - b)) {
    const last = ranges.at(-1);
    if (last !== undefined && tag <= last[1] + 1) last[1] = tag;
    else ranges.push([tag, tag]);
  }
  return ranges.map(([from, to]) => (from === to ? `${from}` : `${from}-${to}`)).join(', ');
}
