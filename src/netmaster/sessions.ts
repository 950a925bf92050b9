/**
 * Sessions of people: tokens that end soon, got by a password or from an OpenID provider. What one may do is decided when it begins, and
 * stays so until it ends: with its time, by `netctl logout`, by `netctl token rm`, and with the user or the password that it was got by.
 */
import type { Session } from '../protocol/login.ts';
import type { Write } from '../store/store.ts';
import { storeKey } from './mirror.ts';
import { type AskedRights, rightsOf, rightsText, roleShown } from './rights.ts';
import type { View } from './tables.ts';
import { drawSecret, isOver, type Token, type TokenSession } from './tokens.ts';
import type { Decision } from './writer.ts';

/** Of one person: of more, the one that ends first goes. */
export const SESSIONS = 10;

export interface Beginning {
  readonly session: TokenSession;
  /** In lists and events. */
  readonly name: string;
  readonly asked: AskedRights;
  /** Milliseconds. */
  readonly life: number;
  /** For the event, behind what it may do. */
  readonly how?: string;
}

export const sessionsOf = (view: View, of: string) =>
  [...view.entries<Token>('token')]
    .filter(([, { object }]) => object.session?.of === of)
    .sort(([, a], [, b]) => a.object.expires - b.object.expires);

/** All of them go; one that begins at another netmaster just now ends by its admission. */
export const endingSessions = (view: View, of: string): Write[] =>
  sessionsOf(view, of).map(([id]) => ({ key: storeKey('token', id), value: undefined }));

export const countSessions = (view: View, of: string): number =>
  sessionsOf(view, of).filter(([, { object }]) => !isOver(object)).length;

/** Throws a Refusal where a tenant that it is to be for is not there. */
export function decideSession(view: View, { session, name, asked, life, how }: Beginning): Decision<Session> {
  const { rights, relying } = rightsOf(view, `login of ${name}`, asked);
  const { id, secret, hash } = drawSecret();
  const token: Token = { ...rights, name, hash, expires: Date.now() + life, session };
  const key = storeKey('token', id);
  const surplus = sessionsOf(view, session.of).slice(0, -(SESSIONS - 1));
  const expires = new Date(token.expires).toISOString();
  return {
    checks: [{ key, revision: 0 }, ...relying.checks],
    writes: [
      { key, value: token },
      ...relying.writes,
      ...surplus.map(([old]) => ({ key: storeKey('token', old), value: undefined })),
    ],
    answer: { token: `session.${id}.${secret}`, whom: `${roleShown(rights.role)} ${name}`, expires },
    events: [
      {
        kind: 'access',
        action: 'login',
        object: 'user',
        key: name,
        text: `${rightsText(rights)}, until ${expires}${how === undefined ? '' : `, ${how}`}`,
      },
    ],
  };
}

export function decideLogout(view: View, { id, name }: { id: string; name: string }): Decision<undefined> {
  const stored = view.stored<Token>('token', id);
  const key = storeKey('token', id);
  if (stored === undefined) return { checks: [], writes: [], answer: undefined };
  return {
    checks: [{ key, revision: stored.revision }],
    writes: [{ key, value: undefined }],
    answer: undefined,
    events: [{ kind: 'access', action: 'logout', object: 'user', key: name }],
  };
}

/** What is written of an attempt: of a name that is no user's nothing, as people type passwords there. */
export const decideRefused = (name: string | undefined, text: string): Decision<undefined> => ({
  checks: [],
  writes: [],
  answer: undefined,
  events: [
    { kind: 'access', action: 'refused', object: 'user', ...(name === undefined ? {} : { key: name }), text },
  ],
});
