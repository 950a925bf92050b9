/**
 * From services and labels to providers.
 *
 *   selectors, endpoints of a host --candidates--> service -> endpoints that carry its labels   one host at a time
 *     --all hosts, model/answering.ts--> providers --arrange--> slots
 *
 * A service of Docker's Swarm is one of them, whose selector says which endpoints are its tasks, in its own network and group; by
 * IPv6 it is one more, with the tasks' addresses of that family.
 *
 * External endpoints are candidates as those of one more host, which lives.
 *
 * Providers of this host are known from its attachments, before netmaster has heard of a change. One in a network
 * without gateway serves clients of its own network only, as it has no way back to others.
 */
import { isV6 } from '../../model/address.ts';
import { answers, ready } from '../../model/answering.ts';
import type { Endpoint } from '../../model/endpoint.ts';
import type { StoredExternalEndpoint } from '../../model/externalEndpoint.ts';
import { memberOf } from '../../model/externalMember.ts';
import { parseServicePort, type ServicePort, selectorOf } from '../../model/serviceLB.ts';
import type { SwarmService } from '../../model/swarmService.ts';
import { taskOf, virtualAddressesOf } from '../../model/swarmTask.ts';
import type { LocalHost, TenantView, View, WatchedNetwork } from '../intent/view.ts';
import type { Service } from '../state.ts';
import type { Memo } from './memo.ts';

/** By service. */
type Candidates = ReadonlyMap<object, readonly Endpoint[]>;

/** A service as it is declared, or as Swarm has it. */
interface Selecting {
  readonly of: object;
  /** Unique in the tenant. */
  readonly name: string;
  readonly networkName: string;
  readonly address: string;
  readonly ports: readonly ServicePort[];
  readonly everyPort?: true;
  selects(endpoint: Endpoint): boolean;
}

export interface ServiceInput {
  readonly tenant: string;
  readonly mine: TenantView;
  readonly networks: ReadonlyMap<string, WatchedNetwork>;
  /** The tenant's endpoints on this host. */
  readonly here: readonly Endpoint[];
  readonly view: View;
  readonly local: LocalHost;
}

export function compileServices(
  { tenant, mine, networks, here, view, local }: ServiceInput,
  memo: Memo,
): readonly Service[] {
  const keyOf = (name: string): string => `services ${tenant} ${name}`;
  if (mine.services.length + mine.swarmServices.length === 0) return memo.use(keyOf('list'), [], () => []);
  const selectors = memo.use(keyOf('selectors'), [mine.services, mine.swarmServices], () => selecting(mine));
  const candidatesOf = (
    host: string,
    endpoints: readonly Endpoint[],
    inputs: readonly unknown[],
  ): Candidates =>
    memo.use(keyOf(`of host ${host}`), [selectors, networks, ...inputs], () => {
      const answering = endpoints.filter((e) => answers(e) && networks.has(e.networkName));
      return new Map(selectors.map((service) => [service.of, answering.filter((e) => service.selects(e))]));
    });
  const hosts = [candidatesOf(local.name, here, here)];
  for (const [host, endpoints] of mine.endpoints)
    if (host !== local.name && view.hosts.has(host)) hosts.push(candidatesOf(host, endpoints, [endpoints]));
  const { externals, groups } = mine;
  if (externals.length > 0)
    hosts.push(
      candidatesOf(
        '',
        externals.map((external) => memberOf(external, networkOf(external, groups))),
        [externals, groups],
      ),
    );

  const services = selectors.map((service) => {
    const { of, name, address, ports, everyPort } = service;
    const candidates = hosts.map((there) => there.get(of) ?? []);
    return memo.use(
      keyOf(`service ${name}`),
      [of, view.draining, ...candidates],
      (before: Service | undefined): Service => ({
        name,
        address,
        ports,
        ...(everyPort && { everyPort }),
        providers: arrange(before?.providers ?? [], providers(service, candidates.flat(), view.draining)),
      }),
    );
  });
  return memo.use(keyOf('list'), services, () => services.toSorted((a, b) => (a.name < b.name ? -1 : 1)));
}

const networkOf = ({ groupName }: StoredExternalEndpoint, groups: TenantView['groups']): string =>
  groups.find((g) => g.groupName === groupName)?.networkName ?? '';

/** Two that have one address, which a Swarm that is forgotten may have left, would be refused as a whole: the first one has it. */
function selecting({ services, swarmServices }: TenantView): Selecting[] {
  const declared = services.map((service): Selecting => {
    const selects = selectorOf(service);
    return {
      of: service,
      name: service.serviceName,
      networkName: service.networkName,
      address: service.vip,
      ports: service.ports.flatMap((text) => parseServicePort(text) ?? []),
      selects: ({ labels }) => selects(labels),
    };
  });
  const known = new Set(declared.map(({ address }) => address));
  const ofSwarm = swarmServices.flatMap((service): Selecting[] => {
    const { networkName } = service;
    const selects = taskOf(service);
    return virtualAddressesOf(service).flatMap((address): Selecting[] => {
      if (known.has(address)) return [];
      known.add(address);
      const name = nameOfSwarm(service, address);
      return [{ of: service, name, networkName, address, ports: [], everyPort: true, selects }];
    });
  });
  return [...declared, ...ofSwarm];
}

/** No declared service's: those have no '/'. */
const nameOfSwarm = ({ serviceName, swarmNetworkID }: SwarmService, address: string): string =>
  `${serviceName}/${swarmNetworkID}${isV6(address) ? '/6' : ''}`;

/** One address a container, of the service's family, in the service's network where it has one there; sorted. */
function providers(
  service: Pick<Selecting, 'networkName' | 'address'>,
  candidates: readonly Endpoint[],
  draining: View['draining'],
): string[] {
  const chosen = new Map<string, { address: string; near: boolean }>();
  const family = isV6(service.address);
  for (const { containerID, endpointID, networkName, ipAddress } of ready(candidates, draining)) {
    const address = ipAddress.find((a) => isV6(a) === family);
    if (address === undefined) continue;
    const near = networkName === service.networkName;
    const other = chosen.get(containerID ?? endpointID);
    const better = other === undefined || (near === other.near ? address < other.address : near);
    if (better) chosen.set(containerID ?? endpointID, { address, near });
  }
  // One that has just moved may be listed at two hosts.
  return [...new Set([...chosen.values()].map((c) => c.address))].sort();
}

/** Whoever stays keeps its slot, but that the last ones close the gaps: a change is as small as what changed. */
export function arrange(before: readonly string[], wanted: readonly string[]): string[] {
  const stays = new Set(wanted);
  const had = new Set(before);
  const newcomers = wanted.filter((address) => !had.has(address));
  const slots = before.map((address) => (stays.has(address) ? address : newcomers.shift()));
  slots.push(...newcomers);
  for (let gap = slots.indexOf(undefined); gap !== -1; gap = slots.indexOf(undefined, gap)) {
    const last = slots.pop();
    if (gap < slots.length) slots[gap] = last;
  }
  return slots as string[];
}

/**
 * The same for slots that clients are remembered by: whoever stays keeps its slot for as long as half of them are taken, and the first
 * one is somebody's always; where somebody moves, his clients may find another.
 */
export function arrangeKept(
  before: readonly (string | undefined)[],
  wanted: readonly string[],
): (string | undefined)[] {
  const stays = new Set(wanted);
  const had = new Set(before);
  const newcomers = wanted.filter((name) => !had.has(name));
  const slots = before.map((name) => (name !== undefined && stays.has(name) ? name : newcomers.shift()));
  slots.push(...newcomers);
  const trim = (): void => {
    while (slots.length > 0 && slots.at(-1) === undefined) slots.pop();
  };
  trim();
  if (slots.length > 0) slots[0] ??= slots.pop();
  trim();
  return 2 * wanted.length >= slots.length ? slots : slots.filter((name) => name !== undefined);
}
