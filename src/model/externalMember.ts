/** An external endpoint as what goes by endpoints sees it: names, services, policy. It is on no host. */
import type { Endpoint } from './endpoint.ts';
import type { StoredExternalEndpoint } from './externalEndpoint.ts';

/** Endpoints of containers are on a host. */
export const isExternal = ({ homingHost }: Pick<Endpoint, 'homingHost'>): boolean => homingHost === '';

/** Of a network, that of its group. One that fails its health check is unhealthy, as a container is by Docker's. */
export const memberOf = (external: StoredExternalEndpoint, networkName: string): Endpoint => ({
  endpointID: `${external.tenantName}:${external.endpointName}`,
  tenantName: external.tenantName,
  networkName,
  groupName: external.groupName,
  ipAddress: external.ipAddress,
  macAddress: '',
  homingHost: '',
  containerName: external.endpointName,
  ...(external.labels && { labels: external.labels }),
  status: external.failing === undefined ? 'running' : 'unhealthy',
});
