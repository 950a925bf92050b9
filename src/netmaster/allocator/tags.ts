/** Tags on the wire, of networks and of groups: the lowest free ones of the global range. */

import type { StoredEndpointGroup } from '../../model/endpointGroup.ts';
import type { World } from '../../model/kind.ts';
import { type Network, tagSpace } from '../../model/network.ts';
import { GLOBAL_DEFAULTS, type Global, parseRange } from '../../model/settings.ts';
import { openEndings, tagKey } from '../endings.ts';
import { Refusal } from '../problem.ts';
import type { View } from '../tables.ts';

/**
 * Docker Swarm gives its own networks VNIs from 4097 up (moby, libnetwork/drivers/overlay/ovmanager): hosts that run
 * both keep out of its way until nothing else is free.
 */
const SWARM_FIRST = 4096;
const SWARM_LAST = 6143;

/** Gives a free tag, each one once: for all networks and groups of one decision. `of`: `network blue:net1`; a Refusal names it. */
export type FreeTag = (space: TagSpace, of: string) => number;

export type TagSpace = ReturnType<typeof tagSpace>;

/** That networks and groups have. */
export const tagsIn = (world: World, space: TagSpace): number[] => [
  ...world
    .list<Network & { vni: number }>('network')
    .filter((n) => tagSpace(n) === space)
    .map((n) => n.vni),
  ...(space === 'vlan' ? world.list<StoredEndpointGroup>('endpointGroup').flatMap((g) => g.vlan ?? []) : []),
];

/** `asked`: VLAN ids that groups of the decision name, which come behind the networks that are given any. */
export function freeTags(view: View, asked: readonly number[] = []): FreeTag {
  const left = new Map<string, Iterator<number>>();
  return (space, of) => {
    const tags = left.get(space) ?? walk(view, space, space === 'vlan' ? asked : []);
    left.set(space, tags);
    const { value, done } = tags.next();
    if (!done) return value;
    throw new Refusal(
      409,
      `${of}: all ${space} tags of the global range ${rangeOf(view, space)} are taken`,
      'pktTag',
    );
  };
}

function rangeOf(world: World, space: TagSpace): string {
  const global = world.get<Global>('global', 'global') ?? GLOBAL_DEFAULTS;
  return (space === 'vlan' ? global.vlans : global.vxlans) ?? '';
}

function* walk(view: View, space: TagSpace, asked: readonly number[]): Generator<number, undefined> {
  const [low, high] = parseRange(rangeOf(view, space)) ?? [1, 0];
  const endings = openEndings(view);
  const taken = new Set([...tagsIn(view, space), ...asked]);
  const swarm = (tag: number): boolean =>
    space === 'vxlan' && low < SWARM_FIRST && tag >= SWARM_FIRST && tag <= SWARM_LAST;
  /** Free, but hosts may still go by what it was: then it is said which. */
  const late: number[] = [];
  for (const others of [false, true])
    for (let tag = low; tag <= high; tag++)
      if (!taken.has(tag) && swarm(tag) === others) {
        if (endings.late(tagKey(space, tag)).length === 0) yield tag;
        else late.push(tag);
      }
  yield* late;
  return undefined;
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
