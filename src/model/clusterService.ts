/**
 * A service as an orchestrator has it (Kubernetes' Service with its EndpointSlices): addresses and ports, and what is behind them.
 */
import { type Static, Type } from '@sinclair/typebox';
import { addressNumber, contains, isIpv4, isIpv6, numberAddress, parseSubnet } from './address.ts';
import { subnetsOf } from './families.ts';
import type { Index, Kind, Problem, World } from './kind.ts';
import { checkLabel } from './names.ts';
import type { Network } from './network.ts';

const Port = Type.Integer({ minimum: 1, maximum: 65535 });
const Address = Type.String({ maxLength: 64 });
const Policy = Type.Union([Type.Literal('cluster'), Type.Literal('local')]);

const BackendSchema = Type.Object(
  {
    address: Address,
    /** Name of the host that it is on. */
    host: Type.Optional(Type.String({ maxLength: 253 })),
    zone: Type.Optional(Type.String({ maxLength: 253 })),
    /** Zones and hosts that are to use it; absent: all. */
    forZones: Type.Optional(Type.Array(Type.String({ maxLength: 253 }))),
    forHosts: Type.Optional(Type.Array(Type.String({ maxLength: 253 }))),
    ready: Type.Boolean(),
    /** Answers, also while it ends. */
    serving: Type.Boolean(),
    terminating: Type.Boolean(),
  },
  { additionalProperties: false },
);

export const ClusterServiceSchema = Type.Object(
  {
    namespaceName: Type.String({ description: "orchestrator's namespace", minLength: 1, maxLength: 63 }),
    serviceName: Type.String({ description: 'name of the service', minLength: 1, maxLength: 253 }),
    tenantName: Type.String({ description: 'tenant that its backends are in', minLength: 1, maxLength: 63 }),
    /** Virtual addresses inside (ClusterIPs). */
    addresses: Type.Array(Address),
    /** Addresses that lead to it from outside too: externalIPs, those of load balancers. */
    externalAddresses: Type.Optional(Type.Array(Address)),
    /** Prefixes that may ask load balancers' addresses; absent: all. */
    sourceRanges: Type.Optional(Type.Array(Address)),
    ports: Type.Array(
      Type.Object(
        {
          name: Type.Optional(Type.String({ maxLength: 63 })),
          /** IANA number: TCP, UDP, SCTP. */
          protocol: Type.Integer({ minimum: 0, maximum: 255 }),
          port: Port,
          nodePort: Type.Optional(Port),
          /** Who answers, each with the port of its own. */
          backends: Type.Array(Type.Composite([BackendSchema, Type.Object({ port: Port })])),
        },
        { additionalProperties: false },
      ),
    ),
    /** Seconds for which a client stays with a backend; absent: it does not. */
    affinity: Type.Optional(Type.Integer({ minimum: 1, maximum: 86_400 })),
    internalTraffic: Type.Optional(Policy),
    externalTraffic: Type.Optional(Policy),
    healthCheckNodePort: Type.Optional(Port),
  },
  { $id: 'clusterService', additionalProperties: false },
);
export type ClusterService = Static<typeof ClusterServiceSchema>;
export type ClusterServicePort = ClusterService['ports'][number];
export type Backend = ClusterServicePort['backends'][number];

const isAddress = (text: string): boolean => isIpv4(text) || isIpv6(text);
const canonical = (text: string): string =>
  isAddress(text) ? numberAddress(addressNumber(text), isIpv4(text) ? 4 : 6) : text;

const inTenant = ({ tenantName }: ClusterService, what: string): string => `${tenantName} ${what}`;
const byAddress: Index<ClusterService> = (s) => s.addresses.map((address) => inTenant(s, address));
const byExternal: Index<ClusterService> = (s) =>
  (s.externalAddresses ?? []).flatMap((address) => s.ports.map((p) => `${address} ${p.protocol} ${p.port}`));
/** Ports of hosts: whichever tenant's, they are asked at the same addresses. */
const byNodePort: Index<ClusterService> = (s) => [
  ...s.ports.flatMap((p) => (p.nodePort === undefined ? [] : `${p.protocol} ${p.nodePort}`)),
  ...(s.healthCheckNodePort === undefined ? [] : [`6 ${s.healthCheckNodePort}`]),
];

export const clusterService: Kind<typeof ClusterServiceSchema> = {
  name: 'clusterService',
  collection: 'clusterServices',
  schema: ClusterServiceSchema,
  keyFields: ['namespaceName', 'serviceName'],
  updatable: true,
  references: [{ field: 'tenantName', kind: 'tenant', keys: (s) => [s.tenantName] }],
  forTenants: {},
  orchestrated: true,
  forOrchestrators: true,
  normalize: (s) => ({
    ...s,
    addresses: s.addresses.map(canonical),
    ...(s.externalAddresses && { externalAddresses: s.externalAddresses.map(canonical) }),
    ports: s.ports.map((p) => ({
      ...p,
      backends: p.backends.map((b) => ({ ...b, address: canonical(b.address) })),
    })),
  }),
  check(s, world) {
    const wrong: Wrong = (field, text, status = 400) => ({
      field,
      status,
      message: `clusterService ${s.namespaceName}:${s.serviceName}: ${field} ${text}`,
    });
    return (
      checkLabel('clusterService', 'namespaceName', s.namespaceName) ??
      checkLabel('clusterService', 'serviceName', s.serviceName) ??
      checkAddresses(s, world, wrong) ??
      checkPorts(s, wrong) ??
      checkTaken(s, world, wrong)
    );
  },
};

type Wrong = (field: keyof ClusterService, text: string, status?: Problem['status']) => Problem;

function checkAddresses(s: ClusterService, world: World, wrong: Wrong): Problem | undefined {
  for (const field of ['addresses', 'externalAddresses'] as const) {
    const seen = new Set<string>();
    for (const address of s[field] ?? []) {
      if (!isAddress(address)) return wrong(field, `'${address}' is not an IPv4 or IPv6 address`);
      if (seen.has(address)) return wrong(field, `has ${address} twice`);
      seen.add(address);
    }
  }
  const both = s.externalAddresses?.find((address) => s.addresses.includes(address));
  if (both !== undefined) return wrong('externalAddresses', `has ${both}, which is among its addresses`);
  // There it would be a container's, or could become one.
  for (const network of world.users<Network>('tenant', s.tenantName, 'network'))
    for (const text of subnetsOf(network)) {
      const subnet = parseSubnet(text);
      const inside = subnet && s.addresses.find((address) => contains(subnet, address));
      if (inside !== undefined)
        return wrong(
          'addresses',
          `${inside} is in ${text} of network ${network.networkName}: choose one outside of the tenant's networks`,
          409,
        );
    }
  for (const text of s.sourceRanges ?? []) {
    const subnet = parseSubnet(text);
    if (subnet === undefined || subnet.ranged)
      return wrong('sourceRanges', `'${text}' is not a prefix like 10.0.0.0/8 or fd00::/8`);
  }
  return undefined;
}

function checkPorts(s: ClusterService, wrong: Wrong): Problem | undefined {
  const ports = new Set<string>();
  const nodePorts = new Set<string>();
  for (const { protocol, port, nodePort, backends } of s.ports) {
    const key = `${port} of protocol ${protocol}`;
    if (ports.has(key)) return wrong('ports', `has ${key} twice`);
    ports.add(key);
    if (nodePort !== undefined) {
      const node = `${nodePort} of protocol ${protocol}`;
      if (nodePorts.has(node)) return wrong('ports', `has nodePort ${node} twice`);
      nodePorts.add(node);
    }
    const seen = new Set<string>();
    for (const backend of backends) {
      if (!isAddress(backend.address))
        return wrong('ports', `${key}: backend '${backend.address}' is not an IPv4 or IPv6 address`);
      const at = `${backend.address} port ${backend.port}`;
      if (seen.has(at)) return wrong('ports', `${key}: has backend ${at} twice`);
      seen.add(at);
    }
  }
  if (s.healthCheckNodePort !== undefined && nodePorts.has(`${s.healthCheckNodePort} of protocol 6`))
    return wrong('healthCheckNodePort', `${s.healthCheckNodePort} is the nodePort of one of its ports`);
  return undefined;
}

/** What another service has: one of two could not be reached. */
function checkTaken(s: ClusterService, world: World, wrong: Wrong): Problem | undefined {
  const owner = (index: Index<ClusterService>, value: string): string | undefined => {
    const other = world
      .where<ClusterService>('clusterService', index, value)
      .find((o) => o.namespaceName !== s.namespaceName || o.serviceName !== s.serviceName);
    return other && `clusterService ${other.namespaceName}:${other.serviceName}`;
  };
  for (const address of s.addresses) {
    const other = owner(byAddress, inTenant(s, address));
    if (other !== undefined) return wrong('addresses', `${address} is an address of ${other}`, 409);
  }
  for (const value of byExternal(s)) {
    const other = owner(byExternal, value);
    const [address, protocol, port] = value.split(' ');
    if (other !== undefined)
      return wrong(
        'externalAddresses',
        `${address} leads to ${other} at port ${port} of protocol ${protocol}`,
        409,
      );
  }
  for (const value of byNodePort(s)) {
    const other = owner(byNodePort, value);
    const [protocol, port] = value.split(' ');
    if (other !== undefined)
      return wrong('ports', `nodePort ${port} of protocol ${protocol} is one of ${other}`, 409);
  }
  return undefined;
}
