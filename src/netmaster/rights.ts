/** What a token, a user or a session may do, as it is asked for and as it is kept. */
import type { Check, Write } from '../store/store.ts';
import { relyOn } from './guards.ts';
import { Refusal } from './problem.ts';
import type { View } from './tables.ts';

/** A reader of some tenants only is no `reader`: an older netmaster, which knows of no tenants here, refuses it. */
export type StoredRole = 'admin' | 'operator' | 'reader' | 'tenantReader';
export type AskedRole = Exclude<StoredRole, 'tenantReader'>;

/** As it is asked for: of an operator one tenant at least, of a reader all there are where absent. */
export interface AskedRights {
  readonly role: AskedRole;
  readonly tenants?: readonly string[];
}

/** As it is kept. */
export interface Rights {
  readonly role: StoredRole;
  readonly tenants?: readonly string[];
}

export const roleShown = (role: StoredRole): AskedRole => (role === 'tenantReader' ? 'reader' : role);

/** `reader`, `operator of blue, red`. */
export const rightsText = ({ role, tenants }: Rights): string =>
  `${roleShown(role)}${tenants === undefined ? '' : ` of ${tenants.join(', ')}`}`;

/** Throws a Refusal, which begins with `what`, where the two do not go together. */
export function checkRights(what: string, { role, tenants }: AskedRights): void {
  if (tenants !== undefined && role === 'admin')
    throw new Refusal(400, `${what}: tenants do not go with role ${role}: operator or reader`, 'tenants');
  if (tenants === undefined && role === 'operator')
    throw new Refusal(400, `${what}: tenants is missing: an operator has some, and no others`, 'tenants');
}

/** With what the transaction relies on: that the tenants stay. Throws a Refusal where one is not there, too. */
export function rightsOf(
  view: View,
  what: string,
  asked: AskedRights,
): { rights: Rights; relying: { checks: readonly Check[]; writes: readonly Write[] } } {
  checkRights(what, asked);
  const { role, tenants } = asked;
  for (const tenant of tenants ?? [])
    if (view.get('tenant', tenant) === undefined)
      throw new Refusal(404, `${what}: tenants names tenant ${tenant}, which does not exist`, 'tenants');
  const relying = (tenants ?? []).map((tenant) => relyOn(view, 'tenant', tenant));
  return {
    rights: {
      role: role === 'reader' && tenants !== undefined ? 'tenantReader' : role,
      ...(tenants === undefined ? {} : { tenants }),
    },
    relying: {
      checks: relying.flatMap(({ checks }) => checks),
      writes: relying.flatMap(({ writes }) => writes),
    },
  };
}
