/**
 * Makes the kernel equal to a HostState, in steps that each leave what runs running:
 *
 *   routers (namespaces, sysctls) -> links -> addresses, routes, neighbours, forwarding -> rule sets
 *   -> what is no longer wanted goes, in the opposite order
 *
 * For a router, links, addresses, routes, neighbours and forwarding entries are read (one dump each, some
 * microseconds an entry) and compared on every pass; writes are what differs. Rule sets are compared
 * with what was established before, and read only when verifying.
 *
 * The kernel's cost: one veth, two to four routes and neighbours and a few set elements a local endpoint, one route
 * and one set element a remote endpoint, one neighbour and one fdb entry a remote host and network.
 */
import fs from 'node:fs';
import { findByReply, forgetConnections } from '../../linux/conntrack.ts';
import {
  NETLINK_NETFILTER,
  type Netlink,
  NetlinkError,
  openNetlink,
  type Request,
} from '../../linux/netlink.ts';
import {
  bindPort,
  createNamespace,
  deleteNamespace,
  inNamespace,
  listNamespaces,
  namespaceId,
  namespacePath,
  setSysctl,
} from '../../linux/netns.ts';
import { type Nft, openNft } from '../../linux/nftables.ts';
import * as route from '../../linux/route.ts';
import { NAMESERVER, NAMESERVER6, NFT_TABLE, VXLAN_PORT } from '../constants.ts';
import type { Exit, HostState, Port, Router } from '../state.ts';
import type { ApplyReport, NameserverSockets, OriginalDestination } from './index.ts';
import {
  containerTable,
  createCommands,
  elementCommands,
  hostTable,
  routerTable,
  type Table,
} from './ruleset.ts';

const LOOPBACK = 1;
const ROUTER_NAME = /^contiv-/;
const UPLINK = 'uplink';

/** An open router: sockets that stay in its namespace. */
interface OpenRouter {
  readonly name: string;
  readonly id: number;
  readonly netlink: Netlink;
  readonly conntrack: Netlink;
  readonly nft: Nft;
  readonly fd: number;
  /** What was established: entries by text, rule set by table. */
  entries: ReadonlySet<string>;
  table: Table | undefined;
  fingerprint: string;
  addresses: ReadonlySet<string>;
}

interface Pass {
  readonly verify: boolean;
  writes: number;
  readonly repaired: string[];
  readonly lost: string[];
  readonly failed: { endpoint?: string; message: string }[];
  readonly created: string[];
}

export interface Applier {
  apply(state: HostState, options: { verify: boolean }): ApplyReport;
  openNameserver(namespace: string): NameserverSockets;
  originalDestination(
    namespace: string,
    protocol: 'tcp' | 'udp',
    client: { address: string; port: number },
  ): OriginalDestination | undefined;
}

const message = (error: unknown): string => (error as Error).message;
const isV6 = (address: string): boolean => address.includes(':');
const host = (address: string): string => `${address}/${isV6(address) ? 128 : 32}`;

/**
 * A namespace takes its devices with it only some time after it has gone (net/core/net_namespace.c, cleanup_net), and
 * not while a socket holds it: until then their names and tags would clash with new ones.
 */
function deleteLinks(netlink: Netlink): void {
  const devices = route.listLinks(netlink).filter((l) => l.kind !== '');
  netlink.batch(devices.map(route.deleteLink));
}

/** Of the thread's current namespace, which is the host's. */
export function openApplier(): Applier {
  const hostLink = openNetlink();
  const hostNft = openNft();
  const hostNamespace = fs.openSync('/proc/thread-self/ns/net', 'r');
  const routers = new Map<string, OpenRouter>();
  let hostRules: { table: Table | undefined; fingerprint: string } = { table: undefined, fingerprint: '' };
  /** Namespace ids of containers whose names lead to us, by sandbox path. */
  const led = new Map<string, number>();
  /** Devices and addresses of exits that were established in the host's namespace. */
  let hostEntries: ReadonlySet<string> = new Set();
  let first = true;

  function openRouter(name: string, pass: Pass): OpenRouter {
    const file = namespacePath(name);
    const id = namespaceId(file);
    const open = routers.get(name);
    if (open !== undefined && open.id === id) return open;
    if (open !== undefined) {
      pass.repaired.push(`namespace ${name}: was gone`);
      deleteLinks(open.netlink);
      closeRouter(open);
    }
    if (id === undefined) {
      deleteNamespace(name); // a file without a mount, left by a kill in between
      createNamespace(name);
      pass.created.push(name);
      pass.writes++;
    }
    const opened = inNamespace(file, (): OpenRouter => {
      // Before any device is there: defaults are inherited when one is made.
      const settings: Record<string, string> = {
        'net/ipv4/ip_forward': '1',
        'net/ipv4/conf/all/rp_filter': '0',
        'net/ipv4/conf/default/rp_filter': '0',
        'net/ipv4/conf/all/accept_local': '1',
        'net/ipv4/conf/all/send_redirects': '0',
        'net/ipv4/conf/default/send_redirects': '0',
        'net/ipv4/icmp_ratelimit': '0',
        'net/ipv6/conf/all/forwarding': '1',
        'net/ipv6/conf/default/forwarding': '1',
        'net/ipv6/conf/all/accept_ra': '0',
        'net/ipv6/conf/default/accept_ra': '0',
        'net/ipv6/conf/default/accept_dad': '0',
        'net/ipv6/conf/default/dad_transmits': '0',
      };
      for (const [key, value] of Object.entries(settings)) if (setSysctl(key, value)) pass.writes++;
      const netlink = openNetlink();
      netlink.request(route.setLink(LOOPBACK, { up: true }));
      return {
        name,
        id: namespaceId(file) ?? 0,
        netlink,
        conntrack: openNetlink(NETLINK_NETFILTER),
        nft: openNft(),
        fd: fs.openSync(file, 'r'),
        entries: new Set(),
        table: undefined,
        fingerprint: '',
        addresses: new Set(),
      };
    });
    routers.set(name, opened);
    return opened;
  }

  function closeRouter(router: OpenRouter): void {
    router.netlink.close();
    router.conntrack.close();
    router.nft.close();
    fs.closeSync(router.fd);
    routers.delete(router.name);
  }

  /** Sends; a failure is reported and does not keep the others from happening. */
  function send(netlink: Netlink, requests: readonly Request[], pass: Pass, where: string): void {
    pass.writes += requests.length;
    for (const error of netlink.batch(requests))
      if (error !== undefined) pass.failed.push({ message: `${where}: ${error.message}` });
  }

  // ---- links

  function establishLinks(
    open: OpenRouter,
    router: Router,
    exit: Exit | undefined,
    pass: Pass,
  ): route.Link[] {
    let links = route.listLinks(open.netlink);
    const byName = new Map(links.map((l) => [l.name, l]));
    const wanted = new Set([
      'lo',
      ...router.tunnels.map((t) => t.device),
      ...router.ports.map((p) => p.device),
    ]);
    if (exit !== undefined) wanted.add(UPLINK);
    const stray = links.filter((l) => /^(vx\d|ct[0-9a-f]|uplink$)/.test(l.name) && !wanted.has(l.name));
    const before = open.entries;
    for (const link of stray)
      if (!before.has(`link ${link.name}`) && before.size > 0)
        pass.repaired.push(`${router.namespace}: ${link.name} was not ours`);
    send(open.netlink, stray.map(route.deleteLink), pass, router.namespace);

    for (const tunnel of router.tunnels) {
      const link = byName.get(tunnel.device);
      const same =
        link?.vxlan?.vni === tunnel.vni &&
        link.vxlan.local === tunnel.local &&
        link.vxlan.port === VXLAN_PORT;
      if (same) continue;
      if (link !== undefined) send(open.netlink, [route.deleteLink(link)], pass, router.namespace);
      if (before.has(`link ${tunnel.device}`))
        pass.repaired.push(`${router.namespace}: ${tunnel.device} was gone`);
      try {
        hostLink.request(
          route.addVxlan({
            name: tunnel.device,
            vni: tunnel.vni,
            local: tunnel.local,
            port: VXLAN_PORT,
            mac: tunnel.mac,
            mtu: tunnel.mtu,
            namespace: open.fd,
          }),
        );
        pass.writes++;
      } catch (error) {
        const clash = error instanceof NetlinkError && error.code === 'EEXIST';
        pass.failed.push({
          message: clash
            ? `network with tag ${tunnel.vni}: another VXLAN device of this host has this VNI already (a Docker Swarm overlay?); choose another --pkt-tag`
            : message(error),
        });
      }
    }

    for (const port of router.ports) {
      const link = byName.get(port.device);
      if (link !== undefined) continue;
      if (port.joined) {
        pass.lost.push(port.endpoint);
        continue;
      }
      if (before.has(`link ${port.device}`))
        pass.repaired.push(`${router.namespace}: ${port.device} was gone`);
      try {
        open.netlink.request(
          route.addVeth(
            { name: port.device, mtu: port.mtu },
            { name: port.peer, mac: port.mac, mtu: port.mtu, namespace: hostNamespace },
          ),
        );
        pass.writes++;
      } catch (error) {
        pass.failed.push({ endpoint: port.endpoint, message: message(error) });
      }
    }

    if (exit !== undefined && !byName.has(UPLINK)) {
      if (before.has(`link ${UPLINK}`)) pass.repaired.push(`${router.namespace}: ${UPLINK} was gone`);
      const old = route.listLinks(hostLink).find((l) => l.name === exit.device);
      if (old !== undefined) send(hostLink, [route.deleteLink(old)], pass, 'host');
      send(
        hostLink,
        [route.addVeth({ name: exit.device, mtu: 1500 }, { name: UPLINK, mtu: 1500, namespace: open.fd })],
        pass,
        'host',
      );
    }

    links = route.listLinks(open.netlink);
    const down = links.filter((l) => !l.up && wanted.has(l.name));
    for (const link of down)
      if (before.has(`link ${link.name}`)) pass.repaired.push(`${router.namespace}: ${link.name} was down`);
    const ports = down.filter((l) => l.name.startsWith('ct'));
    if (ports.length > 0 || down.some((l) => l.name === UPLINK))
      inNamespace(namespacePath(router.namespace), () => {
        for (const { name } of ports) {
          setSysctl(`net/ipv4/conf/${name}/proxy_arp`, '1');
          // Otherwise the kernel keeps an answer back for up to 0.8 s (net/ipv4/arp.c, parp_redo).
          setSysctl(`net/ipv4/neigh/${name}/proxy_delay`, '0');
          setSysctl(`net/ipv6/neigh/${name}/proxy_delay`, '0');
        }
      });
    send(
      open.netlink,
      down.map((l) => route.setLink(l.index, { up: true })),
      pass,
      router.namespace,
    );
    return links;
  }

  // ---- entries: addresses, routes, neighbours, forwarding

  interface EntryKind<T> {
    text(entry: T): string;
    add(entry: T): Request;
    remove(entry: T): Request;
    /** Where the kernel knows an entry by less than its whole text: equal for those that replace each other. */
    place?(entry: T): string;
  }

  function reconcile<T>(
    open: OpenRouter,
    kind: EntryKind<T>,
    wanted: readonly T[],
    present: readonly T[],
    established: Set<string>,
    pass: Pass,
  ): void {
    const have = new Map(present.map((entry) => [kind.text(entry), entry]));
    const want = new Map(wanted.map((entry) => [kind.text(entry), entry]));
    const known = open.entries.size > 0;
    const removals: Request[] = [];
    const additions: Request[] = [];
    const taken = new Set(kind.place === undefined ? [] : wanted.map(kind.place));
    for (const [text, entry] of have)
      if (!want.has(text)) {
        // Removing what the addition has replaced would remove the addition.
        if (kind.place === undefined || !taken.has(kind.place(entry))) removals.push(kind.remove(entry));
        if (known && !open.entries.has(text)) pass.repaired.push(`${open.name}: removed ${text}`);
      }
    for (const [text, entry] of want) {
      established.add(text);
      if (have.has(text)) continue;
      additions.push(kind.add(entry));
      if (open.entries.has(text)) pass.repaired.push(`${open.name}: restored ${text}`);
    }
    // A replaced route is added under the old one's place: removing first would open a gap, so add first where it replaces.
    pass.writes += removals.length + additions.length;
    for (const error of open.netlink.batch(additions))
      if (error !== undefined) pass.failed.push({ message: `${open.name}: ${error.message}` });
    for (const error of open.netlink.batch(removals))
      if (error !== undefined && !['ESRCH', 'ENOENT', 'EADDRNOTAVAIL', 'ENODEV'].includes(error.code))
        pass.failed.push({ message: `${open.name}: ${error.message}` });
  }

  function establishEntries(
    open: OpenRouter,
    router: Router,
    exit: Exit | undefined,
    links: readonly route.Link[],
    pass: Pass,
  ): void {
    const index = new Map(links.map((l) => [l.name, l.index]));
    const name = new Map(links.map((l) => [l.index, l.name]));
    const established = new Set<string>(links.map((l) => `link ${l.name}`));
    const device = (text: string): number => index.get(text) ?? 0;
    const hasIpv6 = router.subnets.some(isV6);
    const ports = router.ports.filter((p) => index.has(p.device));

    const addresses: route.Address[] = [...router.gateways, NAMESERVER, NAMESERVER6].map((address) => ({
      index: LOOPBACK,
      address,
      length: isV6(address) ? 128 : 32,
      scope: 0,
    }));
    // A router answers neighbour solicitations only for addresses of the very device (net/ipv6/ndisc.c), and
    // sends its ICMP messages from the address of the device that they leave by.
    for (const port of ports)
      for (const address of hasIpv6 ? [...port.gateways, NAMESERVER6] : port.gateways)
        addresses.push({ index: device(port.device), address, length: isV6(address) ? 128 : 32, scope: 0 });
    if (exit !== undefined && index.has(UPLINK)) {
      addresses.push({ index: device(UPLINK), address: exit.routerAddress, length: 31, scope: 0 });
      if (exit.routerAddress6 !== '')
        addresses.push({ index: device(UPLINK), address: exit.routerAddress6, length: 127, scope: 0 });
    }

    const local = new Set<string>();
    const routes: route.Route[] = [];
    const neighbours: route.Neighbour[] = [];
    for (const port of ports)
      for (const address of port.addresses) {
        local.add(address);
        routes.push({ destination: host(address), type: 'unicast', device: device(port.device) });
        neighbours.push({ device: device(port.device), address, mac: port.mac, state: 'permanent' });
      }
    const peers = new Map(router.tunnels.flatMap((t) => t.peers).map((p) => [p.vtep, p]));
    for (const remote of router.remotes) {
      const peer = peers.get(remote.vtep);
      if (local.has(remote.address) || peer === undefined || !index.has(remote.device)) continue;
      const via = isV6(remote.address) ? peer.linkLocal : peer.vtep;
      routes.push({ destination: host(remote.address), type: 'unicast', via, device: device(remote.device) });
    }
    for (const subnet of router.subnets) routes.push({ destination: subnet, type: 'unreachable' });
    if (exit !== undefined && index.has(UPLINK)) {
      routes.push({
        destination: '0.0.0.0/0',
        type: 'unicast',
        via: exit.hostAddress,
        device: device(UPLINK),
      });
      if (exit.hostAddress6 !== '')
        routes.push({ destination: '::/0', type: 'unicast', via: exit.hostAddress6, device: device(UPLINK) });
    }

    const forwarding: route.Forwarding[] = [];
    for (const tunnel of router.tunnels.filter((t) => index.has(t.device)))
      for (const peer of tunnel.peers) {
        const at = device(tunnel.device);
        if (!isV6(peer.vtep))
          neighbours.push({ device: at, address: peer.vtep, mac: peer.mac, state: 'permanent' });
        neighbours.push({ device: at, address: peer.linkLocal, mac: peer.mac, state: 'permanent' });
        forwarding.push({ device: at, mac: peer.mac, destination: peer.vtep });
      }

    const at = (i: number | undefined): string => (i === undefined ? '' : (name.get(i) ?? String(i)));
    reconcile(
      open,
      {
        text: (a) => `address ${a.address}/${a.length} dev ${at(a.index)}`,
        add: route.addAddress,
        remove: route.deleteAddress,
      },
      addresses,
      route
        .listAddresses(open.netlink)
        .filter((a) => !a.address.startsWith('fe80:') && a.address !== '127.0.0.1' && a.address !== '::1'),
      established,
      pass,
    );
    const PROTO_KERNEL = 2;
    for (const version of [4, 6] as const)
      reconcile(
        open,
        {
          text: (r) => `route ${r.type} ${r.destination} via ${r.via ?? '-'} dev ${at(r.device)}`,
          add: route.addRoute,
          remove: route.deleteRoute,
        },
        routes.filter((r) => isV6(r.destination) === (version === 6)),
        route.listRoutes(open.netlink, version).filter((r) => r.protocol !== PROTO_KERNEL),
        established,
        pass,
      );
    for (const version of [4, 6] as const)
      reconcile(
        open,
        {
          text: (n) => `neighbour ${n.address} lladdr ${n.mac} dev ${at(n.device)}`,
          add: route.addNeighbour,
          remove: route.deleteNeighbour,
          place: (n) => `${n.address} ${n.device}`,
        },
        neighbours.filter((n) => isV6(n.address) === (version === 6)),
        route.listNeighbours(open.netlink, version).filter((n) => n.state === 'permanent'),
        established,
        pass,
      );
    reconcile(
      open,
      {
        text: (f) => `forwarding ${f.mac} to ${f.destination} dev ${at(f.device)}`,
        add: route.addForwarding,
        remove: route.deleteForwarding,
      },
      forwarding,
      route.listForwarding(open.netlink),
      established,
      pass,
    );

    const now = new Set([...local, ...router.remotes.map((r) => r.address)]);
    const gone = new Set([...open.addresses].filter((a) => !now.has(a)));
    // A policy decision stands for a connection: the next owner of the address must not inherit it.
    if (gone.size > 0) pass.writes += forgetConnections(open.conntrack, gone);
    open.addresses = now;
    open.entries = established;
  }

  // ---- rule sets

  /** Rules of a table as the kernel has them, without handles and counters. */
  function fingerprint(
    nft: Nft,
    table: Table,
  ): { rules: string; elements: Map<string, Set<string>> } | undefined {
    let listing: Record<string, unknown>[];
    try {
      listing = nft.list(`list table ${table.name}`);
    } catch {
      return undefined; // no such table
    }
    const elements = new Map<string, Set<string>>();
    const rules: unknown[] = [];
    for (const item of listing) {
      const set = (item.set ?? item.map) as { name: string; elem?: unknown[] } | undefined;
      if (set !== undefined) elements.set(set.name, new Set((set.elem ?? []).map(elementText)));
      else if ('chain' in item || 'rule' in item) rules.push(item);
    }
    const rest = JSON.stringify(rules, (key, value) =>
      key === 'handle' || key === 'counter' ? undefined : value,
    );
    return { rules: rest, elements };
  }

  function establishTable(
    nft: Nft,
    table: Table,
    before: { table: Table | undefined; fingerprint: string },
    where: string,
    pass: Pass,
  ): { table: Table; fingerprint: string } {
    let known = before.table;
    if (known !== undefined && pass.verify) {
      const actual = fingerprint(nft, known);
      if (actual === undefined || actual.rules !== before.fingerprint) {
        pass.repaired.push(`${where}: rules of table ${table.name} differed`);
        known = undefined;
      } else known = repairElements(known, actual.elements, where, pass);
    }
    if (known === undefined || known.body !== table.body) {
      nft.run(createCommands(table));
      pass.writes++;
      return { table, fingerprint: fingerprint(nft, table)?.rules ?? '' };
    }
    const commands: string[] = [];
    for (const [set, wanted] of table.elements) {
      const have = known.elements.get(set) ?? new Set<string>();
      const gone = [...have].filter((e) => !wanted.has(e));
      const added = [...wanted].filter((e) => !have.has(e));
      // A map's element is deleted by its key.
      const keys = gone.map((e) => e.split(' : ')[0] as string);
      commands.push(...elementCommands('delete', table.name, set, keys));
      commands.push(...elementCommands('add', table.name, set, added));
      pass.writes += gone.length + added.length;
    }
    if (commands.length > 0) nft.run(commands.join('\n'));
    return { table, fingerprint: before.fingerprint };
  }

  /** The table as it really is, where that differs from what was established: the next step puts it right. */
  function repairElements(
    known: Table,
    actual: ReadonlyMap<string, ReadonlySet<string>>,
    where: string,
    pass: Pass,
  ): Table {
    const elements = new Map<string, ReadonlySet<string>>();
    for (const [set, wanted] of known.elements) {
      const have = actual.get(set) ?? new Set<string>();
      const byText = new Map([...wanted].map((e) => [normalElement(e), e]));
      const present = new Set<string>();
      for (const element of have) {
        const ours = byText.get(element);
        if (ours === undefined) pass.repaired.push(`${where}: removed element ${element} of set ${set}`);
        present.add(ours ?? element);
      }
      for (const [text, element] of byText)
        if (!present.has(element)) pass.repaired.push(`${where}: restored element ${text} of set ${set}`);
      elements.set(set, present);
    }
    return { ...known, elements };
  }

  // ---- the host's side

  function establishExits(state: HostState, pass: Pass): void {
    const links = route.listLinks(hostLink);
    const wanted = new Map(state.exits.map((e) => [e.device, e]));
    const stray = links.filter((l) => /^cx[0-9a-f]{8}$/.test(l.name) && !wanted.has(l.name));
    for (const { name } of stray)
      if (!first && !hostEntries.has(`link ${name}`)) pass.repaired.push(`host: ${name} was not ours`);
    send(hostLink, stray.map(route.deleteLink), pass, 'host');
    const established = new Set<string>();
    const present = new Set(route.listAddresses(hostLink).map((a) => `${a.address} ${a.index}`));
    for (const link of links) {
      const exit = wanted.get(link.name);
      if (exit === undefined) continue;
      const own = [{ address: exit.hostAddress, length: 31 }];
      if (exit.hostAddress6 !== '') own.push({ address: exit.hostAddress6, length: 127 });
      const missing = own.filter((a) => !present.has(`${a.address} ${link.index}`));
      const text = (a: { address: string; length: number }): string =>
        `address ${a.address}/${a.length} dev ${link.name}`;
      for (const a of missing) if (hostEntries.has(text(a))) pass.repaired.push(`host: restored ${text(a)}`);
      if (!link.up && hostEntries.has(`link ${link.name}`)) pass.repaired.push(`host: ${link.name} was down`);
      for (const entry of [`link ${link.name}`, ...own.map(text)]) established.add(entry);
      send(
        hostLink,
        missing.map((a) => route.addAddress({ ...a, index: link.index, scope: 0 })),
        pass,
        'host',
      );
      if (!link.up) send(hostLink, [route.setLink(link.index, { up: true })], pass, 'host');
      // Published ports are served on localhost too: such packets leave with a source of 127.0.0.1.
      if (setSysctl(`net/ipv4/conf/${link.name}/route_localnet`, '1')) pass.writes++;
      if (setSysctl(`net/ipv4/conf/${link.name}/rp_filter`, '0')) pass.writes++;
    }
    hostEntries = established;
    if (state.exits.length > 0 && setSysctl('net/ipv4/ip_forward', '1')) pass.writes++;
    if (state.exits.some((e) => e.hostAddress6 !== '') && setSysctl('net/ipv6/conf/all/forwarding', '1'))
      pass.writes++;
    const table = hostTable(state);
    if (table === undefined) {
      if (hostRules.table !== undefined || first) {
        hostNft.run(`add table inet ${NFT_TABLE}\ndelete table inet ${NFT_TABLE}`);
        hostRules = { table: undefined, fingerprint: '' };
      }
    } else hostRules = establishTable(hostNft, table, hostRules, 'host', pass);
  }

  /** Leads the container's names to us; before its first process runs where its namespace is there by then. */
  function establishSandbox(port: Port, pass: Pass): void {
    const { sandbox } = port;
    if (sandbox === undefined) return;
    const id = namespaceId(sandbox);
    if (id === undefined || (led.get(sandbox) === id && !pass.verify)) return;
    try {
      inNamespace(sandbox, () => {
        setSysctl('net/ipv4/conf/all/route_localnet', '1');
        const nft = openNft();
        try {
          const table = containerTable();
          if (led.get(sandbox) === id && fingerprint(nft, table) !== undefined) return;
          nft.run(createCommands(table));
          pass.writes++;
        } finally {
          nft.close();
        }
      });
      led.set(sandbox, id);
    } catch (error) {
      // The container may end at any moment; a lasting fault shows on the next pass too.
      if (namespaceId(sandbox) === id)
        pass.failed.push({ endpoint: port.endpoint, message: `names in the container: ${message(error)}` });
    }
  }

  function apply(state: HostState, { verify }: { verify: boolean }): ApplyReport {
    const pass: Pass = {
      verify: verify || first,
      writes: 0,
      repaired: [],
      lost: [],
      failed: [],
      created: [],
    };
    const exits = new Map(state.exits.map((e) => [e.namespace, e]));
    for (const router of state.routers) {
      const exit = exits.get(router.namespace);
      try {
        const open = openRouter(router.namespace, pass);
        // Rules first: a device that appears is never without its guard.
        const rules = establishTable(open.nft, routerTable(router, exit), open, router.namespace, pass);
        open.table = rules.table;
        open.fingerprint = rules.fingerprint;
        const links = establishLinks(open, router, exit, pass);
        establishEntries(open, router, exit, links, pass);
      } catch (error) {
        const text = `${router.namespace}: ${message(error)}`;
        pass.failed.push({ message: text });
        for (const port of router.ports) pass.failed.push({ endpoint: port.endpoint, message: text });
      }
      for (const port of router.ports) establishSandbox(port, pass);
    }
    const wanted = new Set(state.routers.map((r) => r.namespace));
    for (const name of new Set([...routers.keys(), ...(verify || first ? listNamespaces() : [])]))
      if (ROUTER_NAME.test(name) && !wanted.has(name)) {
        const open = routers.get(name);
        if (open !== undefined) {
          deleteLinks(open.netlink);
          closeRouter(open);
        } else
          inNamespace(namespacePath(name), () => {
            const netlink = openNetlink();
            deleteLinks(netlink);
            netlink.close();
          });
        deleteNamespace(name);
        pass.writes++;
      }
    try {
      establishExits(state, pass);
    } catch (error) {
      pass.failed.push({ message: `host: ${message(error)}` });
    }
    for (const sandbox of led.keys())
      if (!state.routers.some((r) => r.ports.some((p) => p.sandbox === sandbox))) led.delete(sandbox);
    first = false;
    return pass;
  }

  return {
    apply,
    openNameserver(namespace) {
      return inNamespace(namespacePath(namespace), () => {
        const open = (protocol: 'tcp' | 'udp', address: string): number =>
          bindPort(protocol, address, 53, { shared: true, nonblocking: true });
        return {
          udp4: open('udp', NAMESERVER),
          udp6: open('udp', NAMESERVER6),
          tcp4: open('tcp', NAMESERVER),
          tcp6: open('tcp', NAMESERVER6),
        };
      });
    },
    originalDestination(namespace, protocol, client) {
      const router = routers.get(namespace);
      if (router === undefined) return undefined;
      const found = findByReply(router.conntrack, {
        source: isV6(client.address) ? NAMESERVER6 : NAMESERVER,
        destination: client.address,
        protocol: protocol === 'udp' ? 17 : 6,
        sourcePort: 53,
        destinationPort: client.port,
      });
      return found && { address: found.original.destination, port: found.original.destinationPort };
    },
  };
}

/** An element of nft's JSON as the text of a command, without what nft writes in more than one way. */
function elementText(element: unknown): string {
  if (Array.isArray(element)) return element.map(elementText).join(' : ');
  if (typeof element !== 'object' || element === null) return String(element);
  const { concat, prefix, elem } = element as {
    concat?: unknown[];
    prefix?: { addr: string; len: number };
    elem?: { val: unknown };
  };
  if (concat !== undefined) return concat.map(elementText).join(' . ');
  if (prefix !== undefined) return `${prefix.addr}/${prefix.len}`;
  return elem === undefined ? JSON.stringify(element) : elementText(elem.val);
}

const PROTOCOL_NUMBERS: Readonly<Record<string, string>> = { tcp: '6', udp: '17', sctp: '132' };

/** Our own element text as elementText writes the kernel's. */
function normalElement(element: string): string {
  return element
    .replaceAll('"', '')
    .replace(/\b(tcp|udp|sctp)\b/g, (name) => PROTOCOL_NUMBERS[name] ?? name)
    .replace(/\/(32|128)$/, '');
}
