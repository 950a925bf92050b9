/**
 * The API client of netctl, netplugin and tests. On node:http, which is loaded in a few milliseconds: a command
 * should answer at once.
 */
import http from 'node:http';
import https from 'node:https';
import type { ErrorBody, WatchMessage } from '../protocol/messages.ts';
import type { AnswerOf, Given } from '../protocol/routes.ts';
import {
  CLIENT_HEADER,
  type LinesName,
  type Method,
  type RouteName,
  requestOf,
  SECRET_ROUTES,
  STALE_HEADER,
} from '../protocol/wire.ts';
import type { Credentials } from './credentials.ts';
import { lines } from './lines.ts';

/** netmaster refused, or could not be reached (code `unreachable`, status 0). */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly field: string | undefined;
  /** Of the object in a set, from 1. */
  readonly position: number | undefined;
  /** Of what could not be reached: no netmaster has taken the request, so nothing of it is done. */
  readonly untaken: boolean;
  constructor(
    status: number,
    code: string,
    message: string,
    field?: string,
    position?: number,
    untaken = false,
  ) {
    super(message);
    this.status = status;
    this.code = code;
    this.field = field;
    this.position = position;
    this.untaken = untaken;
  }
}

export interface Answer<T> {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: T;
}

export interface Client {
  /** `call('applied', { name: 'host1' }, { store, revision })`: a route by its name, as protocol/routes.ts has it. */
  call<N extends Exclude<RouteName, LinesName>>(name: N, ...given: Given<N>): Promise<Answer<AnswerOf<N>>>;
  /**
   * The lines of a route as they come. Ends when the signal aborts; throws an ApiError when the connection ends, stays silent, or is refused.
   */
  lines<N extends LinesName>(
    name: N,
    parameters: Readonly<Record<string, string | undefined>>,
    signal?: AbortSignal,
  ): AsyncIterable<AnswerOf<N>>;
  /**
   * Ends when the signal aborts; throws an ApiError when the connection ends, stays silent, or is refused. `host` is the
   * agent's, which is then asked for what its kernel does.
   */
  watch(options: {
    store?: string;
    after?: number;
    host?: string;
    signal?: AbortSignal;
  }): AsyncIterable<WatchMessage>;
  /** Ends every connection: of an address that this host no longer has, no answer would come. Calls begin new ones. */
  reconnect(): void;
  close(): void;
}

export interface ClientOptions {
  /** Tried in turn, starting with the one that answered last. */
  readonly urls: readonly string[];
  /** Takes any certificate. */
  readonly insecure?: boolean;
  /** What it shows: asked for at each request, so that new connections go by what is new; the same object as long as nothing is. */
  readonly credentials?: (() => Credentials) | undefined;
  /** For one answer; milliseconds. */
  readonly timeoutMs?: number;
  /** What asks, and for whom: `netctl root@node1`. netmaster keeps it with what is changed. */
  readonly name?: string;
  /** Called where an answer, a refusal too, may be of an earlier time: netmaster says that its store did not answer. */
  readonly onStale?: () => void;
}

/** Milliseconds of silence after which a watch counts as dead: pings come every 3 s. */
const SILENCE = 10_000;

/** Why a connection failed, to people. */
const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: 'nothing listens there',
  ECONNRESET: 'the connection was cut',
  EHOSTUNREACH: 'no way leads there',
  ENETUNREACH: 'no way leads there',
  ENOTFOUND: 'no host has this name',
  EAI_AGAIN: 'no nameserver answers for this name',
  EPROTO: 'what listens there does not speak TLS: http:// may be meant',
  HPE_INVALID_CONSTANT: 'what listens there does not speak HTTP',
  CERT_HAS_EXPIRED:
    "its certificate has ended: netmaster init --renew there, or this machine's clock is ahead",
  CERT_NOT_YET_VALID:
    "its certificate does not hold yet: this machine's clock is behind, or netmaster's is ahead",
  ERR_TLS_CERT_ALTNAME_INVALID:
    'its certificate is for other names: ask by one of those, or add this one (netmaster init --renew --name NAME there)',
  ...Object.fromEntries(
    [
      'SELF_SIGNED_CERT_IN_CHAIN',
      'DEPTH_ZERO_SELF_SIGNED_CERT',
      'UNABLE_TO_GET_ISSUER_CERT',
      'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
      'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
      'CERT_SIGNATURE_FAILURE',
    ].map((code) => [
      code,
      "its certificate is not of an authority that is believed here: --tls-ca, netmaster's ca.crt",
    ]),
  ),
  ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: 'it speaks no TLS 1.3',
};
/** OpenSSL tells of a server without TLS in several ways. */
const NO_TLS = /^(?:EPROTO|ERR_SSL_(?:WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST))$/;

/** Before the request was sent. */
const NOT_TAKEN = /^(?:ECONNREFUSED|ENOTFOUND|EHOSTUNREACH|EAI_AGAIN|CERT_\w+|ERR_TLS_CERT_ALTNAME_INVALID)$/;
const NONE: Credentials = {};

export function connect(options: ClientOptions): Client {
  const { urls, insecure = false, timeoutMs = 30_000, name, credentials = () => NONE, onStale } = options;
  // A header is ASCII.
  const client = name?.replace(/[^ -~]/g, '?').slice(0, 100);
  const pool = { keepAlive: true, maxSockets: 32 };
  const plain = new http.Agent(pool);
  let shown = credentials();
  let tls = tlsAgent();
  /** By what was shown before: requests that were begun with it go on. */
  const former: https.Agent[] = [];
  let current = 0;

  function tlsAgent(): https.Agent {
    const { authority, certificate, key } = shown;
    return new https.Agent({
      ...pool,
      minVersion: 'TLSv1.3',
      rejectUnauthorized: !insecure,
      ...(authority === undefined ? {} : { ca: authority }),
      ...(certificate === undefined ? {} : { cert: certificate }),
      ...(key === undefined ? {} : { key }),
    });
  }

  /** New connections are by what is shown now; those that are in use go on. */
  function agentOf(secure: boolean): http.Agent {
    if (!secure) return plain;
    const now = credentials();
    if (now !== shown) {
      shown = now;
      former.push(tls);
      tls = tlsAgent();
    }
    return tls;
  }

  function open(
    url: string,
    path: string,
    method: Method,
    text: string | undefined,
  ): Promise<http.IncomingMessage> {
    const base = new URL(url);
    const secure = base.protocol === 'https:';
    const agent = agentOf(secure);
    const { token } = shown;
    return new Promise((done, fail) => {
      if (token !== undefined && !secure) {
        fail(new Error('a token goes by https:// only'));
        return;
      }
      const request = (secure ? https : http).request(
        {
          host: base.hostname.replace(/^\[|\]$/g, ''),
          port: base.port || (secure ? 443 : 80),
          path: base.pathname.replace(/\/$/, '') + path,
          method,
          agent,
          headers: {
            accept: 'application/json',
            ...(client === undefined ? {} : { [CLIENT_HEADER]: client }),
            ...(token === undefined ? {} : { authorization: `Bearer ${token}` }),
            ...(text === undefined
              ? {}
              : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }),
          },
        },
        done,
      );
      request.setTimeout(timeoutMs, () => request.destroy(new Error(`no answer in ${timeoutMs / 1000} s`)));
      request.on('error', fail);
      request.end(text);
    });
  }

  /** One that did not answer is not asked first again, unless others have moved on already. */
  const moveFrom = (index: number): void => {
    if (current === index) current = (index + 1) % urls.length;
  };

  /** The first URL that can be reached. A request that may have been taken is not sent to another. */
  async function reach(
    path: string,
    method: Method,
    text: string | undefined,
  ): Promise<http.IncomingMessage> {
    const reasons: string[] = [];
    let untaken = true;
    for (let i = 0; i < urls.length; i++) {
      const index = (current + i) % urls.length;
      const url = urls[index] as string;
      try {
        const response = await open(url, path, method, text);
        current = index;
        return response;
      } catch (error) {
        const { code, message } = error as NodeJS.ErrnoException;
        const words = NO_TLS.test(code ?? '') ? WORDS.EPROTO : WORDS[code ?? ''];
        reasons.push(`${url} (${words === undefined ? (code ?? message) : `${words}: ${code}`})`);
        const isTaken = !NOT_TAKEN.test(code ?? '');
        if (isTaken) untaken = false;
        if (isTaken && method !== 'GET') {
          moveFrom(index); // the next request is
          break;
        }
      }
    }
    const message = `netmaster cannot be reached at ${reasons.join(', ')}`;
    throw new ApiError(0, 'unreachable', message, undefined, undefined, untaken);
  }

  function mayTellSecrets(): void {
    const plainly = urls.find((url) => new URL(url).protocol !== 'https:');
    const why =
      plainly !== undefined
        ? `passwords and sessions go by https:// only, and not to ${plainly}`
        : insecure
          ? 'passwords and sessions go to nobody whose certificate is not looked at: leave --insecure out'
          : undefined;
    if (why !== undefined) throw new ApiError(0, 'insecure', why);
  }

  async function call<N extends RouteName>(
    name: N,
    ...[parameters, body]: readonly [parameters?: Readonly<Record<string, string>>, body?: unknown]
  ): Promise<Answer<AnswerOf<N>>> {
    const { method, url } = requestOf(name, parameters);
    if (SECRET_ROUTES.has(name)) mayTellSecrets();
    const response = await reach(url, method, body === undefined ? undefined : JSON.stringify(body));
    const status = response.statusCode ?? 0;
    if (response.headers[STALE_HEADER] !== undefined) onStale?.();
    let text: string;
    try {
      text = await readText(response);
    } catch (error) {
      throw new ApiError(0, 'unreachable', `netmaster's answer broke off: ${(error as Error).message}`);
    }
    if (status < 200 || status >= 300) throw refusal(status, text);
    return {
      status,
      headers: response.headers,
      body: (text === '' ? undefined : parse(text)) as AnswerOf<N>,
    };
  }

  async function* read<N extends LinesName>(
    name: N,
    parameters: Readonly<Record<string, string | undefined>>,
    signal?: AbortSignal,
  ): AsyncGenerator<AnswerOf<N>> {
    const { method, url } = requestOf(name, parameters);
    const response = await reach(url, method, undefined);
    const from = current;
    if (response.statusCode !== 200) throw refusal(response.statusCode ?? 0, await readText(response));
    const stop = (): void => {
      response.destroy();
    };
    signal?.addEventListener('abort', stop);
    if (signal?.aborted) stop(); // while it was being connected
    response.setTimeout(SILENCE, stop);
    try {
      for await (const line of lines(response)) yield parse(line) as AnswerOf<N>;
    } catch (error) {
      if (signal?.aborted) return;
      if (error instanceof ApiError) throw error;
    } finally {
      signal?.removeEventListener('abort', stop);
      response.destroy();
    }
    if (signal?.aborted) return;
    moveFrom(from);
    throw new ApiError(0, 'unreachable', 'the watch on netmaster broke off');
  }

  const disconnect = (): void => {
    for (const agent of [plain, tls, ...former.splice(0)]) agent.destroy();
  };

  return {
    call,
    lines: read,
    watch: ({ store, after, host, signal }) =>
      read('watch', { host, store, after: after?.toString() }, signal),
    reconnect: disconnect,
    close: disconnect,
  };
}

async function readText(response: http.IncomingMessage): Promise<string> {
  response.setEncoding('utf8');
  let text = '';
  for await (const chunk of response) text += chunk;
  return text;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw notNetmaster(text);
  }
}

const notNetmaster = (text: string): ApiError =>
  new ApiError(0, 'not_netmaster', `the answer is not netmaster's: '${text.slice(0, 80)}'`);

type Plain = Record<string, unknown>;
const isObject = (value: unknown): value is Plain =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

/** Another server may answer JSON too. Throws an ApiError where it is no object, or has not these fields. */
export function asObject<T extends object>(answer: Answer<T>, fields: readonly (keyof T & string)[] = []): T {
  if (!isObject(answer.body) || fields.some((field) => !Object.hasOwn(answer.body, field)))
    throw notNetmaster(JSON.stringify(answer.body) ?? '');
  return answer.body;
}

/** Throws an ApiError where the answer is no list of objects. */
export function asList<T extends object>(answer: Answer<readonly T[]>): readonly T[] {
  const { body } = answer;
  if (!Array.isArray(body) || !body.every(isObject)) throw notNetmaster(JSON.stringify(body) ?? '');
  return body as readonly T[];
}

/** Of an export, or of what apply answers. Throws an ApiError where the answer has no list of objects. */
export function objectsOf<T extends object>(
  answer: Answer<{ readonly objects: readonly T[] }>,
): readonly T[] {
  return asList({ ...answer, body: asObject(answer).objects });
}

function refusal(status: number, text: string): ApiError {
  let body: unknown;
  try {
    body = JSON.parse(text);
  } catch {
    // a proxy's page, or another server: its text is all there is
  }
  const error = isObject(body) && isObject(body.error) ? body.error : {};
  const { code, message, field, position } = error as { [K in keyof ErrorBody['error']]: unknown };
  return new ApiError(
    status,
    typeof code === 'string' ? code : 'refused',
    typeof message === 'string'
      ? message
      : `netmaster answered status ${status}: ${text.slice(0, 200).replace(/\s+/g, ' ')}`,
    typeof field === 'string' ? field : undefined,
    typeof position === 'number' ? position : undefined,
  );
}
