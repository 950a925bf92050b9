/** An application profile: groups that belong together. */
import { type Static, Type } from '@sinclair/typebox';
import type { Kind } from './kind.ts';
import { checkWord, Name } from './names.ts';

export const AppProfileSchema = Type.Object(
  {
    tenantName: Name('tenant that the profile belongs to'),
    appProfileName: Name('name of the profile'),
    endpointGroups: Type.Optional(
      Type.Array(Type.String({ maxLength: 63 }), {
        description: 'its groups',
        maxItems: 1000,
        uniqueItems: true,
      }),
    ),
  },
  { $id: 'appProfile', additionalProperties: false },
);
export type AppProfile = Static<typeof AppProfileSchema>;

export const appProfile: Kind<typeof AppProfileSchema> = {
  name: 'appProfile',
  collection: 'appProfiles',
  schema: AppProfileSchema,
  keyFields: ['tenantName', 'appProfileName'],
  updatable: true,
  references: [
    {
      field: 'tenantName',
      kind: 'tenant',
      keys: (p) => [p.tenantName],
      link: 'Tenant',
      backLink: 'AppProfiles',
    },
    {
      field: 'endpointGroups',
      kind: 'endpointGroup',
      keys: (p) => (p.endpointGroups ?? []).map((g) => `${p.tenantName}:${g}`),
      link: 'EndpointGroups',
      many: true,
      backLink: 'AppProfile',
      backSingle: true,
    },
  ],
  forTenants: { sets: ['tenantName', 'appProfileName', 'endpointGroups'] },
  check: (p) => checkWord('appProfile', 'appProfileName', p.appProfileName),
};
