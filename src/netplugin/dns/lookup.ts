/**
 * Names as one tenant's containers see them, as a function of the view: which addresses a name has, or that
 * it is none of ours.
 *
 *   web                   in the caller's networks: container, then alias, then service or external endpoint, then group; it may have dots
 *   web.contiv-net        in any network of the tenant
 *   web.contiv-net.blue   the same, with the tenant's own name
 *
 * A tenant's table is made when it is first asked for after a change. Another tenant's names are not in it.
 */

import { addressNumber, contains, numberAddress, parseSubnet, type Subnet } from '../../model/address.ts';
import { answers, ready } from '../../model/answering.ts';
import type { Endpoint } from '../../model/endpoint.ts';
import { memberOf } from '../../model/externalMember.ts';
import { subnetsOf } from '../../model/families.ts';
import type { SwarmService } from '../../model/swarmService.ts';
import { SERVICE_LABEL, taskOf, virtualAddressesOf } from '../../model/swarmTask.ts';
import type { WatchedObject } from '../../protocol/messages.ts';
import type { View } from '../intent/view.ts';

export interface Question {
  readonly name: string;
  /** `A`, `AAAA`, `PTR`, ... */
  readonly type: string;
}

export type NameAnswer =
  | { readonly kind: 'addresses'; readonly addresses: readonly string[] }
  | { readonly kind: 'pointer'; readonly name: string }
  /** The name is ours but has nothing of this type. */
  | { readonly kind: 'empty' }
  | { readonly kind: 'unknown' }
  /** Not ours: ask others. */
  | { readonly kind: 'forward' };

/** What one name means: endpoints, or a service. */
interface Members {
  readonly endpoints: Pick<Endpoint, 'status' | 'homingHost' | 'ipAddress'>[];
  /** Which of them comes first in the next answer, modulo their number. */
  next: number;
  /** Of AAAA: who asks for both each time must not be led past every other member. */
  next6?: number;
  /** Which addresses are answered for a type, from its first question on: a table's members do not change, it gives way to another. */
  readonly found: Map<string, readonly string[]>;
}

/** Kinds that names follow from. */
export const NAMED: ReadonlySet<string> = new Set([
  'tenant',
  'network',
  'endpointGroup',
  'serviceLB',
  'swarmService',
  'externalEndpoint',
  'endpoint',
  'host',
  'draining',
]);

interface TenantTable {
  /** Names of hosts; made anew with the table when one comes or goes. */
  readonly draining: View['draining'];
  /** By network, then by kind in order of precedence, then by name in lower case. */
  readonly networks: Map<
    string,
    {
      containers: Map<string, Members>;
      aliases: Map<string, Members>;
      services: Map<string, Members>;
      groups: Map<string, Members>;
    }
  >;
  /** By address: the endpoint that has it, and all networks of its container. */
  readonly owners: Map<string, { endpoint: Endpoint; networks: string[] }>;
  /** Names of services by address. */
  readonly pointers: Map<string, string>;
  readonly subnets: Subnet[];
}

export interface Names {
  /** `objects` are those that changed; undefined: all. */
  update(view: View, objects: readonly WatchedObject[] | undefined): void;
  /** `client` is the asking container's address. */
  answer(tenant: string, client: string, question: Question): NameAnswer;
}

export function createNames(): Names {
  let view: View | undefined;
  const tables = new Map<string, TenantTable>();

  function tableOf(tenant: string): TenantTable {
    let table = tables.get(tenant);
    if (table === undefined) {
      table = build(view as View, tenant);
      tables.set(tenant, table);
    }
    return table;
  }

  return {
    update(next, objects) {
      view = next;
      for (const { kind, object } of objects ?? [{ kind: 'host', key: '', object: null }]) {
        if (!NAMED.has(kind)) continue;
        const tenant = (object as { tenantName?: string } | null)?.tenantName;
        // A host's life, death or drain, or something that is gone: whose it was is not known here.
        if (tenant === undefined) return tables.clear();
        tables.delete(tenant);
      }
    },
    answer(tenant, client, { name, type }) {
      const table = tableOf(tenant);
      const lower = name.toLowerCase().replace(/\.$/, '');
      if (lower.endsWith('.in-addr.arpa') || lower.endsWith('.ip6.arpa')) return pointer(table, lower, type);
      if (lower === '') return { kind: 'forward' };
      const labels = lower.split('.');
      if (labels.length > 2 && labels.at(-1) === tenant.toLowerCase()) labels.pop();
      const network = labels.length > 1 ? labels.pop() : undefined;
      const isNetwork = network !== undefined && table.networks.has(network);
      const members =
        (isNetwork ? lookup(table, network, labels.join('.')) : undefined) ??
        lookupNear(table, client, lower);
      if (members !== undefined) return addresses(members, type, table.draining);
      // One label, or one of a network of ours, is nobody else's.
      return { kind: labels.length === 1 && (network === undefined || isNetwork) ? 'unknown' : 'forward' };
    },
  };
}

function build(view: View, tenant: string): TenantTable {
  const table: TenantTable = {
    networks: new Map(),
    owners: new Map(),
    pointers: new Map(),
    subnets: [],
    draining: view.draining,
  };
  const mine = view.of(tenant);
  for (const network of mine.networks) {
    table.networks.set(network.networkName.toLowerCase(), {
      containers: new Map(),
      aliases: new Map(),
      services: new Map(),
      groups: new Map(),
    });
    table.subnets.push(...subnetsOf(network).flatMap((text) => parseSubnet(text) ?? []));
  }
  for (const group of mine.groups)
    table.networks
      .get(group.networkName.toLowerCase())
      ?.groups.set(group.groupName.toLowerCase(), { endpoints: [], next: anyPlace(), found: new Map() });

  for (const { serviceName, networkName, vip } of mine.services) {
    // Also without a provider: who connects is refused at once.
    const service: Members = { endpoints: [virtual(vip)], next: 0, found: new Map() };
    table.networks.get(networkName.toLowerCase())?.services.set(serviceName.toLowerCase(), service);
    table.pointers.set(vip, `${serviceName}.${networkName}`);
  }

  for (const external of mine.externals) {
    const group = mine.groups.find(({ groupName }) => groupName === external.groupName);
    const names = table.networks.get(group?.networkName.toLowerCase() ?? '');
    if (group === undefined || names === undefined) continue;
    const member = memberOf(external, group.networkName);
    // Its name is no service's: netmaster sees to that.
    add(names.services, external.endpointName, member);
    add(names.groups, group.groupName, member);
    for (const address of external.ipAddress)
      table.pointers.set(address, `${external.endpointName}.${group.networkName}`);
  }

  const tasks = new Map<string, Endpoint[]>();
  const byContainer = new Map<string, string[]>();
  for (const endpoint of [...mine.endpoints.values()].flat()) {
    const network = endpoint.networkName.toLowerCase();
    const names = table.networks.get(network);
    if (names === undefined) continue;
    const container = endpoint.containerID ?? endpoint.endpointID;
    const networks = byContainer.get(container) ?? [];
    networks.push(network);
    byContainer.set(container, networks);
    for (const address of endpoint.ipAddress) table.owners.set(address, { endpoint, networks });
    if (!view.hosts.has(endpoint.homingHost) || !answers(endpoint)) continue;
    if (endpoint.containerName !== undefined) add(names.containers, endpoint.containerName, endpoint);
    for (const alias of endpoint.aliases ?? []) add(names.aliases, alias, endpoint);
    if (endpoint.groupName !== undefined) add(names.groups, endpoint.groupName, endpoint);
    const service = endpoint.labels?.[SERVICE_LABEL];
    if (service !== undefined) tasks.set(service, [...(tasks.get(service) ?? []), endpoint]);
  }
  for (const service of mine.swarmServices)
    addSwarm(table, service, tasks.get(service.serviceID)?.filter(taskOf(service)) ?? []);
  return table;
}

/** A service's own addresses, which are on no host. */
const virtual = (...addresses: string[]): Members['endpoints'][number] => ({
  status: 'running',
  homingHost: '',
  ipAddress: addresses,
});

function add(map: Map<string, Members>, name: string, ...endpoints: Members['endpoints']): void {
  const members = map.get(name.toLowerCase());
  if (members !== undefined) members.endpoints.push(...endpoints);
  else map.set(name.toLowerCase(), { endpoints, next: anyPlace(), found: new Map() });
}

/** As Docker's own resolver has it: its names are aliases of the virtual addresses, where it has one, else of the tasks. */
function addSwarm(table: TenantTable, service: SwarmService, tasks: readonly Endpoint[]): void {
  const { serviceName, networkName, aliases = [] } = service;
  const own = virtualAddressesOf(service);
  const names = table.networks.get(networkName.toLowerCase());
  if (names === undefined) return;
  for (const name of new Set([serviceName, ...aliases].map((n) => n.toLowerCase()))) {
    add(names.aliases, `tasks.${name}`, ...tasks);
    if (own.length === 0) add(names.aliases, name, ...tasks);
    else add(names.aliases, name, virtual(...own));
  }
  for (const address of own) table.pointers.set(address, `${serviceName}.${networkName}`);
}

function lookup(table: TenantTable, network: string, name: string): Members | undefined {
  const names = table.networks.get(network);
  return (
    names?.containers.get(name) ??
    names?.aliases.get(name) ??
    names?.services.get(name) ??
    names?.groups.get(name)
  );
}

/** In the networks of the asking container. Names and aliases may have dots. */
function lookupNear(table: TenantTable, client: string, name: string): Members | undefined {
  for (const own of table.owners.get(client)?.networks ?? []) {
    const members = lookup(table, own, name);
    if (members !== undefined) return members;
  }
  return undefined;
}

/** Tables are made anew at each change: under churn a fixed start would favour the first member. */
const anyPlace = (): number => Math.floor(Math.random() * 2 ** 16);

/** Rotated, so that each member comes first equally often. */
function addresses(members: Members, type: string, draining: View['draining']): NameAnswer {
  const v6 = type === 'AAAA';
  if (type !== 'A' && !v6 && type !== 'ANY') return { kind: 'empty' };
  let found = members.found.get(type);
  if (found === undefined) {
    found = ready(members.endpoints, draining).flatMap((e) =>
      e.ipAddress.filter((a) => type === 'ANY' || a.includes(':') === v6),
    );
    members.found.set(type, found);
  }
  if (found.length === 0) return { kind: 'empty' };
  if (found.length === 1) return { kind: 'addresses', addresses: found };
  const next = v6 ? (members.next6 ?? members.next) : members.next;
  if (v6) members.next6 = next + 1;
  else members.next++;
  const first = next % found.length;
  return { kind: 'addresses', addresses: [...found.slice(first), ...found.slice(0, first)] };
}

function pointer(table: TenantTable, name: string, type: string): NameAnswer {
  const address = pointedAddress(name);
  if (address === undefined) return { kind: 'forward' };
  if (!table.subnets.some((subnet) => contains(subnet, address))) return { kind: 'forward' };
  const owner = table.owners.get(address)?.endpoint;
  const container = owner?.containerName && `${owner.containerName}.${owner.networkName}`;
  const found = container ?? table.pointers.get(address);
  if (found === undefined) return { kind: 'unknown' };
  return type === 'PTR' || type === 'ANY' ? { kind: 'pointer', name: found } : { kind: 'empty' };
}

/** `20.1.1.3` for `3.1.1.20.in-addr.arpa` (RFC 1035 3.5, RFC 3596 2.5). */
export function pointedAddress(name: string): string | undefined {
  const v4 = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.in-addr\.arpa$/.exec(name);
  if (v4 !== null) {
    const bytes = v4.slice(1, 5).reverse();
    return bytes.every((b) => Number(b) < 256) ? bytes.map(Number).join('.') : undefined;
  }
  const v6 = /^((?:[0-9a-f]\.){32})ip6\.arpa$/.exec(name);
  if (v6 === null) return undefined;
  const digits = (v6[1] as string).split('.').reverse().join('');
  const groups = digits.match(/.{4}/g) as string[];
  return numberAddress(addressNumber(groups.join(':')), 6);
}
