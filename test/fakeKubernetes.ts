/**
 * An API server of a test's own, as far as its list, watch and small writes go: for what the real one does not do on command. It
 * forgets its history, cuts watches off, refuses, and has resources that come and go.
 */
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';
import { KubeConfig } from '@kubernetes/client-node';
import { onTestFinished } from 'vitest';

interface Stored {
  metadata: { name: string; namespace?: string; resourceVersion?: string; uid?: string };
  [field: string]: unknown;
}

export interface FakeKubernetes {
  readonly config: KubeConfig;
  /** Creates or replaces; `path` of its collection over all namespaces, as /api/v1/pods. */
  put(path: string, object: object): void;
  remove(path: string, name: string, namespace?: string): void;
  /** The server has this resource from now on, or no longer. */
  serve(path: string, served: boolean): void;
  get(path: string, name: string, namespace?: string): Stored | undefined;
  list(path: string): Stored[];
  /** Ends all watches; `forget`: what was before cannot be resumed from. */
  cut(forget?: boolean): void;
  /** What was asked, as `GET /api/v1/pods list`. */
  readonly asked: string[];
  readonly watches: number;
}

const COLLECTIONS = [
  '/api/v1/pods',
  '/api/v1/namespaces',
  '/api/v1/nodes',
  '/api/v1/services',
  '/api/v1/events',
  '/apis/discovery.k8s.io/v1/endpointslices',
  '/apis/networking.k8s.io/v1/networkpolicies',
  '/apis/coordination.k8s.io/v1/leases',
];

export async function fakeKubernetes(): Promise<FakeKubernetes> {
  const collections = new Map<string, Map<string, Stored>>(COLLECTIONS.map((path) => [path, new Map()]));
  const watches = new Set<{ path: string; response: http.ServerResponse }>();
  const history: { version: number; path: string; type: string; object: Stored }[] = [];
  const asked: string[] = [];
  let version = 1;
  let oldest = 0;

  const idOf = (name: string, namespace: string | undefined): string => `${namespace ?? ''}/${name}`;
  function changed(path: string, type: string, object: Stored): void {
    history.push({ version, path, type, object });
    for (const watch of watches)
      if (watch.path === path) watch.response.write(`${JSON.stringify({ type, object })}\n`);
  }
  function put(path: string, given: object): Stored {
    const collection = collections.get(path) as Map<string, Stored>;
    const object = structuredClone(given) as Stored;
    const id = idOf(object.metadata.name, object.metadata.namespace);
    const type = collection.has(id) ? 'MODIFIED' : 'ADDED';
    object.metadata.resourceVersion = `${++version}`;
    object.metadata.uid ??= `uid-${version}`;
    collection.set(id, object);
    changed(path, type, object);
    return object;
  }

  /** `/api/v1/namespaces/shop/pods/web/status` to the collection and the name. */
  function resolve(pathname: string): { path: string; name?: string; namespace?: string } {
    const text = pathname.replace(/\/status$/, '');
    if (collections.has(text)) return { path: text };
    const namespaced = /^(.*)\/namespaces\/([^/]+)\/([^/]+)(?:\/([^/]+))?$/.exec(text);
    if (namespaced) {
      const [, base, namespace, plural, name] = namespaced as unknown as string[];
      return { path: `${base}/${plural}`, namespace: namespace as string, ...(name ? { name } : {}) };
    }
    const at = text.lastIndexOf('/');
    return { path: text.slice(0, at), name: text.slice(at + 1) };
  }

  const server = http.createServer(async (request, response) => {
    const url = new URL(request.url as string, 'http://x');
    const { path, name, namespace } = resolve(url.pathname);
    const collection = collections.get(path);
    const answer = (status: number, body: object): void =>
      void response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
    const watching = url.searchParams.get('watch') === 'true';
    asked.push(`${request.method} ${url.pathname}${watching ? ' watch' : ''}`);
    if (collection === undefined) return answer(404, { message: 'the server could not find it', code: 404 });
    let text = '';
    for await (const chunk of request) text += chunk;
    const body = text === '' ? undefined : (JSON.parse(text) as Stored);
    if (watching) {
      const from = Number(url.searchParams.get('resourceVersion'));
      response.writeHead(200, { 'content-type': 'application/json' });
      if (from < oldest) {
        response.end(
          `${JSON.stringify({ type: 'ERROR', object: { code: 410, message: 'too old resource version' } })}\n`,
        );
        return;
      }
      const watch = { path, response };
      watches.add(watch);
      response.on('close', () => watches.delete(watch));
      response.flushHeaders();
      for (const { version: at, path: of, type, object } of history)
        if (at > from && of === path) response.write(`${JSON.stringify({ type, object })}\n`);
      return;
    }
    if (name === undefined && request.method === 'GET') {
      // Of a few objects, pages as small as there can be.
      const all = [...collection.values()];
      const page = all.length < 100 ? 2 : Number(url.searchParams.get('limit'));
      const start = Number(url.searchParams.get('continue') ?? 0);
      const more = start + page < all.length ? { continue: `${start + page}` } : {};
      const metadata = { resourceVersion: `${version}`, ...more };
      return answer(200, { metadata, items: all.slice(start, start + page) });
    }
    const own = name ?? (body?.metadata.name as string);
    const id = idOf(own, namespace);
    const found = collection.get(id);
    if (request.method === 'POST') {
      if (found !== undefined) return answer(409, { message: `"${own}" already exists` });
      return answer(201, put(path, body as Stored));
    }
    if (found === undefined) return answer(404, { message: `"${own}" not found` });
    if (request.method === 'GET') return answer(200, found);
    if (request.method === 'PUT') {
      if (body?.metadata.resourceVersion !== found.metadata.resourceVersion)
        return answer(409, { message: 'the object has been modified' });
      return answer(200, put(path, body as Stored));
    }
    if (request.method === 'PATCH')
      return answer(
        200,
        put(
          path,
          merge(found, body as object, /strategic/.test(request.headers['content-type'] ?? '')) as Stored,
        ),
      );
    answer(405, { message: 'not here' });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  const config = new KubeConfig();
  config.loadFromOptions({
    clusters: [
      {
        name: 'c',
        server: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
        skipTLSVerify: true,
      },
    ],
    users: [{ name: 'u', token: 't' }],
    contexts: [{ name: 'x', cluster: 'c', user: 'u' }],
    currentContext: 'x',
  });

  return {
    config,
    asked,
    put: (path, object) => void put(path, object),
    remove(path, name, namespace) {
      const collection = collections.get(path);
      const object = collection?.get(idOf(name, namespace));
      if (object === undefined) throw new Error(`there is no ${name}`);
      collection?.delete(idOf(name, namespace));
      object.metadata.resourceVersion = `${++version}`;
      changed(path, 'DELETED', object);
    },
    serve(path, served) {
      if (served) collections.set(path, new Map());
      else collections.delete(path);
    },
    get: (path, name, namespace) => collections.get(path)?.get(idOf(name, namespace)),
    list: (path) => [...(collections.get(path)?.values() ?? [])],
    cut(forget = false) {
      if (forget) oldest = ++version;
      for (const { response } of watches) response.destroy();
    },
    get watches() {
      return watches.size;
    },
  };
}

/** JSON merge patch; lists of conditions are merged by type, as strategic merge patches of nodes are. */
function merge(into: unknown, patch: unknown, strategic: boolean): unknown {
  if (strategic && Array.isArray(patch) && Array.isArray(into)) {
    const types = new Set(patch.map((entry) => (entry as { type?: string }).type));
    return [...into.filter((entry) => !types.has((entry as { type?: string }).type)), ...patch];
  }
  if (typeof patch !== 'object' || patch === null || Array.isArray(patch)) return patch;
  const merged: Record<string, unknown> = { ...(into as object) };
  for (const [key, value] of Object.entries(patch))
    if (value === null) delete merged[key];
    else merged[key] = merge(merged[key], value, strategic);
  return merged;
}
