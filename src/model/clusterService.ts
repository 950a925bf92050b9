/**
 * A service as an orchestrator has it (Kubernetes' Service with its EndpointSlices): addresses and ports, and what is behind them.
 */
import { type Static, Type } from '@sinclair/typebox';
import type { Kind } from './kind.ts';

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

export const clusterService: Kind<typeof ClusterServiceSchema> = {
  name: 'clusterService',
  collection: 'clusterServices',
  schema: ClusterServiceSchema,
  keyFields: ['namespaceName', 'serviceName'],
  updatable: true,
  references: [{ field: 'tenantName', kind: 'tenant', keys: (s) => [s.tenantName] }],
  orchestrated: true,
};
