/**
 * A service: a virtual address in a network, in front of the endpoints whose labels carry all its selectors. Its
 * name is looked up as a group's is.
 */
import { type Static, Type } from '@sinclair/typebox';
import { contains, isIpv4, isIpv6, parseSubnet } from './address.ts';
import { mainFamily, subnetOf } from './families.ts';
import type { Kind, Problem } from './kind.ts';
import { checkLabel, Name } from './names.ts';
import type { Network } from './network.ts';

export const ServiceLBSchema = Type.Object(
  {
    tenantName: Name('tenant that the service belongs to'),
    serviceName: Name('name of the service'),
    networkName: Name('network that the virtual address is in'),
    ipAddress: Type.Optional(
      Type.String({
        description:
          'virtual address that is wanted, of IPv4 where the network has that; given out where absent',
        maxLength: 64,
      }),
    ),
    selectors: Type.Array(Type.String({ maxLength: 512 }), {
      description: 'labels key=value that its providers carry, all of them',
      minItems: 1,
      maxItems: 64,
      uniqueItems: true,
    }),
    ports: Type.Array(Type.String({ maxLength: 32 }), {
      description: 'ports service:provider:protocol, as 80:8080:TCP',
      minItems: 1,
      maxItems: 256,
      uniqueItems: true,
    }),
  },
  { $id: 'serviceLB', additionalProperties: false },
);
export type ServiceLB = Static<typeof ServiceLBSchema>;

/** As it is stored and watched: with the virtual address that it has, also where it was given out. */
export type StoredServiceLB = ServiceLB & { readonly vip: string };

export interface ServicePort {
  readonly port: number;
  readonly providerPort: number;
  readonly protocol: 'tcp' | 'udp';
}

/** `80:8080:TCP`; undefined where it is none. */
export function parseServicePort(text: string): ServicePort | undefined {
  const match = /^([1-9]\d{0,4}):([1-9]\d{0,4}):(tcp|udp)$/i.exec(text);
  if (match === null) return undefined;
  const [port, providerPort] = [Number(match[1]), Number(match[2])];
  if (port > 65535 || providerPort > 65535) return undefined;
  return { port, providerPort, protocol: (match[3] as string).toLowerCase() as 'tcp' | 'udp' };
}

/** Label and value of `key=value`; undefined where it is none. The value may be empty. */
export function parseSelector(text: string): readonly [label: string, value: string] | undefined {
  const match = /^([^=\s]+)=([^\s]*)$/.exec(text);
  return match === null ? undefined : [match[1] as string, match[2] as string];
}

type Labels = Readonly<Record<string, string>> | undefined;

/** Answers whether labels carry all selectors; for many labels. */
export function selectorOf(service: ServiceLB): (labels: Labels) => boolean {
  const selectors = service.selectors.map(parseSelector);
  return (labels) => labels !== undefined && selectors.every((s) => s !== undefined && labels[s[0]] === s[1]);
}

export const selects = (service: ServiceLB, labels: Labels): boolean => selectorOf(service)(labels);

export const serviceLB: Kind<typeof ServiceLBSchema> = {
  name: 'serviceLB',
  collection: 'serviceLBs',
  schema: ServiceLBSchema,
  keyFields: ['tenantName', 'serviceName'],
  updatable: true,
  references: [
    {
      field: 'tenantName',
      kind: 'tenant',
      keys: (s) => [s.tenantName],
      link: 'Tenant',
      backLink: 'Servicelbs',
    },
    {
      field: 'networkName',
      kind: 'network',
      keys: (s) => [`${s.tenantName}:${s.networkName}`],
      link: 'Network',
      backLink: 'Servicelbs',
    },
  ],
  lookupName: 'serviceName',
  forTenants: {
    sets: ['tenantName', 'serviceName', 'networkName', 'ipAddress', 'selectors', 'ports'],
  },
  allocates: ['vip'],
  check(s, world, before) {
    const wrong = (field: keyof ServiceLB, text: string, status: Problem['status'] = 400): Problem => ({
      field,
      status,
      message: `service ${s.tenantName}:${s.serviceName}: ${field} ${text}`,
    });
    const label = checkLabel('service', 'serviceName', s.serviceName);
    if (label !== undefined) return label;
    if (before !== undefined && before.networkName !== s.networkName)
      return wrong(
        'networkName',
        `is ${before.networkName} and cannot change: delete the service and create it anew`,
        409,
      );
    const labels = new Set<string>();
    for (const text of s.selectors) {
      const selector = parseSelector(text);
      if (selector === undefined) return wrong('selectors', `'${text}' must be key=value`);
      if (labels.has(selector[0]))
        return wrong('selectors', `has two values for ${selector[0]}: no endpoint carries both`);
      labels.add(selector[0]);
    }
    const ports = new Set<string>();
    for (const text of s.ports) {
      const parsed = parseServicePort(text);
      if (parsed === undefined)
        return wrong('ports', `'${text}' must be service:provider:protocol like 80:8080:TCP, TCP or UDP`);
      const port = `${parsed.port}/${parsed.protocol}`;
      if (ports.has(port)) return wrong('ports', `has ${port} twice`);
      ports.add(port);
    }
    if (!s.ipAddress) return undefined;
    const network = world.get<Network>('network', `${s.tenantName}:${s.networkName}`);
    const family = network === undefined ? 4 : mainFamily(network);
    if (!(family === 4 ? isIpv4(s.ipAddress) : isIpv6(s.ipAddress)))
      return wrong('ipAddress', `'${s.ipAddress}' is not an IPv${family} address`);
    const text = network && subnetOf(network, family);
    const subnet = text === undefined ? undefined : parseSubnet(text);
    if (subnet !== undefined && !contains(subnet, s.ipAddress))
      return wrong('ipAddress', `'${s.ipAddress}' must lie in ${text} of network ${s.networkName}`);
    return undefined;
  },
};
