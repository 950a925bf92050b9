/**
 * From what is known to what the kernel must hold: the same answer for the same input.
 *
 *   view, local --routers--> Router: tunnels, ports, remote hosts      one for each tenant with attachments here
 *               --policy---> RuleSets, ranges (policy.ts)
 *               --services-> Service (services.ts), ClusterService (clusterServices.ts)
 *               --exits----> Exit: transit pair, published ports, how the host reaches the tenant, what is announced (announced.ts)
 *
 * A compiler remembers the parts that it made: what follows from the same objects is the same object again (memo.ts).
 */

import { isV6, numberAddress, parseSubnet, subnetPrefix } from '../../model/address.ts';
import { zoneOf } from '../../model/backends.ts';
import { isDirect } from '../../model/direct.ts';
import { isEncrypted } from '../../model/encryption.ts';
import type { Endpoint } from '../../model/endpoint.ts';
import type { StoredEndpointGroup } from '../../model/endpointGroup.ts';
import { subnetsOf } from '../../model/families.ts';
import { type Netprofile, parseBandwidth } from '../../model/netprofile.ts';
import type { Workload } from '../../model/workload.ts';
import { DIRECT_DEVICE } from '../constants.ts';
import { insideOf } from '../endpoints/inside.ts';
import {
  type Attachment,
  isWhole,
  type LocalHost,
  type TenantView,
  type View,
  type WatchedNetwork,
} from '../intent/view.ts';
import type {
  Access,
  Announced,
  Bandwidth,
  DnatEntry,
  Encryption,
  Entrance,
  Exit,
  HostState,
  Port,
  Publication,
  Rate,
  RemoteHost,
  Router,
  Subnet,
  Vlan,
} from '../state.ts';
import { compileAnnounced, compileFabric, openPrefixes, withoutTaken } from './announced.ts';
import { type CompiledServices, compileClusterServices, PROTOCOLS, placeOf } from './clusterServices.ts';
import {
  exitDevice,
  exitMacs,
  peerDevice,
  portDevice,
  routerNamespace,
  tagMac,
  vtepLinkLocal,
  vtepMac,
} from './deviceNames.ts';
import { directOf, onLink } from './direct.ts';
import { compileEncryption, encryptedMtu, keysOf } from './encryption.ts';
import { type Memo, openMemo } from './memo.ts';
import { type CompiledPolicy, compilePolicy } from './policy.ts';
import {
  gatewaysOf,
  isEntered,
  isVlan,
  networkNumber,
  overlayMtu,
  segmentDevice,
  segmentMtu,
  taggedAt,
  taggedIn,
  tagsOf,
  tunnelOf,
  vlanOf,
} from './segments.ts';
import { compileServices } from './services.ts';

export interface Compiler {
  compile(view: View, local: LocalHost): HostState;
}

export function openCompiler(): Compiler {
  const memo = openMemo();
  return {
    compile(view, local) {
      const state = compileWith(memo, view, carriedBy(view, local));
      memo.forgetUnused();
      return state;
    },
  };
}

/** By a compiler that has seen nothing before. */
export const compile = (view: View, local: LocalHost): HostState => openCompiler().compile(view, local);

/**
 * What is encrypted takes room of the underlay's MTU, and goes by tunnels alone: where networks of encapsulation direct are on the hosts' link
 * they go as they are.
 */
const carriedBy = (view: View, local: LocalHost): LocalHost =>
  isEncrypted(view.settings)
    ? { ...local, underlayMtu: encryptedMtu(local.underlay, local.underlayMtu), link: undefined }
    : local;

function compileWith(memo: Memo, view: View, local: LocalHost): HostState {
  const byTenant = new Map<string, Attachment[]>();
  for (const attachment of local.attachments.values()) {
    const { tenantName, networkName } = attachment.endpoint;
    if (!isWhole(view.networks.get(`${tenantName}:${networkName}`))) continue;
    const list = byTenant.get(tenantName);
    if (list === undefined) byTenant.set(tenantName, [attachment]);
    else list.push(attachment);
  }
  const compiled = [...byTenant]
    .sort(byFirst(([tenant]) => tenant))
    .map(([tenant, attachments]) => compileTenant(memo, tenant, attachments, view, local));
  const routers = compiled.map(({ router }) => router);
  const among = members(memo, routers, view, local);
  return {
    routers,
    exits: withoutTaken(
      compiled.map(({ exit }) => exit),
      [local.underlay, ...[...view.hosts.values()].map((h) => h.underlay)],
      memo,
    ),
    guarded: local.guarded,
    underlay: local.underlay,
    members: among,
    ...compileFabric(view, local.name, memo),
    ...(isEncrypted(view.settings) && { encryption: encryptionOf(memo, among, view, local) }),
  };
}

function encryptionOf(
  memo: Memo,
  members: readonly string[],
  view: View,
  { underlayMtu: mtu, keys = [], ...local }: LocalHost,
): Encryption {
  const { active } = view.keyEpochs;
  const known = keysOf(view, local);
  const told = members.map((member) => JSON.stringify(known.get(member) ?? [])).join();
  return memo.use('encryption', [keys, active, mtu, members, told], () =>
    compileEncryption({ keys, active, mtu, members, keysOf: known }),
  );
}

/** Of hosts that live, and of those whose containers are sent to. What was known last stays while netmaster is away. */
function members(memo: Memo, routers: readonly Router[], view: View, local: LocalHost): readonly string[] {
  const live = [...view.hosts.values()].map((h) => h.underlay);
  const known = new Set([...live, ...routers.flatMap((r) => r.hosts.map((h) => h.vtep))]);
  known.delete(local.underlay);
  const list = [...known].sort();
  return memo.use('members', [list.join()], () => list);
}

const byFirst =
  <T>(key: (value: T) => string | number) =>
  (a: T, b: T): number =>
    key(a) < key(b) ? -1 : key(a) > key(b) ? 1 : 0;

/** What the parts of one router have in common. */
interface Context {
  readonly memo: Memo;
  readonly tenant: string;
  readonly mine: TenantView;
  readonly networks: ReadonlyMap<string, WatchedNetwork>;
  /** By name, each with the profile that it carries. */
  readonly groups: ReadonlyMap<
    string,
    { readonly declared: StoredEndpointGroup; readonly profile?: Netprofile }
  >;
  readonly policy: CompiledPolicy;
  readonly local: LocalHost;
}

/** `attached`: containers, and the host itself where it reaches a network of the tenant. */
function compileTenant(
  memo: Memo,
  tenant: string,
  attached: readonly Attachment[],
  view: View,
  local: LocalHost,
): { readonly router: Router; readonly exit: Exit } {
  const { host: own = [], container: attachments = [] } = Object.groupBy(attached, (a) =>
    a.runtime === 'host' ? 'host' : 'container',
  );
  const mine = view.of(tenant);
  const keyOf = (name: string): string => `router ${tenant} ${name}`;
  const networks = memo.use(
    keyOf('networks'),
    [mine.networks],
    () => new Map(mine.networks.map((n) => [n.networkName, n])),
  );
  const here = attachments.map((a) => a.endpoint);
  const policy = compilePolicy(tenant, mine, view.networkPolicies, here, memo);
  const groups = memo.use(keyOf('groups'), [mine.groups, mine.profiles], () => groupsByName(mine));
  const context: Context = { memo, tenant, mine, networks, groups, policy, local };
  const publications = attachments.flatMap((a) => a.publications);
  const served = memo.use(keyOf('node ports'), [mine.clusterServices], () => nodePorts(mine));
  const entries = memo.use(keyOf('publications'), [served, ...publications], () =>
    dnatEntries(
      publications.toSorted(
        byFirst((p) => `${p.protocol} ${String(p.hostPort).padStart(5, '0')} ${p.address} ${p.hostAddress}`),
      ),
      served,
    ),
  );
  const pair = compilePair(memo, tenant, mine, local);
  const taken = memo.use(
    keyOf('taken'),
    [entries],
    () =>
      new Set(
        entries.flatMap(({ protocol, address, transitPort, count = 1 }) =>
          Array.from({ length: count }, (_, i) => placeOf(protocol, address, transitPort + i)),
        ),
      ),
  );
  const zone = memo.use(keyOf('zone'), [mine.clusterServices], () =>
    zoneOf(local.name, mine.clusterServices),
  );
  const open = openPrefixes(view, local.name, memo);
  const { services: clusterServices, entrances } = compileClusterServices(
    {
      tenant,
      services: mine.clusterServices,
      host: local.name,
      zone,
      draining: view.draining,
      ...pair,
      taken,
      open,
    },
    memo,
  );
  const vlans = compileVlans(context, own, here);
  const router: Router = {
    tenant,
    namespace: routerNamespace(tenant),
    tunnels: memo.use(keyOf('tunnels'), [networks, local.underlay, local.underlayMtu], () =>
      mine.networks
        .filter((n) => !isVlan(n))
        .map((n) => tunnelOf(n, local))
        .sort(byFirst((t) => t.vni)),
    ),
    ...vlans,
    ...compileDirect(context),
    ports: ports(context, attachments, view),
    hosts: remoteHosts(
      context,
      view,
      new Set(attached.flatMap((a) => a.endpoint.ipAddress)),
      (vlans.vlans ?? []).flatMap(({ tags = [] }) =>
        tags.flatMap(({ id, addresses }) => (addresses.length > 0 ? id : [])),
      ),
    ),
    subnets: memo.use(keyOf('subnets'), [networks, local.uplink], () =>
      mine.networks.flatMap((n) => compileSubnets(n, local)).sort(byFirst((s) => s.prefix)),
    ),
    gateways: memo.use(keyOf('gateways'), [networks], () =>
      mine.networks.flatMap((n) => gatewaysOf(n).own).sort(),
    ),
    publications: entries,
    services: compileServices({ tenant, mine, networks, here, view, local }, memo),
    clusterServices,
    ruleSets: policy.ruleSets,
    ranges: policy.ranges,
    portRanges: policy.portRanges,
    ...compileExternals(context),
    ...(view.settings?.fwdMode === 'bridge' ? { bridged: true } : {}),
  };
  const exit = compileExit(
    memo,
    router,
    local,
    pair,
    entrances,
    compileAccess(
      context,
      own.filter(({ endpoint }) => {
        const network = networks.get(endpoint.networkName);
        return network !== undefined && (!isVlan(network) || isEntered(network, local));
      }),
      clusterServices,
    ),
    compileAnnounced(
      { tenant, mine, networks, attachments, services: router.services, view, host: local.name, zone, open },
      memo,
    ),
  );
  return { router, exit };
}

/** Places at the router's end that services have there. */
function nodePorts({ clusterServices }: TenantView): ReadonlySet<string> {
  const names = clusterServices.flatMap(({ ports }) =>
    ports.flatMap(({ protocol, nodePort }) => {
      const name = PROTOCOLS[protocol];
      return name === undefined || nodePort === undefined
        ? []
        : [`${name} false ${nodePort}`, `${name} true ${nodePort}`];
    }),
  );
  return new Set(names);
}

/** `own`: the host's addresses, of which it has one in each VLAN; `here`: its containers. */
function compileVlans(
  { memo, tenant, mine, networks, local }: Context,
  own: readonly Attachment[],
  here: readonly Endpoint[],
): Pick<Router, 'vlans'> {
  const vlans = mine.networks.filter(isVlan).flatMap((network): Vlan[] => {
    const { networkName } = network;
    const tagged = memo.use(
      `tagged ${tenant} ${networkName}`,
      [network, mine.groups],
      () => new Set(taggedIn(network, mine.groups).map((g) => g.groupName)),
    );
    const members = tagged.size === 0 ? [] : here.filter((e) => e.networkName === networkName);
    const hosts = own.filter(({ endpoint }) => endpoint.networkName === networkName);
    const inputs = [network, tagged, local.underlay, local.uplink, ...hosts, 'here', ...members];
    return memo.use(`vlan ${tenant} ${networkName}`, inputs, () => {
      // By '': of all that have no tag of their own.
      const byGroup = new Map(
        [...Map.groupBy(members, ({ groupName = '' }) => (tagged.has(groupName) ? groupName : ''))].map(
          ([group, endpoints]) => [group, endpoints.flatMap((e) => e.ipAddress).sort()] as const,
        ),
      );
      const addresses = hosts.flatMap(({ endpoint }) => endpoint.ipAddress);
      const tags = tagsOf(network, mine.groups, byGroup, local);
      return vlanOf(network, addresses, tags && { tags, untagged: byGroup.get('') ?? [] }, local);
    });
  });
  return memo.use(`vlans ${tenant}`, [networks, ...vlans], () =>
    vlans.length === 0 ? {} : { vlans: vlans.toSorted(byFirst((v) => v.id)) },
  );
}

function compileDirect({ memo, tenant, mine, networks, local }: Context): Pick<Router, 'direct'> {
  const { underlay, underlayMtu, link } = local;
  return memo.use(`direct ${tenant}`, [networks, underlay, underlayMtu, link?.device, link?.prefix], () => {
    const direct = mine.networks.some(isDirect) ? directOf(tenant, local) : undefined;
    return direct === undefined ? {} : { direct };
  });
}

function compileExternals({ memo, tenant, mine, policy }: Context): Pick<Router, 'externals'> {
  if (mine.externals.length === 0) return {};
  return memo.use(`externals ${tenant}`, [mine.externals, mine.groups, policy.numbering], () => ({
    externals: mine.externals
      .flatMap(({ groupName, ipAddress }) =>
        ipAddress.map((address) => ({ address, group: policy.numberOfGroup(groupName) })),
      )
      .sort(byFirst((e) => e.address)),
  }));
}

/** A VLAN's subnets have others beside us, who are looked for on the wire. */
function compileSubnets(network: WatchedNetwork, local: LocalHost): Subnet[] {
  const device = isVlan(network) ? segmentDevice(network, local) : undefined;
  return subnetsIn(network).map((s) => ({
    ...s,
    ...(device !== undefined && { device }),
    ...(network.externalGateway && { externalGateway: true as const }),
  }));
}

/** How the host reaches networks in which it has an address itself; undefined: none. */
function compileAccess(
  { memo, tenant, networks, local }: Context,
  own: readonly Attachment[],
  services: CompiledServices['services'],
): Access | undefined {
  if (own.length === 0) return undefined;
  return memo.use(`access ${tenant}`, [networks, services, local.uplink, ...own], () => {
    const sources = own.flatMap(({ endpoint }) => {
      const network = networks.get(endpoint.networkName);
      return network === undefined
        ? []
        : devicesOf(network, local).map((device) => ({ device, addresses: endpoint.ipAddress, network }));
    });
    // By an infra network the hosts are in the tenant: they reach all of it.
    const infra = sources.filter(({ network }) => network.nwType === 'infra');
    const reached =
      infra.length > 0
        ? [...networks.values()].filter((n) => !isVlan(n) || isEntered(n, local))
        : new Set(sources.map(({ network }) => network));
    return {
      subnets: [...reached].flatMap((network) => subnetsIn(network).map((s) => s.prefix)).sort(),
      services: services.flatMap((s) => s.addresses).sort(),
      sources: sources.map(({ device, addresses }) => ({ device, addresses })).sort(byFirst((s) => s.device)),
      own: [...new Set(infra.flatMap(({ addresses }) => addresses))].sort(),
    };
  });
}

/** Those by which a network goes to other hosts. */
const devicesOf = (network: WatchedNetwork, local: LocalHost): string[] => [
  ...(isDirect(network) && local.link !== undefined ? [DIRECT_DEVICE] : []),
  segmentDevice(network, local) ?? '',
];

const PORTS = 65_535;

/**
 * Behind the host's translation its address is gone: the port alone says where to, so each target needs its own. A range that
 * finds no room as a whole goes in two halves. `served`: places that are a service's.
 */
function dnatEntries(publications: readonly Publication[], served: ReadonlySet<string>): DnatEntry[] {
  /** By protocol and family what each port leads to. */
  const taken = new Map<string, Map<number, string>>();

  function place(p: Publication): DnatEntry[] {
    const { address, port, count = 1 } = p;
    const key = `${p.protocol} ${address.includes(':')}`;
    const targets = taken.get(key) ?? new Map<number, string>();
    taken.set(key, targets);
    /** The last port of a range that is another's. */
    const clash = (first: number): number | undefined => {
      for (let i = count - 1; i >= 0; i--)
        if (
          served.has(`${key} ${first + i}`) ||
          (targets.get(first + i) ?? `${address} ${port + i}`) !== `${address} ${port + i}`
        )
          return first + i;
      return undefined;
    };
    let transitPort = p.hostPort;
    for (let rounds = 0; rounds < 2; ) {
      const last = transitPort + count - 1 > PORTS ? PORTS : clash(transitPort);
      if (last === undefined) {
        for (let i = 0; i < count; i++) targets.set(transitPort + i, `${address} ${port + i}`);
        return [{ ...p, transitPort }];
      }
      transitPort = (last % PORTS) + 1;
      if (last === PORTS) rounds++;
    }
    if (count === 1) return [];
    const half = count >> 1;
    const rest = { hostPort: p.hostPort + half, port: port + half, count: count - half };
    return [...place({ ...p, count: half }), ...place({ ...p, ...rest })];
  }
  return publications.flatMap(place);
}

function groupsByName({ groups, profiles }: TenantView): Context['groups'] {
  const byName = new Map(profiles.map((p) => [p.profileName, p]));
  return new Map(
    groups.map((declared) => {
      const profile = byName.get(declared.netProfile ?? '');
      return [declared.groupName, { declared, ...(profile && { profile }) }];
    }),
  );
}

/**
 * By VTEP, since a host that was renamed has its old endpoints under its old name. `own`: addresses here; `arriving`: tags of groups by which these
 * are sent to.
 */
function remoteHosts(
  context: Context,
  view: View,
  own: ReadonlySet<string>,
  arriving: readonly number[],
): RemoteHost[] {
  const { memo, tenant, mine, networks, groups, policy, local } = context;
  const byVtep = new Map<string, (readonly Endpoint[])[]>();
  for (const [host, endpoints] of mine.endpoints) {
    const vtep = view.hosts.get(host)?.underlay ?? local.lastUnderlays.get(host);
    if (host === local.name || vtep === undefined || vtep === local.underlay) continue;
    const lists = byVtep.get(vtep);
    if (lists === undefined) byVtep.set(vtep, [endpoints]);
    else lists.push(endpoints);
  }
  const most = overlayMtu(local.underlay, local.underlayMtu);
  const told = new Map([...view.hosts.values()].map((h) => [h.underlay, h]));
  const hosts: RemoteHost[] = [];
  for (const [vtep, lists] of byVtep) {
    const mtuThere = told.get(vtep)?.mtu;
    const theirs =
      mtuThere !== undefined && isEncrypted(view.settings) ? encryptedMtu(vtep, mtuThere) : mtuThere;
    const takes = theirs === undefined ? most : overlayMtu(vtep, theirs);
    const mtu = takes < most ? takes : undefined;
    const { uplink, link, underlayMtu } = local;
    const inputs = [
      networks,
      mine.groups,
      policy.numbering,
      mtu,
      theirs,
      told.get(vtep)?.link,
      uplink,
      link?.device,
      link?.prefix,
      underlayMtu,
      arriving.join(),
      ...lists,
    ];
    const host = memo.use(`host ${tenant} ${vtep}`, inputs, (): RemoteHost => {
      const direct = mine.networks.some(isDirect) ? onLink(tenant, vtep, told.get(vtep), local) : undefined;
      const theirTags = new Set<number>();
      const endpoints = lists.flat().flatMap((endpoint) => {
        const network = networks.get(endpoint.networkName);
        if (network === undefined) return [];
        const device =
          direct !== undefined && isDirect(network) ? direct.device : segmentDevice(network, local);
        if (device === undefined) return [];
        const group = policy.numberOf(endpoint);
        const number = networkNumber(network);
        const vlan = isVlan(network) ? groups.get(endpoint.groupName ?? '')?.declared.vlan : undefined;
        const tagged = vlan === undefined ? {} : { tagged: taggedAt(vtep, vlan) };
        if (vlan !== undefined) theirTags.add(vlan);
        return endpoint.ipAddress.map((address) => ({ address, device, network: number, group, ...tagged }));
      });
      const devices = (vlan: boolean): string[] =>
        mine.networks.flatMap((n) => (isVlan(n) === vlan ? (segmentDevice(n, local) ?? []) : [])).sort();
      const vlans = devices(true);
      const tags = new Set([...arriving, ...theirTags]);
      return {
        vtep,
        linkLocal: vtepLinkLocal(vtep),
        mac: vtepMac(vtep),
        ...(mtu && { mtu }),
        ...(tags.size > 0 && { tagMacs: [...tags].sort((a, b) => a - b).map((id) => tagMac(vtep, id)) }),
        devices: devices(false),
        ...(vlans.length > 0 && { vlans }),
        ...(direct && { direct }),
        endpoints: endpoints.sort(byFirst((e) => e.address)),
      };
    });
    // An address that has just moved here may still be listed at its old host.
    const moved = host.endpoints.filter((e) => own.has(e.address)).map((e) => e.address);
    const rest =
      moved.length === 0
        ? host
        : memo.use(`host ${tenant} ${vtep} without`, [host, moved.join()], () => ({
            ...host,
            endpoints: host.endpoints.filter((e) => !own.has(e.address)),
          }));
    if (rest.endpoints.length > 0) hosts.push(rest);
  }
  return hosts.sort(byFirst((h) => h.vtep));
}

function subnetsIn(network: WatchedNetwork): Subnet[] {
  return subnetsOf(network).map((s) => ({ prefix: subnetPrefix(s), network: networkNumber(network) }));
}

function ports(context: Context, attachments: readonly Attachment[], view: View): Port[] {
  const inOrder = Map.groupBy(context.local.attachments.values(), (a) => a.sandbox ?? a.endpoint.endpointID);
  const bySandbox = Map.groupBy(attachments, (a) => a.sandbox ?? a.endpoint.endpointID);
  return attachments
    .map((a) => {
      const siblings = bySandbox.get(a.sandbox ?? a.endpoint.endpointID) ?? [];
      const all = inOrder.get(a.sandbox ?? a.endpoint.endpointID) ?? [];
      const alsoFrom = siblings.flatMap((s) => (s === a ? [] : s.endpoint.ipAddress)).sort();
      return port(context, a, alsoFrom, all.slice(0, all.indexOf(a)), view);
    })
    .sort(byFirst((p) => p.endpoint));
}

/** `alsoFrom`: other addresses of the same container; `before`: those of its attachments that came before, of any tenant. */
function port(
  context: Context,
  attachment: Attachment,
  alsoFrom: readonly string[],
  before: readonly Attachment[],
  view: View,
): Port {
  const { memo, networks, groups, policy, local } = context;
  const { endpoint, sandbox, phase, end, stub } = attachment;
  const network = networks.get(endpoint.networkName);
  const group = policy.numberOf(endpoint);
  const judges = policy.judges(endpoint);
  const { declared, profile } = groups.get(endpoint.groupName ?? '') ?? {};
  const workload = context.mine.workloadOf(endpoint);
  const wire = network !== undefined && isVlan(network) ? segmentDevice(network, local) : undefined;
  const gateways = network === undefined ? undefined : gatewaysOf(network);
  const inputs = [
    attachment,
    network,
    alsoFrom.join(),
    group,
    judges.in,
    judges.out,
    declared,
    profile,
    workload?.ingressBandwidth,
    workload?.egressBandwidth,
    local.underlayMtu,
    local.uplink,
    local.link === undefined,
    ...before,
    ...before.map(({ endpoint: e }) => view.networks.get(`${e.tenantName}:${e.networkName}`)),
  ];
  return memo.use(`port ${endpoint.endpointID}`, inputs, () => ({
    endpoint: endpoint.endpointID,
    device: portDevice(endpoint.endpointID),
    peer: peerDevice(endpoint.endpointID),
    mac: endpoint.macAddress,
    mtu: segmentMtu(network, local),
    addresses: endpoint.ipAddress,
    gateways: gateways?.own ?? [],
    ...(gateways !== undefined && gateways.external.length > 0 && { externalGateways: gateways.external }),
    network: network === undefined ? 0 : networkNumber(network),
    alsoFrom,
    joined: phase === 'joined',
    group,
    judgedIn: judges.in,
    judgedOut: judges.out,
    ...shape(profile, workload, attachment.bandwidth),
    ...(end && { end }),
    ...(sandbox === undefined ? {} : { sandbox }),
    ...(stub && namesBy(endpoint.ipAddress, alsoFrom, before)),
    ...(wire === undefined ? {} : { wire }),
    ...(sandbox === undefined || network === undefined
      ? {}
      : { inside: insideOf(network, attachment, before, view) }),
  }));
}

/**
 * How what a container asks Docker's resolver comes to the nameserver (rules/stub.ts): within IPv4, so by those of its networks that
 * have it; where none has, without leaving the container, as who is in the first of them.
 */
function namesBy(
  addresses: readonly string[],
  alsoFrom: readonly string[],
  before: readonly Attachment[],
): Pick<Port, 'stub' | 'resolver'> {
  if (!addresses.every(isV6)) return { stub: true };
  return before.length === 0 && alsoFrom.every(isV6) ? { resolver: true } : {};
}

/**
 * Its group's profile, its workload's annotations and its runtime may each say a rate; who runs a container may not lift what its group
 * is limited to, so the lowest holds, each way by itself.
 */
function shape(
  profile: Netprofile | undefined,
  workload: Workload | undefined,
  asked: Bandwidth = {},
): Pick<Port, 'limit' | 'dscp'> {
  const ofGroup = profile && rateOf(profile);
  const to = lowest(ofGroup, plainRate(workload?.ingressBandwidth), asked.to);
  const from = lowest(ofGroup, plainRate(workload?.egressBandwidth), asked.from);
  return {
    ...(to || from ? { limit: { ...(to && { to }), ...(from && { from }) } } : {}),
    ...(profile?.DSCP === undefined ? {} : { dscp: profile.DSCP }),
  };
}

function rateOf({ bandwidth, burst }: Netprofile): Rate | undefined {
  const bitsPerSecond = bandwidth ? parseBandwidth(bandwidth) : undefined;
  return bitsPerSecond ? { bitsPerSecond, ...(burst ? { burstBytes: burst * 1000 } : {}) } : undefined;
}

const plainRate = (bitsPerSecond: number | undefined): Rate | undefined =>
  bitsPerSecond === undefined ? undefined : { bitsPerSecond };

/** The first of those that are equal. */
const lowest = (...rates: readonly (Rate | undefined)[]): Rate | undefined =>
  rates.reduce((a, b) => (a === undefined || (b !== undefined && b.bitsPerSecond < a.bitsPerSecond) ? b : a));

/** The router's and the host's end. */
interface Pair {
  readonly hostAddress: string;
  readonly routerAddress: string;
  readonly hostAddress6: string;
  readonly routerAddress6: string;
}

function compilePair(memo: Memo, tenant: string, { networks }: TenantView, local: LocalHost): Pair {
  const slot = local.transitSlots.get(tenant) ?? 0;
  const hasIpv6 = networks.some((n) => n.ipv6Subnet);
  return memo.use(`pair ${tenant}`, [slot, hasIpv6, local.transit, local.transit6], () => {
    const pair = (range: string): [string, string] => {
      const subnet = parseSubnet(range);
      if (subnet === undefined) throw new Error(`transit range '${range}' is not a subnet`);
      const first = subnet.network + 2n * BigInt(slot);
      return [numberAddress(first, subnet.family), numberAddress(first + 1n, subnet.family)];
    };
    const [hostAddress, routerAddress] = pair(local.transit);
    const [hostAddress6, routerAddress6] = hasIpv6 ? pair(local.transit6) : ['', ''];
    return { hostAddress, routerAddress, hostAddress6, routerAddress6 };
  });
}

function compileExit(
  memo: Memo,
  { tenant, namespace, publications }: Router,
  local: LocalHost,
  pair: Pair,
  entrances: readonly Entrance[],
  access: Access | undefined,
  announced: Announced | undefined,
): Exit {
  const inputs = [pair, local.transit, local.transit6, publications, entrances, access, announced];
  return memo.use(`exit ${tenant}`, inputs, () => ({
    namespace,
    device: exitDevice(tenant),
    ...pair,
    ...exitMacs(tenant),
    transit: subnetPrefix(local.transit),
    transit6: subnetPrefix(local.transit6),
    publications,
    ...(entrances.length > 0 ? { entrances: unpublished(entrances, publications) } : {}),
    ...(access === undefined ? {} : { access }),
    ...(announced === undefined ? {} : { announced }),
  }));
}

/** What a container publishes at all of the host's addresses stays its own (runtimes/docker/publish.ts refuses what comes later). */
function unpublished(
  entrances: readonly Entrance[],
  publications: readonly DnatEntry[],
): readonly Entrance[] {
  const everywhere = publications.filter((p) => p.hostAddress === '');
  return entrances.filter(
    (e) =>
      e.hostAddress !== '' ||
      !everywhere.some(
        (p) =>
          p.protocol === e.protocol &&
          p.address.includes(':') === e.address.includes(':') &&
          e.hostPort >= p.hostPort &&
          e.hostPort < p.hostPort + (p.count ?? 1),
      ),
  );
}
