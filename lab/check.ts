/**
 * Does what runs equal the kernel, DNS and netmaster? Starts from what Docker says is running and asks the others
 * by means of their own: ip, bridge, nft, tc and bpftool in the routers, REST at netmaster, dig from the containers' side. Nothing is
 * taken from netplugin.
 */
import fs from 'node:fs';
import { parseArgs } from 'node:util';
import ipaddr from 'ipaddr.js';
import { type RouteName, requestOf } from '../src/protocol/wire.ts';
import { namesProcess } from './processes.ts';
import { run, tryRun } from './shell.ts';
import { type LabHost, NETMASTER_PORT, OUTSIDE_ADDRESS, onHost, readState, UNDERLAY } from './state.ts';

/** How our devices' names begin; the router's end of its exit. */
const PORT = 'ct';
const TUNNEL = 'vx';
const PEER = 'cc';
const EXIT = 'cx';
const UPLINK = 'uplink';
const AT_ROUTER = new RegExp(`^(${PORT}|${TUNNEL})`);

/** A container's attachment as Docker has it. */
interface Running {
  readonly host: string;
  readonly endpoint: string;
  readonly container: string;
  readonly pid: number;
  readonly tenant: string;
  readonly network: string;
  readonly group: string;
  readonly addresses: readonly string[];
  readonly mac: string;
  readonly answering: boolean;
  readonly healthy: boolean;
  readonly id: string;
  readonly labels: Readonly<Record<string, string>>;
}

/** A host as it is now, and where netmaster has it. */
interface Place {
  readonly name: string;
  /** VTEP: the one that netmaster has, if it is the host's. */
  readonly address: string;
  readonly mtu: number;
}

/** A network as netmaster has it. */
interface Network {
  readonly tenantName: string;
  readonly networkName: string;
  readonly gateway?: string;
  readonly ipv6Gateway?: string;
}

/** A service as netmaster has it. */
interface Service {
  readonly tenantName: string;
  readonly serviceName: string;
  readonly networkName: string;
  readonly selectors: readonly string[];
  readonly ports: readonly string[];
  readonly vip: string;
}

interface Endpoint {
  readonly endpointID: string;
  readonly tenantName: string;
  readonly networkName: string;
  readonly groupName?: string;
  readonly containerName?: string;
  readonly homingHost: string;
  readonly ipAddress: readonly string[];
  readonly macAddress: string;
}

export async function check(lab: string, args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: { wait: { type: 'string', default: '0' }, json: { type: 'boolean', default: false } },
  });
  const deadline = performance.now() + Number(values.wait) * 1000;
  for (;;) {
    const { differences, containers } = await compare(lab);
    if (differences.length === 0 || performance.now() >= deadline) {
      if (values.json) process.stdout.write(`${JSON.stringify({ containers, differences }, null, 2)}\n`);
      else {
        for (const line of differences) process.stdout.write(`${line}\n`);
        process.stdout.write(
          `${containers} attachments, ${differences.length === 0 ? 'no difference' : `${differences.length} differences`}\n`,
        );
      }
      return differences.length === 0 ? 0 : 1;
    }
    await new Promise((done) => setTimeout(done, 300));
  }
}

/** What netmaster answers at a route of the API. */
type Rest = <T>(name: RouteName, parameters?: Readonly<Record<string, string>>) => Promise<T>;

async function compare(lab: string): Promise<{ differences: string[]; containers: number }> {
  const state = readState(lab);
  if (state === undefined) throw new Error(`lab '${lab}' is not up: bin/lab up`);
  const differences: string[] = [];
  const running = (await Promise.all(state.hosts.map((host) => attachments(lab, host.name)))).flat();
  const master = `http://${state.hosts[0]?.address}:${NETMASTER_PORT}`;
  const rest: Rest = async (name, parameters) => {
    const { url } = requestOf(name, parameters);
    return JSON.parse(await run(...onHost(lab, 'node1', 'curl', '-sf', master + url)));
  };
  const [{ problem }, endpoints, networks, services, groups, live] = await Promise.all([
    rest<{ problem?: string }>('health'),
    rest<Endpoint[]>('endpoints'),
    rest<Network[]>('list', { collection: 'networks' }),
    rest<Omit<Service, 'vip'>[]>('list', { collection: 'serviceLBs' }).then((list) =>
      Promise.all(
        list.map(async (s) => {
          const key = `${s.tenantName}:${s.serviceName}`;
          const { Oper } = await rest<{ Oper: { serviceVip: string } }>('inspect', {
            collection: 'serviceLBs',
            key,
          });
          return { ...s, vip: Oper.serviceVip };
        }),
      ),
    ),
    rest<Group[]>('list', { collection: 'endpointGroups' }),
    rest<Live[]>('hosts'),
  ]);
  if (problem !== undefined) differences.push(`netmaster: the store cannot be written: ${problem}`);
  compareEndpoints(running, endpoints, differences);
  const shut = new Set(
    networks
      .filter((n) => !n.gateway && !n.ipv6Gateway)
      .map(({ tenantName, networkName }) => `${tenantName}:${networkName}`),
  );
  await Promise.all(networks.map((n) => compareAddresses(n, running, services, rest, differences)));
  const [judged, profiled] = await Promise.all([judgedGroups(groups, rest), profiledGroups(groups, rest)]);
  const declared: Declared = { services, judged, profiled };
  const places = await compareHosts(lab, state.hosts, live, differences);
  const ofHosts = await Promise.all(
    state.hosts.map(async (host) => {
      const out: string[] = [];
      if ((await namesProcess(lab, host.name)) === undefined)
        out.push(`${host.name}: no process answers names`);
      await compareGuard(lab, host, places, live, endpoints, out);
      await compareKernel(lab, host, places, running, declared, out);
      await compareNames(lab, host, running, shut, out);
      return out;
    }),
  );
  return { differences: [...differences, ...ofHosts.flat()], containers: running.length };
}

/** A host as netmaster has it while it lives. */
interface Live {
  readonly name: string;
  readonly underlay: string;
}

/** The host's own table is there, takes tunnel frames of the hosts that live and of no stranger, and for each tunnel here. */
async function compareGuard(
  lab: string,
  host: LabHost,
  hosts: readonly Place[],
  live: readonly Live[],
  endpoints: readonly Endpoint[],
  out: string[],
): Promise<void> {
  const listing = await tryRun(...onHost(lab, host.name, 'nft', '-j', 'list', 'table', 'inet', 'contiv'));
  if (listing === undefined) {
    out.push(`${host.name}: no table inet contiv: nothing guards this host`);
    return;
  }
  const { nftables } = JSON.parse(listing) as {
    nftables: { set?: { name: string; elem?: (string | number)[] } }[];
  };
  const elements = (name: string): Set<string> =>
    new Set((nftables.find((i) => i.set?.name === name)?.set?.elem ?? []).map(String));
  const members = new Set([...elements('members'), ...elements('members6')]);
  for (const { name, underlay } of live)
    if (name !== host.name && !members.delete(underlay))
      out.push(`${host.name}: no tunnel frames are taken of ${name}, ${underlay}`);
  // Of a dead one, while its containers count as running.
  const homes = new Set(endpoints.map((e) => e.homingHost));
  for (const { name, address } of hosts) if (homes.has(name) && name !== host.name) members.delete(address);
  for (const address of members) out.push(`${host.name}: tunnel frames are taken of ${address}, no host's`);

  const tags = elements('vnis');
  for (const line of (await run(...onHost(lab, host.name, 'ip', 'netns', 'list'))).split('\n')) {
    const ns = line.split(' ')[0] ?? '';
    if (!ns.startsWith('contiv-')) continue;
    const links = await run(...onHost(lab, host.name, 'ip', '-n', ns, '-j', 'link', 'show', 'type', 'vxlan'));
    for (const { ifname } of (JSON.parse(links || '[]') as { ifname: string }[]).filter((l) => l.ifname))
      if (!tags.delete(ifname.slice(TUNNEL.length)))
        out.push(`${host.name}: frames for ${ifname} are not judged`);
  }
  tags.delete(String(0xffffff)); // of the agent's own frames, by which it looks for other firewalls
  for (const tag of tags)
    out.push(`${host.name}: frames with tag ${tag} are judged, which no tunnel here has`);
}

/** An endpoint group as netmaster has it. */
interface Group {
  readonly tenantName: string;
  readonly groupName: string;
  readonly netProfile?: string;
  readonly policies?: readonly string[];
}

/** What of intent shows in the kernels, beside what runs. */
interface Declared {
  readonly services: readonly Service[];
  /** `default:web in`: groups whose policies have rules of that direction. */
  readonly judged: ReadonlySet<string>;
  /** `default:web`: groups whose packets are shaped or marked. */
  readonly profiled: ReadonlySet<string>;
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

async function attachments(lab: string, host: string): Promise<Running[]> {
  const ids = ((await tryRun(...onHost(lab, host, 'docker', 'ps', '-q', '--no-trunc'))) ?? '')
    .split('\n')
    .filter((id) => id);
  if (ids.length === 0) return [];
  const names = await run(
    ...onHost(lab, host, 'docker', 'network', 'ls', '--filter', 'driver=netplugin', '-q', '--no-trunc'),
  );
  const targets = new Map<string, { tenant: string; network: string; group: string }>();
  const networkIds = names.split('\n').filter((id) => id);
  if (networkIds.length > 0)
    for (const n of JSON.parse(
      await run(...onHost(lab, host, 'docker', 'network', 'inspect', ...networkIds)),
    ))
      targets.set(n.Id, n.Options);
  const inspected = JSON.parse(await run(...onHost(lab, host, 'docker', 'inspect', ...ids)));
  const found: Running[] = [];
  for (const container of inspected)
    for (const n of Object.values<Record<string, string>>(container.NetworkSettings.Networks)) {
      const target = targets.get(n.NetworkID ?? '');
      if (target === undefined || !container.State.Running) continue;
      found.push({
        host,
        endpoint: n.EndpointID ?? '',
        container: container.Name.slice(1),
        pid: container.State.Pid,
        ...target,
        addresses: [n.IPAddress, n.GlobalIPv6Address].filter((a) => a) as string[],
        mac: n.MacAddress ?? '',
        answering: !container.State.Paused,
        healthy: container.State.Health?.Status !== 'unhealthy',
        id: container.Id,
        labels: container.Config.Labels ?? {},
      });
    }
  return found;
}

const VXLAN_HEADERS = 50;
/** What IPv6 needs. */
const LEAST_MTU = 1280;

async function compareHosts(
  lab: string,
  hosts: readonly LabHost[],
  live: readonly Live[],
  out: string[],
): Promise<Place[]> {
  const listed = new Map(live.map((h) => [h.name, h.underlay]));
  const places: Place[] = [];
  for (const { name } of hosts) {
    const text = await tryRun(...onHost(lab, name, 'ip', '-j', '-4', 'addr', 'show', 'dev', UNDERLAY));
    const [link] = JSON.parse(text ?? '[]') as { mtu: number; addr_info: { local: string }[] }[];
    const has = (link?.addr_info ?? []).map((a) => a.local);
    const at = listed.get(name);
    if (at === undefined) out.push(`netmaster: host ${name} is not there`);
    else if (!has.includes(at))
      out.push(`netmaster: host ${name} is at ${at}, its ${UNDERLAY} has ${has.join() || 'no address'}`);
    places.push({
      name,
      address: (at !== undefined && has.includes(at) ? at : has[0]) ?? '',
      mtu: Math.max(LEAST_MTU, (link?.mtu ?? 0) - VXLAN_HEADERS),
    });
  }
  return places;
}

function compareEndpoints(running: readonly Running[], endpoints: readonly Endpoint[], out: string[]): void {
  const known = new Map(endpoints.map((e) => [e.endpointID, e]));
  for (const r of running) {
    const e = known.get(r.endpoint);
    known.delete(r.endpoint);
    const what = `netmaster: ${r.container} on ${r.host}`;
    if (e === undefined) out.push(`${what} has no endpoint`);
    else {
      const pairs: [string, unknown, unknown][] = [
        ['host', e.homingHost, r.host],
        ['name', e.containerName, r.container],
        ['network', `${e.tenantName}:${e.networkName}`, `${r.tenant}:${r.network}`],
        ['group', e.groupName ?? '', r.group],
        ['addresses', e.ipAddress.join(), r.addresses.join()],
        ['mac', e.macAddress, r.mac],
      ];
      for (const [field, have, want] of pairs)
        if (have !== want) out.push(`${what}: ${field} is ${have}, runs with ${want}`);
    }
  }
  for (const e of known.values())
    out.push(
      `netmaster: endpoint ${e.endpointID.slice(0, 12)} (${e.containerName}) on ${e.homingHost}: no such container runs`,
    );
}

async function compareAddresses(
  network: Network,
  running: readonly Running[],
  services: readonly Service[],
  rest: Rest,
  out: string[],
): Promise<void> {
  const key = `${network.tenantName}:${network.networkName}`;
  const { Oper } = await rest<{ Oper: { allocatedAddressesCount?: number; allocatedIPAddresses?: string } }>(
    'inspect',
    { collection: 'networks', key },
  );
  const inUse =
    running.filter((r) => `${r.tenant}:${r.network}` === key).length +
    services.filter((s) => `${s.tenantName}:${s.networkName}` === key).length;
  if ((Oper.allocatedAddressesCount ?? 0) !== inUse)
    out.push(
      `netmaster: network ${key} has ${Oper.allocatedAddressesCount ?? 0} addresses given out (with the gateway ${Oper.allocatedIPAddresses}), ${inUse} are in use`,
    );
}

const isV6 = (a: string): boolean => a.includes(':');

async function compareKernel(
  lab: string,
  host: LabHost,
  places: readonly Place[],
  running: readonly Running[],
  { services, judged, profiled }: Declared,
  out: string[],
): Promise<void> {
  const at = (...command: string[]): Promise<string> => run(...onHost(lab, host.name, ...command));
  const here = running.filter((r) => r.host === host.name);
  for (const r of here)
    await compareInside(at, r, here.filter((other) => other.id === r.id).length === 1, out);
  const tenants = new Set(here.map((r) => r.tenant));
  const present = (await at('ip', 'netns', 'list'))
    .split('\n')
    .map((l) => l.split(' ')[0] as string)
    .filter((n) => n.startsWith('contiv-'));
  for (const name of present)
    if (!tenants.has(name.slice('contiv-'.length)))
      out.push(`${host.name}: router ${name} without a container`);
  const hostDevices = JSON.parse(await at('ip', '-j', 'link')) as Device[];
  const links = hostDevices.map((l) => l.ifname);
  for (const name of links.filter((l) => new RegExp(`^${PEER}[0-9a-f]{10}$`).test(l)))
    out.push(`${host.name}: ${name} left in the host's namespace`);
  const exits = links.filter((l) => new RegExp(`^${EXIT}[0-9a-f]{8}$`).test(l)).length;
  if (exits !== tenants.size) out.push(`${host.name}: ${exits} exits for ${tenants.size} tenants`);

  for (const tenant of tenants) {
    const ns = `contiv-${tenant}`;
    const where = `${host.name}: router ${ns}`;
    if (!present.includes(ns)) {
      out.push(`${where} is missing`);
      continue;
    }
    await tryWayOut(where, at, ns, out);
    const local = here.filter((r) => r.tenant === tenant);
    const remote = running.filter((r) => r.tenant === tenant && r.host !== host.name);
    const routes = JSON.parse(await at('ip', '-n', ns, '-j', 'route')).concat(
      JSON.parse(await at('ip', '-n', ns, '-j', '-6', 'route')),
    ) as { dst: string; gateway?: string; dev?: string; protocol?: string; type?: string }[];
    const hostRoutes = new Map(
      routes
        .filter((r) => r.protocol === '199' && !r.dst.includes('/') && r.dst !== 'default')
        .map((r) => [r.dst, r]),
    );
    const underlay = new Map(places.map((h) => [h.name, h.address]));
    for (const r of local)
      for (const a of r.addresses) {
        const route = hostRoutes.get(a);
        hostRoutes.delete(a);
        if (!route?.dev?.startsWith(PORT)) out.push(`${where}: no route to ${a} of ${r.container} here`);
      }
    for (const r of remote)
      for (const a of r.addresses) {
        const route = hostRoutes.get(a);
        hostRoutes.delete(a);
        const right = route?.dev?.startsWith(TUNNEL) && (isV6(a) || route.gateway === underlay.get(r.host));
        if (!right) out.push(`${where}: no route to ${a} of ${r.container} on ${r.host}`);
      }
    for (const a of hostRoutes.keys()) out.push(`${where}: route to ${a}, which nobody has`);

    const devices = JSON.parse(await at('ip', '-n', ns, '-d', '-j', 'link')) as Device[];
    const place = places.find((p) => p.name === host.name);
    for (const { ifname, mtu, linkinfo } of devices.filter((d) => AT_ROUTER.test(d.ifname))) {
      if (mtu !== place?.mtu)
        out.push(`${where}: ${ifname} has MTU ${mtu}, ${UNDERLAY} leaves ${place?.mtu}`);
      const from = linkinfo?.info_data?.local ?? linkinfo?.info_data?.local6;
      if (ifname.startsWith(TUNNEL) && from !== place?.address)
        out.push(`${where}: ${ifname} sends from ${from}, ${UNDERLAY} has ${place?.address}`);
    }
    for (const r of local) {
      const inside = JSON.parse(await at('nsenter', '-t', `${r.pid}`, '-n', 'ip', '-j', 'link')) as Device[];
      const end = inside.find((d) => d.address === r.mac);
      if (end?.mtu !== place?.mtu)
        out.push(`${host.name}: ${r.container} has MTU ${end?.mtu}, ${UNDERLAY} leaves ${place?.mtu}`);
    }
    const links = devices.map((l) => l.ifname);
    const ports = links.filter((l) => l.startsWith(PORT));
    if (ports.length !== local.length)
      out.push(`${where}: ${ports.length} ports for ${local.length} containers`);

    const neighbours = (await neighboursOf(at, '-n', ns)).filter((n) => {
      const permanent = n.state.includes('PERMANENT');
      if (!permanent && !n.state.includes('NOARP')) out.push(`${where}: neighbour ${n.dst} was learned`);
      return permanent;
    });
    await compareWayOut(where, at, { devices, hostDevices, neighbours, routes }, out);
    const atPorts = neighbours.filter((n) => n.dev.startsWith(PORT));
    const devOf = (address: string) =>
      routes.find((r) => r.dst === address && r.protocol === '199')?.dev ?? '';
    const wanted = new Map(local.flatMap((r) => r.addresses.map((a) => [a, r] as const)));
    // At each of a container's ports is what it may ask by: its other networks' addresses too, and a link-local one.
    for (const n of atPorts.filter((n) => devOf(n.dst) === n.dev)) {
      const r = wanted.get(n.dst);
      wanted.delete(n.dst);
      if (r === undefined) out.push(`${where}: neighbour ${n.dst}, which nobody here has`);
      else if (r.mac !== n.lladdr)
        out.push(`${where}: neighbour ${n.dst} has ${n.lladdr}, runs with ${r.mac}`);
    }
    for (const a of wanted.keys()) out.push(`${where}: no neighbour entry for ${a}`);

    const peers = new Set(remote.map((r) => underlay.get(r.host) as string));
    for (const tunnel of links.filter((l) => l.startsWith(TUNNEL))) {
      const fdb = (
        JSON.parse(await at('bridge', '-n', ns, '-j', 'fdb', 'show', 'dev', tunnel)) as { dst?: string }[]
      )
        .map((f) => f.dst)
        .filter((d) => d !== undefined);
      for (const p of peers)
        if (!fdb.includes(p)) out.push(`${where}: ${tunnel} has no forwarding entry to ${p}`);
      for (const d of fdb)
        if (!peers.has(d as string)) out.push(`${where}: ${tunnel} has a stray forwarding entry to ${d}`);
    }

    const table = JSON.parse(
      await at('ip', 'netns', 'exec', ns, 'nft', '-j', 'list', 'table', 'inet', 'contiv'),
    ) as {
      nftables: {
        map?: { name: string; elem?: [Concat, Concat | number | string][] };
      }[];
    };
    const map = (name: string) => table.nftables.find((i) => i.map?.name === name)?.map?.elem ?? [];
    const compareMap = (name: string, want: readonly string[]): void => {
      const have = new Set(map(name).map(([{ concat }]) => concat.at(-1) as string));
      for (const a of want) if (!have.delete(a)) out.push(`${where}: map ${name} lacks ${a}`);
      for (const a of have) out.push(`${where}: map ${name} has ${a}, which nobody has`);
    };
    const of = (list: readonly Running[], v6: boolean): string[] => [
      ...new Set(list.flatMap((r) => r.addresses.filter((a) => isV6(a) === v6))),
    ];
    compareMap('sources', of(local, false));
    compareMap('sources6', of(local, true));
    compareMap('remotes', of(remote, false));
    compareMap('remotes6', of(remote, true));
    compareServices(
      where,
      services.filter((s) => s.tenantName === tenant),
      running.filter((r) => r.tenant === tenant),
      map('service_to'),
      map('service_size'),
      out,
    );
    for (const six of ['', '6']) {
      const addressed = running.filter((r) => r.tenant === tenant);
      compareMembers(where, addressed, six === '6', map(`members${six}`), out);
      for (const direction of ['in', 'out'] as const)
        compareJudged(
          `${where}: judged_${direction}${six}`,
          of(
            local.filter((r) => judged.has(`${r.tenant}:${r.group} ${direction}`)),
            six === '6',
          ),
          map(`judged_${direction}${six}`),
          out,
        );
    }
    const fast = local.filter((r) => !profiled.has(`${r.tenant}:${r.group}`));
    // To a host that takes less the router looks at sizes.
    const less = new Set(places.filter((p) => p.mtu < (place?.mtu ?? 0)).map((p) => p.name));
    const taking = remote.filter((r) => !less.has(r.host));
    if (kernelHasFastPath()) await compareFastPath(where, at, ns, devices, { fast, remote: taking }, out);
    const own = JSON.parse(await at('ip', '-n', ns, '-j', '-4', 'addr', 'show', 'dev', 'lo')) as {
      addr_info: { local: string }[];
    }[];
    for (const s of services)
      if (s.tenantName === tenant && !own[0]?.addr_info.some((a) => a.local === s.vip))
        out.push(`${where}: no address ${s.vip} of service ${s.serviceName}`);
  }
}

/** Outside nothing listens there and says so (curl: 7), where no firewall of the host keeps it from being asked. */
async function tryWayOut(
  where: string,
  at: (...command: string[]) => Promise<string>,
  ns: string,
  out: string[],
): Promise<void> {
  const url = `http://${OUTSIDE_ADDRESS}:9/`;
  const status = await at('ip', 'netns', 'exec', ns, 'sh', '-c', `curl -s -m 2 ${url}; echo $?`);
  if (status.trim() !== '7') out.push(`${where}: no way out to ${OUTSIDE_ADDRESS}`);
}

/** What the fast path asks conntrack by: the kernel's own, or of the module. Without it all goes the router's way. */
function kernelHasFastPath(): boolean {
  return ['vmlinux', 'nf_conntrack'].some((types) => {
    const file = `/sys/kernel/btf/${types}`;
    return fs.existsSync(file) && fs.readFileSync(file).includes('\0bpf_skb_ct_lookup\0');
  });
}

interface Device {
  readonly ifindex: number;
  readonly ifname: string;
  readonly address: string;
  /** Of a veth: index of the other end. */
  readonly link_index?: number;
  readonly mtu: number;
  readonly linkinfo?: { readonly info_data?: { readonly local?: string; readonly local6?: string } };
}

interface Neighbour {
  readonly dst: string;
  readonly dev: string;
  readonly lladdr: string;
  readonly state: readonly string[];
}

const neighboursOf = async (
  at: (...command: string[]) => Promise<string>,
  ...where: string[]
): Promise<Neighbour[]> => [
  ...JSON.parse(await at('ip', ...where, '-j', '-4', 'neigh', 'show', 'nud', 'all')),
  ...JSON.parse(await at('ip', ...where, '-j', '-6', 'neigh', 'show', 'nud', 'all')),
];

/** What a container was given is there: its MAC and IP addresses, routes to its subnets by next hops that it knows for good. */
async function compareInside(
  at: (...command: string[]) => Promise<string>,
  running: Running,
  /** Its only network: the router's part may be another one's where there are several. */
  alone: boolean,
  out: string[],
): Promise<void> {
  const inside = async <T>(...command: string[]): Promise<T[]> =>
    JSON.parse(await at('nsenter', '-t', String(running.pid), '-n', 'ip', '-j', ...command)) as T[];
  const where = `${running.host}: inside ${running.container}`;
  interface Addressed extends Device {
    readonly addr_info: readonly { readonly local: string }[];
  }
  const device = (await inside<Addressed>('addr')).find((d) => d.address === running.mac);
  if (device === undefined) {
    out.push(`${where}: no device has ${running.mac}`);
    return;
  }
  for (const address of running.addresses)
    if (!device.addr_info.some((a) => a.local === address)) out.push(`${where}: no address ${address}`);
  for (const version of running.addresses.some(isV6) ? ['-4', '-6'] : ['-4']) {
    const hops = (await inside<{ gateway?: string; dev: string }>(version, 'route'))
      .filter((r) => r.dev === device.ifname)
      .flatMap(({ gateway }) => gateway ?? []);
    const known = (await inside<Neighbour>(version, 'neigh', 'show', 'nud', 'permanent')).map((n) => n.dst);
    if (hops.length === 0 && alone) out.push(`${where}: no route by a router (ip ${version} route)`);
    for (const hop of new Set(hops))
      if (!known.includes(hop)) out.push(`${where}: no permanent neighbour ${hop}`);
  }
}

/** Both ends know each other for good: the router its next hops, the host the router's addresses. */
async function compareWayOut(
  where: string,
  at: (...command: string[]) => Promise<string>,
  router: {
    readonly devices: readonly Device[];
    readonly hostDevices: readonly Device[];
    readonly neighbours: readonly Neighbour[];
    readonly routes: readonly { dst: string; gateway?: string }[];
  },
  out: string[],
): Promise<void> {
  const uplink = router.devices.find((d) => d.ifname === UPLINK);
  const cx = router.hostDevices.find((d) => d.ifindex === uplink?.link_index);
  if (uplink === undefined || cx === undefined) {
    out.push(`${where}: no way out`);
    return;
  }
  for (const { gateway } of router.routes.filter((r) => r.dst === 'default')) {
    const known = router.neighbours.find((n) => n.dev === UPLINK && n.dst === gateway);
    if (known?.lladdr !== cx.address)
      out.push(`${where}: neighbour ${gateway} has ${known?.lladdr}, ${cx.ifname} has ${cx.address}`);
  }
  const own = JSON.parse(
    await at('ip', '-n', where.split(' ').at(-1) as string, '-j', 'addr', 'show', UPLINK),
  ) as {
    addr_info: { local: string; scope: string }[];
  }[];
  const back = (await neighboursOf(at)).filter((n) => n.dev === cx.ifname && n.state.includes('PERMANENT'));
  for (const { local, scope } of own[0]?.addr_info ?? [])
    if (scope === 'global' && back.find((n) => n.dst === local)?.lladdr !== uplink.address)
      out.push(`${where}: the host has no permanent neighbour ${local}`);
}

/**
 * One program at each tunnel and at the port of each container that is not shaped or marked, and its map leads to those and
 * to the other hosts' containers.
 */
async function compareFastPath(
  where: string,
  at: (...command: string[]) => Promise<string>,
  ns: string,
  devices: readonly Device[],
  { fast, remote }: { readonly fast: readonly Running[]; readonly remote: readonly Running[] },
  out: string[],
): Promise<void> {
  const json = async (...command: string[]) => JSON.parse(await at('ip', 'netns', 'exec', ns, ...command));
  const programs = new Set<number>();
  let ports = 0;
  for (const { ifname } of devices.filter((d) => AT_ROUTER.test(d.ifname))) {
    const filters = (await json('tc', '-j', 'filter', 'show', 'dev', ifname, 'ingress')) as {
      kind: string;
      options?: { prog?: { id: number } };
    }[];
    const ids = filters.flatMap((f) => (f.kind === 'bpf' && f.options?.prog ? [f.options.prog.id] : []));
    if (ids.length > 1) out.push(`${where}: ${ids.length} programs at ${ifname}`);
    if (ids.length === 0 && ifname.startsWith(TUNNEL)) out.push(`${where}: no program at ${ifname}`);
    if (ids.length === 1 && ifname.startsWith(PORT)) ports++;
    for (const id of ids) programs.add(id);
  }
  if (ports !== fast.length) out.push(`${where}: ${ports} ports with a program, ${fast.length} wanted`);
  const [id, ...more] = programs;
  if (more.length > 0) out.push(`${where}: programs ${[...programs].join(', ')}, not one`);
  if (id === undefined) return;
  const { map_ids: maps } = (await json('bpftool', '-j', 'prog', 'show', 'id', `${id}`)) as {
    map_ids: number[];
  };
  const have = new Map<string, string>();
  for (const map of maps) {
    const { name } = (await json('bpftool', '-j', 'map', 'show', 'id', `${map}`)) as { name: string };
    if (name !== 'contiv_ends') continue;
    const entries = await json('bpftool', '-j', 'map', 'dump', 'id', `${map}`);
    for (const { key, value } of entries as { key: string[]; value: string[] }[]) {
      const bytes = Buffer.from(value.map(Number));
      const device = devices.find((d) => d.ifindex === bytes.readUInt32LE(0))?.ifname ?? 'nowhere';
      const mac = bytes.toString('hex', 8, 14).replaceAll(/(..)(?=.)/g, '$1:');
      have.set(
        Buffer.from(key.map(Number)).toString('hex'),
        device.startsWith(TUNNEL) ? 'tunnel' : `${device.slice(0, PORT.length)} ${mac}`,
      );
    }
  }
  for (const [list, leads] of [
    [fast, (r: Running) => `${PORT} ${r.mac}`],
    [remote, () => 'tunnel'],
  ] as const)
    for (const r of list)
      for (const address of r.addresses) {
        const key = addressKey(address);
        if (have.get(key) !== leads(r))
          out.push(`${where}: fast path to ${address} of ${r.container}: ${have.get(key) ?? 'none'}`);
        have.delete(key);
      }
  for (const key of have.keys()) out.push(`${where}: fast path to ${key}, which nobody has`);
}

/** 16 bytes in hexadecimal; IPv4 mapped. */
function addressKey(address: string): string {
  const parsed = ipaddr.parse(address);
  const six = parsed instanceof ipaddr.IPv4 ? parsed.toIPv4MappedAddress() : parsed;
  return Buffer.from(six.toByteArray()).toString('hex');
}

type Mapped = readonly (readonly [Concat | string, Concat | number | string])[];

/** Each address of a group's container has its group's number, which no other group has. */
function compareMembers(
  where: string,
  running: readonly Running[],
  v6: boolean,
  members: Mapped,
  out: string[],
): void {
  const have = new Map(members.map(([address, number]) => [address as string, number as number]));
  const numbers = new Map<number, string>();
  for (const r of running.filter((r) => r.group !== ''))
    for (const address of r.addresses.filter((a) => isV6(a) === v6)) {
      const number = have.get(address);
      have.delete(address);
      if (number === undefined) out.push(`${where}: ${address} of ${r.container} is no member of ${r.group}`);
      else if ((numbers.get(number) ?? r.group) !== r.group)
        out.push(`${where}: ${address} of ${r.container} counts as ${numbers.get(number)}, is in ${r.group}`);
      else numbers.set(number, r.group);
    }
  for (const address of have.keys())
    out.push(`${where}: member ${address}, which no container of a group has`);
}

/** Those and only those are under a policy. */
function compareJudged(where: string, wanted: readonly string[], judged: Mapped, out: string[]): void {
  const have = new Set(judged.map(([address]) => address as string));
  for (const address of wanted) if (!have.delete(address)) out.push(`${where} lacks ${address}`);
  for (const address of have) out.push(`${where} has ${address}, whose group has no such rules`);
}

/** What nft writes of a packet's priority: two halves in hexadecimal, 0 as a word. */
function priorityNumber(text: string): number {
  if (text === 'none') return 0;
  const [major = '', minor = ''] = text.split(':');
  return Number.parseInt(major, 16) * 0x10000 + Number.parseInt(minor, 16);
}

interface Concat {
  readonly concat: readonly (string | number)[];
}

/** Each provider has one slot of each port, the slots are 0, 1, 2, ..., and the size is the power of two that covers them. */
function compareServices(
  where: string,
  services: readonly Service[],
  running: readonly Running[],
  to: Mapped,
  sizes: Mapped,
  out: string[],
): void {
  const slots = new Map<string, Map<number, string>>();
  for (const [key, value] of to) {
    const { concat } = key as Concat;
    const port = concat.slice(0, 3).join(' ');
    const of = slots.get(port) ?? new Map<number, string>();
    of.set(priorityNumber(concat[3] as string), (value as Concat).concat.join(':'));
    slots.set(port, of);
  }
  const size = new Map(
    sizes.map(([key, value]) => [(key as Concat).concat.join(' '), priorityNumber(value as string)]),
  );
  for (const s of services) {
    const selected = running.filter(
      (r) =>
        r.answering &&
        s.selectors.every((text) => {
          const at = text.indexOf('=');
          return r.labels[text.slice(0, at)] === text.slice(at + 1);
        }),
    );
    const healthy = selected.filter((r) => r.healthy);
    const byContainer = Map.groupBy(healthy.length > 0 ? healthy : selected, (r) => r.id);
    const addresses = [...byContainer.values()].map(
      (of) => (of.find((r) => r.network === s.networkName) ?? of[0])?.addresses[0],
    );
    for (const text of s.ports) {
      const [port, providerPort, protocol = ''] = text.toLowerCase().split(':');
      const key = `${s.vip} ${protocol} ${port}`;
      const what = `${where}: service ${s.serviceName} port ${port}/${protocol}`;
      const have = slots.get(key) ?? new Map<number, string>();
      slots.delete(key);
      const want = addresses.map((a) => `${a}:${providerPort}`).sort();
      const found = [...have.values()].sort();
      if (found.join() !== want.join())
        out.push(`${what} leads to ${found.join() || 'nothing'}, labels choose ${want.join() || 'nothing'}`);
      if ([...have.keys()].some((slot) => slot >= have.size)) out.push(`${what} has a gap in its slots`);
      const power = want.length === 0 ? undefined : 2 ** Math.ceil(Math.log2(want.length));
      if (size.get(key) !== power) out.push(`${what} draws from ${size.get(key)}, not from ${power}`);
      size.delete(key);
    }
  }
  for (const key of new Set([...slots.keys(), ...size.keys()]))
    out.push(`${where}: ${key} leads somewhere, which is no service's port`);
}

/**
 * Asks from one container of each network on the host for every container's name in that network; on `shut` ones, which have no
 * way out, for a name outside too.
 */
async function compareNames(
  lab: string,
  host: LabHost,
  running: readonly Running[],
  shut: ReadonlySet<string>,
  out: string[],
): Promise<void> {
  const asked = new Set<string>();
  for (const from of running.filter((r) => r.host === host.name)) {
    const network = `${from.tenant}:${from.network}`;
    if (asked.has(network)) continue;
    asked.add(network);
    const peers = running.filter((r) => `${r.tenant}:${r.network}` === network && r.answering);
    // On several networks a container takes a bare name from any of them.
    const several = running.filter((r) => r.host === from.host && r.container === from.container).length > 1;
    const nameOf = (p: Running): string => (several ? `${p.container}.${p.network}` : p.container);
    // The container's resolver, from the container's network.
    const dig = (args: string): Promise<string | undefined> => {
      const command = `nsenter -t ${from.pid} -n dig +noall +tries=2 +time=3 @127.0.0.11 ${args}`;
      return tryRun(...onHost(lab, host.name, 'sh', '-c', command));
    };
    if (shut.has(network) && !several) {
      const outside = await dig('+comments outside.example');
      const status = /status: (\w+)/.exec(outside ?? '')?.[1];
      if (status !== undefined && status !== 'REFUSED')
        out.push(`${host.name}: ${network} has no gateway, and a name outside is ${status}, not REFUSED`);
    }
    // One dig for all names.
    const text = await dig(`+answer ${peers.map((p) => `-q ${nameOf(p)} -t A`).join(' ')}`);
    if (text === undefined) {
      out.push(`${host.name}: names in ${network} are not answered`);
      continue;
    }
    const answers = new Map<string, string[]>();
    for (const line of text.split('\n')) {
      const [name = '', , , type, address = ''] = line.split(/\s+/);
      if (type === 'A')
        answers.set(name.replace(/\.$/, ''), [...(answers.get(name.replace(/\.$/, '')) ?? []), address]);
    }
    for (const p of peers) {
      const have = answers.get(nameOf(p)) ?? [];
      if (!have.includes(p.addresses[0] as string))
        out.push(
          `${host.name}: ${p.container} resolves to ${have.join() || 'nothing'} in ${network}, runs with ${p.addresses[0]}`,
        );
    }
  }
}
