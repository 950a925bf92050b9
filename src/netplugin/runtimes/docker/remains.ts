/**
 * What Docker keeps of a `docker network connect` that failed: up to Docker 28 a running container's settings go on naming
 * the network, since it is written there before any driver is asked, and not taken back (moby,
 * daemon/container_operations.go, connectToNetwork). `docker inspect` then shows an address that nobody has, the next start
 * connects the network anew, fails, and the container stays down; and `docker network disconnect` refuses, for nothing is
 * connected. What takes them away is a connection that holds, and its end: one without an interface (driver.ts, Join).
 */
import type { Logger } from 'pino';
import type { Endpoints } from '../runtime.ts';
import { type Driver, NO_INTERFACE } from './driver.ts';
import type { ContainerInspectInfo, Docker } from './engine.ts';
import { DRIVER } from './networks.ts';

export interface Remains {
  /** Looks for some in a container that was inspected, and clears them away. */
  look(container: ContainerInspectInfo): Promise<void>;
  /** A connection of ours is being made: what it is refused is no news. */
  busy(): boolean;
}

export interface RemainsOptions {
  readonly docker: Docker;
  readonly endpoints: Pick<Endpoints, 'attachments' | 'live'>;
  readonly driver: Pick<Driver, 'target' | 'hasNoInterface'>;
  readonly log: Logger;
}

interface Left {
  /** As the container's settings have it. */
  readonly network: string;
  readonly endpoint: string;
}

export function openRemains({ docker, endpoints, driver, log }: RemainsOptions): Remains {
  const clearing = new Set<string>();

  /** Networks of ours that a running container's settings name without an attachment. */
  async function unattached(container: ContainerInspectInfo): Promise<Left[]> {
    if (!container.State.Running) return []; // its networks are those of its next start
    const left: Left[] = [];
    for (const [network, { NetworkID, EndpointID }] of Object.entries(container.NetworkSettings.Networks))
      if (!endpoints.attachments.has(EndpointID) && (await isOurs(network, NetworkID)))
        left.push({ network, endpoint: EndpointID });
    return left;
  }

  /** Docker knows no id where it failed early. Swarm's own networks it looks after itself. */
  async function isOurs(name: string, id: string): Promise<boolean> {
    if (id !== '' && driver.target(id) === undefined) return false;
    return (await docker.getNetwork(id || name).inspect()).Driver === DRIVER;
  }

  async function clear(container: string, { network, endpoint }: Left): Promise<void> {
    const at = docker.getNetwork(network);
    // Docker refuses where it has an endpoint: such a one is connected, whatever we know, and stays.
    if (!driver.hasNoInterface(endpoint))
      await at.connect({
        Container: container,
        EndpointConfig: { DriverOpts: { [NO_INTERFACE]: 'true' } },
      });
    await at.disconnect({ Container: container });
    log.info({ container, network }, 'cleared away what Docker kept of a connection that failed');
  }

  return {
    busy: () => clearing.size > 0,
    async look(container) {
      const { Id: id } = container;
      // Without netmaster no address is to be had, and the container's lock would be held meanwhile.
      if (clearing.has(id) || !endpoints.live()) return;
      const first = await unattached(container);
      if (first.length === 0) return;
      clearing.add(id);
      try {
        // Docker answers when no connection of the container is on its way. What was without an attachment before that,
        // and is still named, is not one that has come or gone meanwhile: an endpoint's id is used once.
        const second = await unattached(await docker.getContainer(id).inspect());
        for (const left of second)
          if (first.some((f) => f.network === left.network && f.endpoint === left.endpoint))
            await clear(id, left);
      } catch (error) {
        log.debug({ err: error, container: id }, 'remains of a connection stay; it is tried again');
      } finally {
        clearing.delete(id);
      }
    },
  };
}
