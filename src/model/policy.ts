/** A policy: a named list of rules that groups carry. */
import { type Static, Type } from '@sinclair/typebox';
import type { Kind } from './kind.ts';
import { checkWord, Name } from './names.ts';

export const PolicySchema = Type.Object(
  {
    tenantName: Name('tenant that the policy belongs to'),
    policyName: Name('name of the policy'),
  },
  { $id: 'policy', additionalProperties: false },
);
export type Policy = Static<typeof PolicySchema>;

export const policy: Kind<typeof PolicySchema> = {
  name: 'policy',
  collection: 'policys',
  schema: PolicySchema,
  keyFields: ['tenantName', 'policyName'],
  updatable: false,
  forOrchestrators: true,
  references: [
    {
      field: 'tenantName',
      kind: 'tenant',
      keys: (p) => [p.tenantName],
      link: 'Tenant',
      backLink: 'Policies',
    },
  ],
  forTenants: { sets: ['tenantName', 'policyName'] },
  check: (object) => checkWord('policy', 'policyName', object.policyName),
};
