/** What a token that is for some tenants refers to: they stay while it is there, so that no later tenant of that name is its own too. */
import type { Reference } from './kind.ts';

interface Tenants {
  readonly tenants?: readonly string[];
}

const references: readonly Reference<Tenants>[] = [
  { field: 'tenants', kind: 'tenant', keys: ({ tenants = [] }) => tenants },
];

export const token = { name: 'token', references };
