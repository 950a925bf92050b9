/**
 * The agent of one host: what is known, and who follows it.
 *
 *   netmaster --watch--> replica --view--> followers, one of which is the kernel, which is news to those behind it
 *   Docker --endpoints--> attachments ------^                         |
 *   netmaster <--applied revision-- intent/acknowledge.ts <--settled--+
 *   netmaster <--registration, addresses, endpoints-- intent
 */
import { randomUUID } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import type { Logger } from 'pino';
import { connect } from '../client/client.ts';
import { giveBackMemory } from '../linux/libc.ts';
import { type HostKey, isEncrypted } from '../model/encryption.ts';
import { MAX_PREFIXES } from '../model/host.ts';
import { VERSION } from '../model/version.ts';
import type { Condition } from '../protocol/hosts.ts';
import { followBgp } from './bgp/daemon.ts';
import { openHostCertificate } from './certificate.ts';
import { openCompiler } from './compile/compile.ts';
import { conditionOf, problemsOf } from './condition.ts';
import { DEVICE_PREFIXES } from './constants.ts';
import { startControl } from './control.ts';
import { followKernel } from './converge.ts';
import { startDataplane } from './dataplane/index.ts';
import { keepAttachments, missingFrom, openAttachments } from './endpoints/attachments.ts';
import { openEndpoints } from './endpoints/endpoints.ts';
import { followHostAccess } from './endpoints/hostAccess.ts';
import { openHostKeys } from './hostKeys.ts';
import { openFollowers } from './intent/acknowledge.ts';
import { answerLive } from './intent/answers.ts';
import { followFlows } from './intent/flows.ts';
import { openHappenings } from './intent/happenings.ts';
import { startIntent } from './intent/netmaster.ts';
import { openReplica } from './intent/replica.ts';
import type { LocalHost } from './intent/view.ts';
import { MEMORY_INTERVAL } from './intervals.ts';
import { openMetrics } from './metrics.ts';
import { followNames } from './nameservers/supervisor.ts';
import type { Options } from './options.ts';
import { openCni } from './runtimes/cni/index.ts';
import { startDocker } from './runtimes/docker/index.ts';
import { keepPublications, openPublications } from './runtimes/publish.ts';
import { followChecks } from './services/checks.ts';
import { followHealth } from './services/health.ts';
import { followNodePorts } from './services/nodePorts.ts';
import { followAdmission } from './underlay/admission.ts';
import { followFirewalls } from './underlay/firewalls.ts';
import { followGateways } from './underlay/gateways.ts';
import { followPaths } from './underlay/paths.ts';
import { followPrefixes } from './underlay/prefixes.ts';
import { awaitUnderlay, followGuarded, type Underlay } from './underlay/underlay.ts';
import { followUplink } from './underlay/uplink.ts';

/**
 * Milliseconds until a netmaster that is silent counts as away: it answers within two seconds, and dockerd waits for some of
 * our calls, 30 s at most.
 */
const ANSWER = 4000;

const linkOf = ({ device, prefix }: Underlay): LocalHost['link'] =>
  prefix === undefined ? undefined : { device, prefix };

export interface Agent {
  close(): Promise<void>;
}

export async function startAgent(options: Options, log: Logger): Promise<Agent> {
  const { host, stateDir, transit, transit6 } = options;
  fs.mkdirSync(stateDir, { recursive: true, mode: 0o700 });
  giveBackMemory(MEMORY_INTERVAL);
  const underlay = await awaitUnderlay(options.underlay, log);
  const uplink = followUplink(options.uplink, log);
  const prefixes = followPrefixes({ ours: DEVICE_PREFIXES.exit, most: MAX_PREFIXES }, log);
  const guarded = await followGuarded(options.netmasters, log);
  const certificate = openHostCertificate(
    { stateDir, host, urls: options.netmasters, files: options.credentialFiles, account: options.account },
    log,
  );
  const client = connect({
    urls: options.netmasters,
    timeoutMs: ANSWER,
    name: `netplugin ${host}`,
    credentials: certificate.credentials,
  });
  certificate.keep(client);
  const attachments = openAttachments(stateDir, options.transitPairs);
  const keeping = keepAttachments(attachments, log);
  const keys = openHostKeys(stateDir, log);
  const dataplane = startDataplane(keys.secretOf);
  const firewalls = followFirewalls(dataplane, log);
  const run = randomUUID();
  /** When all that it comes from is there. */
  let condition: (() => Condition) | undefined;
  /** By which others may send here: those whose devices are there. */
  let told = keys.known;
  const registration = () => {
    const { address, mtu, prefix: link = '' } = underlay.now;
    return {
      name: host,
      underlay: address,
      mtu,
      link,
      prefixes: prefixes.now,
      ...(told.length > 0 && { keys: [...told] }),
      version: VERSION,
      run,
      ...(condition && { condition: condition() }),
    };
  };
  const intent = startIntent(client, registration, log, () => {
    keys.renew();
    told = [];
    void pass();
  });
  const replica = openReplica({
    client,
    folder: stateDir,
    log,
    host,
    asked(id, question) {
      answerLive(question, kernel.state, dataplane)
        .then((answer) => intent.answer(id, answer))
        .catch((error) => log.warn({ err: error }, "netmaster's question is not answered"));
    },
    missing: (list) => missingFrom(list, attachments.all.values()),
    // Live, and to be waited for: what it lacks may come with the next write.
    waiting(store) {
      intent.applied({ store, revision: 0 });
      endpoints.unknown();
    },
    changed: (objects, listed) => followers.tell({ type: 'view', objects, listed }),
  });
  const metrics = openMetrics({
    attached: () => attachments.all.size,
    revision: () => replica.revision,
    dropped: () => firewalls.dropped,
    names: () => names.health,
    neighbors: () => bgp.neighbors ?? [],
  });

  const followers = openFollowers({
    position: () => (replica.live ? { store: replica.store, revision: replica.revision } : undefined),
    acknowledge(applied) {
      replica.keep();
      intent.applied(applied);
    },
    log,
  });
  const compiler = openCompiler();
  const ownKeys = (): readonly HostKey[] => {
    const { settings, keyEpochs } = replica.view;
    return settings === undefined ? keys.known : keys.of(isEncrypted(settings) ? keyEpochs.epochs : []);
  };
  /** netmaster is told of a new key when what is sent by it arrives, and of none before it is gone. */
  function tellKeys(): void {
    const acting = new Set(dataplane.encrypting());
    const now = ownKeys().filter(({ key }) => acting.has(key));
    if (JSON.stringify(now) === JSON.stringify(told)) return;
    told = now;
    intent.changed();
  }
  const kernel = followers.add(
    followKernel({
      dataplane,
      log,
      metrics,
      // Without its networks what runs would be taken for what nobody wants.
      ready: () => replica.store !== '' || attachments.all.size === 0,
      compile: () =>
        compiler.compile(replica.view, {
          name: host,
          underlay: underlay.now.address,
          underlayMtu: underlay.now.mtu,
          link: linkOf(underlay.now),
          uplink: uplink.now,
          lastUnderlays: replica.lastUnderlays,
          keys: ownKeys(),
          lastKeys: replica.lastKeys,
          transit,
          transit6,
          guarded: guarded.all,
          attachments: attachments.all,
          transitSlots: attachments.slots,
        }),
      tell(news) {
        tellKeys();
        followers.tell(news);
      },
    }),
  );
  const names = followers.add(
    followNames({
      folder: path.dirname(options.controlSocket),
      host,
      logLevel: options.logLevel,
      log,
      known: () => (replica.store === '' ? undefined : replica.view.contents()),
    }),
  );
  const happenings = openHappenings();
  const repaired = (line: string): void => happenings.tell('repair', line);
  const admission = followers.add(followAdmission({ dataplane, firewalls, log, repaired }));
  const endpoints = followers.add(
    openEndpoints({
      host,
      replica,
      attachments,
      intent,
      log,
      kernel,
      dataplane,
      admitted: admission.settled,
    }),
  );
  followers.add(followHostAccess({ host, endpoints, vlans: () => uplink.now !== undefined, log }));
  const { refused } = metrics;
  followers.add(followFlows({ dataplane, client, host, log, view: replica.view, refused, happenings }));
  const publications = openPublications();
  keepPublications(publications, endpoints, log);
  const docker = await startDocker({ endpoints, publications, options, log, happened: happenings.tell });
  followers.add(docker.offer);
  const peers = () => [...replica.view.hosts.values()].filter(({ name }) => name !== host);
  const bgp = followers.add(
    followBgp({
      folder: path.dirname(options.controlSocket),
      log,
      bgp: () => replica.view.bgps.get(host),
      known: () => replica.store !== '',
      happened: (line) => happenings.tell('neighbor', line),
      changed: () => intent.changed(),
    }),
  );
  const paths = followPaths({ underlay: () => underlay.now, peers, log });
  const gateways = followGateways({
    dataplane,
    moved: () => void pass(),
    happened: (line) => happenings.tell('neighbor', line),
  });
  const networks = () => replica.view.networks;
  const seen = {
    fastPath: dataplane.fastPath,
    underlay,
    uplink,
    prefixes,
    networks,
    gateways,
    firewalls,
    paths,
    bgp,
    docker,
    keys,
    kernel,
  };
  condition = () => conditionOf(seen);
  const denied = (line: string): void => happenings.tell('denial', line);
  const cni = followers.add(openCni({ endpoints, publications, places: options, log, denied }));
  // Behind Docker's claims: what runs keeps the ports that it publishes.
  const view = () => replica.view;
  followers.add(followNodePorts({ view, log }));
  followers.add(followHealth({ host, view, log }));
  followers.add(followChecks({ host, view, client, log }));

  function pass(): Promise<unknown> {
    return kernel.now().catch(() => {}); // converge.ts logs and tries again
  }
  // The tunnels first: who hears where this host is sends to it.
  underlay.onChange((before) => {
    if (underlay.now.address !== before.address) client.reconnect();
    void pass().then(intent.changed);
  });
  uplink.onChange(() => void pass());
  const control = await startControl(options.controlSocket, {
    state: () => kernel.state,
    replica,
    attachments: attachments.all,
    firewalls,
    metrics,
    underlay,
    registered: () => intent.registered,
    async examined() {
      await firewalls.look();
      const { netmasters } = options;
      const problems = problemsOf(seen);
      return { host, netmasters, peers: peers(), problems, repaired: kernel.repaired };
    },
    cni: cni.answer,
  });
  void pass();
  await names.started;
  log.info({ underlay: underlay.now, attached: attachments.all.size }, 'netplugin is ready');

  return {
    async close() {
      underlay.close();
      uplink.close();
      prefixes.close();
      gateways.close();
      keeping.close();
      paths.close();
      guarded.close();
      await docker.close();
      await control.close();
      replica.close();
      intent.close();
      await followers.close();
      await dataplane.close();
      await certificate.close();
      client.close();
    },
  };
}
