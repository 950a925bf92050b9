/** One nameserver in each router, and in containers that cannot reach it there, by what the agent told last. */
import type { Logger } from 'pino';
import { receiveRound, sendDatagrams } from '../../linux/datagrams.ts';
import { namespaceId, namespacePath } from '../../linux/netns.ts';
import type { WatchedObject } from '../../protocol/messages.ts';
import { inTurn } from '../../turns.ts';
import { ARRIVAL } from '../constants.ts';
import { createNames } from '../dns/lookup.ts';
import { type MayAsk, reachOf } from '../dns/reach.ts';
import { type Nameserver, startNameserver } from '../dns/server.ts';
import { openUpstreams } from '../dns/upstreams.ts';
import { type MutableView, openView } from '../intent/view.ts';
import { AWAITED_INTERVAL, NAMES_INTERVAL } from '../intervals.ts';
import { fromRouter } from './outside.ts';
import type { ServedRouter } from './parcel.ts';
import { openResolver, openRouter, type RouterAccess } from './router.ts';

export interface Nameservers {
  /** What is known is this and nothing else. */
  list(objects: readonly WatchedObject[]): void;
  change(objects: readonly WatchedObject[]): void;
  /** Resolves when these routers have nameservers, as far as they can have, and no others. */
  serve(routers: readonly ServedRouter[]): Promise<void>;
  /** Namespaces with a nameserver. */
  readonly routers: readonly string[];
  close(): Promise<void>;
}

/** A router's, and by their namespaces the containers in which it listens too, each known by an address. */
interface Running {
  readonly router: RouterAccess;
  readonly server: Nameserver;
  readonly inside: Map<string, { readonly id: number; readonly client: string; close(): Promise<void> }>;
}

export function openNameservers(log: Logger): Nameservers {
  let view: MutableView = openView();
  const names = createNames();
  names.update(view, undefined);
  const upstreams = openUpstreams();
  const running = new Map<string, Running>();
  let wanted: readonly ServedRouter[] = [];
  /** By namespace: as the kernel has its router now. */
  const reach = new Map<string, MayAsk>();

  /**
   * Routers and containers that could not have one, until they can or are gone: each is tried again at every look, and told of once, as a
   * container's own programs may keep its port for good.
   */
  const failing = new Set<string>();
  function attempt(place: string, run: () => void, tell: (error: unknown) => void): void {
    try {
      run();
      failing.delete(place);
    } catch (error) {
      if (!failing.has(place)) tell(error);
      failing.add(place);
    }
  }
  /** Containers whose namespaces are not there, and since when. */
  const awaited = new Map<string, number>();
  function isAwaited(sandbox: string): boolean {
    const since = awaited.get(sandbox) ?? performance.now();
    awaited.set(sandbox, since);
    return performance.now() - since < ARRIVAL;
  }

  async function end(namespace: string): Promise<void> {
    const open = running.get(namespace);
    running.delete(namespace);
    await open?.server.close();
    open?.router.close();
  }

  function start({ tenant, namespace }: ServedRouter): void {
    const router = openRouter(namespace);
    const server = startNameserver({
      sockets: router.sockets,
      answer: (client, question) => names.answer(tenant, client, question),
      originalDestination: async (protocol, client) => router.originalDestination(protocol, client),
      upstreams: () => upstreams.current(),
      outside: fromRouter(namespace),
      mayAsk: (...asked) => reach.get(namespace)?.(...asked) === true,
      receiveRound,
      sendDatagrams,
      log,
    });
    running.set(namespace, { router, server, inside: new Map() });
  }

  /** Containers in which it listens too. False: one is about to be there, as its runtime makes its namespace after it has joined. */
  async function placeInside(wanted: ServedRouter['ports'], { server, inside }: Running): Promise<boolean> {
    const clients = new Map(
      wanted.flatMap(({ resolver, sandbox, addresses: [client] }) =>
        resolver && sandbox !== undefined && client !== undefined ? [[sandbox, client]] : [],
      ),
    );
    for (const [sandbox, { id, client, close }] of inside)
      if (clients.get(sandbox) !== client || namespaceId(sandbox) !== id) {
        inside.delete(sandbox);
        await close();
      }
    let all = true;
    for (const [sandbox, client] of clients) {
      const id = namespaceId(sandbox);
      if (id === undefined) {
        if (isAwaited(sandbox)) all = false;
        continue;
      }
      awaited.delete(sandbox);
      if (inside.has(sandbox)) continue;
      attempt(
        sandbox,
        () => inside.set(sandbox, { id, client, close: openResolver(sandbox, client, server.listen) }),
        (err) => log.warn({ err, sandbox, client }, 'no nameserver in the container; it is tried again'),
      );
    }
    return all;
  }

  /** False: a container is about to be there. */
  async function place(): Promise<boolean> {
    const namespaces = new Set(wanted.map((router) => router.namespace));
    const places = new Set<string | undefined>(namespaces);
    for (const { ports } of wanted)
      for (const { resolver, sandbox } of ports) if (resolver) places.add(sandbox);
    for (const place of failing) if (!places.has(place)) failing.delete(place);
    for (const place of awaited.keys()) if (!places.has(place)) awaited.delete(place);
    for (const [namespace, { router }] of running) {
      const id = namespaceId(namespacePath(namespace)); // one whose name is gone is the same router still
      if (!namespaces.has(namespace) || (id !== undefined && id !== router.id)) await end(namespace);
    }
    for (const router of wanted)
      if (!running.has(router.namespace))
        attempt(
          router.namespace,
          () => start(router),
          (err) =>
            log.error({ err, namespace: router.namespace }, 'no nameserver in the router; it is tried again'),
        );
    let all = true;
    for (const { namespace, ports } of wanted) {
      const open = running.get(namespace);
      if (open !== undefined && !(await placeInside(ports, open))) all = false;
    }
    return all;
  }
  const turns = inTurn(place, {
    every: NAMES_INTERVAL,
    whole: (all) => all,
    again: (failures) => (failures > 0 ? AWAITED_INTERVAL : undefined),
  });

  return {
    list(objects) {
      view = openView(objects);
      names.update(view, undefined);
    },
    change(objects) {
      for (const object of objects) view.put(object);
      names.update(view, objects);
    },
    serve(routers) {
      wanted = routers;
      reach.clear();
      for (const router of routers) reach.set(router.namespace, reachOf(router));
      return turns.next().then(() => {});
    },
    get routers() {
      return [...running.keys()];
    },
    async close() {
      wanted = [];
      turns.ask();
      await turns.close();
    },
  };
}
