/**
 * netkube: what a cluster says and what netmaster has, and who makes the second follow from the first.
 *
 *   API server --list, watch--> world.ts --keys--> reconcile.ts --apply, delete--> netmaster --watch--> netmaster.ts --keys--+
 *        ^                                             ^  |                                                                 |
 *        +--events, conditions-------------------------|--+                                                                 |
 *                                                      +--------------------------------------------------------------------+
 *
 * Nothing is kept on disk: after a start all is listed and compared. Of several processes the one that holds the lease writes.
 */
import type { KubeConfig } from '@kubernetes/client-node';
import type { Logger } from 'pino';
import { connect } from '../client/client.ts';
import { openKubernetes } from './cluster/api.ts';
import { openEvents } from './cluster/events.ts';
import { holdLease } from './cluster/lease.ts';
import { keepNodeConditions } from './cluster/nodes.ts';
import { DECLARED, openDeclared } from './declared.ts';
import { openIdentity } from './identity.ts';
import { openMetrics } from './metrics.ts';
import { followNetmaster } from './netmaster.ts';
import { withPodNetwork } from './network.ts';
import type { Options } from './options.ts';
import { openReconciler } from './reconcile.ts';
import { serveStatus } from './status.ts';
import { openWorld } from './world.ts';

export interface Controller {
  close(): Promise<void>;
}

export async function startController(
  options: Options,
  config: KubeConfig,
  log: Logger,
): Promise<Controller> {
  const { tenant, network, subnet, subnet6 } = options;
  const api = openKubernetes(config);
  const identity = await openIdentity(options, (line) => log.warn(line));
  const client = connect({ urls: options.netmasters, name: 'netkube', credentials: identity.credentials });
  const say = (text: string) => (error: Error, first: boolean) => {
    if (first) log.warn(`${text}: ${error.message}`);
    else log.debug(`${text}: ${error.message}`);
  };
  const events = openEvents(api, (error) => log.warn(`an event is not written: ${error.message}`));

  const world = openWorld({
    api,
    events,
    defaults: { tenant, network },
    networkOfGroup: (key) => actual.networkOfGroup(key),
    touch: (kind, key) => reconciler.touch(kind, key),
    touchAll: () => reconciler.touchAll(),
    touchNode: (name) => nodes.look(name),
    failed: (resource, error, first) => say(`${resource} are not followed`)(error, first),
  });
  const declared = openDeclared({
    api,
    touch: (kind, key) => reconciler.touch(kind, key),
    touchAll: () => reconciler.touchAll(),
    leads: () => lease.leads(),
    failed: (resource, error, first) => say(`${resource} are not followed`)(error, first),
    unwritten: (error) => log.warn(`a status is not written: ${error.message}`),
  });
  const sources = [
    ...declared.sources.map((source) =>
      source.kind !== 'network' || (subnet === '' && subnet6 === '')
        ? source
        : withPodNetwork(
            source,
            { tenant, network, subnet, subnet6 },
            () => actual,
            (message) => log.error(`the network of pods is refused: ${message}`),
          ),
    ),
    ...world.sources,
  ];
  const followed = [...world.followed, ...declared.followed];
  const actual = followNetmaster({
    client,
    kinds: sources.map(({ kind }) => kind),
    changed(kind, key) {
      reconciler.touch(kind, key);
      if (kind === 'host') nodes.look(key);
      if (kind === 'endpointGroup') world.touchGroup(key);
      // What others declare may be what something was refused for.
      if (REFERRED.has(kind)) reconciler.retryRefused();
    },
    synced() {
      reconciler.touchAll();
      for (const name of actual.hosts) nodes.look(name);
    },
    failed: say('netmaster is not followed'),
  });
  const lease = holdLease(api, {
    namespace: options.leaseNamespace,
    name: 'netkube',
    identity: options.identity,
    changed(leads) {
      log.info(leads ? 'holds the lease: writes' : 'does not hold the lease: another writes');
      if (!leads) return;
      reconciler.touchAll();
      for (const name of actual.hosts) nodes.look(name);
    },
    failed: say('the lease is not renewed'),
  });
  const nodes = keepNodeConditions({
    api,
    node: (name) => world.node(name),
    lives: (name) => (actual.synced ? actual.hosts.has(name) : undefined),
    leads: lease.leads,
    failed: (error) => log.warn(`a node's condition is not written: ${error.message}`),
  });
  const metrics = openMetrics({
    followed,
    waiting: () => reconciler.waiting,
    refused: () => reconciler.refused,
    leads: lease.leads,
  });
  const reconciler = openReconciler({
    client,
    actual,
    sources,
    leads: lease.leads,
    wrote: metrics.wrote,
    failed: say('netmaster is not written'),
  });
  const ready = (): string[] => [
    ...(actual.synced ? [] : ['netmaster is not followed yet']),
    ...followed.flatMap(({ name, synced }) => (synced ? [] : [`${name} are not listed yet`])),
  ];
  const status = await serveStatus(options.listen, { ready, metrics });
  log.info('netkube is ready');

  return {
    async close() {
      await status.close();
      await reconciler.close();
      await world.close();
      await declared.close();
      await actual.close();
      nodes.close();
      await lease.close();
      client.close();
      identity.close();
      api.close();
    },
  };
}

/** Kinds that others refer to. */
const REFERRED: ReadonlySet<string> = new Set(DECLARED.map(({ kind }) => kind));
