/**
 * From an orchestrator's services to frontends: where each is asked, and who answers there.
 *
 *   service --select--> per port and family: backends for the cluster's traffic, and those of this host
 *           --frontends--> addresses, external addresses; at the router's end of the exit node ports and external addresses
 *           --slots--> each keeps its place (services.ts)
 *           --entrances--> what the host's table leads to the router's end
 *
 * Who is chosen says model/backends.ts. With policy `local`, where others have some but this host has none, nothing answers at all, so
 * that a load balancer in front goes elsewhere; where nobody has any, the client is refused. What the fabric is told of is `answers`.
 */
import { createHash } from 'node:crypto';
import { contains, isV6, type Subnet } from '../../model/address.ts';
import { type Selection, select } from '../../model/backends.ts';
import type { Backend as Declared, ClusterService as DeclaredService } from '../../model/clusterService.ts';
import type { Backend, ClusterService, DnatEntry, Entrance, Frontend } from '../state.ts';
import type { Memo } from './memo.ts';
import { arrange, arrangeKept } from './services.ts';

export interface ClusterServiceInput {
  readonly tenant: string;
  readonly services: readonly DeclaredService[];
  readonly host: string;
  /** Of this host; undefined: not known. */
  readonly zone: string | undefined;
  /** Names of hosts that are being drained. */
  readonly draining: ReadonlySet<string>;
  /** The router's end of the exit; '' where it has none. */
  readonly routerAddress: string;
  readonly routerAddress6: string;
  /** Places at the router's end that published ports have: `tcp 4 8080`. */
  readonly taken: ReadonlySet<string>;
  /** In which the services' own addresses are asked from outside as well. */
  readonly open: readonly Subnet[];
}

export interface CompiledServices {
  readonly services: readonly ClusterService[];
  readonly entrances: readonly Entrance[];
}

/** Names of the protocols that hosts' ports have. */
export const PROTOCOLS: Readonly<Record<number, DnatEntry['protocol']>> = {
  6: 'tcp',
  17: 'udp',
  132: 'sctp',
};

/** A place at the router's end of an exit. */
export const placeOf = (protocol: string, address: string, port: number): string =>
  `${protocol} ${isV6(address) ? 6 : 4} ${port}`;

export function compileClusterServices(input: ClusterServiceInput, memo: Memo): CompiledServices {
  const { tenant, host, zone, draining, routerAddress, routerAddress6, taken, open } = input;
  const keyOf = (name: string): string => `clusterServices ${tenant} ${name}`;
  if (input.services.length === 0)
    return memo.use(keyOf('none'), [], (): CompiledServices => ({ services: [], entrances: [] }));
  const byName = memo.use(keyOf('sorted'), [input.services], () =>
    input.services.toSorted((a, b) => (nameOf(a) < nameOf(b) ? -1 : 1)),
  );
  const entrances = memo.use(
    keyOf('entrances'),
    [...byName, routerAddress, routerAddress6, taken, open],
    () => entrancesOf(byName, [routerAddress, routerAddress6], taken, open),
  );
  const byService = memo.use(keyOf('by service'), [entrances], () =>
    Map.groupBy(entrances, ({ service }) => service),
  );
  const services = byName.map((service) => {
    const name = nameOf(service);
    const own = memo.use(keyOf(`entrances of ${name}`), [byService], () => byService.get(name) ?? []);
    return memo.use(
      keyOf(`service ${name}`),
      [service, host, zone, draining, own],
      (before: ClusterService | undefined): ClusterService => ({
        name,
        addresses: service.addresses,
        frontends: frontendsOf(service, own, input, before?.frontends ?? []),
      }),
    );
  });
  return {
    services: memo.use(keyOf('list'), services, () => services),
    entrances: memo.use(keyOf('leads'), [entrances], () => entrances.map(({ entry }) => entry)),
  };
}

const nameOf = ({ namespaceName, serviceName }: DeclaredService): string => `${namespaceName}/${serviceName}`;

/** Of one port of a service. */
interface Lead {
  readonly service: string;
  /** Protocol and port of the service's. */
  readonly at: string;
  readonly external: boolean;
  readonly entry: Entrance;
}

/**
 * A node's port is the same at the router's end. That of an external address follows from its name, and is moved where it is
 * taken: while a new service is on its way to the host's table and the router's, no other one's place has another meaning.
 */
function entrancesOf(
  services: readonly DeclaredService[],
  ends: readonly string[],
  taken: ReadonlySet<string>,
  open: readonly Subnet[],
): Lead[] {
  const places = new Set(taken);
  const known = new Set<string>();
  const found: Lead[] = [];
  const each = (
    use: (
      service: DeclaredService,
      port: DeclaredService['ports'][number],
      protocol: DnatEntry['protocol'],
    ) => void,
  ): void => {
    for (const service of services)
      for (const port of service.ports) {
        const protocol = PROTOCOLS[port.protocol];
        if (protocol !== undefined) use(service, port, protocol);
      }
  };
  const families = (service: DeclaredService): string[] =>
    ends.filter((end) => end !== '' && service.addresses.some((a) => isV6(a) === isV6(end)));

  each((service, { protocol: number, port, nodePort }, protocol) => {
    if (nodePort === undefined) return;
    for (const address of families(service)) {
      const place = placeOf(protocol, address, nodePort);
      if (places.has(place)) continue;
      places.add(place);
      const entry = {
        protocol,
        hostAddress: '',
        hostPort: nodePort,
        transitPort: nodePort,
        address,
        port: nodePort,
      };
      found.push({ service: nameOf(service), at: `${number} ${port}`, external: false, entry });
    }
  });
  each((service, { protocol: number, port }, protocol) => {
    const opened = service.addresses.filter((a) => open.some((prefix) => contains(prefix, a)));
    for (const hostAddress of [...(service.externalAddresses ?? []), ...opened]) {
      const address = ends.find((end) => end !== '' && isV6(end) === isV6(hostAddress));
      const key = `${hostAddress} ${protocol} ${port}`;
      if (address === undefined || known.has(key)) continue;
      known.add(key);
      let transitPort = hashPort(key);
      while (places.has(placeOf(protocol, address, transitPort))) transitPort = nextPort(transitPort);
      places.add(placeOf(protocol, address, transitPort));
      const lead = { protocol, hostAddress, hostPort: port, transitPort, address, port: transitPort };
      // The host itself asks it in the router, where no policy takes it for an outsider.
      const entry = opened.includes(hostAddress) ? { ...lead, arriving: true as const } : lead;
      found.push({ service: nameOf(service), at: `${number} ${port}`, external: true, entry });
    }
  });
  return found;
}

/** Not those that nodes have by default (30000-32767), nor what users publish mostly. */
const [FIRST, LAST] = [32_768, 65_535];
const hashPort = (text: string): number =>
  FIRST + (createHash('sha256').update(text).digest().readUInt32BE() % (LAST - FIRST + 1));
const nextPort = (port: number): number => (port === LAST ? FIRST : port + 1);

function frontendsOf(
  service: DeclaredService,
  entrances: readonly Lead[],
  { host, zone, draining }: Pick<ClusterServiceInput, 'host' | 'zone' | 'draining'>,
  before: readonly Frontend[],
): Frontend[] {
  const { affinity, sourceRanges, internalTraffic = 'cluster', externalTraffic = 'cluster' } = service;
  const had = new Map(before.map((f) => [placeOfFrontend(f), f.backends]));
  const known = new Set<string>();
  return service.ports.flatMap((declared) => {
    const { protocol, port } = declared;
    const at = `${protocol} ${port}`;
    const selections = new Map(
      [false, true].map((six) => [
        six,
        select(
          declared.backends.filter((b) => isV6(b.address) === six),
          host,
          zone,
          draining,
        ),
      ]),
    );
    const frontend = (
      address: string,
      asked: number,
      policy: 'cluster' | 'local',
      external: boolean,
    ): Frontend[] => {
      const { [policy]: backends, any } = selections.get(isV6(address)) as Selection;
      const place = { address, protocol, port: asked };
      const key = placeOfFrontend(place);
      if (known.has(key)) return [];
      known.add(key);
      return [
        {
          ...place,
          backends: slots(had.get(key) ?? [], backends, affinity !== undefined),
          otherwise: policy === 'local' && any ? 'drop' : 'refuse',
          ...(affinity === undefined ? {} : { affinity }),
          ...(external && sourceRanges !== undefined ? { clients: sourceRanges } : {}),
        },
      ];
    };
    return [
      ...service.addresses.flatMap((address) => frontend(address, port, internalTraffic, false)),
      // What asks from inside has no need to go to where a load balancer would send it.
      ...(service.externalAddresses ?? []).flatMap((address) => frontend(address, port, 'cluster', true)),
      ...entrances
        .filter((e) => e.at === at)
        .flatMap(({ entry, external }) =>
          frontend(entry.address, entry.transitPort, externalTraffic, external),
        ),
    ];
  });
}

/** Whether who asks from outside at one of a service's addresses has an answer on this host. */
export function answers(
  { ports, externalTraffic }: DeclaredService,
  address: string,
  { host, zone, draining }: Pick<ClusterServiceInput, 'host' | 'zone' | 'draining'>,
): boolean {
  return ports.some(({ backends }) => {
    const ofFamily = backends.filter((b) => isV6(b.address) === isV6(address));
    const { any, localReady } = select(ofFamily, host, zone, draining);
    return externalTraffic === 'local' ? localReady > 0 : any;
  });
}

const placeOfFrontend = ({
  address,
  protocol,
  port,
}: Pick<Frontend, 'address' | 'protocol' | 'port'>): string => `${address} ${protocol} ${port}`;

function slots(before: Frontend['backends'], wanted: readonly Declared[], kept: boolean): (Backend | null)[] {
  const textOf = ({ address, port }: Backend): string => `${address} ${port}`;
  const byText = new Map(wanted.map((b) => [textOf(b), { address: b.address, port: b.port }]));
  const names = [...byText.keys()].sort();
  const had = before.map((b) => (b === null ? undefined : textOf(b)));
  const arranged = kept
    ? arrangeKept(had, names)
    : arrange(
        had.filter((name) => name !== undefined),
        names,
      );
  return arranged.map((name) => (name === undefined ? null : (byText.get(name) ?? null)));
}
