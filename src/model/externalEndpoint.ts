/**
 * An external endpoint: a physical machine on a VLAN network, or anything with an address outside, as a member of a group. It has a name as
 * containers have, rules from and to its group hold at the containers' side, and services lead to it by its labels. Nothing of ours runs
 * on it: whether it is well is asked by a host that has containers of its tenant, where it says how (healthCheck).
 *
 *   in a subnet   of the group's network: that address is given to nobody else
 *   elsewhere     reached by the tenant's way out, as anything outside is
 */
import { type Static, Type } from '@sinclair/typebox';
import { addressNumber, contains, isIpv4, isIpv6, isV6, numberAddress, parseSubnet } from './address.ts';
import type { EndpointGroup } from './endpointGroup.ts';
import { type Addressed, subnetsOf } from './families.ts';
import type { Index, Kind, Problem, World } from './kind.ts';
import { checkLabel, Name } from './names.ts';
import { isReserved, type Network } from './network.ts';
import { LabelsSchema } from './selector.ts';
import { oneLine } from './text.ts';

export const ExternalEndpointSchema = Type.Object(
  {
    tenantName: Name('tenant that the external endpoint belongs to'),
    endpointName: Name('its name, by which containers look it up'),
    groupName: Name('endpoint group that it is a member of'),
    ipAddress: Type.Array(Type.String({ maxLength: 64 }), {
      description: 'its address; with IPv6 beside IPv4, both',
      minItems: 1,
      maxItems: 2,
      uniqueItems: true,
    }),
    labels: Type.Optional({ ...LabelsSchema, description: 'labels by which services choose it' }),
    healthCheck: Type.Optional(
      Type.String({
        description: 'how it is asked whether it is well: tcp:PORT, or http:PORT/PATH',
        maxLength: 256,
      }),
    ),
  },
  { $id: 'externalEndpoint', additionalProperties: false },
);
export type ExternalEndpoint = Static<typeof ExternalEndpointSchema>;

/** What came of its health check, where it fails. */
export interface Failing {
  /** Host that asked. */
  readonly host: string;
  /** ISO 8601. */
  readonly since: string;
  /** Such as `connection refused`. */
  readonly why: string;
}

/** As it is stored and watched: with what hosts have found. */
export type StoredExternalEndpoint = ExternalEndpoint & { readonly failing?: Failing };

export interface HealthCheck {
  readonly port: number;
  /** Of HTTP: asked by GET. Absent: a connection is enough. */
  readonly path?: string;
}

/** `tcp:22`, `http:80/`, `http:8080/healthz?full=1`; undefined where it is none. */
export function parseHealthCheck(text: string): HealthCheck | undefined {
  const match = /^(?:tcp:([1-9]\d{0,4})|http:([1-9]\d{0,4})(\/[!-~]*)?)$/.exec(text);
  if (match === null) return undefined;
  const port = Number(match[1] ?? match[2]);
  if (port > 65535) return undefined;
  return match[1] === undefined ? { port, path: match[3] ?? '/' } : { port };
}

/** Who of a tenant has an address. */
export const externalAt: Index<ExternalEndpoint> = ({ tenantName, ipAddress }) =>
  ipAddress.map((address) => `${tenantName}/${address}`);

/** Whether an address is in one of a network's subnets. */
export const holds = (network: Addressed, address: string): boolean =>
  subnetsOf(network)
    .flatMap((text) => parseSubnet(text) ?? [])
    .some((s) => contains(s, address));

/** The network of the tenant in whose subnet an address is. */
export const networkWith = (world: World, tenant: string, address: string): Network | undefined =>
  world.users<Network>('tenant', tenant, 'network').find((n) => holds(n, address));

const isAddress = (text: string): boolean => isIpv4(text) || isIpv6(text);

export const externalEndpoint: Kind<typeof ExternalEndpointSchema> = {
  name: 'externalEndpoint',
  collection: 'externalEndpoints',
  schema: ExternalEndpointSchema,
  keyFields: ['tenantName', 'endpointName'],
  updatable: true,
  references: [
    { field: 'tenantName', kind: 'tenant', keys: (e) => [e.tenantName] },
    { field: 'groupName', kind: 'endpointGroup', keys: (e) => [`${e.tenantName}:${e.groupName}`] },
  ],
  lookupName: 'endpointName',
  forTenants: {},
  forOrchestrators: true,
  allocates: ['member'],
  normalize: (e) => ({
    ...e,
    ipAddress: e.ipAddress.map((a) => (isAddress(a) ? numberAddress(addressNumber(a), isV6(a) ? 6 : 4) : a)),
  }),
  check(e, world, before) {
    const wrong = (
      field: keyof ExternalEndpoint,
      text: string,
      status: Problem['status'] = 400,
    ): Problem => ({
      field,
      status,
      message: `external endpoint ${e.tenantName}:${e.endpointName}: ${field} ${text}`,
    });
    const label = checkLabel('external endpoint', 'endpointName', e.endpointName);
    if (label !== undefined) return label;
    for (const address of e.ipAddress) {
      if (!isAddress(address)) return wrong('ipAddress', `'${oneLine(address, 64)}' is not an address`);
      if (isReserved(address))
        return wrong('ipAddress', `${address} is reserved: no machine has it beyond its own link`);
    }
    const [first = '', second] = e.ipAddress;
    if (second !== undefined && isV6(first) === isV6(second))
      return wrong('ipAddress', `has ${first} and ${second}: one of IPv4 and one of IPv6 at most`);
    if (e.healthCheck !== undefined && parseHealthCheck(e.healthCheck) === undefined)
      return wrong(
        'healthCheck',
        `'${e.healthCheck}' must be tcp:PORT like tcp:22, or http:PORT/PATH like http:80/healthz`,
      );
    // What hosts know its addresses by does not change under them (netmaster/endings.ts).
    for (const field of ['groupName', 'ipAddress'] as const)
      if (before !== undefined && String(before[field]) !== String(e[field]))
        return wrong(
          field,
          `is ${before[field]} and cannot change: delete the external endpoint and create it anew`,
          409,
        );
    return checkAddresses(e, world, wrong);
  },
};

/** An address means one thing in a tenant. */
function checkAddresses(
  e: ExternalEndpoint,
  world: World,
  wrong: (field: keyof ExternalEndpoint, text: string, status?: Problem['status']) => Problem,
): Problem | undefined {
  const group = world.get<EndpointGroup>('endpointGroup', `${e.tenantName}:${e.groupName}`);
  for (const address of e.ipAddress) {
    const other = world
      .where('externalEndpoint', externalAt, `${e.tenantName}/${address}`)
      .find(({ endpointName }) => endpointName !== e.endpointName);
    if (other !== undefined)
      return wrong('ipAddress', `${address} is that of external endpoint ${other.endpointName} already`, 409);
    const network = networkWith(world, e.tenantName, address);
    if (network !== undefined && network.networkName !== group?.networkName)
      return wrong(
        'ipAddress',
        `${address} is in network ${network.networkName}, and group ${e.groupName} in network ${group?.networkName}: name a group of ${network.networkName}`,
        409,
      );
  }
  return undefined;
}
