/** What a token or a user that is for some tenants refers to: they stay while it is there, so that no later tenant of that name is open to it too. */
import type { Reference } from './kind.ts';

interface Tenants {
  readonly tenants?: readonly string[];
}

const references: readonly Reference<Tenants>[] = [
  { field: 'tenants', kind: 'tenant', keys: ({ tenants = [] }) => tenants },
];

export const token = { name: 'token', references };
export const user = { name: 'user', references };
