/** netmaster's API in this process with certificates, and requests to it over TLS as they are. */
import https from 'node:https';
import { type Client, connect } from '../src/client/client.ts';
import type { Credentials } from '../src/client/credentials.ts';
import type { Parts as ServerParts } from '../src/netmaster/api/server.ts';
import type { Security } from '../src/netmaster/security.ts';
import type { TokenRequest } from '../src/protocol/security.ts';
import { issuePair, makeAuthority, type Pair } from '../src/tls/certificates.ts';
import { type Api, openApi } from './apiServer.ts';

const HOUR = 3_600_000;

export interface Asked {
  readonly status: number;
  readonly text: string;
}

export interface Secured {
  readonly api: Api;
  readonly authority: Pair;
  readonly admin: Credentials;
  credentialsOf(pair: Pair | undefined): Credentials;
  clientOf(credentials: Credentials): Client;
  tokenFor(role: TokenRequest['role'], seconds?: number, tenants?: string[]): Promise<string>;
  /** What is answered; of what goes on without an end, its head. */
  ask(
    line: { method: string; path: string },
    by?: {
      pair?: Pair | undefined;
      token?: string | undefined;
      body?: unknown;
      /** Of this machine, 127.0.0.0/8. */
      from?: string | undefined;
    },
  ): Promise<Asked>;
  close(): Promise<void>;
}

export async function openSecured(
  more: (authority: Pair) => Partial<ServerParts> | Promise<Partial<ServerParts>> = () => ({}),
  hostLife = HOUR,
): Promise<Secured> {
  const authority = await makeAuthority();
  const names = ['localhost', '127.0.0.1'];
  const own = await issuePair(authority, { role: 'netmaster', name: 'one', names }, HOUR);
  const security: Security = { ...own, authority: authority.certificate, issuer: authority, hostLife };
  const api = await openApi(undefined, { security, ...(await more(authority)) });

  const credentialsOf = (pair: Pair | undefined): Credentials => ({
    authority: authority.certificate,
    ...(pair && { certificate: pair.certificate, key: pair.key }),
  });
  const clientOf = (credentials: Credentials): Client =>
    connect({ urls: [`https://localhost:${api.port}`], credentials: () => credentials });
  const admin = credentialsOf(await issuePair(authority, { role: 'admin', name: 'someone' }, HOUR));

  return {
    api,
    authority,
    admin,
    credentialsOf,
    clientOf,
    async tokenFor(role, seconds = 3600, tenants) {
      const client = clientOf(admin);
      const wanted = { role, seconds, ...(tenants === undefined ? {} : { tenants }) };
      const { token } = (await client.call('tokenCreate', {}, wanted)).body;
      client.close();
      return token;
    },
    ask({ method, path }, { pair, token, body, from } = {}) {
      return new Promise((done, fail) => {
        const payload = body === undefined ? undefined : JSON.stringify(body);
        const request = https.request(
          {
            host: '127.0.0.1',
            port: api.port,
            method,
            path,
            agent: false,
            ...(from === undefined ? {} : { localAddress: from }),
            ca: authority.certificate,
            ...(pair && { cert: pair.certificate, key: pair.key }),
            headers: {
              ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
              ...(payload === undefined ? {} : { 'content-type': 'application/json' }),
            },
          },
          (response) => {
            const end = (text: string): void => {
              response.destroy();
              done({ status: response.statusCode ?? 0, text });
            };
            if (response.headers['content-type'] === 'application/x-ndjson') return end('');
            let text = '';
            response.setEncoding('utf8');
            response.on('data', (chunk) => {
              text += chunk;
            });
            response.on('end', () => end(text));
          },
        );
        request.on('error', fail);
        request.end(payload);
      });
    },
    close: () => api.close(),
  };
}
