/**
 * A simulator of an ACI fabric's controllers (APIC), written from Cisco's APIC REST API Configuration Guide: sessions, signatures,
 * queries, documents that are taken as a whole or refused, over HTTP or HTTPS. Each test says what fails, and when.
 */
import { createVerify, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import { type Fabric, FabricError, type Imdata, openFabric } from './fabric.ts';

export interface Controller {
  readonly url: string;
  /** Method and path of each request, the query left out. */
  readonly requests: string[];
  stop(): Promise<void>;
  /** On the same port again; whoever was logged in is not any more. */
  start(): Promise<void>;
}

export interface ApicOptions {
  readonly user?: string;
  readonly password?: string;
  /** Seconds of a session. */
  readonly life?: number;
  /** By certificate's name. */
  readonly publicKeys?: Readonly<Record<string, string>>;
  readonly tls?: { readonly cert: string; readonly key: string };
  /** Objects that are answered at once, at most. */
  readonly limit?: number;
}

export interface Simulator {
  readonly fabric: Fabric;
  readonly controllers: readonly Controller[];
  /** Called with what is to be answered: what it throws is answered instead. */
  before(hook: ((method: string, path: string, body: string) => void) | undefined): void;
  /** All are logged out. */
  forget(): void;
  close(): Promise<void>;
}

const common = ['uni/tn-common', 'uni/tn-infra', 'uni/tn-mgmt'].map((dn) => ({
  fvTenant: { attributes: { dn } },
}));

export async function openApics(count: number, options: ApicOptions = {}): Promise<Simulator> {
  const { user = 'contiv', password = 'secret', life = 600, publicKeys = {}, tls, limit = 100_000 } = options;
  const fabric = openFabric();
  for (const each of common) fabric.post('uni', { polUni: { attributes: {}, children: [each] } });
  fabric.post('uni/tn-common/brc-default', { vzBrCP: { attributes: {} } });
  fabric.post('uni/phys-dom1', { physDomP: { attributes: {} } });
  let hook: ((method: string, path: string, body: string) => void) | undefined;
  const forgetters: (() => void)[] = [];

  async function open(): Promise<Controller> {
    /** Token to when it ends. */
    const sessions = new Map<string, number>();
    forgetters.push(() => sessions.clear());
    const requests: string[] = [];
    const login = (): Imdata[] => {
      const token = randomBytes(48).toString('base64url');
      sessions.set(token, performance.now() + life * 1000);
      return [{ aaaLogin: { attributes: { token, refreshTimeoutSeconds: String(life), userName: user } } }];
    };

    function authenticate(method: string, target: string, body: string, cookie: string): void {
      const cookies = Object.fromEntries(
        cookie
          .split('; ')
          .map((each) => [each.slice(0, each.indexOf('=')), each.slice(each.indexOf('=') + 1)]),
      );
      const signature = cookies['APIC-Request-Signature'];
      if (signature !== undefined) {
        const [, who, name] =
          /^uni\/userext\/user-(.+)\/usercert-(.+)$/.exec(cookies['APIC-Certificate-DN'] ?? '') ?? [];
        const key = publicKeys[name ?? ''];
        const signed = createVerify('RSA-SHA256').update(`${method}${decodeURIComponent(target)}${body}`);
        if (who !== user || key === undefined || !signed.verify(key, signature, 'base64'))
          throw new FabricError('403', 'Cert user authentication failed', 403);
        return;
      }
      const ends = sessions.get(cookies['APIC-cookie'] ?? '');
      if (ends === undefined || ends < performance.now())
        throw new FabricError('403', 'Token was invalid (Error: Token timeout)', 403);
    }

    function answer(method: string, target: string, body: string, cookie: string): Imdata[] {
      const url = new URL(target, 'http://apic');
      const path = decodeURIComponent(url.pathname);
      requests.push(`${method} ${path}`);
      hook?.(method, path, body);
      if (path === '/api/aaaLogin.json') {
        const { name, pwd } = JSON.parse(body).aaaUser?.attributes ?? {};
        if (name !== user || pwd !== password)
          throw new FabricError(
            '401',
            'Username or password is incorrect - FAILED local authentication',
            401,
          );
        return login();
      }
      authenticate(method, target, body, cookie);
      if (path === '/api/aaaRefresh.json') return login();
      const [, kind, name = ''] = /^\/api\/(?:node\/)?(mo|class)\/(.+)\.json$/.exec(path) ?? [];
      if (kind === 'class' && method === 'GET') return fabric.ofClass(name, url.searchParams);
      if (kind === 'mo' && method === 'GET') return fabric.ofDn(name, url.searchParams);
      if (kind === 'mo' && method === 'DELETE') fabric.remove(name);
      else if (kind === 'mo' && method === 'POST') fabric.post(name, JSON.parse(body));
      else throw new FabricError('400', `Request in ${path} is not valid`);
      return [];
    }

    function page(all: Imdata[], target: string): Imdata[] {
      const { searchParams } = new URL(target, 'http://apic');
      const size = Number(searchParams.get('page-size') ?? 0);
      if (size > 0) return all.slice(Number(searchParams.get('page')) * size).slice(0, Math.min(size, limit));
      if (all.length > limit)
        throw new FabricError('1', 'Unable to process the query, result dataset is too big');
      return all;
    }

    const handle: http.RequestListener = (request, response) => {
      const parts: Buffer[] = [];
      request.on('data', (part) => parts.push(part));
      request.on('end', () => {
        const { method = 'GET', url: target = '/', headers } = request;
        const send = (status: number, body: object, token?: string): void => {
          response.writeHead(status, {
            'content-type': 'application/json',
            ...(token !== undefined && { 'set-cookie': `APIC-cookie=${token}; path=/; HttpOnly` }),
          });
          response.end(JSON.stringify(body));
        };
        try {
          const all = answer(method, target, Buffer.concat(parts).toString(), headers.cookie ?? '');
          const imdata = page(all, target);
          send(200, { totalCount: String(all.length), imdata }, all[0]?.aaaLogin?.attributes.token);
        } catch (error) {
          const { status, code, message } =
            error instanceof FabricError ? error : new FabricError('500', String(error), 500);
          send(status, { totalCount: '1', imdata: [{ error: { attributes: { code, text: message } } }] });
        }
      });
    };

    let server: http.Server | undefined;
    let port = 0;
    const start = async (): Promise<void> => {
      server = tls === undefined ? http.createServer(handle) : https.createServer({ ...tls }, handle);
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
      ({ port } = server.address() as AddressInfo);
    };
    await start();
    return {
      url: `http${tls === undefined ? '' : 's'}://127.0.0.1:${port}`,
      requests,
      start,
      async stop() {
        sessions.clear();
        if (server?.listening !== true) return;
        const closed = once(server, 'close');
        server.close();
        server.closeAllConnections();
        await closed;
      },
    };
  }

  const controllers: Controller[] = [];
  for (let i = 0; i < count; i++) controllers.push(await open());
  return {
    fabric,
    controllers,
    before(next) {
      hook = next;
    },
    forget() {
      for (const forget of forgetters) forget();
    },
    async close() {
      for (const controller of controllers) await controller.stop();
    },
  };
}
