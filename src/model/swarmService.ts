/**
 * A service of Docker's Swarm in one of its networks, as the manager that leads has it: what it is called there, and its virtual address.
 * Who answers are its tasks: the endpoints in that network and group whose containers carry the service's id as a label.
 */
import { type Static, Type } from '@sinclair/typebox';
import { contains, isIpv4, isIpv6, parseSubnet } from './address.ts';
import type { EndpointGroup } from './endpointGroup.ts';
import { subnetOf } from './families.ts';
import type { Kind, Problem } from './kind.ts';
import type { Network } from './network.ts';

/** Docker takes what it likes for an alias; what is longer no query can ask for. */
export const LONGEST_NAME = 253;
export const MOST_ALIASES = 64;
const DockerName = Type.String({ minLength: 1, maxLength: LONGEST_NAME });
const Id = (description: string) => Type.String({ description, pattern: '^[a-z0-9]{1,64}$', maxLength: 64 });

export const SwarmServiceSchema = Type.Object(
  {
    serviceID: Id("Swarm's id of the service"),
    swarmNetworkID: Id("Swarm's id of the network"),
    swarm: Id('id of the Swarm'),
    serviceName: DockerName,
    tenantName: Type.String({
      description: 'tenant that the network stands for',
      minLength: 1,
      maxLength: 63,
    }),
    networkName: Type.String({ description: 'network that it stands for', minLength: 1, maxLength: 63 }),
    groupName: Type.Optional(
      Type.String({ description: 'endpoint group that it stands for', maxLength: 63 }),
    ),
    /** All ports of it lead to the same ports of tasks; absent: names are answered with the tasks. */
    virtualAddress: Type.Optional(
      Type.String({ description: 'IPv4 address that leads to its tasks', maxLength: 64 }),
    ),
    ipv6: Type.Optional(
      Type.Boolean({ description: 'tasks have IPv6 addresses too, and it a virtual one beside the other' }),
    ),
    /** Swarm gives out one virtual address a network, always of IPv4: this one is netmaster's. Absent where none was free. */
    ipv6VirtualAddress: Type.Optional(
      Type.String({
        description: 'IPv6 address that leads to its tasks; given out where absent, by ipv6',
        maxLength: 64,
      }),
    ),
    aliases: Type.Optional(
      Type.Array(DockerName, {
        description: 'further names in this network',
        maxItems: MOST_ALIASES,
        uniqueItems: true,
      }),
    ),
  },
  { $id: 'swarmService', additionalProperties: false },
);
export type SwarmService = Static<typeof SwarmServiceSchema>;

export const swarmService: Kind<typeof SwarmServiceSchema> = {
  name: 'swarmService',
  collection: 'swarmServices',
  schema: SwarmServiceSchema,
  keyFields: ['serviceID', 'swarmNetworkID'],
  updatable: true,
  references: [
    { field: 'tenantName', kind: 'tenant', keys: (s) => [s.tenantName] },
    { field: 'networkName', kind: 'network', keys: (s) => [`${s.tenantName}:${s.networkName}`] },
    {
      field: 'groupName',
      kind: 'endpointGroup',
      keys: (s) => (s.groupName ? [`${s.tenantName}:${s.groupName}`] : []),
    },
  ],
  forTenants: {},
  orchestrated: true,
  allocates: ['vip6'],
  check(s, world) {
    const wrong = (field: keyof SwarmService, text: string): Problem => ({
      field,
      status: 400,
      message: `swarmService ${s.serviceID}:${s.swarmNetworkID}: ${field} ${text}`,
    });
    const group = s.groupName
      ? world.get<EndpointGroup>('endpointGroup', `${s.tenantName}:${s.groupName}`)
      : undefined;
    if (group !== undefined && group.networkName !== s.networkName)
      return wrong(
        'groupName',
        `is ${s.groupName}, which is in network ${group.networkName}, not in ${s.networkName}`,
      );
    const network = world.get<Network>('network', `${s.tenantName}:${s.networkName}`);
    const outside = (address: string, family: 4 | 6): string | undefined => {
      const text = network && subnetOf(network, family);
      const subnet = text === undefined ? undefined : parseSubnet(text);
      if (subnet !== undefined && contains(subnet, address)) return undefined;
      return `'${address}' must lie in ${text ?? `an IPv${family} subnet`} of network ${s.networkName}`;
    };
    const { virtualAddress: four, ipv6VirtualAddress: six } = s;
    if (four !== undefined) {
      const why = isIpv4(four) ? outside(four, 4) : `'${four}' is not an IPv4 address`;
      if (why !== undefined) return wrong('virtualAddress', why);
    }
    if (six === undefined) return undefined;
    if (four === undefined) return wrong('ipv6VirtualAddress', 'needs a virtualAddress beside it');
    const why = isIpv6(six) ? outside(six, 6) : `'${six}' is not an IPv6 address`;
    return why === undefined ? undefined : wrong('ipv6VirtualAddress', why);
  },
};
