/**
 * Why can X not reach Y: names become endpoints, policy is judged as declared now (model/verdict.ts), and what no policy can
 * help is said too. With `live` the kernels of both hosts are asked what they would do, and compared.
 *
 *   container, group or address, twice --resolve--> addresses --judge--> both sides, verdict --ask--> agents of both hosts
 *
 * An orchestrator's service leads a connection to one of several, and policy judges those: it is traced to each that may be chosen where
 * the asker is.
 */

import { isIpv4, isIpv6 } from '../model/address.ts';
import { select, zoneOf } from '../model/backends.ts';
import type { Backend, ClusterService, ClusterServicePort } from '../model/clusterService.ts';
import { isDirect, shareLink } from '../model/direct.ts';
import type { Endpoint } from '../model/endpoint.ts';
import type { EndpointGroup } from '../model/endpointGroup.ts';
import { externalAt, holds, networkWith, type StoredExternalEndpoint } from '../model/externalEndpoint.ts';
import { isExternal } from '../model/externalMember.ts';
import { familiesOf } from '../model/families.ts';
import type { Host } from '../model/host.ts';
import type { Network } from '../model/network.ts';
import type { NetworkPolicy } from '../model/networkPolicy.ts';
import { PORT_PROTOCOLS, protocolNumber, type Rule } from '../model/rule.ts';
import { type StoredServiceLB, selects } from '../model/serviceLB.ts';
import type { Global } from '../model/settings.ts';
import type { SwarmService } from '../model/swarmService.ts';
import { taskOf, virtualAddressesOf } from '../model/swarmTask.ts';
import { type JudgedEndpoint, judge, type Side } from '../model/verdict.ts';
import { type Workload, workloadName } from '../model/workload.ts';
import type {
  BackendTrace,
  LiveAnswer,
  LiveQuestion,
  LiveSide,
  Trace,
  TraceEnd,
} from '../protocol/messages.ts';
import { canonical, chooseAddress } from './allocator/choose.ts';
import { drainingHosts, leftOut } from './draining.ts';
import { externalMember, externalMembers } from './external.ts';
import { endpointAt } from './flows.ts';
import type { Mirror } from './mirror.ts';
import { Refusal } from './problem.ts';
import type { Questions } from './questions.ts';

/** Seconds that a host has to answer. */
const PATIENCE = 3;
const DNS = 53;
const ICMP = 1;
const ICMPV6 = 58;

export interface TraceRequest {
  readonly tenant: string;
  readonly from: string;
  readonly to: string;
  /** `tcp`, `udp`, `icmp` or a number. */
  readonly protocol: string;
  readonly port?: number | undefined;
}

const DNS_PROTOCOLS = [6, 17];
const OWN_NAMES =
  'names of the tenant are answered by its nameserver all the same, also where this address is asked for them';
const FORWARDS =
  "names outside are asked of the host's resolvers, each as if the container asked it: trace --to a resolver's address";

/** Of what never comes to the rules. */
const UNASKED: Side = { considered: [], verdict: 'allow', why: 'no rule is asked' };

/** One end, before it is known which of its addresses is meant. */
interface End {
  readonly field: 'from' | 'to';
  readonly asked: string;
  readonly name: string;
  readonly addresses: readonly string[];
  /** The asker named an address: the other end must have one of its family. */
  readonly fixed: boolean;
  readonly endpoint?: Endpoint;
  /** It is an external endpoint's. */
  readonly external?: Endpoint;
  /** Judged as if it had an endpoint. */
  readonly imagined?: JudgedEndpoint;
  readonly notes: readonly string[];
  /** Why nothing gets there whatever policy says. */
  readonly unreachable?: string;
  /** It is the router itself. */
  readonly gateway?: boolean;
}

/** Throws a Refusal where an end is not known or could mean several, or the request makes no packet. */
export function trace(mirror: Mirror, request: TraceRequest): Trace {
  const { tenant, port } = request;
  if (mirror.get('tenant', tenant) === undefined)
    throw new Refusal(404, `tenant ${tenant} does not exist`, 'tenant');
  const asked = protocolNumber(request.protocol);
  if (asked === undefined)
    throw new Refusal(
      400,
      `protocol: '${request.protocol}' must be tcp, udp, icmp or a number from 0 to 255`,
      'protocol',
    );
  const ported = PORT_PROTOCOLS.includes(asked);
  if (ported !== (port !== undefined))
    throw new Refusal(
      400,
      ported
        ? `port: ${request.protocol} needs one, 1 to 65535`
        : `port: ${request.protocol} has no ports: only tcp, udp and 132 have`,
      'port',
    );
  const from = resolve(mirror, tenant, 'from', request.from);
  const service = serviceOf(mirror, tenant, request.to);
  if (service !== undefined) return traceService(mirror, request, asked, from, service);
  return traceTo(mirror, tenant, from, resolve(mirror, tenant, 'to', request.to), asked, port);
}

/** `led`: by a service, also where it is led back to itself. */
function traceTo(
  mirror: Mirror,
  tenant: string,
  from: End,
  to: End,
  asked: number,
  port: number | undefined,
  led = false,
): BackendTrace {
  const inside = (end: End): boolean => end.endpoint !== undefined || end.imagined !== undefined;
  if (!inside(from) && !inside(to) && (from.unreachable ?? to.unreachable) === undefined)
    throw new Refusal(
      422,
      `neither ${from.name} nor ${to.name} belongs to a container or group of tenant ${tenant}`,
      'from',
    );

  const [source, destination] = sameFamily(from, to);
  const protocol = asked === ICMP && source.includes(':') ? ICMPV6 : asked;
  const packet = { from: source, to: destination, protocol, ...(port === undefined ? {} : { port }) };
  const result = (
    verdict: BackendTrace['verdict'],
    out: Side,
    into: Side,
    notes: readonly string[],
  ): BackendTrace => ({
    tenant,
    protocol,
    ...(port === undefined ? {} : { port }),
    from: present(from, source),
    to: present(to, destination),
    verdict,
    out,
    in: into,
    notes: [...new Set([...from.notes, ...to.notes, ...notes])],
  });
  const unreachable = [from, to].flatMap((end) => end.unreachable ?? []);
  const apart = networksApart(mirror, from, to);
  if (unreachable.length === 0 && apart !== undefined) unreachable.push(apart);
  if (unreachable.length > 0) return result('unreachable', UNASKED, UNASKED, unreachable);
  if (source === destination)
    return result('allow', UNASKED, UNASKED, [
      led
        ? `${to.name} is led to itself, which no policy judges: it sees the nameserver's address as who asks`
        : 'what a container sends to itself does not leave it',
    ]);
  if (to.gateway) {
    const answers = protocol === ICMP || protocol === ICMPV6 || port === DNS;
    const note = `${destination} is the gateway: the router itself answers ping and DNS, and refuses everything else`;
    return result(
      answers ? 'allow' : 'unreachable',
      UNASKED,
      UNASKED,
      port === DNS ? [note, FORWARDS] : [note],
    );
  }

  const mine = <T extends { tenantName: string }>(kind: string): T[] =>
    mirror.list<T>(kind).filter((object) => object.tenantName === tenant);
  const world = {
    networks: mine<Network>('network'),
    groups: mine<EndpointGroup>('endpointGroup'),
    rules: mine<Rule>('rule'),
    endpoints: [
      ...mine<Endpoint>('endpoint'),
      ...externalMembers(mirror, tenant).map((member) => ({ ...member, external: true })),
      ...[from, to].flatMap((end) => (end.imagined === undefined ? [] : [end.imagined])),
    ],
    workloads: mine<Workload>('workload'),
    networkPolicies: mirror.list<NetworkPolicy>('networkPolicy'),
  };
  const { verdict, out, in: into } = judge(world, packet);
  const notes: string[] = [];
  const [senders, receivers] = [source, destination].map((address) => wireOf(mirror, tenant, address));
  if (!inside(from) && senders !== undefined && senders !== networkOf(to))
    return result('unreachable', UNASKED, UNASKED, [
      `${source} is on the wire of network ${senders}: from there containers of that network are reached, and no others`,
    ]);
  if (!inside(to))
    notes.push(
      receivers === undefined
        ? outwards(world.networks, networkOf(from), destination)
        : `${destination} is on the wire of network ${receivers}${receivers === networkOf(from) ? '' : `, and answers where it has a way to ${source}`}`,
    );
  const way =
    inside(to) || receivers !== undefined
      ? undefined
      : world.networks.find(({ networkName }) => networkName === networkOf(from));
  if (way !== undefined && !(isIpv6(destination) ? way.ipv6Gateway : way.gateway))
    notes.push(`network ${way.networkName} has no gateway of that family: nothing leaves the tenant by it`);
  if (!inside(to) && inside(from) && port === DNS && DNS_PROTOCOLS.includes(protocol)) notes.push(OWN_NAMES);
  if (!inside(from) && senders === undefined) notes.push(inwards(world.networks, networkOf(to), source));
  notes.push(...byLink(mirror, world.networks, from, to));
  if (protocol === 17) notes.push('UDP without an answer: the rules are asked for each packet');
  if (verdict === 'deny') notes.push('connections that are open already go on');
  return result(verdict, out, into, notes);
}

/** The router of the fabric's own by which the network's containers and who is outside reach each other; undefined: none. */
function externalGateway(networks: readonly Network[], name: string | undefined, peer: string) {
  const network = networks.find(({ networkName }) => networkName === name);
  return network?.externalGateway ? (isIpv6(peer) ? network.ipv6Gateway : network.gateway) : undefined;
}

function outwards(networks: readonly Network[], from: string | undefined, destination: string): string {
  const gateway = externalGateway(networks, from, destination);
  return gateway
    ? `${destination} is outside the tenant: by way of ${gateway}, the fabric's gateway of network ${from}, with the container's address`
    : `${destination} is outside the tenant: by way of the host, with its address`;
}

function inwards(networks: readonly Network[], to: string | undefined, source: string): string {
  const gateway = externalGateway(networks, to, source);
  return gateway
    ? `${source} is outside the tenant: it reaches containers of network ${to} by way of ${gateway}, and by published ports`
    : `${source} is outside the tenant: it reaches containers by published ports only`;
}

/** How what goes to a network of encapsulation direct comes to another host. */
function byLink(mirror: Mirror, networks: readonly Network[], from: End, to: End): string[] {
  const [here, there] = [from, to].map(({ endpoint }) =>
    mirror.get<Host>('host', endpoint?.homingHost ?? ''),
  );
  const network = networks.find(({ networkName }) => networkName === networkOf(to));
  if (here === undefined || there === undefined || here.name === there.name) return [];
  if (network === undefined || !isDirect(network)) return [];
  return [
    shareLink(here, there)
      ? `from host ${here.name} to ${there.name} it goes by their link, without a tunnel`
      : `hosts ${here.name} and ${there.name} share no link: it goes by VXLAN`,
  ];
}

/** The VLAN network in whose subnet an address is: where no endpoint has it, a machine may. */
function wireOf(mirror: Mirror, tenant: string, address: string): string | undefined {
  const network = networkWith(mirror, tenant, address);
  return network?.encap === 'vlan' ? network.networkName : undefined;
}

/** Why networks do not reach each other; undefined: they do, or it is one, or an end is in none. */
function networksApart(mirror: Mirror, from: End, to: End): string | undefined {
  const [a, b] = [networkOf(from), networkOf(to)];
  const mode = mirror.get<Global>('global', 'global')?.fwdMode;
  if (mode !== 'bridge' || a === undefined || b === undefined || a === b) return undefined;
  return `networks ${a} and ${b} do not reach each other: the forwarding mode of the cluster is bridge (netctl global info)`;
}

/** A service that is asked, by its name or at one of its addresses. */
interface Served {
  readonly service: ClusterService;
  /** The address that was named. */
  readonly address?: string;
  readonly notes: readonly string[];
}

const serviceName = ({ namespaceName, serviceName: name }: ClusterService): string =>
  `service ${namespaceName}/${name}`;

/** undefined: it means something else, or nothing. */
function serviceOf(mirror: Mirror, tenant: string, asked: string): Served | undefined {
  const services = mirror.list<ClusterService>('clusterService').filter((s) => s.tenantName === tenant);
  if (isIpv4(asked) || isIpv6(asked)) {
    const address = canonical(asked);
    const service = services.find((s) => [...s.addresses, ...(s.externalAddresses ?? [])].includes(address));
    return service && { service, address, notes: [] };
  }
  const [, kind, name = ''] = /^(?:(service):)?(.*)$/s.exec(asked) ?? [];
  const service = services.find((s) => `${s.namespaceName}/${s.serviceName}` === name);
  if (service === undefined || kind !== undefined) return service && { service, notes: [] };
  // A workload that is called so goes first, as a container goes before a group.
  const isOther = called(mirror, mirror.list<Endpoint>('endpoint'), name).length > 0;
  return isOther ? undefined : { service, notes: [] };
}

/** To each backend that may be chosen where the asker is. */
function traceService(
  mirror: Mirror,
  { tenant, to: asked, port }: TraceRequest,
  protocol: number,
  from: End,
  { service, address: named, notes }: Served,
): Trace {
  const name = serviceName(service);
  if (port === undefined)
    throw new Refusal(400, `protocol: ${name} is asked at a port of tcp, udp or 132`, 'protocol');
  if (from.endpoint === undefined && from.imagined === undefined)
    throw new Refusal(
      422,
      `from: ${from.name} is outside the tenant: which backends of ${name} it comes to depends on the host that it asks; trace to one of them`,
      'from',
    );
  const isV6 = (address: string): boolean => address.includes(':');
  const families = from.addresses.map(isV6);
  const address = named ?? service.addresses.find((a) => families.includes(isV6(a)));
  if (address === undefined || !families.includes(isV6(address)))
    throw new Refusal(
      422,
      `to: ${name} has no address of the family of ${from.addresses.join(' and ')}`,
      'to',
    );
  const source = from.addresses.find((a) => isV6(a) === isV6(address)) as string;
  const end: TraceEnd = { asked, address, name };
  const declared = service.ports.find((p) => p.protocol === protocol && p.port === port);
  const { chosen, why } = backendsOf(mirror, service, declared, { address, host: from.endpoint?.homingHost });
  const plain = { ...from, notes: [] };
  const backends = chosen.map((backend) =>
    traceTo(
      mirror,
      tenant,
      plain,
      resolveAddress(mirror, tenant, 'to', backend.address),
      protocol,
      backend.port,
      true,
    ),
  );
  const verdicts = new Set(backends.map(({ verdict }) => verdict));
  const [verdict = 'unreachable'] = verdicts;
  const side: Side = {
    considered: [],
    verdict: verdict === 'allow' ? 'allow' : 'deny',
    why: 'each backend is judged',
  };
  return {
    tenant,
    protocol,
    port,
    from: present(from, source),
    to: end,
    verdict: verdicts.size > 1 ? 'partly' : verdict,
    out: backends.length === 0 ? UNASKED : side,
    in: backends.length === 0 ? UNASKED : side,
    notes: [...new Set([...from.notes, ...notes])],
    service: { name, backends, chosen: why },
  };
}

/** Who may be chosen at an address of a service from a host, and why those. */
function backendsOf(
  mirror: Mirror,
  service: ClusterService,
  declared: ClusterServicePort | undefined,
  { address, host }: { readonly address: string; readonly host: string | undefined },
): { readonly chosen: readonly Backend[]; readonly why: string } {
  if (declared === undefined) {
    const ports = service.ports.map(({ protocol, port }) => `${port} of protocol ${protocol}`).join(', ');
    return { chosen: [], why: `it has no such port, and refuses: it has ${ports || 'none'}` };
  }
  const family = declared.backends.filter((b) => b.address.includes(':') === address.includes(':'));
  const zone =
    host === undefined
      ? undefined
      : zoneOf(
          host,
          mirror
            .list<ClusterService>('clusterService')
            .filter(({ tenantName }) => tenantName === service.tenantName),
        );
  const { cluster, local, any, why } = select(family, host ?? '', zone, drainingHosts(mirror));
  // What asks from inside at an external address goes to whoever answers.
  const isLocal = service.internalTraffic === 'local' && service.addresses.includes(address);
  if (!any) return { chosen: [], why: 'nobody answers: it refuses' };
  if (!isLocal) return { chosen: cluster, why: `${cluster.length} of ${family.length}: ${why}` };
  const here = `on host ${host ?? 'of the asker, which is not known'}, as internal traffic is local`;
  if (local.length === 0) return { chosen: [], why: `none is ${here}: nothing is answered` };
  return { chosen: local, why: `${local.length} of ${family.length}: those ${here}` };
}

const networkOf = ({ endpoint, imagined }: End): string | undefined =>
  endpoint?.networkName ?? imagined?.networkName;

function present(end: End, address: string): TraceEnd {
  const { endpoint, imagined, external } = end;
  const group = endpoint?.groupName ?? imagined?.groupName ?? external?.groupName;
  const network = networkOf(end) ?? external?.networkName;
  return {
    asked: end.asked,
    address,
    name: end.name,
    ...(group ? { group } : {}),
    ...(network ? { network } : {}),
    ...(endpoint ? { host: endpoint.homingHost } : {}),
    ...(external ? { external: true } : {}),
  };
}

/** An address of each, of one family; IPv4 where both have it. */
function sameFamily(from: End, to: End): [string, string] {
  for (const v6 of [false, true]) {
    const [source, destination] = [from, to].map((end) =>
      end.addresses.find((address) => address.includes(':') === v6),
    );
    if (source !== undefined && destination !== undefined) return [source, destination];
  }
  const fixed = from.fixed ? from : to;
  const other = fixed === from ? to : from;
  throw new Refusal(
    422,
    `${other.name} has no address of the family of ${fixed.addresses[0] ?? fixed.name}`,
    other.field,
  );
}

const nameOf = (e: Endpoint): string =>
  e.workload === undefined
    ? `container ${e.containerName ?? e.endpointID}`
    : `workload ${workloadName(e.workload)}`;

const candidate = (e: Endpoint): string =>
  `${e.ipAddress[0]} (${e.workload === undefined ? (e.containerName ?? e.endpointID) : workloadName(e.workload)}, network ${e.networkName}, ${isExternal(e) ? 'external' : e.homingHost})`;

/** A name is that of a container, its alias, a service or a group, in this order, as in DNS. */
function resolve(mirror: Mirror, tenant: string, field: 'from' | 'to', asked: string): End {
  if (asked === '') throw new Refusal(400, `${field} is missing: a container, a group or an address`, field);
  if (isIpv4(asked) || isIpv6(asked)) return resolveAddress(mirror, tenant, field, asked);
  const [, kind, name = ''] = /^(?:(container|group):)?(.*)$/s.exec(asked) ?? [];
  const groupOf = (t: string): EndpointGroup | undefined =>
    kind === 'container' ? undefined : mirror.get<EndpointGroup>('endpointGroup', `${t}:${name}`);
  const endpoints = kind === 'group' ? [] : mirror.list<Endpoint>('endpoint');
  const found = called(
    mirror,
    endpoints.filter((e) => e.tenantName === tenant),
    name,
  );
  const group = groupOf(tenant);
  const [endpoint, ...more] = found;
  if (endpoint !== undefined && more.length > 0)
    throw new Refusal(
      409,
      `${field}: '${asked}' could be several: say one of ${found.map(candidate).join(', ')}`,
      field,
    );
  if (endpoint !== undefined) {
    const isService = field === 'to' && mirror.get('clusterService', name.replace('/', ':')) !== undefined;
    const both = [
      ...(group !== undefined && kind === undefined && endpoint.groupName !== name
        ? [`'${name}' is a group too: say group:${name} for that`]
        : []),
      ...(isService ? [`'${name}' is a service too: say service:${name} for that`] : []),
    ];
    return ofEndpoint(mirror, field, asked, endpoint, both);
  }
  const served = serviceOf(mirror, tenant, asked);
  if (served !== undefined)
    throw new Refusal(422, `${field}: ${serviceName(served.service)} opens no connections`, field);
  const leading = kind === undefined ? leadingOf(mirror, tenant, (s) => s.names.includes(name)) : undefined;
  if (leading !== undefined) throw leadingRefusal(mirror, tenant, field, leading);
  const external = mirror.get<StoredExternalEndpoint>('externalEndpoint', `${tenant}:${name}`);
  if (external !== undefined && kind === undefined) return ofExternal(mirror, field, asked, external);
  if (group !== undefined) return ofGroup(mirror, field, asked, group);

  const waiting = mirror.get<Workload>('workload', name.replace('/', ':'));
  if (name.includes('/') && waiting !== undefined && called(mirror, endpoints, name).length === 0)
    throw new Refusal(
      422,
      `${field}: workload ${name} has no endpoint: it has not started, or has ended`,
      field,
    );
  const elsewhere = called(mirror, endpoints, name)[0];
  const tenants = mirror.list<{ tenantName: string }>('tenant').map((t) => t.tenantName);
  const foreign = elsewhere?.tenantName ?? tenants.find((t) => groupOf(t) !== undefined);
  if (foreign === undefined)
    throw new Refusal(
      404,
      `${field}: tenant ${tenant} has no running container, external endpoint, group or address '${asked}'; a stopped container has no address`,
      field,
    );
  const other =
    elsewhere === undefined
      ? ofGroup(mirror, field, asked, groupOf(foreign) as EndpointGroup)
      : ofEndpoint(mirror, field, asked, elsewhere, []);
  return { ...other, unreachable: `${other.name} is in tenant ${foreign}: tenants do not reach each other` };
}

/** By endpoint id, container id (12 characters or more), container name or NAMESPACE/NAME of a workload; else by alias. */
function called(mirror: Mirror, endpoints: readonly Endpoint[], name: string): Endpoint[] {
  const byName = endpoints.filter(
    (e) =>
      e.endpointID === name ||
      e.containerName === name ||
      (e.workload !== undefined && workloadName(e.workload) === name) ||
      (name.length >= 12 && (e.containerID ?? '').startsWith(name)),
  );
  // Of a pod that was made anew the one before may still be ending.
  const isPresent = (e: Endpoint): boolean =>
    e.workload === undefined || mirror.get<Workload>('workload', e.workload)?.uid === e.workloadUid;
  const present = byName.filter(isPresent);
  if (byName.length > 0) return present.length > 0 ? present : byName;
  return endpoints.filter((e) => e.aliases?.includes(name));
}

function ofEndpoint(
  mirror: Mirror,
  field: 'from' | 'to',
  asked: string,
  endpoint: Endpoint,
  notes: readonly string[],
): End {
  const name = nameOf(endpoint);
  const host = endpoint.homingHost;
  return {
    field,
    asked,
    name,
    addresses: endpoint.ipAddress,
    fixed: false,
    endpoint,
    notes: [
      ...notes,
      ...(endpoint.status === 'paused' ? [`${name} is paused: it answers nothing`] : []),
      ...(endpoint.status === 'created' ? [`${name} has not started yet`] : []),
      ...(mirror.get<Host>('host', host) === undefined
        ? [`host ${host} of ${name} is not heard of: it may be down`]
        : []),
    ],
  };
}

/** `address`: the one that was named. */
function ofExternal(
  mirror: Mirror,
  field: 'from' | 'to',
  asked: string,
  external: StoredExternalEndpoint,
  address?: string,
): End {
  const { tenantName, endpointName, failing } = external;
  const name = `external endpoint ${endpointName}`;
  const addresses = address === undefined ? external.ipAddress : [address];
  const network = addresses.map((a) => networkWith(mirror, tenantName, a)).find((n) => n !== undefined);
  return {
    field,
    asked,
    name,
    addresses,
    fixed: address !== undefined,
    external: externalMember(mirror, external),
    notes:
      failing === undefined
        ? []
        : [
            `${name} fails its health check since ${failing.since}, as host ${failing.host} says: ${failing.why}`,
          ],
    ...(network !== undefined && network.encap !== 'vlan'
      ? {
          unreachable: `${name} has an address of network ${network.networkName}, which is a ${network.encap ?? 'vxlan'} network: no machine is on its wire`,
        }
      : {}),
  };
}

/** One of its endpoints; without any, as if it had one. */
function ofGroup(mirror: Mirror, field: 'from' | 'to', asked: string, group: EndpointGroup): End {
  const { tenantName, groupName, networkName } = group;
  const members = mirror.users<Endpoint>('endpointGroup', `${tenantName}:${groupName}`, 'endpoint');
  const member = members.find((e) => e.status === 'running') ?? members[0];
  if (member !== undefined) {
    const end = ofEndpoint(mirror, field, asked, member, []);
    const others = members.length === 1 ? 'its only one' : `one of its ${members.length}`;
    return { ...end, notes: [`group ${groupName}: taken is ${end.name}, ${others}`, ...end.notes] };
  }
  const network = mirror.get<Network>('network', `${tenantName}:${networkName}`) as Network;
  const what = `group ${groupName}`;
  const addresses = familiesOf(network).map(
    (family) => chooseAddress(mirror, { network, family, group, what, field }, {}).address,
  );
  return {
    field,
    asked,
    name: what,
    addresses,
    fixed: false,
    imagined: { groupName, networkName, ipAddress: addresses },
    notes: [`${what} has no container: judged as if one had ${addresses.join(' and ')}`],
  };
}

function resolveAddress(mirror: Mirror, tenant: string, field: 'from' | 'to', asked: string): End {
  const address = canonical(asked);
  const served = field === 'from' ? serviceOf(mirror, tenant, address) : undefined;
  if (served !== undefined)
    throw new Refusal(
      422,
      `${field}: ${address} is of ${serviceName(served.service)}, which opens no connections`,
      field,
    );
  const endpoint = endpointAt(mirror, tenant, address);
  if (endpoint !== undefined)
    return { ...ofEndpoint(mirror, field, asked, endpoint, []), addresses: [address], fixed: true };
  const leading = leadingOf(mirror, tenant, (s) => s.addresses.includes(address));
  if (leading !== undefined) throw leadingRefusal(mirror, tenant, field, leading);
  const [external] = mirror.where('externalEndpoint', externalAt, `${tenant}/${address}`);
  if (external !== undefined) return ofExternal(mirror, field, asked, external, address);
  const end = { field, asked, name: `address ${address}`, addresses: [address], fixed: true, notes: [] };
  for (const network of mirror.users<Network>('tenant', tenant, 'network')) {
    const { networkName, gateway, ipv6Gateway, externalGateway } = network;
    if (!externalGateway && [gateway, ipv6Gateway].some((g) => g && canonical(g) === address)) {
      if (field === 'to') return { ...end, gateway: true };
      return { ...end, unreachable: `${address} is the gateway of network ${networkName}: it opens nothing` };
    }
    if (network.encap !== 'vlan' && holds(network, address))
      return { ...end, unreachable: `${address} is in network ${networkName}, and no container has it` };
  }
  return end;
}

/** A service that has its providers by labels: a declared one, or one of Docker's Swarm. */
interface Leading {
  readonly names: readonly string[];
  /** None: its name is answered with its providers' addresses. */
  readonly addresses: readonly string[];
  readonly isProvider: (endpoint: Endpoint) => boolean;
}

function leadingOf(
  mirror: Mirror,
  tenant: string,
  isMeant: (service: Leading) => boolean,
): Leading | undefined {
  const declared = mirror.users<StoredServiceLB>('tenant', tenant, 'serviceLB').map(
    (service): Leading => ({
      names: [service.serviceName],
      addresses: [service.vip],
      isProvider: ({ labels }) => selects(service, labels),
    }),
  );
  const ofSwarm = mirror.users<SwarmService>('tenant', tenant, 'swarmService').map(
    (service): Leading => ({
      names: [service.serviceName, ...(service.aliases ?? [])],
      addresses: virtualAddressesOf(service),
      isProvider: taskOf(service),
    }),
  );
  return [...declared, ...ofSwarm].find(isMeant);
}

function leadingRefusal(
  mirror: Mirror,
  tenant: string,
  field: 'from' | 'to',
  { names, addresses, isProvider }: Leading,
): Refusal {
  const selected = [
    ...mirror.users<Endpoint>('tenant', tenant, 'endpoint'),
    ...externalMembers(mirror, tenant),
  ].filter(isProvider);
  const out = leftOut(mirror, selected);
  const providers = selected.filter((e) => !out.has(e)).map(candidate);
  const others = [...out].map(([e, why]) => `${candidate(e)}, as ${why}`);
  return new Refusal(
    422,
    `${field}: service ${names[0]}${addresses.length === 0 ? '' : ` (${addresses.join(', ')})`} leads connections to its providers, and policy judges those: ${[
      providers.length === 0 ? 'it has none now' : `say one of ${providers.join(', ')}`,
      ...(others.length === 0 ? [] : [`new connections do not go to ${others.join('; ')}`]),
    ].join('; ')}`,
    field,
  );
}

/**
 * What the kernels of the ends' hosts would do; of none where the packet comes to no rule, or an end is of a group
 * without containers: no kernel knows such a one.
 */
export async function askHosts(
  traced: Pick<Trace, keyof BackendTrace>,
  questions: Questions,
): Promise<LiveSide[]> {
  const { tenant, from, to, protocol, port } = traced;
  const sides = [
    { direction: 'out', end: from, peer: to, side: traced.out },
    { direction: 'in', end: to, peer: from, side: traced.in },
  ] as const;
  if ([from, to].some((end) => end.group !== undefined && end.host === undefined && !end.external)) return [];
  return Promise.all(
    sides.flatMap(({ direction, end, peer, side }) => {
      const { host } = end;
      if (host === undefined || side === UNASKED) return [];
      const question: LiveQuestion = {
        tenant,
        direction,
        own: end.address,
        peer: peer.address,
        protocol,
        ...(port === undefined ? {} : { port }),
      };
      return [
        questions
          .ask(host, question, PATIENCE)
          .then((answer) => ({ host, direction, ...compare(side, answer) })),
      ];
    }),
  );
}

/** A rule has its key, and what is not ours says in its name what it is. */
const rulePhrase = (rule: string): string =>
  rule === '' ? 'no rule decides' : `${rule.includes(' ') ? '' : 'rule '}${rule} decides`;

export function compare(
  side: Side,
  answer: LiveAnswer | 'away' | 'silent',
): { agrees: boolean; text: string } {
  const differs = (text: string) => ({ agrees: false, text });
  if (answer === 'silent') return differs(`does not answer within ${PATIENCE} s`);
  if (answer === 'away') return differs('is not connected to this netmaster');
  if (answer.problem !== undefined) return differs(`differs: ${answer.problem}`);
  if (answer.changed.length > 0)
    return differs(`differs: its chains are not as they were set up: ${answer.changed.join(', ')}`);
  const declared = side.decides ?? '';
  if (answer.verdict === side.verdict && answer.rule === declared)
    return { agrees: true, text: `agrees: ${answer.verdict}, ${rulePhrase(answer.rule)}` };
  return differs(
    `differs: the kernel says ${answer.verdict}, ${rulePhrase(answer.rule)}; declared is ${side.verdict}, ${rulePhrase(declared)}`,
  );
}
