/**
 * Docker in Swarm mode, which takes no driver from a socket of the host: it wants a plugin that it runs itself. Ours hands each call over to a
 * socket of this agent's (src/swarm/contiv-swarm.c), in a folder that stays over boots, since dockerd starts the plugin with what is mounted in
 * it, often before this agent runs. What is asked is answered by the same driver as for Docker's own networks.
 */
import path from 'node:path';
import type { Logger } from 'pino';
import { LONGEST_NAME, MOST_ALIASES } from '../../../model/swarmService.ts';
import type { SwarmReport } from '../../../protocol/messages.ts';
import { inTurn } from '../../../turns.ts';
import { RETRY_DELAY, SWARM_INTERVAL } from '../../intervals.ts';
import type { Options } from '../../options.ts';
import type { Target } from '../network.ts';
import type { Docker, NetworkInspectInfo } from './engine.ts';

/** The plugin's name, and so the driver's: short, as people type it, with the tag that Docker puts behind it. */
export const SWARM_DRIVER = 'contiv:latest';
/** Address space of what managers allocate; of each node's own it is another (src/swarm/contiv-swarm.c). */
export const SWARM_SPACE = 'contiv-swarm';

/** What the plugin sees of this host. */
export const swarmFolder = ({ stateDir }: Pick<Options, 'stateDir'>): string => path.join(stateDir, 'swarm');
export const swarmSocket = (options: Pick<Options, 'stateDir'>): string =>
  path.join(swarmFolder(options), 'netplugin.sock');

export interface Swarm {
  /** Of the Swarm that this host is in; '' where it is in none, or not known: as of the last look. */
  readonly id: string;
  /** Something of the Swarm's has changed, or of what is declared. */
  changed(): void;
  /** When what was changed before the call has been looked at. */
  idle(): Promise<void>;
  close(): void;
}

export interface SwarmOptions {
  readonly docker: Pick<Docker, 'info' | 'getNode' | 'listNetworks' | 'listServices' | 'listTasks'>;
  target(options: Record<string, string>): Target;
  /** Where a manager here leads: gives Swarm its networks, and answers whether they were other ones than listed. */
  offer(listed: readonly NetworkInspectInfo[]): Promise<boolean>;
  /** Of two networks that a container can not be on at once, what it can be on one of. */
  mostOf(a: Target, b: Target): string | undefined;
  /** In a line: a service whose tasks cannot start. Swarm asks nobody before it takes one. */
  refused(line: string): void;
  /** All services and addresses that a Swarm has, by what a manager says that leads it. Answers how many others netmaster still keeps for it. */
  tell(id: string, has: Omit<SwarmReport, 'host'>): Promise<number>;
  readonly log: Logger;
}

/** Looks so often for a virtual address that is not given out yet, RETRY_DELAY apart. */
const MOST_LOOKS = 60;

/** Looks again and again, and where it is told of a change. A manager that does not lead may lag behind, so only one tells. */
export function followSwarm({ docker, target, mostOf, refused, offer, tell, log }: SwarmOptions): Swarm {
  let id = '';
  /** Of a Swarm whose only manager this host was. */
  let alone = '';
  /** Lines about services, of the last look. */
  let complaints: ReadonlySet<string> = new Set();
  /** Of one that has ended with this host: it is told until nothing is left that it kept. */
  let ended = '';
  const looks = inTurn(
    async () => {
      const state = (await docker.info()).Swarm ?? {};
      const { NodeID = '', ControlAvailable, Cluster, LocalNodeState, Managers } = state;
      id = Cluster?.ID ?? '';
      if (LocalNodeState === 'inactive' && alone !== '') [ended, alone] = [alone, ''];
      if (ended !== '' && id !== ended && (await tell(ended, { addresses: [], services: [] })) === 0)
        ended = '';
      if (id === '' || ControlAvailable !== true) return true;
      if ((await docker.getNode(NodeID)).ManagerStatus?.Leader !== true) {
        alone = '';
        return true;
      }
      alone = Managers === 1 ? id : '';
      const listed = await docker.listNetworks();
      const networks = (await offer(listed)) ? await docker.listNetworks() : listed;
      const { whole, together, ...has } = await contentsOf(networks, docker, target);
      const before = complaints;
      complaints = new Set(together.flatMap((of) => complaintOf(of, mostOf) ?? []));
      for (const line of complaints) if (!before.has(line)) refused(line);
      await tell(id, has);
      return whole;
    },
    {
      every: SWARM_INTERVAL,
      whole: (whole) => whole,
      again: (failures, error) =>
        failures > 0 && failures < MOST_LOOKS && error === undefined ? RETRY_DELAY : undefined,
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
    changed: () => looks.ask(),
    idle: () => looks.idle(),
    close: () => void looks.close(),
  };
}

/** States of tasks that hold no address any more: Swarm keeps some of them to show. */
const ENDED = new Set(['complete', 'shutdown', 'failed', 'rejected', 'remove', 'orphaned']);

interface Contents extends Required<Omit<SwarmReport, 'host'>> {
  /** No virtual address is still to come. */
  readonly whole: boolean;
  readonly together: readonly Together[];
}

/** A service, and its networks of ours by their names. */
interface Together {
  readonly service: string;
  readonly networks: readonly (readonly [name: string, target: Target])[];
}

/** Of a service on two networks that no task can be on at once. */
function complaintOf({ service, networks }: Together, mostOf: SwarmOptions['mostOf']): string | undefined {
  for (const [i, [name, target]] of networks.entries())
    for (const [other, otherTarget] of networks.slice(0, i)) {
      const most = mostOf(otherTarget, target);
      if (most !== undefined)
        return `service ${service} is on ${other} and ${name}, and its tasks can be on ${most} only, so none starts: leave one out, docker service update --network-rm ${name} ${service}`;
    }
  return undefined;
}

async function contentsOf(
  listed: readonly NetworkInspectInfo[],
  docker: Pick<Docker, 'listServices' | 'listTasks'>,
  target: SwarmOptions['target'],
): Promise<Contents> {
  const networks = listed.filter(({ Driver }) => Driver === SWARM_DRIVER);
  const [services, tasks] = await Promise.all([docker.listServices(), docker.listTasks()]);
  const withIpv6 = new Set(networks.filter((n) => n.EnableIPv6).map(({ Id }) => Id));
  const targets = new Map(
    networks.flatMap(({ Id, Options }): [string, Target][] => {
      try {
        return [[Id, target(Options ?? {})]];
      } catch {
        return []; // Swarm keeps what was refused, to try it again
      }
    }),
  );
  const addresses: SwarmReport['addresses'] = [];
  const add = (network: string, text: string): string => {
    const [address = ''] = text.split('/');
    const of = targets.get(network);
    if (of !== undefined && address !== '')
      addresses.push({ tenantName: of.tenant, networkName: of.network, address });
    return address;
  };
  for (const { NetworksAttachments, Status } of tasks)
    for (const { Network, Addresses } of ENDED.has(Status.State) ? [] : (NetworksAttachments ?? []))
      for (const address of Addresses ?? []) add(Network.ID, address);
  let whole = true;
  const found: Contents['services'] = [];
  const names = new Map(networks.map(({ Id, Name }) => [Id, Name]));
  const together: Together[] = [];
  for (const { ID, Spec, Endpoint } of services) {
    const virtual = new Map(
      (Endpoint?.VirtualIPs ?? []).map(({ NetworkID, Addr = '' }) => [NetworkID, add(NetworkID, Addr)]),
    );
    const asked = Spec.TaskTemplate.Networks ?? [];
    together.push({
      service: Spec.Name,
      networks: asked.flatMap(({ Target: network }) => {
        const of = targets.get(network);
        return of === undefined ? [] : [[names.get(network) ?? network, of] as const];
      }),
    });
    for (const { Target: network, Aliases } of asked) {
      const of = targets.get(network);
      if (of === undefined) continue;
      const virtualAddress = virtual.get(network) ?? '';
      // Docker has any number of any length; the rest of the service holds all the same.
      const aliases = [...new Set(Aliases)]
        .filter((alias) => alias !== '' && alias.length <= LONGEST_NAME)
        .slice(0, MOST_ALIASES);
      // Until then its names are nobody's, as in Docker.
      if (virtualAddress === '' && Spec.EndpointSpec?.Mode !== 'dnsrr') whole = false;
      else
        found.push({
          serviceID: ID,
          swarmNetworkID: network,
          serviceName: Spec.Name,
          tenantName: of.tenant,
          networkName: of.network,
          ...(of.group ? { groupName: of.group } : {}),
          ...(virtualAddress === '' ? {} : { virtualAddress, ...(withIpv6.has(network) && { ipv6: true }) }),
          ...(aliases.length === 0 ? {} : { aliases }),
        });
    }
  }
  return { addresses, services: found, whole, together };
}
