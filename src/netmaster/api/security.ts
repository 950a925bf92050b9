/** Tokens, and the certificates of hosts: who is let in. */
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { isHostName } from '../../model/names.ts';
import { oneLine } from '../../model/text.ts';
import { SECURITY } from '../../protocol/routes.ts';
import type { Asked, Subject } from '../../tls/certificates.ts';
import { fingerprintOf } from '../../tls/identity.ts';
import { isServiceToken, type Kubernetes } from '../kubernetes.ts';
import type { Mirror } from '../mirror.ts';
import { Refusal } from '../problem.ts';
import type { Security } from '../security.ts';
import {
  admissionOf,
  decideAdmission,
  decideJoin,
  decideRevocation,
  decideToken,
  decideTokenRemoval,
  listTokens,
} from '../tokens.ts';
import type { Writer } from '../writer.ts';
import { callerOf } from './request.ts';
import { serve } from './serve.ts';

export interface SecurityParts {
  readonly mirror: Mirror;
  readonly writer: Writer;
  readonly security?: Security | undefined;
  /** Absent: nobody joins by a service account. */
  readonly kubernetes?: Kubernetes | undefined;
}

/**
 * Milliseconds that a controller's certificate holds at most: nothing revokes it, and its service account gets it another. Where hosts' hold
 * for less, so does it.
 */
const CONTROLLER_LIFE = 3_600_000;

export function serveSecurity(
  server: FastifyInstance,
  { mirror, writer, security, kubernetes }: SecurityParts,
): void {
  function needed(): Security {
    if (security === undefined)
      throw new Refusal(
        409,
        'netmaster has no certificates, and lets everybody in who reaches it: make them first (netmaster init)',
      );
    return security;
  }
  function issuing(): Security & Required<Pick<Security, 'issuer'>> {
    const { issuer, ...rest } = needed();
    if (issuer === undefined)
      throw new Refusal(
        409,
        "netmaster has no authority's key (ca.key): hosts' certificates are made where the others are",
      );
    return { ...rest, issuer };
  }

  /** A signing request for the host, in order. */
  async function asked(host: string, text: string): Promise<Asked> {
    const { readRequest } = await import('../../tls/certificates.ts');
    const found = await readRequest(text).catch((error) => {
      throw new Refusal(400, `host ${host}: request ${oneLine((error as Error).message)}`, 'request');
    });
    if (found.name !== host)
      throw new Refusal(
        400,
        `host ${host}: request is for '${found.name}', its CN must be ${host}`,
        'request',
      );
    return found;
  }

  async function sign(request: Asked, subject: Subject, life: number) {
    const { issuer } = issuing();
    const { issue } = await import('../../tls/certificates.ts');
    return { certificate: await issue(issuer, request, subject, life), authority: issuer.certificate };
  }
  const certify = (host: string, request: Asked, admission: string) =>
    sign(request, { role: 'host', name: host, admission }, issuing().hostLife);

  /** By its service account: as Kubernetes says who that is, and not as it says itself. */
  async function joinAttested(token: string, name: string, wanted: Asked, request: FastifyRequest) {
    if (kubernetes === undefined)
      throw new Refusal(
        401,
        'netmaster is told of no Kubernetes whose service accounts it knows: --kubernetes',
      );
    const { role, name: known, by } = await kubernetes.attest(token, callerOf(request).from ?? '');
    if (name !== known)
      throw new Refusal(
        403,
        `${by} is ${role === 'host' ? `of node ${known}` : known}, and may not join as ${name}`,
        'name',
      );
    if (role === 'orchestrator')
      return sign(wanted, { role, name }, Math.min(CONTROLLER_LIFE, issuing().hostLife));
    const { answer } = await writer.write(() => decideAdmission(mirror, name, by), callerOf(request));
    return certify(name, wanted, answer);
  }

  serve(server, SECURITY, {
    whoami({ request: { identity } }) {
      if (identity === undefined) return { role: 'admin', shown: 'nothing' };
      const { role, name, scope, shown, token } = identity;
      return {
        role,
        name,
        shown,
        ...(scope === undefined ? {} : { tenants: [...scope.tenants].sort() }),
        ...(token === undefined ? {} : { expires: token.expires }),
      };
    },
    tokens: () => listTokens(mirror),
    async tokenCreate({ body, request }) {
      const wanted = body('a token');
      const { authority } = wanted.role === 'join' ? issuing() : needed();
      const decide = () => decideToken(mirror, wanted, fingerprintOf(authority));
      return (await writer.write(decide, callerOf(request))).answer;
    },
    async tokenRemove({ parameters: { id }, request }) {
      await writer.write(() => decideTokenRemoval(mirror, id), callerOf(request));
    },
    async join({ body, request }) {
      issuing();
      const { token, name: host, request: text } = body('a host that joins');
      if (!isHostName(host))
        throw new Refusal(400, `host ${host}: name must be letters, digits, '-', '_' or '.'`, 'name');
      const wanted = await asked(host, text);
      if (isServiceToken(token)) return joinAttested(token, host, wanted, request);
      const joining = { token, host, key: wanted.keyHash };
      const { answer } = await writer.write(() => decideJoin(mirror, joining), callerOf(request));
      return certify(host, wanted, answer);
    },
    async certificate({ parameters: { name }, body }) {
      issuing();
      const wanted = await asked(name, body(`host ${name}`).request);
      const admission = admissionOf(mirror, name);
      if (admission === undefined) throw new Refusal(404, `host ${name}: has not joined, or is revoked`);
      return certify(name, wanted, admission);
    },
    async hostRevoke({ parameters: { name }, request }) {
      issuing();
      const { answer } = await writer.write(() => decideRevocation(mirror, name), callerOf(request));
      if (!answer)
        throw new Refusal(404, `host ${name}: has no certificate: it has not joined, or is revoked`);
    },
  });
}
