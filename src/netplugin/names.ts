/** One nameserver in each tenant's router, started and ended as routers come and go. */
import type { Logger } from 'pino';
import type { WatchedObject } from '../client/protocol.ts';
import type { Dataplane } from './dataplane/index.ts';
import { createNames } from './dns/names.ts';
import { type MayAsk, reachOf } from './dns/reach.ts';
import { type Nameserver, startNameserver } from './dns/server.ts';
import { openUpstreams } from './dns/upstreams.ts';
import { fromRouter } from './outside.ts';
import type { Router } from './state.ts';
import type { View } from './view.ts';

export interface NameService {
  /** `objects` are those that changed; undefined: all. */
  update(view: View, objects: readonly WatchedObject[] | undefined): void;
  /** Makes the running nameservers those of these routers. */
  serve(routers: readonly Router[], recreated?: readonly string[]): Promise<void>;
  close(): Promise<void>;
}

export function startNames({ dataplane, log }: { dataplane: Dataplane; log: Logger }): NameService {
  const names = createNames();
  const upstreams = openUpstreams();
  const running = new Map<string, Nameserver>();
  /** By namespace: as the kernel has its router now. */
  const reach = new Map<string, MayAsk>();
  let serving: Promise<void> = Promise.resolve();

  async function serve(routers: readonly Router[], recreated: readonly string[]): Promise<void> {
    const wanted = new Map(routers.map((router) => [router.namespace, router]));
    for (const [namespace, server] of running)
      if (!wanted.has(namespace) || recreated.includes(namespace)) {
        running.delete(namespace);
        await server.close();
      }
    for (const [namespace, router] of wanted) {
      if (running.has(namespace)) continue;
      try {
        const sockets = await dataplane.openNameserver(namespace);
        running.set(
          namespace,
          startNameserver({
            sockets,
            answer: (client, question) => names.answer(router.tenant, client, question),
            originalDestination: (protocol, client) =>
              dataplane.originalDestination(namespace, protocol, client),
            upstreams: () => upstreams.current(),
            outside: fromRouter(namespace),
            mayAsk: (...asked) => reach.get(namespace)?.(...asked) === true,
            log,
          }),
        );
      } catch (error) {
        log.error({ err: error, namespace }, 'no nameserver in the router; it is tried again');
      }
    }
  }

  return {
    update: (view, objects) => names.update(view, objects),
    serve(routers, recreated = []) {
      // At once: what policy denies is denied when the command that said so is answered.
      reach.clear();
      for (const router of routers) reach.set(router.namespace, reachOf(router));
      serving = serving
        .then(() => serve(routers, recreated))
        .catch((error) => log.error({ err: error }, 'nameservers not brought up to date; it is tried again'));
      return serving;
    },
    async close() {
      await serving;
      for (const server of running.values()) await server.close();
    },
  };
}
