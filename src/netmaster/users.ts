/** People who log in with a password, in the store: user/NAME has what each may do, and a hash. */
import { randomUUID } from 'node:crypto';
import type { ListedUser, UserRequest } from '../protocol/login.ts';
import { storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import { type AskedRights, type Rights, rightsOf, rightsText, roleShown } from './rights.ts';
import { countSessions, endingSessions } from './sessions.ts';
import type { Stored, View } from './tables.ts';
import { sessionOfUser } from './tokens.ts';
import type { Decision } from './writer.ts';

export interface User extends Rights {
  /** Of passwords.ts. */
  readonly hash: string;
  /** When it was set; milliseconds, Unix time. */
  readonly since: number;
  /** Of this password: sessions that were got by another one have ended. */
  readonly admission: string;
}

/** As of a password that is set now. */
const newly = (hash: string) => ({ hash, since: Date.now(), admission: randomUUID() });

export const askedOf = ({ role, tenants }: User): AskedRights => ({
  role: roleShown(role),
  ...(tenants && { tenants }),
});

function storedUser(view: View, name: string): Stored<User> {
  const stored = view.stored<User>('user', name);
  if (stored === undefined) throw new Refusal(404, `user ${name} does not exist (netctl user ls)`);
  return stored;
}

/** A guess that costs nothing. Throws a Refusal. */
export function checkPassword(name: string, password: string): void {
  if (password.toLowerCase().includes(name.toLowerCase()) && password.length < name.length + 8)
    throw new Refusal(400, `user ${name}: password must not be the name, with little else`, 'password');
}

export function decideUser(
  view: View,
  { name, role, tenants }: Omit<UserRequest, 'password'>,
  hash: string,
): Decision<undefined> {
  if (view.get('user', name) !== undefined)
    throw new Refusal(409, `user ${name}: is there already: netctl user passwd, or rm first`, 'name');
  const { rights, relying } = rightsOf(view, `user ${name}`, { role, ...(tenants && { tenants }) });
  const key = storeKey('user', name);
  const user: User = { ...rights, ...newly(hash) };
  return {
    checks: [{ key, revision: 0 }, ...relying.checks],
    writes: [{ key, value: user }, ...relying.writes],
    answer: undefined,
    events: [{ kind: 'intent', action: 'created', object: 'user', key: name, text: rightsText(rights) }],
  };
}

/** With it go its sessions. */
export function decideUserRemoval(view: View, name: string): Decision<undefined> {
  const { revision } = storedUser(view, name);
  const key = storeKey('user', name);
  const ended = endingSessions(view, sessionOfUser(name));
  return {
    checks: [{ key, revision }],
    writes: [{ key, value: undefined }, ...ended],
    answer: undefined,
    events: [{ kind: 'intent', action: 'deleted', object: 'user', key: name }],
  };
}

/** `current`: the hash that the password was found right by, which must be the one there is still. */
export function decidePassword(
  view: View,
  name: string,
  hash: string,
  current?: string,
): Decision<undefined> {
  const { object, revision } = storedUser(view, name);
  if (current !== undefined && object.hash !== current) throw wrongPassword();
  const key = storeKey('user', name);
  const ended = endingSessions(view, sessionOfUser(name));
  return {
    checks: [{ key, revision }],
    writes: [{ key, value: { ...object, ...newly(hash) } satisfies User }, ...ended],
    answer: undefined,
    events: [{ kind: 'intent', action: 'changed', object: 'user', key: name, text: 'password' }],
  };
}

/** Whichever of the two it is. */
export const wrongPassword = (): Refusal => new Refusal(401, 'login: the name or the password is wrong');

export const listUsers = (view: View): ListedUser[] =>
  [...view.entries<User>('user')].map(([name, { object }]) => ({
    name,
    role: roleShown(object.role),
    ...(object.tenants === undefined ? {} : { tenants: [...object.tenants] }),
    since: new Date(object.since).toISOString(),
    sessions: countSessions(view, sessionOfUser(name)),
  }));
