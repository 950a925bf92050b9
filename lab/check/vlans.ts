/** Networks of encapsulation vlan: their devices in routers, what leads from there to the uplink and back, and who is told from whom on the wire. */
import ipaddr from 'ipaddr.js';
import { UNDERLAY } from '../state.ts';
import type { Running } from './docker.ts';
import { tenantsOf } from './kernel.ts';
import { mapOf, programsAt } from './programs.ts';
import {
  allAddresses,
  type Comparison,
  type Device,
  type Element,
  four,
  type Host,
  type Router,
  segmentMac,
  type Table,
  tableOf,
  tagMac,
  tagOf,
  type Vlan,
  vlansOf,
} from './world.ts';

const inNetwork =
  (key: string) =>
  ({ tenant, network }: Running): boolean =>
    `${tenant}:${network}` === key;

/** What a device of a VLAN's must say of itself, for neighbours to be answered for containers here and for nobody else (sysctl). */
const SETTINGS: readonly (readonly [string, string])[] = [
  ['ipv4/conf', 'arp_ignore'],
  ['ipv4/conf', 'proxy_arp'],
  ['ipv4/neigh', 'proxy_delay'],
  ['ipv6/neigh', 'proxy_delay'],
];
const VALUES = ['1', '1', '0', '0', '1'];

/** Of all tables. */
async function allRoutes({ at }: Host, ns: string): Promise<Router['routes']> {
  const lists = ['-4', '-6'].map((family) =>
    at('ip', '-n', ns, family, '-j', 'route', 'show', 'table', 'all'),
  );
  return (await Promise.all(lists)).flatMap((list) => JSON.parse(list));
}

/** Each network's device, of the host's MAC address in all VLANs, with its address there, its subnet behind it, and the other hosts for good. */
export const wires: Comparison<Router> = async (router, say) => {
  const { where, cluster, host, tenant, ns, devices, routes, neighbours } = router;
  const wanted = vlansOf(cluster, tenant);
  for (const { ifname } of devices.filter((d) => /^vl\d/.test(d.ifname)))
    if (!wanted.some((v) => v.device === ifname)) say(`${where}: ${ifname}, which no network has`);
  const addressed = JSON.parse(await host.at('ip', '-n', ns, '-j', 'addr')) as {
    ifname: string;
    addr_info: { local: string }[];
  }[];
  const peers = new Set(router.remote.map((r) => r.host));
  const ways = wanted.some((v) => v.gateways.length > 0) ? await allRoutes(host, ns) : routes;
  for (const { key, device, wire, prefixes, gateways, entered } of wanted) {
    const end = devices.find((d) => d.ifname === device);
    if (end === undefined) {
      say(`${where}: no device ${device} of network ${key}`);
      continue;
    }
    if (end.address !== segmentMac(host.place))
      say(`${where}: ${device} has MAC address ${end.address}, not ${segmentMac(host.place)}`);
    if (end.mtu !== host.place.uplinkMtu)
      say(`${where}: ${device} has MTU ${end.mtu}, ${UNDERLAY} ${host.place.uplinkMtu}`);
    if (!end.flags.includes('LOWER_UP')) say(`${where}: ${device} is down`);
    if (host.devices.find((d) => d.ifindex === end.link_index)?.ifname !== wire)
      say(`${where}: ${device} does not lead to ${wire}`);
    const own = allAddresses(cluster.own.filter((r) => r.host === host.name).filter(inNetwork(key))).sort();
    const has = (addressed.find((d) => d.ifname === device)?.addr_info ?? [])
      .map((a) => a.local)
      .filter((a) => !a.startsWith('fe80:'))
      .sort();
    // In an infra network the host has them itself.
    const wantedHere = entered ? [] : own;
    if (wantedHere.join() !== has.join())
      say(`${where}: ${device} has ${has.join() || 'no address'}, not ${wantedHere.join() || 'none'}`);
    for (const prefix of prefixes) {
      const route = ways.find((r) => r.dst === prefix && r.protocol === '199');
      if (route?.dev !== device) say(`${where}: no route to ${prefix} by ${device}`);
    }
    for (const gateway of gateways)
      if (!ways.some((r) => r.dst === 'default' && r.gateway === gateway && r.dev === device))
        say(`${where}: no way outside by ${gateway} on ${device}`);
    const proxies = JSON.parse(
      await host.at('ip', '-n', ns, '-j', '-6', 'neigh', 'show', 'proxy', 'dev', device),
    ) as {
      dst: string;
    }[];
    const answered = [...allAddresses(router.local.filter(inNetwork(key))), ...(entered ? own : [])].filter(
      (a) => a.includes(':'),
    );
    const shown = proxies
      .map(({ dst }) => dst)
      .sort()
      .join();
    if (shown !== answered.sort().join())
      say(`${where}: ${device} answers for ${shown || 'nobody'} by IPv6, not for ${answered.join()}`);
    for (const place of cluster.places.filter((p) => peers.has(p.name))) {
      const known = neighbours.find(
        (n) => n.dev === device && n.dst === place.address && n.state.includes('PERMANENT'),
      );
      if (known?.lladdr !== segmentMac(place))
        say(
          `${where}: neighbour ${place.address} on ${device} has ${known?.lladdr}, not ${segmentMac(place)}`,
        );
    }
    const ofDevice = SETTINGS.map(([kind, name]) => `/proc/sys/net/${kind}/${device}/${name}`);
    const keys = [...ofDevice, '/proc/sys/net/ipv6/conf/all/proxy_ndp'];
    const values = (await router.at('cat', ...keys)).trim().split('\n');
    for (const [i, key] of keys.entries())
      if (values[i] !== VALUES[i]) say(`${where}: ${key} is ${values[i]}, not ${VALUES[i]}`);
  }
};

/** As nft writes it. */
function textOf(element: Element): string {
  if (Array.isArray(element)) return element.map(textOf).join(' : ');
  if (typeof element !== 'object') return String(element);
  if ('prefix' in element) return `${element.prefix.addr}/${element.prefix.len}`;
  return element.concat.map(textOf).join(' . ');
}

/** A VLAN's number among the tenant's networks, which a VNI never is. */
const VLANS = 1 << 24;

/** What a machine on the wire may not say that it is, from which networks' devices which addresses come, and for whom ARP is answered. */
export const onWire: Comparison<Router> = async (router, say) => {
  const { where, cluster, host, tenant, local, remote } = router;
  const wanted = vlansOf(cluster, tenant);
  if (wanted.length === 0) return;
  const own = cluster.own.filter((r) => r.tenant === tenant && r.host === host.name);
  const inVlan = (list: readonly Running[]): string[] =>
    four(list.filter((r) => wanted.some(({ key }) => inNetwork(key)(r))));
  const gateways = cluster.networks.flatMap((n) =>
    n.tenantName === tenant && !n.externalGateway
      ? [n.gateway, n.ipv6Gateway].flatMap((g) => (g ? [g] : []))
      : [],
  );
  const ownInVlan = allAddresses(own.filter((r) => wanted.some(({ key }) => inNetwork(key)(r))));
  const all = [...allAddresses([...local, ...remote]), ...ownInVlan, ...gateways];
  const isV6 = (text: string): boolean => text.includes(':');
  const claimed = all.filter((a) => !isV6(a));
  const [inet, arp] = [router.table, await tableOf(router.at, 'arp')];
  const compare = (table: Table, name: string, elements: readonly string[]): void => {
    const have = new Set(table.get(name)?.map(textOf));
    for (const element of new Set(elements))
      if (!have.delete(element)) say(`${where}: ${name} lacks ${element}`);
    for (const element of have) say(`${where}: ${name} has ${element}`);
  };
  const behind = ({ device, prefixes }: Vlan, v6 = false): string[] =>
    prefixes.filter((p) => isV6(p) === v6).map((prefix) => `${device} . ${prefix}`);
  compare(inet, 'claimed', claimed);
  compare(inet, 'claimed6', all.filter(isV6));
  for (const six of ['', '6'])
    compare(
      inet,
      `wired${six}`,
      wanted.flatMap((v) => behind(v, six !== '').map((text) => `${text} : ${VLANS + v.id}`)),
    );
  compare(arp, 'taken', claimed);
  compare(arp, 'answered', [...inVlan(local), ...inVlan(own)]);
  compare(
    arp,
    'beside',
    wanted.flatMap((v) => behind(v)),
  );
};

/** Of 4 bytes each. */
const numbers = (bytes: Buffer): number[] =>
  Array.from({ length: bytes.length / 4 }, (_, i) => bytes.readUInt32LE(4 * i));

/** Tagged frames come from the uplink to the networks' devices, and leave from those by the uplink; nothing else does. */
export const hostWires: Comparison<Host> = async (host, say) => {
  const { name, cluster, devices, place } = host;
  const wanted = [...tenantsOf(host)].flatMap((tenant) => vlansOf(cluster, tenant));
  const uplink = devices.find((d) => d.ifname === UNDERLAY);
  const ends = new Map<Vlan, Device>();
  for (const vlan of wanted) {
    const end = devices.find((d) => d.ifname === vlan.wire);
    if (end === undefined) say(`${name}: no device ${vlan.wire} of network ${vlan.key}`);
    else ends.set(vlan, end);
  }
  for (const { ifname } of devices.filter((d) => /^cv\d/.test(d.ifname)))
    if (!wanted.some((v) => v.wire === ifname)) say(`${name}: ${ifname}, which no network has`);
  for (const { ifname, flags, mtu } of ends.values()) {
    if (!flags.includes('UP')) say(`${name}: ${ifname} is down`);
    if (mtu !== place.uplinkMtu) say(`${name}: ${ifname} has MTU ${mtu}, ${UNDERLAY} ${place.uplinkMtu}`);
  }
  const compare = async (
    device: string,
    program: string,
    entries: readonly [number, string][],
  ): Promise<void> => {
    const [id, ...more] = (await programsAt(host.at, device)).flatMap((p) =>
      p.name === program ? [p.id] : [],
    );
    if (more.length > 0) say(`${name}: ${1 + more.length} programs ${program} at ${device}`);
    if (id === undefined) {
      if (entries.length > 0) say(`${name}: no program ${program} at ${device}`);
      return;
    }
    if (entries.length === 0) say(`${name}: program ${program} at ${device}, where no network goes`);
    const have = new Map(
      (await mapOf(host.at, id, program)).map(([key, value]) => [
        key.readUInt32LE(0),
        numbers(value).join(' '),
      ]),
    );
    for (const [key, value] of entries) {
      if (have.get(key) !== value)
        say(`${name}: ${program} at ${device} has ${have.get(key) ?? 'nothing'} for ${key}, not ${value}`);
      have.delete(key);
    }
    for (const key of have.keys()) say(`${name}: ${program} at ${device} has ${key}, which no network has`);
  };
  // What is for the router's MAC address goes past the device. A network whose groups have VLANs of their own is 1, and each of those 2.
  const arrival = (ifindex: number, mac: string, kind: number): string =>
    `${ifindex} ${numbers(Buffer.from(`${mac.replaceAll(':', '')}0${kind}00`, 'hex')).join(' ')}`;
  const isTagged = ({ key }: Vlan): boolean => cluster.tagged.has(key);
  const tagsOf = ({ key }: Vlan): number[] => [
    ...new Set(host.here.filter(inNetwork(key)).flatMap((r) => tagOf(cluster, r) ?? [])),
  ];
  await compare(
    UNDERLAY,
    'contiv_vlan_in',
    [...ends].flatMap(([vlan, { ifindex }]): [number, string][] => [
      [vlan.id, arrival(ifindex, segmentMac(place), isTagged(vlan) ? 1 : 0)],
      ...tagsOf(vlan).map((id): [number, string] => [id, arrival(ifindex, tagMac(place, id), 2)]),
    ]),
  );
  const out = [...ends].map(([vlan, end]): [number, string] => [
    end.ifindex,
    `${vlan.id} ${uplink?.ifindex} ${isTagged(vlan) ? 1 : 0}`,
  ]);
  for (const { ifname } of ends.values()) await compare(ifname, 'contiv_vlan_out', out);
  const taken = JSON.parse(await host.at('bridge', '-j', 'fdb', 'show', 'dev', UNDERLAY)) as {
    mac: string;
  }[];
  const macs = [...ends.keys()].flatMap(tagsOf).map((id) => tagMac(place, id));
  for (const mac of macs)
    if (!taken.some((t) => t.mac === mac)) say(`${name}: ${UNDERLAY} does not take frames for ${mac}`);
  for (const { mac } of taken)
    if (/^.a:/.test(mac) && mac.endsWith(segmentMac(place).slice(5)) && !macs.includes(mac))
      say(`${name}: ${UNDERLAY} takes frames for ${mac}, which no group has here`);
  await compareTags(host, ends, say);
  const takes = taken.some(({ mac }) => mac === segmentMac(place));
  if (takes !== ends.size > 0)
    say(`${name}: ${UNDERLAY} ${takes ? 'takes' : 'does not take'} frames for ${segmentMac(place)}`);
};

/** By which VLAN an address here goes. */
async function compareTags(
  { at, name, cluster, here }: Host,
  ends: ReadonlyMap<Vlan, Device>,
  say: (line: string) => void,
): Promise<void> {
  const [id] = (await programsAt(at, UNDERLAY)).flatMap((p) => (p.name === 'contiv_vlan_in' ? [p.id] : []));
  const entries = id === undefined ? [] : await mapOf(at, id, 'contiv_vlan_tag');
  const have = new Map(
    entries.map(([key, value]) => [
      `${key.readUInt32LE(0)} ${ipaddr.process(ipaddr.fromByteArray([...key.subarray(4)]).toString())}`,
      value.readUInt32LE(0),
    ]),
  );
  // That it is one of a group's stands there by the tag itself.
  for (const { ifindex } of ends.values())
    for (const id of cluster.tags.values()) have.delete(`${ifindex} ::${id.toString(16)}`);
  const own = cluster.own.filter((r) => r.host === name);
  for (const [{ key, id: network }, { ifindex }] of ends) {
    if (!cluster.tagged.has(key)) continue;
    for (const r of [...here, ...own].filter(inNetwork(key))) {
      const tag = tagOf(cluster, r) ?? network;
      for (const address of r.addresses) {
        const place = `${ifindex} ${address}`;
        if (have.get(place) !== tag)
          say(
            `${name}: ${address} of ${r.container} goes by VLAN ${have.get(place) ?? 'of whom it is for'}, not ${tag}`,
          );
        have.delete(place);
      }
    }
  }
  for (const place of have.keys()) say(`${name}: contiv_vlan_tag has ${place}, which nobody has`);
}
