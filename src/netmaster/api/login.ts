/** People: users, and how they begin and end sessions. Without certificates nobody is asked who he is, and nobody logs in. */
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import { LOGIN } from '../../protocol/routes.ts';
import { type Attempts, openAttempts } from '../attempts.ts';
import type { Mirror } from '../mirror.ts';
import type { Provider } from '../oidc.ts';
import { type ProviderOptions, rightsOfGroups } from '../oidcOptions.ts';
import { hashPassword, isPassword } from '../passwords.ts';
import { Refusal } from '../problem.ts';
import type { AskedRights } from '../rights.ts';
import type { Security } from '../security.ts';
import { decideLogout, decideRefused, decideSession } from '../sessions.ts';
import { sessionOfUser } from '../tokens.ts';
import {
  askedOf,
  checkPassword,
  decidePassword,
  decideUser,
  decideUserRemoval,
  listUsers,
  type User,
  wrongPassword,
} from '../users.ts';
import type { Writer } from '../writer.ts';
import { callerOf } from './request.ts';
import { serve } from './serve.ts';

export interface LoginOptions {
  /** Milliseconds that a session holds. */
  readonly life: number;
  /** Absent: users alone log in. */
  readonly provider?: ProviderOptions | undefined;
  /** By which attempts are counted, in milliseconds; for tests. */
  readonly clock?: () => number;
}
export const LOGIN_OPTIONS: LoginOptions = { life: 12 * 3_600_000 };

export interface LoginParts {
  readonly mirror: Mirror;
  readonly writer: Writer;
  readonly log: Logger;
  readonly security?: Security | undefined;
  readonly login?: LoginOptions;
}

/** Wrong passwords: from an address, and of a name from wherever. */
const OF_ADDRESS = { burst: 10, every: 10_000 };
const OF_NAME = { burst: 20, every: 60_000 };
/** Questions to the provider: netctl asks each 5 s. */
const OF_PROVIDER = { burst: 60, every: 1000 };

/** Whoever has a network of IPv6 has 2^64 addresses in it. */
function placeOf({ socket }: FastifyRequest): string {
  const address = (socket.remoteAddress ?? '').replace(/^::ffff:(?=\d+\.)/, '');
  return address.includes(':') ? `${address.split('%')[0]?.split(':').slice(0, 4).join(':')}::/64` : address;
}

export function serveLogin(server: FastifyInstance, parts: LoginParts): void {
  const { mirror, writer, log, security, login = LOGIN_OPTIONS } = parts;
  const { life, clock } = login;
  const addresses = openAttempts(OF_ADDRESS, clock);
  const names = openAttempts(OF_NAME, clock);
  const questions = openAttempts(OF_PROVIDER, clock);

  function needed(): void {
    if (security !== undefined) return;
    throw new Refusal(
      409,
      'netmaster has no certificates, and lets everybody in who reaches it: make them first (netmaster init)',
    );
  }

  let opened: Promise<Provider> | undefined;
  function provider(): Promise<Provider> {
    needed();
    const { provider } = login;
    if (provider === undefined)
      throw new Refusal(
        409,
        'login: no OpenID provider is configured (netmaster --oidc-issuer): netctl login NAME',
      );
    opened ??= import('../oidc.ts').then(({ openProvider }) => openProvider(provider));
    return opened;
  }
  // What is wrong with the flags is said at the start, and not to the first who logs in.
  if (security !== undefined && login.provider !== undefined)
    server.addHook('onListen', async () => {
      await (await provider())
        .look()
        .catch((error: Error) => log.warn(`nobody can log in there: ${error.message}`));
    });

  /** Throws a Refusal where there were too many. */
  function take(attempts: Attempts, key: string, reply: FastifyReply): void {
    const seconds = Math.ceil(attempts.take(key) / 1000);
    if (seconds === 0) return;
    void reply.header('retry-after', seconds);
    throw new Refusal(429, `login: too many attempts: again in ${seconds} s`);
  }

  /** Of a user whose password it is. What comes of it takes as long whether or not there is one. Throws a Refusal. */
  async function proven(
    name: string,
    password: string,
    request: FastifyRequest,
    reply: FastifyReply,
  ): Promise<User> {
    const place = placeOf(request);
    take(addresses, place, reply);
    take(names, name, reply);
    const user = mirror.get<User>('user', name);
    if (await isPassword(password, user?.hash)) {
      addresses.giveBack(place);
      names.giveBack(name);
      return user as User;
    }
    const event =
      user === undefined ? decideRefused(undefined, 'no such user') : decideRefused(name, 'wrong password');
    await writer.write(() => event, callerOf(request));
    throw wrongPassword();
  }

  serve(server, LOGIN, {
    users: () => listUsers(mirror),
    async userCreate({ body, request }) {
      needed();
      const { password, ...wanted } = body('a user');
      checkPassword(wanted.name, password);
      const hash = await hashPassword(password);
      await writer.write(() => decideUser(mirror, wanted, hash), callerOf(request));
    },
    async userRemove({ parameters: { name }, request }) {
      await writer.write(() => decideUserRemoval(mirror, name), callerOf(request));
    },
    async userPassword({ parameters: { name }, body, request }) {
      needed();
      const { password } = body(`user ${name}`);
      checkPassword(name, password);
      const hash = await hashPassword(password);
      await writer.write(() => decidePassword(mirror, name, hash), callerOf(request));
    },
    async login({ body, request, reply }) {
      needed();
      const { name, password } = body('login');
      const user = await proven(name, password, request, reply);
      const session = { of: sessionOfUser(name), admission: user.admission };
      const decide = () => decideSession(mirror, { session, name, asked: askedOf(user), life });
      return (await writer.write(decide, callerOf(request))).answer;
    },
    async loginDevice({ request, reply }) {
      const asked = await provider();
      take(questions, placeOf(request), reply);
      return asked.begin();
    },
    async loginDeviceEnd({ body, request, reply }) {
      const { deviceCode } = body('login');
      const asked = await provider();
      take(questions, placeOf(request), reply);
      const person = await asked.end(deviceCode);
      if (!('subject' in person)) return person;
      const { name, subject, groups } = person;
      const roles = login.provider?.roles ?? [];
      const rights = rightsOfGroups(roles, groups);
      if (rights === undefined) {
        await writer.write(
          () => decideRefused(name, `no group with a role (subject ${subject})`),
          callerOf(request),
        );
        const of = groups.length === 0 ? 'no group' : `groups ${groups.join(', ')}`;
        throw new Refusal(
          403,
          `login: ${name} is of ${of}, none of which has a role here (netmaster --oidc-role)`,
        );
      }
      const decide = () =>
        decideSession(mirror, {
          session: { of: `oidc:${subject}` },
          name,
          asked: there(rights),
          life,
          how: `subject ${subject}`,
        });
      return { session: (await writer.write(decide, callerOf(request))).answer };
    },
    async ownPassword({ body, request, reply }) {
      needed();
      const { current, password } = body('the password');
      const { name = '', token } = request.identity ?? {};
      if (token?.session?.admission === undefined)
        throw new Refusal(
          409,
          'the password: is changed in a session of the user whose it is (netctl login NAME)',
        );
      checkPassword(name, password);
      const { hash } = await proven(name, current, request, reply);
      const made = await hashPassword(password);
      await writer.write(() => decidePassword(mirror, name, made, hash), callerOf(request));
    },
    async logout({ request }) {
      const { token, name = '' } = request.identity ?? {};
      if (token?.session === undefined)
        throw new Refusal(409, 'logout: what was shown is no session: a token ends by netctl token rm');
      await writer.write(() => decideLogout(mirror, { id: token.id, name }), callerOf(request));
    },
  });

  /** Of tenants that a group has rights in those that there are; where there is none of them, it is said which are missing. */
  function there(rights: AskedRights): AskedRights {
    const tenants = rights.tenants?.filter((tenant) => mirror.get('tenant', tenant) !== undefined) ?? [];
    return tenants.length === 0 ? rights : { ...rights, tenants };
  }
}
