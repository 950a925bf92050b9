/**
 * A simulator of an ACI fabric's controllers (APIC), written from Cisco's APIC REST API Configuration Guide: sessions, signatures,
 * queries, subscriptions to them, documents that are taken as a whole or refused, over HTTP or HTTPS. Each test says what fails, and when.
 */
import { createVerify, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { type WebSocket, WebSocketServer } from 'ws';
import { concerns, type Fabric, FabricError, type Imdata, openFabric, PATH } from './fabric.ts';

export interface Controller {
  readonly url: string;
  /** Method and path of each request, the query left out. */
  readonly requests: string[];
  /** Of how many queries it tells somebody that they are answered otherwise. */
  subscriptions(): number;
  /** Ends the connections by which it tells, and nothing else. */
  hangUp(): void;
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
  /** Seconds of a subscription that is not renewed; below 0: there are none to be had. */
  readonly subscribed?: number;
  /** Something between takes requests and no websockets. */
  readonly deaf?: boolean;
}

interface Subscription {
  readonly id: string;
  readonly path: string;
  readonly query: URLSearchParams;
  /** Of the session that has asked. */
  readonly session: Session;
  /** performance.now() */
  ends: number;
}

/** Renewed, it goes on with another token; its socket is one at most. */
interface Session {
  ends: number;
  socket?: WebSocket;
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

interface Answer {
  readonly all: Imdata[];
  readonly subscriptionId?: string;
}

const common = ['uni/tn-common', 'uni/tn-infra', 'uni/tn-mgmt'].map((dn) => ({
  fvTenant: { attributes: { dn } },
}));

export async function openApics(count: number, options: ApicOptions = {}): Promise<Simulator> {
  const { user = 'contiv', password = 'secret', life = 600, publicKeys = {}, tls, limit = 100_000 } = options;
  const { subscribed = 60, deaf = false } = options;
  const fabric = openFabric();
  for (const each of common) fabric.post('uni', { polUni: { attributes: {}, children: [each] } });
  fabric.post('uni/tn-common/brc-default', { vzBrCP: { attributes: {} } });
  fabric.post('uni/phys-dom1', { physDomP: { attributes: {} } });
  let hook: ((method: string, path: string, body: string) => void) | undefined;
  const forgetters: (() => void)[] = [];

  async function open(): Promise<Controller> {
    /** By token. */
    const sessions = new Map<string, Session>();
    const subscriptions = new Map<string, Subscription>();
    let given = 0;
    const endSessions = (): void => {
      for (const { socket } of sessions.values()) socket?.terminate();
      sessions.clear();
      subscriptions.clear();
    };
    forgetters.push(endSessions);
    const requests: string[] = [];
    const login = (session: Session = { ends: 0 }): Imdata[] => {
      const token = randomBytes(48).toString('base64');
      session.ends = performance.now() + life * 1000;
      sessions.set(token, session);
      return [{ aaaLogin: { attributes: { token, refreshTimeoutSeconds: String(life), userName: user } } }];
    };

    const sessionOf = (token = ''): Session | undefined => {
      const session = sessions.get(token);
      return session !== undefined && session.ends > performance.now() ? session : undefined;
    };

    /** undefined: by a signature. */
    function authenticate(method: string, target: string, body: string, cookie: string): Session | undefined {
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
        return undefined;
      }
      const session = sessionOf(cookies['APIC-cookie']);
      if (session === undefined)
        throw new FabricError('403', 'Token was invalid (Error: Token timeout)', 403);
      return session;
    }

    function subscribe(session: Session | undefined, path: string, query: URLSearchParams): string {
      if (session?.socket === undefined || subscribed < 0)
        throw new FabricError('400', 'Unable to process the subscription, the session has no web socket');
      const id = String(72057598349672448n + BigInt(given++));
      subscriptions.set(id, { id, path, query, session, ends: performance.now() + subscribed * 1000 });
      return id;
    }

    function renew(session: Session | undefined, id: string | null): void {
      const subscription = subscriptions.get(id ?? '');
      const isOver = subscription === undefined || subscription.ends < performance.now();
      if (isOver) subscriptions.delete(id ?? '');
      if (isOver || subscription.session !== session)
        throw new FabricError('400', `Subscription ${id} does not exist`);
      subscription.ends = performance.now() + subscribed * 1000;
    }

    fabric.onChange((changes) => {
      for (const change of changes) {
        const told = [...subscriptions.values()].filter(({ id, path, query, ends }) => {
          if (ends < performance.now()) subscriptions.delete(id);
          return ends >= performance.now() && concerns(path, query, change);
        });
        const { status, object, attributes } = change;
        const imdata = [
          {
            [object.className]: {
              attributes: { childAction: '', ...attributes, dn: object.dn, rn: '', status },
            },
          },
        ];
        for (const [session, its] of Map.groupBy(told, (each) => each.session))
          session.socket?.send(JSON.stringify({ subscriptionId: its.map(({ id }) => id), imdata }));
      }
    });

    const sockets = new WebSocketServer({ noServer: true });
    function upgrade(request: http.IncomingMessage, connection: Duplex, head: Buffer): void {
      const [, token] = /^\/socket(.+)$/.exec(decodeURI(request.url ?? '')) ?? [];
      const session = sessionOf(token);
      if (session === undefined || deaf) {
        connection.end('HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n');
        return;
      }
      sockets.handleUpgrade(request, connection, head, (socket) => {
        session.socket?.terminate();
        session.socket = socket;
        socket.on('close', () => {
          if (session.socket === socket) delete session.socket;
          for (const { id, session: its } of subscriptions.values())
            if (its === session) subscriptions.delete(id);
        });
        socket.on('error', () => {}); // it closes behind it
      });
    }

    function answer(method: string, target: string, body: string, cookie: string): Answer {
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
        return { all: login() };
      }
      const session = authenticate(method, target, body, cookie);
      if (path === '/api/aaaRefresh.json') return { all: login(session) };
      const { searchParams: query } = url;
      if (path === '/api/subscriptionRefresh.json') {
        renew(session, query.get('id'));
        return { all: [] };
      }
      const [, kind, name = ''] = PATH.exec(path) ?? [];
      if (kind !== undefined && method === 'GET') {
        const all = kind === 'class' ? fabric.ofClass(name, query) : fabric.ofDn(name, query);
        // Whether it tells that something comes that is not there no document says.
        if (query.get('subscription') !== 'yes' || (kind === 'mo' && all.length === 0)) return { all };
        return { all, subscriptionId: subscribe(session, path, query) };
      }
      if (kind === 'mo' && method === 'DELETE') fabric.remove(name);
      else if (kind === 'mo' && method === 'POST') fabric.post(name, JSON.parse(body));
      else throw new FabricError('400', `Request in ${path} is not valid`);
      return { all: [] };
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
          const { all, ...more } = answer(
            method,
            target,
            Buffer.concat(parts).toString(),
            headers.cookie ?? '',
          );
          const imdata = page(all, target);
          send(200, { totalCount: String(all.length), ...more, imdata }, all[0]?.aaaLogin?.attributes.token);
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
      server.on('upgrade', upgrade);
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
      ({ port } = server.address() as AddressInfo);
    };
    await start();
    return {
      url: `http${tls === undefined ? '' : 's'}://127.0.0.1:${port}`,
      requests,
      subscriptions: () => subscriptions.size,
      hangUp() {
        for (const { socket } of sessions.values()) socket?.terminate();
      },
      start,
      async stop() {
        endSessions();
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
