/** External contracts: contracts of a physical fabric that groups provide or consume, where the fabric mode is aci (netmaster/aci/). */
import { type Static, Type } from '@sinclair/typebox';
import type { Kind } from './kind.ts';
import { checkWord, Name } from './names.ts';

export const ExtContractsGroupSchema = Type.Object(
  {
    tenantName: Name('tenant that the contracts belong to'),
    contractsGroupName: Name('name of the contracts, for groups to refer to'),
    contractsType: Type.Union([Type.Literal('provided'), Type.Literal('consumed')], {
      description: 'whether groups with them provide or consume the contracts',
    }),
    contracts: Type.Optional(
      Type.Array(Type.String({ minLength: 1, maxLength: 128 }), {
        description:
          'contracts of the fabric by their DN, uni/tn-common/brc-NAME, of the tenant or of common; those that another tenant exports, to be consumed: cif-NAME',
        maxItems: 64,
        uniqueItems: true,
      }),
    ),
  },
  { $id: 'extContractsGroup', additionalProperties: false },
);
export type ExtContractsGroup = Static<typeof ExtContractsGroupSchema>;

export const extContractsGroup: Kind<typeof ExtContractsGroupSchema> = {
  name: 'extContractsGroup',
  collection: 'extContractsGroups',
  schema: ExtContractsGroupSchema,
  keyFields: ['tenantName', 'contractsGroupName'],
  updatable: true,
  references: [
    {
      field: 'tenantName',
      kind: 'tenant',
      keys: (c) => [c.tenantName],
      link: 'Tenant',
      backLink: 'ExtContractsGroups',
    },
  ],
  forTenants: {},
  note: () => 'kept only where the fabric mode is not aci (netctl global set --fabric-mode aci)',
  check: (c) => checkWord('extContractsGroup', 'contractsGroupName', c.contractsGroupName),
};
