/**
 * Who may ask what, where netmaster has certificates: from what each route says of itself (routes.ts), and nothing else.
 * netmaster/api/access.ts holds requests to it, and docs/reference/access.md is it, written out.
 */
import type { Contract, Place, Route } from './routes.ts';

/** `nobody`: who shows neither certificate nor token. */
export const ROLES = ['nobody', 'host', 'netmaster', 'reader', 'admin'] as const;
export type Role = (typeof ROLES)[number];

/** `own`: what names the host that asks. `unnamed`: what names no host. */
export type Grant = 'yes' | 'own' | 'unnamed' | 'no';

type Asked = Pick<Route, 'who' | 'method'>;

export function grantOf({ who, method }: Asked, role: Role): Grant {
  if (who === 'anyone' || role === 'admin') return 'yes';
  if (who === 'netmaster') return role === 'netmaster' ? 'yes' : 'no';
  const ofHost = hostPlace({ who }) !== undefined;
  if (role === 'host') return ofHost ? 'own' : 'no';
  if (role === 'reader' && method === 'GET') return ofHost ? 'unnamed' : 'yes';
  return 'no';
}

/** Where a request names the host whose it is. */
export const hostPlace = ({ who }: Pick<Contract, 'who'>): Place | undefined =>
  typeof who === 'object' && 'host' in who ? who.host : undefined;
