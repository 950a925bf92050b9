/**
 * APIC's REST API: a session at one of several controllers, which are equal, and the next one where it is not to be reached.
 *
 *   POST /api/aaaLogin.json      user and password; answers a token, shown as the cookie APIC-cookie, and its life in seconds
 *   GET  /api/aaaRefresh.json    another token, before the life of this one is over
 *   GET  /api/mo/DN.json, /api/class/CLASS.json       objects, in `imdata`
 *   POST /api/mo/DN.json         a document, as a whole
 *   wss://.../socketTOKEN        what is another of what was read and subscribed to (subscriptions.ts)
 *
 * In place of a login each request may be signed by a key whose certificate the user has at APIC (APIC-Request-Signature and others).
 * A socket takes tokens only, so who signs is told of nothing.
 * All of it is in Cisco's APIC REST API Configuration Guide, "Using the REST API".
 */
import { createSign, X509Certificate } from 'node:crypto';
import http from 'node:http';
import https from 'node:https';
import { checkServerIdentity, type PeerCertificate } from 'node:tls';
import { oneLine } from '../../model/text.ts';
import type { Document } from './payload.ts';
import { openSubscriptions, type Subscriptions } from './subscriptions.ts';
import type { ManagedObject } from './tree.ts';

/** Milliseconds for an answer. */
const PATIENCE = 15_000;
/** Bytes of one: a tenant of 10,000 groups has some 20 MB. */
const ANSWER = 256 << 20;
/** Objects of a page, where APIC has too many for one answer. */
const PAGE = 10_000;
/** Milliseconds from one socket's opening to the next one's, twice as long each time until one has lasted for the longest of them. */
const REOPEN = 1000;
const REOPEN_LIMIT = 60_000;
/** For a socket: what lies between may take requests and no sockets, and a pass waits for it. */
const SOCKET_PATIENCE = 5000;

/** Of who asks: by its password, or by its key. */
export type Secret =
  | { readonly user: string; readonly password: string }
  | { readonly user: string; readonly certificate: string; readonly key: string };

export interface ApicOptions {
  /** URLs, the first one asked first. */
  readonly controllers: readonly string[];
  readonly secret: Secret;
  /** PEM of who signs the controllers' certificates, or these themselves; absent: whom the system trusts. */
  readonly authority?: string | undefined;
  /** Milliseconds for an answer. */
  readonly patience?: number | undefined;
  /** What was read to be followed is another, or nobody would say so any more. */
  readonly changed?: (() => void) | undefined;
  /** Milliseconds between renewals of what is followed; absent: what suits APIC. */
  readonly refresh?: number | undefined;
}

export interface Apic {
  /**
   * Path below /api/ with its query: `class/fvBD.json`. `follow`: `changed` is called when that is another, where the controller can say so and
   * anything is there.
   */
  get(path: string, follow?: boolean): Promise<ManagedObject[]>;
  post(dn: string, document: Document): Promise<void>;
  /** URL of the one that answered last. */
  readonly controller: string | undefined;
  /** Whether it says when what is followed is another. */
  readonly subscribed: boolean;
  /** Also of what waits for an answer. */
  close(): void;
}

/** No controller answers as one. */
export class UnreachableError extends Error {}
/** They answer, and do not let us in. */
export class LoginError extends Error {}
/** What was posted is refused. */
export class RefusedError extends Error {
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

interface Answer {
  readonly status: number;
  readonly body: {
    readonly imdata?: readonly Imdata[];
    readonly totalCount?: string;
    readonly subscriptionId?: string;
  };
}
type Imdata = Readonly<
  Record<
    string,
    { readonly attributes: Readonly<Record<string, string>>; readonly children?: readonly Imdata[] }
  >
>;

interface Session {
  readonly token: string;
  /** Milliseconds, performance.now(): it is renewed from then on, and of no use any more. */
  readonly renew: number;
  readonly ends: number;
}

export function openApic(options: ApicOptions): Apic {
  const { controllers, secret, authority, patience = PATIENCE, changed } = options;
  const agents = new Map(controllers.map((url) => [url, agentOf(url, authority)] as const));
  const sessions = new Map<string, Session>();
  let current = 0;
  let answered: string | undefined;
  /** Those at the controller that is asked. */
  let subscriptions: Subscriptions | undefined;
  /** When they were opened last, performance.now(), and what is between that and the next time. */
  let opened = Number.NEGATIVE_INFINITY;
  let pause = REOPEN;
  let reminder: NodeJS.Timeout | undefined;
  const ended = new AbortController();

  function request(
    url: string,
    method: 'GET' | 'POST',
    path: string,
    text = '',
    cookie = '',
  ): Promise<Answer> {
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const client = url.startsWith('https:') ? https : http;
    const sent = client.request(
      `${url}${path}`,
      {
        method,
        agent: agents.get(url),
        signal: AbortSignal.any([ended.signal, AbortSignal.timeout(patience)]),
        headers: {
          accept: 'application/json',
          ...(cookie === '' ? {} : { cookie }),
          ...(text === ''
            ? {}
            : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
        },
      },
      (answer) => {
        const parts: Buffer[] = [];
        let length = 0;
        answer.on('data', (part: Buffer) => {
          parts.push(part);
          length += part.length;
          if (length > ANSWER) sent.destroy(new Error(`answers more than ${ANSWER >> 20} MB`));
        });
        answer.on('error', reject);
        answer.on('end', () => {
          try {
            resolve({
              status: answer.statusCode ?? 0,
              body: JSON.parse(Buffer.concat(parts).toString('utf8')),
            });
          } catch {
            reject(new Error(`answers ${answer.statusCode} with something that is no JSON: it is no APIC`));
          }
        });
      },
    );
    sent.on('error', reject);
    sent.end(text);
    return promise;
  }

  async function login(url: string): Promise<Session> {
    if (!('password' in secret)) throw new Error('who signs does not log in');
    const asked = { aaaUser: { attributes: { name: secret.user, pwd: secret.password } } };
    const answer = await request(url, 'POST', '/api/aaaLogin.json', JSON.stringify(asked));
    const session = sessionOf(url, answer);
    // They were the last session's, of which its socket may not know yet that it is over.
    if (subscriptions?.url === url) {
      subscriptions.close();
      subscriptions = undefined;
      changed?.();
    }
    return session;
  }

  function sessionOf(url: string, { status, body }: Answer): Session {
    const { token, refreshTimeoutSeconds } = body.imdata?.[0]?.aaaLogin?.attributes ?? {};
    if (status >= 500) throw new Error(errorText({ status, body }));
    if (status !== 200 || token === undefined)
      throw new LoginError(`${url} refuses user ${secret.user}: ${errorText({ status, body })}`);
    const life = (Number(refreshTimeoutSeconds) || 300) * 1000;
    const session = { token, renew: performance.now() + life / 2, ends: performance.now() + life * 0.9 };
    sessions.set(url, session);
    return session;
  }

  async function tokenOf(url: string): Promise<string> {
    const session = sessions.get(url);
    if (session === undefined || performance.now() > session.ends) return (await login(url)).token;
    if (performance.now() < session.renew) return session.token;
    const answer = await request(url, 'GET', '/api/aaaRefresh.json', '', `APIC-cookie=${session.token}`);
    return (answer.status === 200 ? sessionOf(url, answer) : await login(url)).token;
  }

  const signed = (method: string, path: string, text: string): string => {
    if ('password' in secret) return '';
    const { user, certificate, key } = secret;
    const signature = createSign('RSA-SHA256')
      .update(`${method}${decodeURIComponent(path)}${text}`)
      .sign(key, 'base64');
    return [
      `APIC-Request-Signature=${signature}`,
      'APIC-Certificate-Algorithm=v1.0',
      'APIC-Certificate-Fingerprint=fingerprint',
      `APIC-Certificate-DN=uni/userext/user-${user}/usercert-${certificate}`,
    ].join('; ');
  };

  async function askOne(url: string, method: 'GET' | 'POST', path: string, text: string): Promise<Answer> {
    const cookie = 'password' in secret ? `APIC-cookie=${await tokenOf(url)}` : signed(method, path, text);
    const answer = await request(url, method, path, text, cookie);
    if (answer.status !== 403) return answer;
    if (!('password' in secret))
      throw new LoginError(`${url} does not take the signature of user ${secret.user}: ${errorText(answer)}`);
    // It has forgotten the token, as after a restart; a right that is missing is said again.
    sessions.delete(url);
    return request(url, method, path, text, `APIC-cookie=${await tokenOf(url)}`);
  }

  async function ask(method: 'GET' | 'POST', path: string, text = ''): Promise<Answer> {
    const failed: string[] = [];
    for (let i = 0; i < controllers.length; i++) {
      const url = controllers[current] as string;
      try {
        const answer = await askOne(url, method, path, text);
        if (answer.status >= 500) throw new Error(errorText(answer));
        answered = url;
        return answer;
      } catch (error) {
        if (error instanceof LoginError) throw error;
        failed.push(`${url} ${reasonOf(error as NodeJS.ErrnoException, patience)}`);
        sessions.delete(url);
        current = (current + 1) % controllers.length;
      }
    }
    answered = undefined;
    throw new UnreachableError(failed.join('; '));
  }

  /** By the session that is there: to log in for each of many might lock the user out. What is wrong is found by who reads next. */
  const renew =
    (url: string) =>
    async (id: string): Promise<boolean> => {
      const session = sessions.get(url);
      if (session === undefined) return false;
      const path = `/api/subscriptionRefresh.json?id=${id}`;
      return request(url, 'GET', path, '', `APIC-cookie=${session.token}`).then(
        ({ status }) => status === 200,
        () => false,
      );
    };

  /** undefined: there are none for now, and what is read is not followed. */
  async function subscriptionsOf(url: string): Promise<Subscriptions | undefined> {
    if (changed === undefined || !('password' in secret) || ended.signal.aborted) return undefined;
    if (subscriptions?.isOpen && subscriptions.url === url) return subscriptions;
    subscriptions?.close();
    subscriptions = undefined;
    const since = performance.now() - opened;
    if (since < pause) {
      reminder ??= setTimeout(() => {
        reminder = undefined;
        changed();
      }, pause - since);
      return undefined;
    }
    pause = since > REOPEN_LIMIT ? REOPEN : Math.min(REOPEN_LIMIT, pause * 2);
    opened = performance.now();
    try {
      const token = await tokenOf(url);
      const made = await openSubscriptions({
        url,
        token,
        agent: agents.get(url),
        patience: Math.min(patience, SOCKET_PATIENCE),
        refresh: options.refresh,
        renew: renew(url),
        changed,
      });
      if (ended.signal.aborted) made.close();
      else subscriptions = made;
    } catch (error) {
      if (error instanceof LoginError) throw error;
      // Whether the controller is to be reached is found by what is asked next.
    }
    return subscriptions;
  }

  async function get(path: string, follow = false): Promise<ManagedObject[]> {
    const told = follow ? await subscriptionsOf(controllers[current] as string) : undefined;
    const subscribes = told !== undefined && !told.has(path);
    const query = subscribes ? `${path}${path.includes('?') ? '&' : '?'}subscription=yes` : path;
    let answer = await ask('GET', `/api/${query}`);
    // The socket may have gone meanwhile: what is there is read all the same.
    if (subscribes && answer.status !== 200) answer = await ask('GET', `/api/${path}`);
    if (answer.status === 200) {
      const objects = objectsOf(answer);
      const { subscriptionId } = answer.body;
      // Another controller may have answered; and of what is not there it is not said whether its coming is told.
      if (subscribes && subscriptionId !== undefined && answered === told.url && objects.length > 0)
        told.add(path, subscriptionId);
      return objects;
    }
    if (!/dataset is too big/.test(errorText(answer)))
      throw new RefusedError(answer.status, errorText(answer));
    const all: ManagedObject[] = [];
    for (let page = 0; ; page++) {
      const more = path.includes('?') ? '&' : '?';
      const part = await ask('GET', `/api/${path}${more}page=${page}&page-size=${PAGE}`);
      if (part.status !== 200) throw new RefusedError(part.status, errorText(part));
      const objects = objectsOf(part);
      all.push(...objects);
      if (objects.length === 0 || all.length >= Number(part.body.totalCount)) return all;
    }
  }

  return {
    get,
    async post(dn, document) {
      const answer = await ask('POST', `/api/mo/${encodeURI(dn)}.json`, JSON.stringify(document));
      if (answer.status !== 200) throw new RefusedError(answer.status, errorText(answer));
    },
    get controller() {
      return answered;
    },
    get subscribed() {
      return subscriptions?.isOpen === true && subscriptions.count > 0;
    },
    close() {
      ended.abort();
      clearTimeout(reminder);
      subscriptions?.close();
      for (const agent of agents.values()) agent.destroy();
    },
  };
}

/** Children as objects of their own. */
function objectsOf({ body }: Answer): ManagedObject[] {
  const flat = (all: readonly Imdata[] = []): ManagedObject[] =>
    all.flatMap((each) =>
      Object.entries(each).flatMap(([className, { attributes, children }]) => [
        { className, dn: attributes.dn ?? '', attributes },
        ...flat(children),
      ]),
    );
  return flat(body.imdata);
}

function errorText({ status, body }: Answer): string {
  const { text, code } = body.imdata?.[0]?.error?.attributes ?? {};
  return oneLine(text === undefined ? `it answers ${status}` : `${text} (error ${code})`, 300);
}

/**
 * Nothing goes over the network unseen: who is asked shows a certificate that the authority signs, in its own name; or one that is among the
 * authority's, whatever name it has, as APIC's own from the factory has none.
 */
function agentOf(url: string, authority: string | undefined): http.Agent | https.Agent {
  if (!url.startsWith('https:')) return new http.Agent({ keepAlive: true });
  if (authority === undefined) return new https.Agent({ keepAlive: true });
  const pinned = new Set(certificatesOf(authority).map(({ fingerprint256 }) => fingerprint256));
  return new https.Agent({
    keepAlive: true,
    ca: authority,
    checkServerIdentity: (host: string, shown: PeerCertificate) =>
      pinned.has(shown.fingerprint256) ? undefined : checkServerIdentity(host, shown),
  });
}

/** Throws where something in it is none. */
export const certificatesOf = (pem: string): X509Certificate[] =>
  (pem.match(/-----BEGIN CERTIFICATE-----[\s\S]*?-----END CERTIFICATE-----/g) ?? []).map(
    (text) => new X509Certificate(text),
  );

const REASONS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'refuses the connection',
  EHOSTUNREACH: 'is not to be reached: no route leads there',
  ENETUNREACH: 'is not to be reached: no route leads there',
  ECONNRESET: 'has closed the connection',
  ENOTFOUND: 'has a name that is not known',
  EAI_AGAIN: 'has a name that no nameserver translates',
  ERR_TLS_CERT_ALTNAME_INVALID: 'shows a certificate of another name',
  DEPTH_ZERO_SELF_SIGNED_CERT: 'shows a certificate that is not in the CA file (aciGw, caFile)',
  SELF_SIGNED_CERT_IN_CHAIN: 'shows a certificate that nobody in the CA file signs (aciGw, caFile)',
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: 'shows a certificate that nobody in the CA file signs (aciGw, caFile)',
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: 'shows a certificate that nobody in the CA file signs (aciGw, caFile)',
  CERT_HAS_EXPIRED: 'shows a certificate that has expired',
};

function reasonOf({ code, name, message }: NodeJS.ErrnoException, patience: number): string {
  if (name === 'TimeoutError' || name === 'AbortError') return `does not answer within ${patience / 1000} s`;
  return REASONS[code ?? ''] ?? oneLine(message, 200);
}
