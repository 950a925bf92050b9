/** What netmaster has, by REST. */
import { type RouteName, requestOf } from '../../src/protocol/wire.ts';
import { curlFlags } from '../certificates.ts';
import { run, tryRun } from '../shell.ts';
import { type LabState, netmasterUrls, onHost, typed } from '../state.ts';

export interface Endpoint {
  readonly endpointID: string;
  readonly tenantName: string;
  readonly networkName: string;
  readonly groupName?: string;
  readonly containerName?: string;
  readonly homingHost: string;
  readonly ipAddress: readonly string[];
  readonly macAddress: string;
  /** The host's own, not a container's. */
  readonly ofHost?: true;
  /** A machine's that has nothing of ours. */
  readonly external?: true;
  readonly labels?: Readonly<Record<string, string>>;
  readonly status?: string;
}

export interface Network {
  readonly tenantName: string;
  readonly networkName: string;
  readonly gateway?: string;
  /** It is a router of the fabric's own. */
  readonly externalGateway?: boolean;
  readonly ipv6Gateway?: string;
  readonly hostAccess?: boolean;
  readonly advertise?: boolean;
  readonly nwType?: string;
  readonly encap: string;
  /** Absent: IPv6 alone. */
  readonly subnet?: string;
  readonly ipv6Subnet?: string;
}

/** What a network has been given, and its addresses that are given out. */
export interface Allocated {
  /** VNI, or VLAN id. */
  readonly pktTag: number;
  readonly allocatedAddressesCount?: number;
  readonly allocatedIPAddresses?: string;
}

export interface Service {
  readonly tenantName: string;
  readonly serviceName: string;
  readonly networkName: string;
  readonly selectors: readonly string[];
  readonly ports: readonly string[];
  readonly vip: string;
}

/** In one network of Swarm's. */
export interface SwarmService {
  readonly serviceID: string;
  readonly serviceName: string;
  readonly tenantName: string;
  readonly networkName: string;
  readonly groupName?: string;
  readonly virtualAddress?: string;
  readonly ipv6VirtualAddress?: string;
}

export interface ClusterService {
  readonly namespaceName: string;
  readonly serviceName: string;
  readonly tenantName: string;
  readonly addresses: readonly string[];
  readonly externalAddresses?: readonly string[];
  readonly internalTraffic?: string;
  readonly externalTraffic?: string;
  readonly ports: readonly {
    readonly protocol: number;
    readonly port: number;
    readonly backends: readonly {
      readonly address: string;
      readonly port: number;
      readonly host?: string;
      readonly ready: boolean;
      readonly forHosts?: readonly string[];
      readonly forZones?: readonly string[];
    }[];
  }[];
}

export interface Bgp {
  readonly hostname: string;
  readonly neighbor?: string;
  readonly services?: string;
}

interface Group {
  readonly tenantName: string;
  readonly groupName: string;
  readonly networkName: string;
  readonly netProfile?: string;
  readonly policies?: readonly string[];
}

/** A host while it lives. */
export interface Live {
  readonly name: string;
  readonly underlay: string;
}

export interface Declared {
  /** Why the store cannot be written. */
  readonly problem: string | undefined;
  /** Without external ones. */
  readonly endpoints: readonly Endpoint[];
  readonly machines: readonly Endpoint[];
  readonly networks: readonly (Network & { readonly allocated: Allocated })[];
  readonly services: readonly Service[];
  readonly clusterServices: readonly ClusterService[];
  readonly swarmServices: readonly SwarmService[];
  readonly live: readonly Live[];
  readonly bgps: readonly Bgp[];
  /** `default:web in`: groups whose policies have rules of that direction. */
  readonly judged: ReadonlySet<string>;
  /** `default:web`: groups whose packets are shaped or marked. */
  readonly profiled: ReadonlySet<string>;
  /** By `default:web`: VLAN ids of groups that have one of their own. */
  readonly tags: ReadonlyMap<string, number>;
  /** `default:lan`: networks of such groups. */
  readonly tagged: ReadonlySet<string>;
}

/** What it answers at a route of the API. */
type Rest = <T>(name: RouteName, parameters?: Readonly<Record<string, string>>) => Promise<T>;

/** Throws one line where it does not answer. */
export async function declared(lab: string, state: LabState): Promise<Declared> {
  let master = '';
  let health: string | undefined;
  const curl = (url: string, ...flags: string[]): [string, string[]] =>
    onHost(lab, 'node1', 'curl', '-s', ...curlFlags(state), ...flags, master + url);
  const urls = netmasterUrls(state);
  for (master of urls) {
    health = await tryRun(...curl(requestOf('health').url, '-m', '10'));
    if (health !== undefined) break;
  }
  if (health === undefined)
    throw new Error(`netmaster does not answer at ${urls.join(', ')}: ${typed(lab)} start netmaster node1`);
  const rest: Rest = async (name, parameters) =>
    JSON.parse(await run(...curl(requestOf(name, parameters).url, '-f')));
  const { problem } = JSON.parse(health) as { problem?: string };
  const [listed, networks, services, clusterServices, swarmServices, live, groups, bgps] = await Promise.all([
    rest<Endpoint[]>('endpoints'),
    networksOf(rest),
    servicesOf(rest),
    rest<ClusterService[]>('list', { collection: 'clusterServices' }),
    rest<SwarmService[]>('list', { collection: 'swarmServices' }),
    rest<Live[]>('hosts'),
    rest<Group[]>('list', { collection: 'endpointGroups' }),
    rest<Bgp[]>('list', { collection: 'Bgps' }),
  ]);
  const [judged, profiled, tags] = await Promise.all([
    judgedGroups(groups, rest),
    profiledGroups(groups, rest),
    tagsOf(groups, networks, rest),
  ]);
  const [endpoints, machines] = [false, true].map((external) =>
    listed.filter((e) => (e.external === true) === external),
  ) as [Endpoint[], Endpoint[]];
  return {
    problem,
    endpoints,
    machines,
    networks,
    services,
    clusterServices,
    swarmServices,
    live,
    bgps,
    judged,
    profiled,
    tags,
    tagged: new Set(
      groups.flatMap((g) =>
        tags.has(`${g.tenantName}:${g.groupName}`) ? [`${g.tenantName}:${g.networkName}`] : [],
      ),
    ),
  };
}

const inspect = async <T>(rest: Rest, collection: string, key: string): Promise<T> =>
  (await rest<{ Oper: T }>('inspect', { collection, key })).Oper;

async function networksOf(rest: Rest): Promise<Declared['networks']> {
  const list = await rest<Network[]>('list', { collection: 'networks' });
  return Promise.all(
    list.map(async (n) => ({
      ...n,
      allocated: await inspect<Allocated>(rest, 'networks', `${n.tenantName}:${n.networkName}`),
    })),
  );
}

/** Of groups of VLAN networks, those whose tag is another than their network's. */
async function tagsOf(
  groups: readonly Group[],
  networks: Declared['networks'],
  rest: Rest,
): Promise<Map<string, number>> {
  const tagged = await Promise.all(
    groups.map(async ({ tenantName, groupName, networkName }) => {
      const network = networks.find((n) => n.tenantName === tenantName && n.networkName === networkName);
      if (network?.encap !== 'vlan') return [];
      const key = `${tenantName}:${groupName}`;
      const { pktTag } = await inspect<Allocated>(rest, 'endpointGroups', key);
      return pktTag === network.allocated.pktTag ? [] : [[key, pktTag] as const];
    }),
  );
  return new Map(tagged.flat());
}

async function servicesOf(rest: Rest): Promise<Service[]> {
  const list = await rest<Omit<Service, 'vip'>[]>('list', { collection: 'serviceLBs' });
  return Promise.all(
    list.map(async (s) => {
      const key = `${s.tenantName}:${s.serviceName}`;
      const { serviceVip: vip } = await inspect<{ serviceVip: string }>(rest, 'serviceLBs', key);
      return { ...s, vip };
    }),
  );
}

async function profiledGroups(groups: readonly Group[], rest: Rest): Promise<Set<string>> {
  const profiles = await rest<
    { tenantName: string; profileName: string; bandwidth?: string; DSCP?: number }[]
  >('list', { collection: 'netprofiles' });
  const acting = new Set(
    profiles
      .filter((p) => p.bandwidth || p.DSCP !== undefined)
      .map((p) => `${p.tenantName}:${p.profileName}`),
  );
  return new Set(
    groups
      .filter((g) => acting.has(`${g.tenantName}:${g.netProfile}`))
      .map((g) => `${g.tenantName}:${g.groupName}`),
  );
}

async function judgedGroups(groups: readonly Group[], rest: Rest): Promise<Set<string>> {
  interface Rule {
    readonly tenantName: string;
    readonly policyName: string;
    readonly direction: string;
  }
  const rules = await rest<Rule[]>('list', { collection: 'rules' });
  return new Set(
    groups.flatMap((g) =>
      rules
        .filter((r) => r.tenantName === g.tenantName && g.policies?.includes(r.policyName))
        .map((r) => `${g.tenantName}:${g.groupName} ${r.direction}`),
    ),
  );
}
