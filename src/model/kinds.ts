/** All kinds of intent. A new one is a file and a line here. */
import { endpointGroup } from './endpointGroup.ts';
import { global } from './global.ts';
import type { Kind } from './kind.ts';
import { network } from './network.ts';
import { policy } from './policy.ts';
import { tenant } from './tenant.ts';

export const KINDS: readonly Kind[] = [tenant, network, endpointGroup, policy, global] as unknown as Kind[];

export const kindByName = new Map(KINDS.map((kind) => [kind.name, kind]));
export const kindByCollection = new Map(KINDS.map((kind) => [kind.collection, kind]));

/** `default:contiv-net`. */
export function keyOf(kind: Kind, object: object): string {
  return kind.keyFields.map((field) => String((object as Record<string, unknown>)[field] ?? '')).join(':');
}
