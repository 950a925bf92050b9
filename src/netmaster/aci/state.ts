/** How it stands with the fabric, as the netmaster that speaks to it has written it: fabric/aci in the store, for all netmasters to tell. */
import { Value } from '@sinclair/typebox/value';
import type { Fabric } from '../../protocol/hosts.ts';
import type { Occurrence } from '../events.ts';
import { type Mirror, storeKey } from '../mirror.ts';
import type { View } from '../tables.ts';
import type { Writer } from '../writer.ts';

export interface FabricState extends Fabric {
  /** With a gateway process of 1.x: what it was told of each application profile, by key. */
  readonly told?: Readonly<Record<string, string>>;
}

const KEY = 'aci';

/** undefined: no fabric is spoken to. */
export const fabricOf = (view: View): FabricState | undefined => view.get<FabricState>('fabric', KEY);

/** As it is told: since when follows from what was told before. */
export type Told = Omit<FabricState, 'since'>;

/** Written where it says something new; `undefined`: no fabric is spoken to any more. */
export async function note(
  mirror: Mirror,
  writer: Writer,
  told: Told | undefined,
  events: readonly Occurrence[],
): Promise<void> {
  await writer.write(() => {
    const before = fabricOf(mirror);
    const { since, ...known } = before ?? {};
    const isKnown = told === undefined ? before === undefined : Value.Equal(known, told);
    const isSame = before !== undefined && before.state === told?.state;
    const state = told && { ...told, since: isSame ? since : new Date().toISOString() };
    return {
      checks: [],
      writes: isKnown ? [] : [{ key: storeKey('fabric', KEY), value: state }],
      answer: undefined,
      events,
    };
  });
}
