/** The gateway to an ACI fabric: one object, named aciGw. Kept; nothing acts on it yet. */
import { type Static, Type } from '@sinclair/typebox';
import type { AppProfile } from './appProfile.ts';
import type { Kind, Problem } from './kind.ts';

const YesNo = (description: string) =>
  Type.Optional(Type.Union([Type.Literal('yes'), Type.Literal('no')], { description }));

export const AciGwSchema = Type.Object(
  {
    name: Type.Literal('aciGw', { description: 'always aciGw' }),
    pathBindings: Type.Optional(
      Type.String({ description: "the fabric's ports to the hosts, separated by commas", maxLength: 4096 }),
    ),
    nodeBindings: Type.Optional(
      Type.String({ description: "the fabric's leaves, separated by commas", maxLength: 4096 }),
    ),
    physicalDomain: Type.Optional(
      Type.String({ description: 'physical domain of the fabric', maxLength: 128 }),
    ),
    enforcePolicies: YesNo('whether the fabric enforces policies'),
    includeCommonTenant: YesNo("whether contracts of the fabric's common tenant count"),
  },
  { $id: 'aciGw', additionalProperties: false },
);
export type AciGw = Static<typeof AciGwSchema>;

const BINDINGS = {
  pathBindings: [
    /^topology\/pod-\d{1,4}\/(?:prot)?paths-\d{1,4}(?:-\d{1,4})?\/pathep-\[[^\],\s]+\]$/,
    'topology/pod-1/paths-101/pathep-[eth1/14]',
  ],
  nodeBindings: [/^topology\/pod-\d{1,4}\/node-\d{1,4}$/, 'topology/pod-1/node-101'],
} as const;

export const aciGw: Kind<typeof AciGwSchema> = {
  name: 'aciGw',
  collection: 'aciGws',
  schema: AciGwSchema,
  keyFields: ['name'],
  updatable: true,
  references: [],
  note: () => 'kept only: nothing acts on the ACI gateway yet, no fabric is told of anything',
  check(g): Problem | undefined {
    for (const [field, [form, example]] of Object.entries(BINDINGS)) {
      const text = g[field as keyof typeof BINDINGS];
      const odd = text?.split(',').find((part) => !form.test(part.trim()));
      if (odd !== undefined)
        return { field, status: 400, message: `aciGw: ${field} '${odd}' must be like ${example}` };
    }
    return undefined;
  },
  /** As in 1.x, where the fabric has the profiles by it. */
  checkRemoval(_object, world) {
    const [first, ...more] = world.list<AppProfile>('appProfile');
    if (first === undefined) return undefined;
    const others = more.length === 0 ? '' : ` and ${more.length} more`;
    return {
      status: 409,
      message: `aciGw is in use by appProfile ${first.tenantName}:${first.appProfileName}${others}: delete them first`,
    };
  },
};
