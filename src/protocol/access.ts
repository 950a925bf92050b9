/**
 * Who may ask what, where netmaster has certificates: from what each route says of itself (routes.ts), and nothing else.
 * netmaster/api/access.ts holds requests to it, and docs/reference/access.md is it, written out.
 */
import type { Contract, Place, Route } from './routes.ts';

/**
 * `nobody`: who shows neither certificate nor token. `tenantReader`, `operator`: who reads, or reads and writes, what is of some tenants
 * only. `reader`, `admin`: the same of the whole cluster. `orchestrator`: a controller such as netkube, which follows all there is, and writes
 * what its orchestrator has and what people declare there.
 */
export const ROLES = [
  'nobody',
  'host',
  'netmaster',
  'orchestrator',
  'tenantReader',
  'operator',
  'reader',
  'admin',
] as const;
export type Role = (typeof ROLES)[number];

/** `own`: what names the host that asks. `unnamed`: what names no host. `theirs`: what is of their tenants, and names no host. */
export type Grant = 'yes' | 'own' | 'unnamed' | 'theirs' | 'no';

type Asked = Pick<Route, 'who' | 'method' | 'orchestrators'>;

export function grantOf({ who, method, orchestrators }: Asked, role: Role): Grant {
  if (who === 'anyone' || role === 'admin') return 'yes';
  if (role === 'nobody') return 'no';
  if (who === 'known') return 'yes';
  if (who === 'netmaster' || role === 'netmaster') return who === role ? 'yes' : 'no';
  const ofHost = hostPlace({ who }) !== undefined;
  if (role === 'host') return ofHost ? 'own' : 'no';
  if (role === 'orchestrator') return !orchestrators ? 'no' : ofHost ? 'unnamed' : 'yes';
  if (role !== 'operator' && method !== 'GET') return 'no';
  if (role === 'reader') return ofHost ? 'unnamed' : 'yes';
  return isOfTenants(who) ? 'theirs' : 'no';
}

const isOfTenants = (who: Contract['who']): boolean =>
  who === 'tenants' || (typeof who === 'object' && ('tenant' in who || who.tenants === true));

/** Where a request names the host whose it is. */
export const hostPlace = ({ who }: Pick<Contract, 'who'>): Place | undefined =>
  typeof who === 'object' && 'host' in who ? who.host : undefined;

/** Where a request names the tenant whose it is. */
export const tenantPlace = ({ who }: Pick<Contract, 'who'>): Place | undefined =>
  typeof who === 'object' && 'tenant' in who ? who.tenant : undefined;
