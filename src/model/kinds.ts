/** All kinds of intent. A new one is a file and a line here. */
import { aciGw } from './aciGw.ts';
import { appProfile } from './appProfile.ts';
import { bgp } from './bgp.ts';
import { clusterService } from './clusterService.ts';
import { endpoint } from './endpoint.ts';
import { endpointGroup } from './endpointGroup.ts';
import { extContractsGroup } from './extContractsGroup.ts';
import { externalEndpoint } from './externalEndpoint.ts';
import { global } from './global.ts';
import type { Kind, Reference } from './kind.ts';
import { netprofile } from './netprofile.ts';
import { network } from './network.ts';
import { networkPolicy } from './networkPolicy.ts';
import { policy } from './policy.ts';
import { rule } from './rule.ts';
import { serviceLB } from './serviceLB.ts';
import { swarmService } from './swarmService.ts';
import { tenant } from './tenant.ts';
import { token, user } from './token.ts';
import { workload } from './workload.ts';

export const KINDS = [
  tenant,
  network,
  endpointGroup,
  externalEndpoint,
  policy,
  rule,
  netprofile,
  appProfile,
  serviceLB,
  extContractsGroup,
  bgp,
  aciGw,
  global,
  workload,
  networkPolicy,
  clusterService,
  swarmService,
] as unknown as readonly Kind[];

export const kindByName = new Map(KINDS.map((kind) => [kind.name, kind]));
export const kindByCollection = new Map(KINDS.map((kind) => [kind.collection, kind]));

/** Objects of one kind refer to objects of another. */
export interface Relation {
  /** The kind that refers, e.g. `rule`. */
  readonly kind: string;
  readonly reference: Reference<object>;
}

/** By the kind that refers: intent, endpoints to what they are in, tokens and users to whom they are for. */
export const relationsOf: ReadonlyMap<string, readonly Relation[]> = new Map(
  [...KINDS, endpoint, token, user].map(({ name, references }) => [
    name,
    (references as readonly unknown[]).map((r) => ({ kind: name, reference: r as Reference<object> })),
  ]),
);

/** Kinds that something can refer to. */
export const REFERRED: ReadonlySet<string> = new Set(
  [...relationsOf.values()].flat().map((relation) => relation.reference.kind),
);

/** `default:contiv-net`. */
export function keyOf(kind: Kind, object: object): string {
  return kind.keyFields.map((field) => String((object as Record<string, unknown>)[field] ?? '')).join(':');
}
