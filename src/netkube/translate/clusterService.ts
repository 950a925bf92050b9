/** Service and its EndpointSlices to a service of the cluster. */
import { isIpv4, isIpv6 } from '../../model/address.ts';
import type { Backend, ClusterService, ClusterServicePort } from '../../model/clusterService.ts';
import type { EndpointSlice, KubernetesObject, Service, ServicePort } from '../cluster/objects.ts';
import { protocolOf } from './protocol.ts';

/** On a slice: the service that it is of. */
export const SERVICE_LABEL = 'kubernetes.io/service-name';
/** On a service, or a slice of it, that somebody else is to carry out (KEP 2447), or nobody: kube-proxy asks for those without. */
const NOT_OURS = ['service.kubernetes.io/service-proxy-name', 'service.kubernetes.io/headless'];
const isOurs = ({ metadata: { labels } }: KubernetesObject): boolean =>
  !NOT_OURS.some((label) => labels?.[label] !== undefined);

/** Seconds that a client stays with its backend where the service does not say. */
const DEFAULT_AFFINITY = 10_800;

const policyOf = (text: string | undefined): 'local' | undefined => (text === 'Local' ? 'local' : undefined);

/** Undefined where nothing answers for it: it is headless, a name for something outside, or somebody else's. */
export function clusterServiceOf(
  service: Service,
  slices: readonly EndpointSlice[],
  tenantName: string,
): ClusterService | undefined {
  const { metadata, spec, status } = service;
  const addresses = (spec.clusterIPs ?? [spec.clusterIP]).filter((a): a is string => !!a && a !== 'None');
  if (spec.type === 'ExternalName' || addresses.length === 0) return undefined;
  if (!isOurs(service)) return undefined;
  // ipMode Proxy: what comes is addressed to a node already (KEP 1860).
  const ingress = (status?.loadBalancer?.ingress ?? []).flatMap(({ ip, ipMode }) =>
    ip && ipMode !== 'Proxy' ? [ip] : [],
  );
  const external = [...new Set([...(spec.externalIPs ?? []), ...ingress])];
  const internalTraffic = policyOf(spec.internalTrafficPolicy);
  const externalTraffic = policyOf(spec.externalTrafficPolicy);
  const ranges = (spec.loadBalancerSourceRanges ?? []).map((range) => range.trim());
  return {
    namespaceName: metadata.namespace ?? '',
    serviceName: metadata.name,
    tenantName,
    addresses,
    ...(external.length > 0 ? { externalAddresses: external } : {}),
    ...(ranges.length > 0 ? { sourceRanges: ranges } : {}),
    ports: (spec.ports ?? []).map((port) => portOf(port, service, slices.filter(isOurs))),
    ...(spec.sessionAffinity === 'ClientIP'
      ? { affinity: spec.sessionAffinityConfig?.clientIP?.timeoutSeconds ?? DEFAULT_AFFINITY }
      : {}),
    ...(internalTraffic ? { internalTraffic } : {}),
    ...(externalTraffic ? { externalTraffic } : {}),
    ...(spec.healthCheckNodePort ? { healthCheckNodePort: spec.healthCheckNodePort } : {}),
  };
}

function portOf(port: ServicePort, service: Service, slices: readonly EndpointSlice[]): ClusterServicePort {
  const protocol = protocolOf(port.protocol);
  return {
    ...(port.name ? { name: port.name } : {}),
    protocol,
    port: port.port,
    ...(port.nodePort ? { nodePort: port.nodePort } : {}),
    backends: backendsOf(slices, port.name ?? '', protocol, service.spec.publishNotReadyAddresses === true),
  };
}

type PortBackend = Backend & { port: number };

/** In an order that does not depend on that of the slices: an address and port once, whatever slices have it. */
function backendsOf(
  slices: readonly EndpointSlice[],
  name: string,
  protocol: number,
  publishNotReady: boolean,
): PortBackend[] {
  const found = new Map<string, PortBackend>();
  for (const { addressType, ports = [], endpoints = [] } of slices) {
    if (addressType !== 'IPv4' && addressType !== 'IPv6') continue;
    // Slices have the number behind a service port, which may be another in each: named target ports.
    for (const port of ports) {
      if ((port.name ?? '') !== name || protocolOf(port.protocol) !== protocol || !port.port) continue;
      for (const endpoint of endpoints) {
        const backend = backendOf(endpoint, port.port, publishNotReady);
        if (backend !== undefined) found.set(`${backend.address} ${backend.port}`, backend);
      }
    }
  }
  return [...found].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, backend]) => backend);
}

type Endpoint = NonNullable<EndpointSlice['endpoints']>[number];

/** Conditions that are unknown: ready and serving, not terminating, as the API defines. */
function backendOf(endpoint: Endpoint, port: number, publishNotReady: boolean): PortBackend | undefined {
  const { addresses, conditions = {}, nodeName, zone, hints } = endpoint;
  const [address] = addresses;
  if (address === undefined || !(isIpv4(address) || isIpv6(address))) return undefined;
  const ready = conditions.ready ?? true;
  const forZones = hints?.forZones?.map((hint) => hint.name) ?? [];
  const forHosts = hints?.forNodes?.map((hint) => hint.name) ?? [];
  return {
    address,
    port,
    ...(nodeName ? { host: nodeName } : {}),
    ...(zone ? { zone } : {}),
    ...(forZones.length > 0 ? { forZones } : {}),
    ...(forHosts.length > 0 ? { forHosts } : {}),
    ready: ready || publishNotReady,
    serving: conditions.serving ?? ready,
    terminating: conditions.terminating ?? false,
  };
}
