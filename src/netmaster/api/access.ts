/**
 * Who asks, and whether that one may: each request is held to what its route says (protocol/access.ts), before its body is read
 * wherever its path or query tell. Without certificates everybody may do everything, which is why netmaster then listens on loopback alone.
 *
 *   Authorization: Bearer api.ID.SECRET    a reader, an operator or an admin, by a token; session.ID.SECRET: by one that a login got
 *   a client certificate                   what it says, where the cluster's authority has signed it and it is not revoked
 *   neither                                nobody
 */

import type { TLSSocket } from 'node:tls';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { type Grant, grantOf, hostPlace, type Role, tenantPlace } from '../../protocol/access.ts';
import type { Place, Route } from '../../protocol/routes.ts';
import type { Whoami } from '../../protocol/security.ts';
import { type CertificateRole, holderOf } from '../../tls/identity.ts';
import type { Mirror } from '../mirror.ts';
import { Refusal } from '../problem.ts';
import { mustHave, type Scope } from '../scope.ts';
import { admissionOf, holderOfToken, readToken, type TokenHolder } from '../tokens.ts';

/** Milliseconds between two looks whether who follows something still may. */
const LOOK = 1000;

export interface Identity {
  readonly role: Role;
  /** Of the host, the operator, the token. */
  readonly name: string;
  /** The tenants that it is for; absent: all there is. */
  readonly scope?: Scope;
  readonly shown: Whoami['shown'];
  /** Of a token, or a session. */
  readonly token?: TokenHolder;
}

/** Of a holder of a certificate or a token. undefined: it is for some tenants, and here are none. */
function identityOf(
  { role, name, tenants }: { role: CertificateRole; name: string; tenants: readonly string[] },
  shown: Identity['shown'],
): Identity | undefined {
  if (role !== 'tenantReader' && role !== 'operator') return { role, name, shown };
  if (tenants.length === 0) return undefined;
  const whom = `${role === 'operator' ? role : 'reader'} ${name}`;
  return { role, name, shown, scope: { tenants: new Set(tenants), whom } };
}

/** `operator alice`, as refusals and events have it. */
export const whomOf = ({ role, name, scope }: Identity): string => scope?.whom ?? `${role} ${name}`;

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Of the table; what has none is nobody's but an admin's. */
    contract?: Route;
  }
  interface FastifyRequest {
    /** Absent: without certificates nobody is asked. */
    identity?: Identity;
  }
}

export interface AccessParts {
  readonly mirror: Mirror;
  /** Hosts join here: a certificate of one that has not, or not any more, is refused. */
  readonly admits: boolean;
  /** Shows what was written at other netmasters before. */
  fresh(): Promise<unknown>;
}

/** What a request shows of who asks, without the request. */
interface Shown {
  readonly authorization: string | undefined;
  readonly socket: TLSSocket;
}

const NOBODY: Identity = { role: 'nobody', name: '', shown: 'nothing' };

const WRONG: Readonly<Record<string, string>> = {
  CERT_HAS_EXPIRED: 'has ended',
  CERT_NOT_YET_VALID: 'does not hold yet: one of the two clocks is wrong',
  CERT_REVOKED: 'is revoked',
  UNABLE_TO_GET_ISSUER_CERT: "is not of this cluster's authority",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "is not of this cluster's authority",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "is not of this cluster's authority",
  DEPTH_ZERO_SELF_SIGNED_CERT: "is not of this cluster's authority",
  SELF_SIGNED_CERT_IN_CHAIN: "is not of this cluster's authority",
};

export function holdToAccess(server: FastifyInstance, { mirror, admits, fresh }: AccessParts): void {
  /** Who follows lines without an end. */
  const following = new Set<Shown>();

  function byCertificate(socket: TLSSocket, ends: boolean): Identity {
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) return NOBODY;
    const refused = (why: string): Refusal => new Refusal(401, `the certificate that was shown ${why}`);
    if (!socket.authorized) {
      const code = String(socket.authorizationError ?? '');
      throw refused(WRONG[code] ?? `is refused: ${code}`);
    }
    if (ends && certificate.validToDate.getTime() <= Date.now())
      throw refused(WRONG.CERT_HAS_EXPIRED as string);
    const holder = holderOf(certificate);
    if (holder === undefined) throw refused('says no role: its O must be contiv:host, contiv:admin, ...');
    const { role, name, admission } = holder;
    const identity = identityOf(holder, 'certificate');
    if (identity === undefined) throw refused(`says no tenant: of role ${holder.role} it has an OU for each`);
    if (role === 'host' && admits && admissionOf(mirror, name) !== (admission || undefined))
      throw refused(`is revoked: host ${name} must join again (netplugin join)`);
    if (role === 'host' && admits && admission === '') throw refused('says no admission');
    return identity;
  }

  function byToken(authorization: string): Identity {
    const shown = readToken(/^Bearer +(\S+)$/i.exec(authorization)?.[1] ?? '');
    if (shown === undefined)
      throw new Refusal(
        401,
        'authorization must be Bearer and a token that netctl token create has made, or netctl login',
      );
    const token = holderOfToken(mirror, shown);
    const identity = identityOf(token, token.session === undefined ? 'token' : 'session');
    return identity === undefined ? NOBODY : { ...identity, token };
  }

  /** `ends`: a certificate must not have ended. Throws a Refusal where what is shown does not hold. */
  function identify({ authorization, socket }: Shown, ends = true): Identity {
    if (authorization !== undefined) return byToken(authorization);
    return byCertificate(socket, ends);
  }

  /** A token may have been made, or a host have joined, at another netmaster a moment ago. */
  async function identifyFresh(shown: Shown): Promise<Identity> {
    try {
      return identify(shown);
    } catch {
      await fresh();
      return identify(shown);
    }
  }

  server.addHook('onRequest', async (request) => {
    if (request.is404) return;
    const contract = request.routeOptions.config.contract;
    if (contract?.who === 'anyone') {
      request.identity = NOBODY;
      return;
    }
    const { authorization } = request.headers;
    const shown: Shown = { authorization, socket: request.raw.socket as TLSSocket };
    const identity = await identifyFresh(shown);
    request.identity = identity;
    const what = `${request.method} ${request.url.split('?')[0]}`;
    const grant = contract === undefined ? 'no' : grantOf(contract, identity.role);
    if (grant === 'no') throw refusalOf(identity, what);
    if (contract !== undefined) judgeNames(request, contract, grant, what, false);
    if (contract?.as !== 'lines') return;
    following.add(shown);
    shown.socket.once('close', () => following.delete(shown));
  });

  server.addHook('preHandler', async (request) => {
    const { identity } = request;
    const contract = request.routeOptions.config.contract;
    if (identity === undefined || contract === undefined) return;
    const what = `${request.method} ${request.url.split('?')[0]}`;
    judgeNames(request, contract, grantOf(contract, identity.role), what, true);
  });

  const looking = setInterval(() => {
    for (const shown of following)
      try {
        identify(shown, false);
      } catch {
        shown.socket.destroy();
      }
  }, LOOK);
  looking.unref();
  server.addHook('onClose', async () => clearInterval(looking));
}

function refusalOf(identity: Identity, what: string): Refusal {
  if (identity.role === 'nobody')
    return new Refusal(
      401,
      `${what}: needs a certificate or a token (netctl login, netctl --help; for a host netplugin join)`,
    );
  return new Refusal(403, `${what}: ${whomOf(identity)} may not ask this`);
}

/** What a request names, where the route says that it does: in its body, or before that is read. */
function judgeNames(
  request: FastifyRequest,
  contract: Route,
  grant: Grant,
  what: string,
  inBody: boolean,
): void {
  if (grant === 'yes') return;
  const host = hostPlace(contract);
  if (host !== undefined && 'body' in host === inBody) judgeHost(request, host, grant, what);
  const tenant = tenantPlace(contract);
  if (tenant !== undefined && 'body' in tenant === inBody) judgeTenant(request, tenant, what);
}

function namedAt(request: FastifyRequest, place: Place): { field: string; named: unknown } {
  const [[where, field] = ['', '']] = Object.entries(place) as [string, string][];
  const from = { path: request.params, query: request.query, body: request.body }[where];
  const named =
    typeof from === 'object' && from !== null ? (from as Record<string, unknown>)[field] : undefined;
  return { field, named };
}

/** A host speaks for itself, and a reader for no host. */
function judgeHost(request: FastifyRequest, place: Place, grant: Grant, what: string): void {
  const identity = request.identity as Identity;
  const { field, named } = namedAt(request, place);
  if (grant === 'own' ? named === identity.name : named === undefined) return;
  const whose = typeof named === 'string' ? `host ${named}` : 'no host';
  throw new Refusal(403, `${what}: ${whomOf(identity)} may not ask this for ${whose}`, field);
}

/** Where none is named it is what all of theirs have. */
function judgeTenant(request: FastifyRequest, place: Place, what: string): void {
  const { scope } = request.identity as Identity;
  const { field, named } = namedAt(request, place);
  if (scope === undefined || named === undefined) return;
  mustHave(scope, typeof named === 'string' ? (named.split(':')[0] as string) : '', what, field);
}
