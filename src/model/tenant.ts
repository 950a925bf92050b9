/** A tenant: complete isolation. Its own router on every host; its addresses may overlap with any other's. */
import { type Static, Type } from '@sinclair/typebox';
import type { Kind } from './kind.ts';
import { checkLabel, Name } from './names.ts';

export const DEFAULT_TENANT = 'default';

export const TenantSchema = Type.Object(
  {
    tenantName: Name('name of the tenant'),
    defaultNetwork: Type.Optional(
      Type.String({ description: 'network of containers that name none', maxLength: 63 }),
    ),
  },
  { $id: 'tenant', additionalProperties: false },
);
export type Tenant = Static<typeof TenantSchema>;

export const tenant: Kind<typeof TenantSchema> = {
  name: 'tenant',
  collection: 'tenants',
  schema: TenantSchema,
  keyFields: ['tenantName'],
  updatable: false,
  forOrchestrators: true,
  references: [],
  forTenants: {},
  allocates: ['subnets'],
  remarks: ({ defaultNetwork }) =>
    defaultNetwork ? [`defaultNetwork ${defaultNetwork} is kept only: nothing acts on it`] : [],
  check: ({ tenantName, defaultNetwork }) =>
    checkLabel('tenant', 'tenantName', tenantName) ??
    (defaultNetwork
      ? checkLabel(`tenant ${tenantName}: network`, 'defaultNetwork', defaultNetwork)
      : undefined),
  checkRemoval(object) {
    if (object.tenantName !== DEFAULT_TENANT) return undefined;
    return { status: 409, message: 'tenant default cannot be deleted: everything without a tenant is in it' };
  },
};
