/**
 * The agent of one host, wired together:
 *
 *   netmaster --watch--> replica --+
 *                                  +--> compile --HostState--> data plane (worker thread) --> kernel
 *   Docker --calls--> attachments -+
 *                                  +--> names --> one nameserver a router
 *   netmaster <--registration, endpoints, applied revision-- intent
 *   netmaster <--hits of rules, denied flows-- flows <-- kernel
 */
import fs from 'node:fs';
import type { Logger } from 'pino';
import { connect } from '../client/client.ts';
import type { WatchedObject } from '../client/protocol.ts';
import type { Endpoint } from '../model/endpoint.ts';
import { answerLive } from './answers.ts';
import { openAttachments } from './attachments.ts';
import { openCompiler } from './compile/compile.ts';
import { equal } from './compile/memo.ts';
import { type Control, startControl } from './control.ts';
import { startConverging } from './converge.ts';
import { startDataplane } from './dataplane/index.ts';
import { startFlowReporting } from './flows.ts';
import { startIntent } from './intent.ts';
import { openMetrics } from './metrics.ts';
import { startNames } from './names.ts';
import type { Options } from './options.ts';
import { openReplica } from './replica.ts';
import { startDocker } from './runtimes/docker/index.ts';
import type { Endpoints } from './runtimes/runtime.ts';
import type { HostState } from './state.ts';
import { findGuarded, findUnderlay } from './underlay.ts';
import type { Attachment, LocalHost } from './view.ts';

/** Milliseconds between comparisons of this host's endpoints with netmaster's. */
const RECONCILE_INTERVAL = 5000;

export interface Agent {
  close(): Promise<void>;
}

export async function startAgent(options: Options, log: Logger): Promise<Agent> {
  fs.mkdirSync(options.stateDir, { recursive: true, mode: 0o700 });
  const underlay = findUnderlay(options.underlay);
  const guarded = await findGuarded(options.netmasters);
  const client = connect({ urls: options.netmasters });
  const attachments = openAttachments(options.stateDir, options.transitPairs);
  const dataplane = await startDataplane();
  const names = startNames({ dataplane, log });
  const intent = startIntent(
    client,
    { name: options.host, underlay: underlay.address, version: '2.0.0' },
    log,
  );

  const compiler = openCompiler();
  let state: HostState = { routers: [], exits: [], guarded: [] };
  let compiledAt = { store: '', revision: 0 };

  let reconciling: Promise<void> = Promise.resolve();
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
      names.update(replica.view, objects);
      if (listed) reconciling = reconciling.then(reconcile);
      soon();
      if (objects.some((o) => o.kind === 'network' || o.kind === 'endpointGroup')) docker?.intentChanged();
    },
  });
  names.update(replica.view, undefined);

  const metrics = openMetrics(
    () => attachments.all.size,
    () => replica.revision,
  );
  const converging = startConverging({
    dataplane,
    log,
    metrics,
    // Without its networks what runs would be taken for what nobody wants.
    ready: () => replica.store !== '' || attachments.all.size === 0,
    compile() {
      compiledAt = { store: replica.store, revision: replica.revision };
      const local: LocalHost = {
        name: options.host,
        underlay: underlay.address,
        underlayMtu: underlay.mtu,
        lastUnderlays: replica.lastUnderlays,
        transit: options.transit,
        transit6: options.transit6,
        guarded,
        attachments: attachments.all,
        transitSlots: attachments.slots,
      };
      state = compiler.compile(replica.view, local);
      return state;
    },
    done(applied, report) {
      void names.serve(applied.routers, report.created);
      const at = compiledAt;
      // With a list, what runs here is told first: its addresses must not be given to others.
      if (replica.live) void Promise.all([docker?.settled(), reconciling]).then(() => intent.applied(at));
      for (const endpoint of report.lost) {
        log.info(
          { endpoint },
          'the container is gone without a word from its runtime: removing its endpoint',
        );
        void endpoints.detach(endpoint);
      }
    },
  });
  const soon = (): void => {
    converging.now().catch(() => {}); // converge.ts logs and tries again
  };

  /** Addresses that the runtime has given back while netmaster was away: network and address. */
  const unreleased = new Set<string>();

  /** Makes netmaster's list of this host's endpoints equal to what is attached. */
  async function reconcile(): Promise<void> {
    if (!replica.live) return;
    for (const { endpoint } of attachments.all.values()) {
      if (equal(replica.view.endpoints.get(endpoint.endpointID), endpoint)) continue;
      await intent
        .register(endpoint, { hold: false })
        .catch((error) => log.warn({ err: error, endpoint: endpoint.endpointID }, 'endpoint not registered'));
    }
    for (const endpoint of replica.view.endpoints.values()) {
      if (endpoint.homingHost !== options.host || attachments.all.has(endpoint.endpointID)) continue;
      await intent
        .unregister(endpoint.endpointID)
        .catch((error) => log.warn({ err: error, endpoint: endpoint.endpointID }, 'endpoint not removed'));
    }
    // After the endpoints that had them.
    for (const entry of unreleased) {
      const [network = '', address = ''] = entry.split(' ');
      await intent.release(network, address).then(
        () => unreleased.delete(entry),
        (error) => log.warn({ err: error, network, address }, 'address not released; it is tried again'),
      );
    }
  }
  const reconcileTimer = setInterval(() => {
    reconciling = reconciling.then(reconcile);
  }, RECONCILE_INTERVAL);

  async function detach(id: string): Promise<void> {
    const attachment = attachments.all.get(id);
    if (attachment !== undefined) {
      attachments.remove(id);
      if (converging.ready()) await converging.now();
    }
    // Also for one that is not attached: a reserved address may hang on it.
    await intent
      .unregister(id)
      .catch((error) =>
        log.warn({ err: error, endpoint: id }, 'endpoint stays at netmaster until it answers'),
      );
  }

  const endpoints: Endpoints = {
    host: options.host,
    view: replica.view,
    known: () => replica.store !== '',
    attachments: attachments.all,
    async reserve(request) {
      const answer = await intent.reserve({ ...request, host: options.host });
      // Another container's by now.
      unreleased.delete(`${request.tenantName}:${request.networkName} ${answer.address}`);
      return answer;
    },
    async release(network, address) {
      await intent.release(network, address).catch((error) => {
        log.warn({ err: error, network, address }, 'address not released; it is tried again');
        unreleased.add(`${network} ${address}`);
      });
    },
    async attach(endpoint, sandbox, runtime) {
      const attachment: Attachment = {
        endpoint,
        phase: 'joining',
        publications: [],
        runtime,
        ...(sandbox === undefined ? {} : { sandbox }),
      };
      attachments.put(attachment);
      try {
        const [report] = await Promise.all([converging.now(), intent.register(endpoint, { hold: true })]);
        const failure = report.failed.find((f) => f.endpoint === endpoint.endpointID);
        if (failure !== undefined) throw new Error(failure.message);
        const port = state.routers.flatMap((r) => r.ports).find((p) => p.endpoint === endpoint.endpointID);
        if (port === undefined)
          throw new Error(`network ${endpoint.tenantName}:${endpoint.networkName} is not known on this host`);
        return { device: port.peer };
      } catch (error) {
        await detach(endpoint.endpointID);
        throw error;
      }
    },
    joined(id) {
      const attachment = attachments.all.get(id);
      if (attachment !== undefined && attachment.phase === 'joining')
        attachments.put({ ...attachment, phase: 'joined' });
    },
    async publish(id, publications) {
      const attachment = attachments.all.get(id);
      if (attachment === undefined) throw new Error(`endpoint ${id} has not joined on this host`);
      attachments.put({ ...attachment, publications });
      await converging.now();
    },
    async describe(id, description) {
      const attachment = attachments.all.get(id);
      if (attachment === undefined) return;
      const endpoint: Endpoint = { ...attachment.endpoint, ...description };
      if (equal(endpoint, attachment.endpoint)) return;
      attachments.put({ ...attachment, endpoint });
      await intent
        .register(endpoint, { hold: false })
        .catch((error) => log.warn({ err: error, endpoint: id }, 'endpoint not updated; it is tried again'));
    },
    detach,
  };

  const flows = startFlowReporting({ dataplane, client, host: options.host, log, state: () => state });
  const docker = await startDocker({ endpoints, options, log });
  const control: Control = await startControl(options.controlSocket, {
    state: () => state,
    replica,
    attachments: attachments.all,
    metrics,
  });
  soon();
  log.info(
    { underlay: underlay.address, mtu: underlay.mtu, attached: attachments.all.size },
    'netplugin is ready',
  );

  return {
    async close() {
      clearInterval(reconcileTimer);
      flows.close();
      await docker.close();
      await control.close();
      replica.close();
      intent.close();
      await converging.close();
      await names.close();
      await dataplane.close();
    },
  };
}
