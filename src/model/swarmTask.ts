/** Which endpoints are tasks of a service of Docker's Swarm, and which addresses lead to them. */
import type { Endpoint } from './endpoint.ts';
import type { SwarmService } from './swarmService.ts';

/** Label of a task's container: id of its service. */
export const SERVICE_LABEL = 'com.docker.swarm.service.id';

/** Answers whether an endpoint is a task's of the service in this network; for many endpoints. */
export const taskOf =
  ({ serviceID, networkName, groupName = '' }: SwarmService) =>
  (e: Pick<Endpoint, 'labels' | 'networkName' | 'groupName'>): boolean =>
    e.labels?.[SERVICE_LABEL] === serviceID &&
    e.networkName === networkName &&
    (e.groupName ?? '') === groupName;

/** All that lead to them. */
export const virtualAddressesOf = ({ virtualAddress, ipv6VirtualAddress }: SwarmService): string[] =>
  [virtualAddress, ipv6VirtualAddress].filter((address) => address !== undefined);
