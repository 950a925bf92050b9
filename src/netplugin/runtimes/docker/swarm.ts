/**
 * Docker in Swarm mode, which takes no driver from a socket of the host: it wants a plugin that it runs itself. Ours hands each call over to a
 * socket of this agent's (src/swarm/contiv-swarm.c), in a folder that stays over boots, since dockerd starts the plugin with what is mounted in
 * it, often before this agent runs. What is asked is answered by the same driver as for Docker's own networks.
 */
import path from 'node:path';
import type { Logger } from 'pino';
import type { SwarmAddresses } from '../../../protocol/messages.ts';
import { SWARM_INTERVAL } from '../../intervals.ts';
import type { Options } from '../../options.ts';
import { inTurn } from '../../turns.ts';
import type { Target } from '../network.ts';
import type { Docker } from './engine.ts';

/** The plugin's name, and so the driver's: short, as people type it, with the tag that Docker puts behind it. */
export const SWARM_DRIVER = 'contiv:latest';
/** Address space of what managers allocate; of each node's own it is another (src/swarm/contiv-swarm.c). */
export const SWARM_SPACE = 'contiv-swarm';

/** Label of the container of a task. */
export const TASK_LABEL = 'com.docker.swarm.task.id';

/** What the plugin sees of this host. */
export const swarmFolder = ({ stateDir }: Pick<Options, 'stateDir'>): string => path.join(stateDir, 'swarm');
export const swarmSocket = (options: Pick<Options, 'stateDir'>): string =>
  path.join(swarmFolder(options), 'netplugin.sock');

/**
 * Further names of a task, from the labels that Swarm gives its container: those that Docker's own resolver has on such networks, for those
 * that ask netplugin alone. A service's own name stands for its tasks.
 */
export function namesOfTask(labels: Readonly<Record<string, string>>): string[] {
  const service = labels['com.docker.swarm.service.name'];
  return service === undefined ? [] : [service, `tasks.${service}`];
}

export interface Swarm {
  /** Of the Swarm that this host is in; '' where it is in none, or not known: as of the last look. */
  readonly id: string;
  close(): void;
}

export interface SwarmOptions {
  readonly docker: Pick<Docker, 'info' | 'getNode' | 'listNetworks' | 'listServices' | 'listTasks'>;
  target(options: Record<string, string>): Target;
  /** All addresses that a Swarm has, by what a manager says that leads it. */
  tell(id: string, addresses: SwarmAddresses['addresses']): Promise<void>;
  readonly log: Logger;
}

/** Looks again and again. A manager that does not lead may lag behind, so only one tells. */
export function followSwarm({ docker, target, tell, log }: SwarmOptions): Swarm {
  let id = '';
  const looks = inTurn(
    async () => {
      const { NodeID = '', ControlAvailable, Cluster } = (await docker.info()).Swarm ?? {};
      id = Cluster?.ID ?? '';
      if (id === '' || ControlAvailable !== true) return;
      if ((await docker.getNode(NodeID)).ManagerStatus?.Leader !== true) return;
      await tell(id, await addressesOf(docker, target));
    },
    {
      every: SWARM_INTERVAL,
      failed(error, first) {
        if (first) log.debug({ err: error }, "Docker's Swarm is not looked at; it is tried again");
      },
    },
  );
  looks.ask();
  return {
    get id() {
      return id;
    },
    close: () => void looks.close(),
  };
}

/** States of tasks that hold no address any more: Swarm keeps some of them to show. */
const ENDED = new Set(['complete', 'shutdown', 'failed', 'rejected', 'remove', 'orphaned']);

async function addressesOf(
  docker: Pick<Docker, 'listNetworks' | 'listServices' | 'listTasks'>,
  target: SwarmOptions['target'],
): Promise<SwarmAddresses['addresses']> {
  const networks = await docker.listNetworks({ filters: { driver: [SWARM_DRIVER] } });
  const [services, tasks] = await Promise.all([docker.listServices(), docker.listTasks()]);
  const targets = new Map(networks.map((n) => [n.Id, target(n.Options ?? {})]));
  const found: SwarmAddresses['addresses'] = [];
  const add = (network: string, addresses: readonly string[]): void => {
    const of = targets.get(network);
    if (of === undefined) return;
    for (const text of addresses) {
      const [address = ''] = text.split('/');
      if (address !== '') found.push({ tenantName: of.tenant, networkName: of.network, address });
    }
  };
  for (const { Endpoint } of services)
    for (const { NetworkID, Addr = '' } of Endpoint?.VirtualIPs ?? []) add(NetworkID, [Addr]);
  for (const { NetworksAttachments, Status } of tasks)
    for (const { Network, Addresses } of ENDED.has(Status.State) ? [] : (NetworksAttachments ?? []))
      add(Network.ID, Addresses ?? []);
  return found;
}
