/**
 * Who is let in, in the store:
 *
 *   token/ID        what a token is for, when it ends, and a hash of its secret: the token itself is told once and kept nowhere
 *   admitted/HOST   the admission that the host's certificates are given under; those of another one are refused
 *
 *   join.ID.SECRET.AUTHORITY    a host's, once: AUTHORITY is the fingerprint by which it knows whom it speaks to (netplugin/join.ts)
 *   api.ID.SECRET               of programs and people
 *   session.ID.SECRET           of people who have logged in (sessions.ts): otherwise the same
 *
 * A join token is used up in the transaction that admits the host, which checks that nobody else has used it. It stays until its end,
 * with the key that it was used by: who asks again by that key has lost the answer, and gets another certificate under the same
 * admission. So a netmaster that ends between the two costs nobody the token.
 */
import { createHash, randomBytes, randomUUID, timingSafeEqual } from 'node:crypto';
import type { ListedToken, TokenRequest } from '../protocol/security.ts';
import { storeKey } from './mirror.ts';
import { Refusal } from './problem.ts';
import { rightsOf, roleShown, type StoredRole } from './rights.ts';
import type { View } from './tables.ts';
import type { Decision } from './writer.ts';

export interface Token {
  readonly role: StoredRole | 'orchestrator' | 'join';
  readonly name?: string;
  readonly host?: string;
  readonly tenants?: readonly string[];
  /** SHA-256; the secret is 256 bits drawn by chance, so nothing slower is needed. */
  readonly hash: string;
  /** Milliseconds, Unix time. */
  readonly expires: number;
  readonly used?: { readonly host: string; readonly key: string; readonly admission: string };
  readonly session?: TokenSession;
}

export interface TokenSession {
  /** `user:NAME`, or `oidc:SUBJECT`. */
  readonly of: string;
  /** Of a user: another one since means that the password, or the user of that name, is another. */
  readonly admission?: string;
}

const USER = 'user:';
/** Of a user's sessions. */
export const sessionOfUser = (name: string): string => `${USER}${name}`;

function isHeld(view: View, { of, admission }: TokenSession): boolean {
  const user = of.startsWith(USER) ? view.get<TokenSession>('user', of.slice(USER.length)) : undefined;
  return user?.admission === admission;
}

interface Admitted {
  readonly id: string;
}

const hashOf = (secret: string): string => createHash('sha256').update(secret).digest('hex');
/** A new one; of its secret the hash alone is kept. */
export function drawSecret(): { id: string; secret: string; hash: string } {
  const secret = randomBytes(32).toString('base64url');
  return { id: randomBytes(6).toString('hex'), secret, hash: hashOf(secret) };
}
const isSecret = (token: Token, secret: string): boolean =>
  timingSafeEqual(Buffer.from(token.hash, 'hex'), Buffer.from(hashOf(secret), 'hex'));
export const isOver = ({ expires }: Token): boolean => expires <= Date.now();

/** What it is called in events. */
export const nameOf = (id: string, { name }: Pick<Token, 'name'>): string => name ?? `token ${id}`;

const NOTHING = { checks: [], writes: [] };

/** `authority` is the fingerprint of the cluster's. Throws a Refusal where what it is for does not go with its role, or is not there. */
export function decideToken(
  view: View,
  request: TokenRequest,
  authority: string,
): Decision<{ id: string; token: string; expires: string }> {
  const { role, name, host, tenants, seconds } = request;
  if (host !== undefined && role !== 'join')
    throw new Refusal(400, 'a token: host is for join tokens only', 'host');
  const isPlain = role === 'join' || role === 'orchestrator';
  if (tenants !== undefined && isPlain)
    throw new Refusal(400, `a token: tenants do not go with role ${role}: operator or reader`, 'tenants');
  const { rights, relying } = isPlain
    ? { rights: { role }, relying: NOTHING }
    : rightsOf(view, 'a token', { role, ...(tenants && { tenants }) });
  const { id, secret, hash } = drawSecret();
  const token: Token = {
    ...rights,
    ...(name === undefined ? {} : { name }),
    ...(host === undefined ? {} : { host }),
    hash,
    expires: Date.now() + seconds * 1000,
  };
  const expires = new Date(token.expires).toISOString();
  const key = storeKey('token', id);
  return {
    checks: [{ key, revision: 0 }, ...relying.checks],
    writes: [{ key, value: token }, ...relying.writes],
    answer: {
      id,
      token: role === 'join' ? `join.${id}.${secret}.${authority}` : `api.${id}.${secret}`,
      expires,
    },
    events: [
      {
        kind: 'intent',
        action: 'created',
        object: 'token',
        key: id,
        text: `${nameOf(id, token)}: ${role}${tenants === undefined ? '' : ` of ${tenants.join(', ')}`}, until ${expires}`,
      },
    ],
  };
}

export function decideTokenRemoval(view: View, id: string): Decision<undefined> {
  const stored = view.stored<Token>('token', id);
  if (stored === undefined) throw new Refusal(404, `token ${id} does not exist (netctl token ls)`);
  const key = storeKey('token', id);
  return {
    checks: [{ key, revision: stored.revision }],
    writes: [{ key, value: undefined }],
    answer: undefined,
    events: [
      { kind: 'intent', action: 'deleted', object: 'token', key: id, text: nameOf(id, stored.object) },
    ],
  };
}

/** Those that have ended go. */
export function decideTokensEnd(view: View): Decision<undefined> {
  const over = [...view.entries<Token>('token')].filter(([, { object }]) => isOver(object));
  return {
    checks: over.map(([id, { revision }]) => ({ key: storeKey('token', id), revision })),
    writes: over.map(([id]) => ({ key: storeKey('token', id), value: undefined })),
    answer: undefined,
  };
}

export const listTokens = (view: View): ListedToken[] =>
  [...view.entries<Token>('token')]
    .filter(([, { object }]) => !isOver(object))
    .map(([id, { object }]) => ({
      id,
      role: object.role === 'join' || object.role === 'orchestrator' ? object.role : roleShown(object.role),
      ...(object.name === undefined ? {} : { name: object.name }),
      ...(object.host === undefined ? {} : { host: object.host }),
      ...(object.tenants === undefined ? {} : { tenants: [...object.tenants] }),
      expires: new Date(object.expires).toISOString(),
      ...(object.used === undefined ? {} : { usedBy: object.used.host }),
      ...(object.session === undefined ? {} : { session: true as const }),
    }));

/** `api.ID.SECRET` of a request, or `session.ID.SECRET`. */
export interface ShownToken {
  readonly form: 'api' | 'session';
  readonly id: string;
  readonly secret: string;
}

/** undefined where it is not of that form. */
export function readToken(text: string): ShownToken | undefined {
  const match = /^(api|session)\.([0-9a-f]{12})\.([\w-]{43})$/.exec(text);
  if (match === null) return undefined;
  const [, form, id, secret] = match as unknown as [string, ShownToken['form'], string, string];
  return { form, id, secret };
}

export interface TokenHolder {
  readonly id: string;
  readonly role: Exclude<Token['role'], 'join'>;
  readonly name: string;
  readonly tenants: readonly string[];
  /** ISO 8601. */
  readonly expires: string;
  /** Whose session it is; absent: it is none. */
  readonly session: TokenSession | undefined;
}

/** Who shows it. Throws a Refusal where it is none, or has ended. */
export function holderOfToken(view: View, { form, id, secret }: ShownToken): TokenHolder {
  const what = form === 'session' ? `session ${id}` : `token ${id}`;
  const again =
    form === 'session' ? 'log in again (netctl login)' : 'have another one made (netctl token create)';
  const token = view.get<Token>('token', id);
  const isOfForm = (token?.session !== undefined) === (form === 'session');
  const isLost = token?.session !== undefined && !isHeld(view, token.session);
  if (token === undefined || token.role === 'join' || !isOfForm || isLost || !isSecret(token, secret))
    throw new Refusal(
      401,
      form === 'session'
        ? `${what}: has ended, or is another cluster's: ${again}`
        : `${what}: is not known here: it was removed, or is another cluster's`,
    );
  const expires = new Date(token.expires).toISOString();
  if (isOver(token)) throw new Refusal(401, `${what}: has ended at ${expires}: ${again}`);
  const { role, tenants = [], session } = token;
  return { id, role, name: nameOf(id, token), tenants, expires, session };
}

/** What a host asks by a join token. */
export interface Joining {
  readonly token: string;
  readonly host: string;
  /** Hash of its key. */
  readonly key: string;
}

/** Answers the admission that its certificates are under. Throws a Refusal where it is not let in. */
export function decideJoin(view: View, { token: text, host, key }: Joining): Decision<string> {
  const [, id = '', secret = ''] = /^join\.([0-9a-f]{12})\.([\w-]{43})(?:\.[\w-]*)?$/.exec(text) ?? [];
  const stored = view.stored<Token>('token', id);
  const again = 'have another one made (netctl token create)';
  if (stored === undefined || stored.object.role !== 'join' || !isSecret(stored.object, secret))
    throw new Refusal(401, `the join token is not known here, or has ended long ago: ${again}`);
  const token = stored.object;
  if (isOver(token))
    throw new Refusal(401, `the join token has ended at ${new Date(token.expires).toISOString()}: ${again}`);
  if (token.host !== undefined && token.host !== host)
    throw new Refusal(403, `host ${host}: the join token is for host ${token.host}: ${again}`);
  const { used } = token;
  const admitted = view.stored<Admitted>('admitted', host);
  if (used !== undefined) {
    const isSame = used.host === host && used.key === key && admitted?.object.id === used.admission;
    if (!isSame)
      throw new Refusal(401, `host ${host}: the join token was used by host ${used.host}: ${again}`);
    return { checks: [], writes: [], answer: used.admission };
  }
  if (admitted !== undefined)
    throw new Refusal(
      409,
      `host ${host}: has joined already: give this one another name (netplugin join --host), or if it is the same machine, netctl host revoke ${host} first`,
    );
  const admission = randomUUID();
  return {
    checks: [
      { key: storeKey('token', id), revision: stored.revision },
      { key: storeKey('admitted', host), revision: 0 },
    ],
    writes: [
      {
        key: storeKey('token', id),
        value: { ...token, used: { host, key, admission } } satisfies Token,
      },
      { key: storeKey('admitted', host), value: { id: admission } satisfies Admitted },
    ],
    answer: admission,
    events: [
      {
        kind: 'host',
        action: 'admitted',
        object: 'host',
        key: host,
        host,
        text: `by ${nameOf(id, token)}`,
      },
    ],
  };
}

/**
 * Of a host that another authority vouches for, `by` whom events say. It gets a new admission each time: what it had before, or somebody else under
 * its name, is refused from then on, so a node that is replaced needs nobody.
 */
export function decideAdmission(view: View, host: string, by: string): Decision<string> {
  const key = storeKey('admitted', host);
  const admission = randomUUID();
  return {
    checks: [{ key, revision: view.stored<Admitted>('admitted', host)?.revision ?? 0 }],
    writes: [{ key, value: { id: admission } satisfies Admitted }],
    answer: admission,
    events: [{ kind: 'host', action: 'admitted', object: 'host', key: host, host, text: `by ${by}` }],
  };
}

/** Of a host that has joined, and whose certificates are not revoked. */
export const admissionOf = (view: View, host: string): string | undefined =>
  view.get<Admitted>('admitted', host)?.id;

/** All certificates that the host has are refused from then on. False: it has none. */
export function decideRevocation(view: View, host: string): Decision<boolean> {
  const stored = view.stored<Admitted>('admitted', host);
  const key = storeKey('admitted', host);
  return {
    checks: [{ key, revision: stored?.revision ?? 0 }],
    writes: stored === undefined ? [] : [{ key, value: undefined }],
    answer: stored !== undefined,
    events:
      stored === undefined
        ? []
        : [{ kind: 'host', action: 'revoked', object: 'host', key: host, host, text: 'its certificates' }],
  };
}
