/** A real OpenID provider, oidc-provider, with HTTPS, and a person with a browser who logs in there. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import Provider from 'oidc-provider';
import { issuePair, type Pair } from '../src/tls/certificates.ts';

export interface Account {
  readonly groups?: unknown;
  readonly preferred_username?: string;
}

export interface OpenidProvider {
  readonly issuer: string;
  /** By subject; may be changed while it runs. */
  readonly accounts: Map<string, Account>;
  /** Opens the page as a person does, and logs in as that one; or says no there. */
  decide(url: string, subject: string | 'abort'): Promise<void>;
  close(): Promise<void>;
}

export const CLIENT = { client: 'netmaster', secret: 'a secret of netmaster' };

export interface ProviderChanges {
  /** Names in its certificate. */
  readonly names?: string[];
  /** What it calls itself, where that is not where it is. */
  readonly calls?: string;
  /** In its configuration. */
  readonly more?: object;
  /** Of its ID tokens, on their way. */
  alter?(token: string): string;
}

type Handle = (request: IncomingMessage, response: ServerResponse) => void;

export async function openOpenidProvider(
  authority: Pair,
  { names = ['localhost'], calls, more, alter }: ProviderChanges = {},
): Promise<OpenidProvider> {
  const own = await issuePair(authority, { role: 'netmaster', name: 'provider', names }, 3_600_000);
  // It speaks of itself at length.
  const { info, warn } = console;
  Object.assign(console, { info: () => {}, warn: () => {} });
  let handle: Handle | undefined;
  const server = https.createServer({ cert: own.certificate, key: own.key }, (request, response) => {
    if (alter !== undefined && request.url === '/token') alterTokens(response, alter);
    handle?.(request, response);
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  const issuer = `https://localhost:${(server.address() as AddressInfo).port}`;
  const accounts = new Map<string, Account>();
  const provider = new Provider(calls ?? issuer, {
    clients: [
      {
        client_id: CLIENT.client,
        client_secret: CLIENT.secret,
        grant_types: ['urn:ietf:params:oauth:grant-type:device_code'],
        response_types: [],
        redirect_uris: [],
      },
    ],
    scopes: ['openid', 'groups'],
    claims: { openid: ['sub'], profile: ['preferred_username'], groups: ['groups'] },
    conformIdTokenClaims: false,
    cookies: { keys: ['a key'] },
    features: { deviceFlow: { enabled: true }, devInteractions: { enabled: true } },
    findAccount: (_: unknown, accountId: string) => ({
      accountId,
      claims: () => ({ sub: accountId, ...accounts.get(accountId) }),
    }),
    ...more,
  });
  handle = provider.callback() as Handle;

  return {
    issuer,
    accounts,
    async decide(url, subject) {
      const cookies = new Map<string, string>();
      let page = await visit(authority, cookies, url);
      for (let i = 0; i < 8 && /<form/.test(page.text); i++) {
        const action = /action="([^"]+)"/.exec(page.text)?.[1]?.replaceAll('&amp;', '&') ?? page.url;
        const fields = new URLSearchParams();
        for (const [, input = ''] of page.text.matchAll(/<(input[^>]*)>/g)) {
          const [, name = ''] = /name="([^"]*)"/.exec(input) ?? [];
          const [, value = ''] = /value="([^"]*)"/.exec(input) ?? [];
          if (name !== '') fields.set(name, value);
        }
        if (fields.has('login')) {
          fields.set('login', subject);
          fields.set('password', 'any');
        }
        // The button that is pressed of those on the page that asks whether the code is one's own.
        if (/name="abort"/.test(page.text)) {
          if (subject === 'abort') fields.set('abort', 'yes');
          else fields.set('confirm', 'yes');
        }
        page = await visit(authority, cookies, new URL(action, page.url).href, fields.toString());
      }
    },
    close: () =>
      new Promise((done) => {
        Object.assign(console, { info, warn });
        server.closeAllConnections();
        server.close(() => done());
      }),
  };
}

function alterTokens(response: ServerResponse, alter: (token: string) => string): void {
  const end = response.end.bind(response) as (text?: unknown) => ServerResponse;
  response.end = ((text?: unknown) => {
    const answer = JSON.parse(String(text ?? '{}')) as { id_token?: string };
    if (answer.id_token === undefined) return end(text);
    const altered = JSON.stringify({ ...answer, id_token: alter(answer.id_token) });
    response.setHeader('content-length', Buffer.byteLength(altered));
    return end(altered);
  }) as typeof response.end;
}

interface Page {
  readonly url: string;
  readonly text: string;
}

/** As a browser: with cookies, and wherever it is led. */
async function visit(
  authority: Pair,
  cookies: Map<string, string>,
  url: string,
  form?: string,
): Promise<Page> {
  const cookie = [...cookies].map(([name, value]) => `${name}=${value}`).join('; ');
  const { location, text } = await new Promise<{ location: string | undefined; text: string }>(
    (done, fail) => {
      const request = https.request(
        url,
        {
          agent: false,
          ca: authority.certificate,
          method: form === undefined ? 'GET' : 'POST',
          headers: {
            ...(cookie === '' ? {} : { cookie }),
            ...(form === undefined ? {} : { 'content-type': 'application/x-www-form-urlencoded' }),
          },
        },
        async (response) => {
          for (const line of response.headers['set-cookie'] ?? []) {
            const [pair = ''] = line.split(';');
            const at = pair.indexOf('=');
            cookies.set(pair.slice(0, at), pair.slice(at + 1));
          }
          let text = '';
          response.setEncoding('utf8');
          for await (const chunk of response) text += chunk;
          done({ location: response.headers.location, text });
        },
      );
      request.on('error', fail);
      request.end(form);
    },
  );
  return location === undefined ? { url, text } : visit(authority, cookies, new URL(location, url).href);
}
