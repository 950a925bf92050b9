/**
 * The agent of one host, wired together:
 *
 *   netmaster --watch--> replica --+
 *                                  +--> compile --HostState--> data plane --> kernel
 *   Docker --endpoints--> attachments -+
 *                                  +--> names --> a process that outlives this one --> one nameserver a router
 *   netmaster <--registration, endpoints, applied revision-- intent
 *   netmaster <--hits of rules, denied flows-- flows <-- kernel
 */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import { connect } from '../client/client.ts';
import { VERSION } from '../model/version.ts';
import type { WatchedObject } from '../protocol/messages.ts';
import { answerLive } from './answers.ts';
import { openAttachments } from './attachments.ts';
import { openCompiler } from './compile/compile.ts';
import { type Control, startControl } from './control.ts';
import { startConverging } from './converge.ts';
import { startDataplane } from './dataplane/index.ts';
import { openEndpoints } from './endpoints.ts';
import { followFirewalls } from './firewalls.ts';
import { startFlowReporting } from './flows.ts';
import { startIntent } from './intent.ts';
import { openMetrics } from './metrics.ts';
import { startNames } from './names.ts';
import type { Options } from './options.ts';
import { openReplica } from './replica.ts';
import { type DockerRuntime, startDocker } from './runtimes/docker/index.ts';
import type { HostState } from './state.ts';
import { followGuarded, followUnderlay } from './underlay.ts';
import type { LocalHost } from './view.ts';

/**
 * Milliseconds until a netmaster that is silent counts as away: it answers within two seconds, and dockerd waits for some of
 * our calls, 30 s at most.
 */
const ANSWER = 4000;

/** Milliseconds between two looks at whether what a start of the agent needs is still on disk. */
const KEEP_INTERVAL = 3000;

export interface Agent {
  close(): Promise<void>;
}

export async function startAgent(options: Options, log: Logger): Promise<Agent> {
  fs.mkdirSync(options.stateDir, { recursive: true, mode: 0o700 });
  const underlay = followUnderlay(options.underlay, log);
  const guarded = await followGuarded(options.netmasters, log);
  const client = connect({ urls: options.netmasters, timeoutMs: ANSWER });
  const attachments = openAttachments(options.stateDir, options.transitPairs);
  const keeping = setInterval(() => {
    try {
      if (attachments.restore()) log.error('attachments.json was deleted or moved away: it is written anew');
    } catch (error) {
      log.error({ err: error }, 'attachments.json is gone and cannot be written anew; it is tried again');
    }
  }, KEEP_INTERVAL);
  const dataplane = startDataplane();
  const run = randomUUID();
  const intent = startIntent(
    client,
    () => ({
      name: options.host,
      underlay: underlay.now.address,
      mtu: underlay.now.mtu,
      version: VERSION,
      run,
    }),
    log,
  );

  const compiler = openCompiler();
  let state: HostState = { routers: [], exits: [], guarded: [], underlay: underlay.now.address, members: [] };
  let compiledAt = { store: '', revision: 0 };
  /** Not before the last of what it needs: netmaster and the kernel may have news earlier. */
  let docker: DockerRuntime | undefined;

  const replica = openReplica({
    client,
    folder: options.stateDir,
    log,
    host: options.host,
    asked(id, question) {
      answerLive(question, state, dataplane)
        .then((answer) => intent.answer(id, answer))
        .catch((error) => log.warn({ err: error }, "netmaster's question is not answered"));
    },
    missing(list) {
      for (const { endpoint } of attachments.all.values()) {
        const { tenantName, networkName, groupName } = endpoint;
        const network = `${tenantName}:${networkName}`;
        if (!list.networks.has(network)) return `network ${network}`;
        if (groupName && !list.groups.has(`${tenantName}:${groupName}`))
          return `group ${tenantName}:${groupName}`;
      }
      return '';
    },
    // Live, and to be waited for: what it lacks may come with the next write.
    waiting: (store) => intent.applied({ store, revision: 0 }),
    changed(objects: readonly WatchedObject[], listed: boolean) {
      names.update(objects);
      if (listed) endpoints.reconcile();
      soon();
      if (objects.some((o) => o.kind === 'network' || o.kind === 'endpointGroup')) docker?.intentChanged();
    },
  });
  const names = startNames({
    folder: path.dirname(options.controlSocket),
    host: options.host,
    logLevel: options.logLevel,
    log,
    known: () => (replica.store === '' ? undefined : replica.view.contents()),
  });

  const firewalls = followFirewalls(dataplane, log);
  const metrics = openMetrics({
    attached: () => attachments.all.size,
    revision: () => replica.revision,
    dropped: () => firewalls.dropped,
    names: () => names.health,
  });
  const converging = startConverging({
    dataplane,
    log,
    metrics,
    firewalls,
    // Without its networks what runs would be taken for what nobody wants.
    ready: () => replica.store !== '' || attachments.all.size === 0,
    compile() {
      compiledAt = { store: replica.store, revision: replica.revision };
      const local: LocalHost = {
        name: options.host,
        underlay: underlay.now.address,
        underlayMtu: underlay.now.mtu,
        lastUnderlays: replica.lastUnderlays,
        transit: options.transit,
        transit6: options.transit6,
        guarded: guarded.all,
        attachments: attachments.all,
        transitSlots: attachments.slots,
      };
      state = compiler.compile(replica.view, local);
      return state;
    },
    done(applied, report) {
      const served = names.serve(applied.routers);
      const at = compiledAt;
      // With a list, what runs here is told first: its addresses must not be given to others.
      if (replica.live && report.complete) {
        replica.keep();
        void Promise.all([served, docker?.settled(), endpoints.reconciled()]).then(() => intent.applied(at));
      }
      for (const endpoint of report.lost) {
        log.info(
          { endpoint },
          'the container is gone without a word from its runtime: removing its endpoint',
        );
        endpoints
          .detach(endpoint)
          .catch((error) => log.warn({ err: error, endpoint }, 'endpoint not removed; it is tried again'));
      }
    },
  });
  const soon = (): void => {
    converging.now().catch(() => {}); // converge.ts logs and tries again
  };

  // The tunnels first: who hears where this host is sends to it.
  underlay.onChange((before) => {
    if (underlay.now.address !== before.address) client.reconnect();
    converging
      .now()
      .catch(() => {}) // converge.ts logs and tries again
      .then(intent.changed);
  });

  const endpoints = openEndpoints({
    host: options.host,
    replica,
    attachments,
    intent,
    log,
    converging,
    state: () => state,
  });

  const flows = startFlowReporting({
    dataplane,
    client,
    host: options.host,
    log,
    state: () => state,
    refused: metrics.refused,
  });
  docker = await startDocker({ endpoints, options, log });
  const control: Control = await startControl(options.controlSocket, {
    state: () => state,
    replica,
    attachments: attachments.all,
    firewalls,
    metrics,
    underlay,
    registered: () => intent.registered,
  });
  soon();
  await names.started;
  log.info({ underlay: underlay.now, attached: attachments.all.size }, 'netplugin is ready');

  return {
    async close() {
      underlay.close();
      clearInterval(keeping);
      guarded.close();
      endpoints.close();
      flows.close();
      await docker?.close();
      await control.close();
      replica.close();
      intent.close();
      await converging.close();
      names.close();
      await dataplane.close();
      client.close();
    },
  };
}
