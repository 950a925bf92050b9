/**
 * An endpoint: a container's attachment to one network. Written by the agent of its host, never by users.
 */
import { type Static, Type } from '@sinclair/typebox';
import type { Reference } from './kind.ts';

/** Of ranges and single ports; what is more is not told of. */
export const MOST_PUBLISHED = 256;

export const EndpointSchema = Type.Object(
  {
    /** The runtime's id of the attachment (Docker: EndpointID). */
    endpointID: Type.String({ minLength: 1, maxLength: 128 }),
    tenantName: Type.String({ minLength: 1, maxLength: 63 }),
    networkName: Type.String({ minLength: 1, maxLength: 63 }),
    /** Absent: in the network, in no group. */
    groupName: Type.Optional(Type.String({ maxLength: 63 })),
    /** One of each version of IP that its network has, IPv4 first. */
    ipAddress: Type.Array(Type.String({ maxLength: 64 }), { minItems: 1, maxItems: 2, uniqueItems: true }),
    macAddress: Type.String({ maxLength: 64 }),
    /** Name of the host that it runs on. */
    homingHost: Type.String({ minLength: 1, maxLength: 253 }),
    /** Absent until the runtime has told. */
    containerID: Type.Optional(Type.String({ maxLength: 128 })),
    containerName: Type.Optional(Type.String()),
    /** Further names it answers to in its network: --network-alias, compose service names. */
    aliases: Type.Optional(Type.Array(Type.String())),
    labels: Type.Optional(Type.Record(Type.String(), Type.String())),
    /** Only `running` answers to names (and unhealthy ones when none else is left). */
    status: Type.Union([
      Type.Literal('created'),
      Type.Literal('running'),
      Type.Literal('paused'),
      Type.Literal('unhealthy'),
    ]),
    intfName: Type.Optional(Type.String()),
    /** Ports of its host that lead to it, as Docker writes them: `8080->80/tcp`, `192.0.2.1:8000-8099->8000-8099/udp`. */
    published: Type.Optional(Type.Array(Type.String({ maxLength: 128 }), { maxItems: MOST_PUBLISHED })),
    /** Ports that its runtime was asked to publish and that lead nowhere, as its network has no gateway: `8080->80/tcp`, `80/tcp`. */
    notPublished: Type.Optional(Type.Array(Type.String({ maxLength: 128 }), { maxItems: MOST_PUBLISHED })),
    /** Key of the workload that it is of, `NAMESPACE:NAME`, and that one's id; absent: of none. */
    workload: Type.Optional(Type.String({ maxLength: 320 })),
    workloadUid: Type.Optional(Type.String({ maxLength: 128 })),
    /** No container's: by its addresses the host itself sends into the network (hostAccess). */
    ofHost: Type.Optional(Type.Literal(true)),
  },
  { $id: 'Endpoint', additionalProperties: false },
);
export type Endpoint = Static<typeof EndpointSchema>;

const references: readonly Reference<Endpoint>[] = [
  { field: 'tenantName', kind: 'tenant', keys: (e) => [e.tenantName] },
  {
    field: 'networkName',
    kind: 'network',
    keys: (e) => [`${e.tenantName}:${e.networkName}`],
    // The hosts' own go with the network.
    owned: (e) => e.ofHost === true,
  },
  {
    field: 'groupName',
    kind: 'endpointGroup',
    keys: (e) => (e.groupName ? [`${e.tenantName}:${e.groupName}`] : []),
  },
];

export const endpoint = {
  name: 'endpoint',
  references,
  /** How messages name it. */
  call: (e: Endpoint): string =>
    e.ofHost ? `host ${e.homingHost}` : `container ${e.containerName ?? e.endpointID} on ${e.homingHost}`,
};
