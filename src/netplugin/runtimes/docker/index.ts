/**
 * Docker's side of the agent:
 *
 *   driver.ts      answers dockerd's calls on the plugin socket        networks.ts   offers networks to Docker
 *   containers.ts  learns names, labels and health from Docker's API   remains.ts    clears away what Docker keeps of failures
 *   stopped.ts     what stopped containers had                         leave.ts      takes the host's networks from Docker
 *   plugin.ts      the socket of a driver                       swarm.ts      Docker in Swarm mode: what it has
 *                                                               swarmNetworks.ts  offers networks to it
 */
import path from 'node:path';
import type { Logger } from 'pino';
import type { Problem } from '../../../protocol/hosts.ts';
import { listenOnSocket } from '../../control.ts';
import type { Follower } from '../../follower.ts';
import type { Options } from '../../options.ts';
import type { Publications } from '../publish.ts';
import type { Endpoints } from '../runtime.ts';
import { followContainers } from './containers.ts';
import { containerOf, createDriver, mostOf, readTarget } from './driver.ts';
import { openDocker } from './engine.ts';
import { followOffer, startOffer } from './networks.ts';
import { closeServer, pluginServer } from './plugin.ts';
import { openRemains } from './remains.ts';
import { openStopped } from './stopped.ts';
import { followSwarm, swarmSocket } from './swarm.ts';
import { offerToSwarm, removeRefused } from './swarmNetworks.ts';

export interface DockerRuntime {
  /** Docker's list of networks. */
  readonly offer: Follower;
  /** What Docker did not take. */
  readonly problems: readonly Problem[];
  /** Docker is answered no more. */
  close(): Promise<void>;
}

export interface DockerOptions {
  readonly endpoints: Endpoints;
  readonly publications: Publications;
  readonly options: Options;
  readonly log: Logger;
  /** Told of a container that was not attached, and of networks that Docker does not have or has again, in a line. */
  happened(kind: 'denial' | 'name', line: string): void;
}

/** Calls by which a container is attached, and those by which Swarm has a network, which tells nobody what it is refused. */
const ATTACHING =
  /^(?:IpamDriver\.Request(?:Address|Pool)|NetworkDriver\.(?:AllocateNetwork|CreateEndpoint|Join|ProgramExternalConnectivity))$/;

export async function startDocker({
  endpoints,
  publications,
  options,
  log,
  happened,
}: DockerOptions): Promise<DockerRuntime> {
  const denied = (line: string): void => happened('denial', line);
  const docker = openDocker(options.dockerSocket);
  const stopped = openStopped(docker, options.stateDir, log);
  const driver = createDriver({
    endpoints,
    publications,
    stopped,
    folder: options.stateDir,
    log,
    swarmId: () => followed.id,
    refusedOfSwarm: (id, why) => void removeRefused(id, why, { docker, tell: denied, log }),
  });
  const vlans = options.uplink !== undefined;
  const refused = new Set<string>();
  const followed = followSwarm({
    docker,
    target: readTarget,
    mostOf: (a, b) => mostOf(endpoints.view, a, b),
    refused: denied,
    async offer(listed) {
      const { view } = endpoints;
      if (!endpoints.ready()) return false;
      return offerToSwarm(listed, {
        docker,
        view,
        vlans,
        live: endpoints.live(),
        refused,
        tell: denied,
        notOffered: (line) => happened('name', line),
        log,
      });
    },
    tell: endpoints.swarmHas,
    log,
  });

  function refuse(call: string, error: Error, asked: unknown): void {
    log.warn({ call, err: error }, 'a call of Docker is refused');
    containers.refused(error.message);
    if (!ATTACHING.test(call)) return;
    const name = containerOf(asked);
    const of = name === undefined ? '' : ` for ${name}`;
    happened('denial', `Docker's ${call.replace(/^.*\./, '')}${of}: ${error.message}`);
  }
  const server = pluginServer(driver.calls, refuse);
  await listenOnSocket(server, options.pluginSocket);
  const ofSwarm = pluginServer(driver.calls, refuse);
  await listenOnSocket(ofSwarm, swarmSocket(options));

  const offer = startOffer(docker, endpoints, log, driver.learn, (line) => happened('name', line), vlans);
  const containers = followContainers({
    docker,
    endpoints,
    offer,
    stopped,
    remains: openRemains({ docker, endpoints, driver, log }),
    swarmChanged: () => followed.changed(),
    pluginSocket: path.basename(options.pluginSocket),
    log,
  });
  return {
    offer: followOffer(offer, followed),
    get problems() {
      return offer.problems;
    },
    async close() {
      containers.close();
      followed.close();
      await Promise.all([closeServer(server), closeServer(ofSwarm)]);
      await driver.close();
    },
  };
}
