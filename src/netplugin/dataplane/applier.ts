/**
 * Makes the kernel equal to a HostState, in steps that each leave what runs running:
 *
 *   the host's table -> WireGuard's devices -> routers (namespaces, sysctls) -> rule sets -> links -> addresses, routes, neighbours, FDB
 *   -> what is no longer wanted goes, in the opposite order
 *
 * A pass writes the difference between the parts of this state and of the one before (state.ts): what it costs does not
 * grow with what is there. When verifying, and where links came or went unasked, the kernel is read and compared as a
 * whole, one dump of each kind, some microseconds an entry; a verification leaves that out, but for each WHOLE-th, where
 * the kernel has told of no change but our own.
 *
 * The kernel's cost: one veth, two to four routes and neighbours and a few set elements a local endpoint, one route
 * and two set elements a remote endpoint, one neighbour and one FDB entry a remote host and network.
 */
import os from 'node:os';
import { forgetConnections } from '../../linux/conntrack.ts';
import { SyscallError } from '../../linux/libc.ts';
import {
  type Listener,
  NETLINK_NETFILTER,
  type Netlink,
  openListener,
  openNetlink,
} from '../../linux/netlink.ts';
import {
  closeNamespace,
  createNamespace,
  deleteNamespace,
  inNamespace,
  listNamespaces,
  nameNamespace,
  namespaceId,
  namespacePath,
  openNamespace,
  setSysctl,
} from '../../linux/netns.ts';
import { openPacketLog, type PacketLog } from '../../linux/nflog.ts';
import { type Nft, openNft } from '../../linux/nftables.ts';
import * as route from '../../linux/route.ts';
import { DENIED_LOG, DEVICE_PREFIXES } from '../constants.ts';
import type { Exit, HostState, Port, Router } from '../state.ts';
import { type Change, establish, type Tracker, track } from './difference.ts';
import { closeEncryption, establishEncryption, openEncryption, type SecretOf } from './encryption.ts';
import { ENTRIES, type Entry, isAddress, listEntries, routerEntries, writeEntries } from './entries.ts';
import { establishExits, establishHostTable, openExits } from './exits.ts';
import { establishFastPath, FAST_PATH_SETTINGS, type FastPath, removeFastPath } from './fastpath/fastpath.ts';
import { closeProgram } from './fastpath/program.ts';
import { endedBy } from './forget.ts';
import { missingInside } from './inside.ts';
import { deleteAllLinks, establishLinks, type OpenLinks, openLinks } from './links.ts';
import {
  HOST,
  isDenied,
  judgedPacket,
  type KernelDecision,
  lookUp,
  type Observation,
  type Question,
  readDropped,
  readHits,
  readRefused,
} from './observe/observe.ts';
import { type DroppedWay, openProber } from './observe/probe.ts';
import {
  type ApplyReport,
  combine,
  type Failure,
  failureOf,
  isComplete,
  located,
  type Outcome,
} from './outcome.ts';
import { sameParts } from './parts.ts';
import { hasExternalGateways } from './rules/externalGateways.ts';
import type { Way } from './rules/feature.ts';
import { FOREIGN } from './rules/limits.ts';
import { routerTable } from './rules/router.ts';
import { openSandboxes } from './sandboxes.ts';
import { CONNTRACK, conntrackTable, establishSettings, ROUTER } from './settings.ts';
import { establishLimits, isIdle, type OpenLimits } from './shape.ts';
import { tellSwitches } from './switches.ts';
import { changedChains, establishTable, type OpenTable, openTable } from './tables.ts';
import { closeVlans, establishVlans, openVlans } from './vlan/vlans.ts';

/** Verifications after which everything is read, whatever was heard: a minute's. */
const WHOLE = 15;
const { ENOMEM, EMFILE, ENFILE, EAGAIN } = os.constants.errno;
const ROUTER_NAME = /^contiv-/;

/** An open router: sockets that stay in its namespace, and what was established there. */
interface OpenRouter {
  readonly name: string;
  readonly id: number;
  readonly netlink: Netlink;
  readonly netfilter: Netlink;
  readonly listener: Listener;
  /** Verifications since everything was read. */
  unread: number;
  readonly nft: Nft;
  readonly fd: number;
  readonly table: OpenTable;
  readonly links: OpenLinks;
  readonly entries: Tracker<Entry>;
  /** Addresses of endpoints that have gone, whose connections are still to be ended. */
  readonly left: Set<string>;
  limits?: OpenLimits;
  /** The same until one comes, goes or moves. */
  ways: readonly Way[];
  /** Something was written since the fast path began anew with all flows. */
  changed: boolean;
  fastPath?: FastPath;
  /** Where packets that were dropped are read; while nobody else has taken it. */
  log?: PacketLog;
  established?: Established;
}

interface Established {
  readonly router: Router;
  readonly exit: Exit | undefined;
  readonly links: readonly route.Link[];
  /** False where an entry could not be written, since its device was missing or the kernel refused it: the next pass reads all. */
  readonly complete: boolean;
}

/** Tenants' routers that are there. */
export const listRouters = (): string[] => listNamespaces().filter((name) => ROUTER_NAME.test(name));

/** In the current namespace, a router's: containers go by it. */
export function hasPorts(): boolean {
  const netlink = openNetlink();
  try {
    return route.listLinks(netlink).some(({ name }) => name.startsWith(DEVICE_PREFIXES.port));
  } finally {
    netlink.close();
  }
}

/** Of a router that is not open, such as an earlier agent's. */
export function removeClosedRouter(name: string): void {
  inNamespace(namespacePath(name), () => {
    const netlink = openNetlink();
    try {
      deleteAllLinks(netlink);
    } finally {
      netlink.close();
    }
  });
  deleteNamespace(name);
}

export interface Applier {
  apply(state: HostState, options: { verify: boolean }): ApplyReport;
  /** See Dataplane. */
  probe(): readonly DroppedWay[] | undefined;
  /** What policy did since the last call, of each router that has rule sets: two requests and a read each. */
  observe(): Observation[];
  /** What the kernel's sets come to, and which chains are not as they were set up; undefined: no such router. */
  lookUp(
    namespace: string,
    question: Question,
  ): (KernelDecision & { readonly changed: readonly string[] }) | undefined;
  /** See Dataplane. */
  gateways(): Gateway[];
  /** See Dataplane. */
  fastPath(): boolean | undefined;
  /** See Dataplane. */
  encrypting(): readonly string[];
  /** See Dataplane. */
  missing(endpoint: string): string[];
  /** Leaves the kernel as it is. */
  close(): void;
}

/** Packets of one router that one observation takes; what is more stays for the next. */
const DENIED_AT_ONCE = 500;

/** Of the thread's current namespace, which is the host's. */
export function openApplier(secretOf: SecretOf = () => undefined): Applier {
  const hostLink = openNetlink();
  const hostNamespace = openNamespace('/proc/thread-self/ns/net');
  const exits = openExits(hostLink, openNft());
  const prober = openProber(exits);
  const encryption = openEncryption(hostLink, secretOf);
  const routers = new Map<string, OpenRouter>();
  const sandboxes = openSandboxes();
  const vlans = openVlans(hostLink);
  let first = true;
  /** Places in a table of conntrack: of all namespaces alike. */
  let connections: number | undefined;
  let fastPaths: 'untried' | 'some' | 'none' = 'untried';

  /** Yields what came of it, and answers the router. */
  function* openRouter(name: string): Generator<Outcome, OpenRouter> {
    const file = namespacePath(name);
    const open = routers.get(name);
    const id = namespaceId(file);
    if (open !== undefined) {
      if (open.id === id) return open;
      // Our sockets hold the namespace itself, and with it all that runs there.
      deleteNamespace(name);
      nameNamespace(name, `/proc/self/fd/${open.fd}`);
      yield { writes: 1, repaired: [`namespace ${name}: its name was gone`] };
      return open;
    }
    if (id === undefined) {
      deleteNamespace(name); // a file without a mount, left by a kill in between
      createNamespace(name);
      yield { writes: 1, created: [name] };
    }
    const opened = inNamespace(file, (): OpenRouter => {
      establishSettings(ROUTER, false);
      const listener = openListener();
      const netlink = openNetlink();
      const loopback = route.listLinks(netlink).find((l) => l.name === 'lo');
      netlink.request(route.setLink(loopback?.index ?? 1, { up: true }));
      const netfilter = openNetlink(NETLINK_NETFILTER);
      const nft = openNft();
      return {
        name,
        id: namespaceId(file) ?? 0,
        netlink,
        netfilter,
        listener,
        unread: 0,
        nft,
        fd: openNamespace(file),
        table: openTable(nft, netfilter),
        links: openLinks(),
        entries: track(ENTRIES),
        left: new Set(),
        ways: [],
        changed: false,
      };
    });
    routers.set(name, opened);
    return opened;
  }

  function closeRouter(router: OpenRouter): void {
    router.netlink.close();
    router.netfilter.close();
    router.listener.close();
    router.nft.close();
    router.log?.close();
    if (router.fastPath !== undefined) closeProgram(router.fastPath);
    closeNamespace(router.fd);
    routers.delete(router.name);
  }

  function openLog(open: OpenRouter): void {
    try {
      open.log ??= inNamespace(`/proc/self/fd/${open.fd}`, () => openPacketLog(DENIED_LOG));
    } catch {
      // An earlier agent that is about to end has it still, or somebody else's daemon: tried again each time.
    }
  }

  /** Yields what came of each step. Where one throws, the next call does again what was not done after it. */
  function* establishRouter(router: Router, exit: Exit | undefined, verify: boolean): Generator<Outcome> {
    // Frames are judged before there is a tunnel that takes them.
    if (router.tunnels.some(({ vni }) => exits.written?.vnis.includes(vni) !== true))
      throw new Error('its tunnels are not guarded: the table of the host could not be made');
    const where = router.namespace;
    const open = yield* openRouter(where);
    let complete = true;
    const noted = (outcome: Outcome): Outcome => {
      open.changed ||= (outcome.writes ?? 0) > 0;
      complete &&= isComplete(outcome);
      return outcome;
    };
    openLog(open);
    // Rules first: a device that appears is never without its rules.
    const table = establishTable(
      open.table,
      routerTable(router, exit, connections, waysOf(open, router)),
      verify,
    );
    yield noted(located(where, table));
    const before = open.established;
    if (before === undefined || verify) {
      const set = inNamespace(`/proc/self/fd/${open.fd}`, () =>
        establishSettings({ ...ROUTER, ...CONNTRACK }, before !== undefined),
      );
      yield noted(located(where, set));
    }
    let links = before?.links ?? [];
    let read = before === undefined || !before.complete || (verify && mustRead(open));
    if (verify || read || before === undefined || linksDiffer(before, router, exit)) {
      const { netlink, fd: namespace } = open;
      const options = { router, exit, netlink, namespace, hostNetlink: hostLink, hostNamespace, read };
      const established = establishLinks(open.links, options);
      yield noted(established.outcome);
      links = established.links;
      // A device that was made anew has lost its entries; of one that was changed the fast path knows what is no longer so.
      const earlier = new Map(before?.links.map((l) => [l.name, l]));
      read ||= links.some((l) => differs(l, earlier.get(l.name)));
    }
    // With a tunnel's MAC address its neighbours go, and with a tunnel everything (net/core/neighbour.c, neigh_changeaddr).
    const segments = (r: Router) => [...r.tunnels, ...(r.vlans ?? []), ...(r.direct ? [r.direct] : [])];
    const known = new Set(before === undefined ? [] : segments(before.router));
    const own = segments(router).filter((t) => !known.has(t));
    const cleared = new Set(own.map((t) => t.device));
    const list = () => listEntries(open.netlink, links);
    const entries = {
      wanted: routerEntries(router, exit),
      excused: ({ device }: Entry) => cleared.has(device),
      write: (change: Change<Entry>) => writeEntries(open.netlink, links, change),
    };
    const { outcome, change, deferred } = establish(open.entries, {
      ...entries,
      list: read ? list : undefined,
    });
    for (const { endpoint } of change.gone) if (endpoint !== '') open.left.add(endpoint);
    yield noted({ ...located(where, outcome), reads: read ? 1 : 0 });
    // With the last of its IPv4 addresses, which a VLAN has one of, go a device's routes (net/ipv4/fib_frontend.c, fib_disable_ip).
    const emptied = new Set(change.removals.filter(isAddress).map(({ device }) => device));
    if (router.vlans?.some(({ device }) => emptied.has(device))) {
      for (const device of emptied) cleared.add(device);
      const again = establish(open.entries, { ...entries, list });
      yield noted({ ...located(where, again.outcome), reads: 1 });
    }
    const ended = endedBy(open.left, before?.router, router);
    if (ended !== undefined) yield noted({ writes: forgetConnections(open.netfilter, ended) });
    open.left.clear();
    if (read || before === undefined || !sameParts(before.router.ports, router.ports))
      yield noted(located(where, limitBandwidth(open, router, links)));
    if (fastPaths !== 'none') yield speedUp(open, router, links, read);
    // An agent before this one may have had one, whose map nobody keeps up to date any more.
    else if (before === undefined) removeFastPath(open.netlink, undefined);
    if (router.direct !== undefined && (read || before?.router.direct !== router.direct))
      tellSwitches(open.fd, router.direct, links);
    open.established = { router, exit, links, complete: complete && !deferred };
  }

  /** Without it all goes on, slower, so what fails here makes no pass incomplete. Where the kernel cannot do it, that is said once. */
  function speedUp(open: OpenRouter, router: Router, links: readonly route.Link[], read: boolean): Outcome {
    let writes = 0;
    try {
      // They are there with conntrack, which a module of the kernel's may bring with the first rule that needs it.
      if (open.fastPath === undefined || read)
        inNamespace(`/proc/self/fd/${open.fd}`, () => {
          for (const [key, value] of Object.entries(FAST_PATH_SETTINGS)) if (setSysctl(key, value)) writes++;
        });
      const how = { read, changed: open.changed };
      const { fastPath, outcome } = establishFastPath(open.netlink, router, links, open.fastPath, how);
      open.fastPath = fastPath;
      open.changed = false;
      fastPaths = 'some';
      return { ...combine([{ writes }, outcome]), complete: true };
    } catch (error) {
      if (fastPaths === 'untried' && !isShortage(error)) fastPaths = 'none';
      const known = open.fastPath;
      delete open.fastPath;
      removeFastPath(open.netlink, known);
      const { code, message } = failureOf(error);
      const said = `${open.name}: no fast path for established connections: ${message}`;
      return { writes, failed: [{ code, message: said }], complete: true };
    }
  }

  function limitBandwidth(open: OpenRouter, router: Router, links: readonly route.Link[]): Outcome {
    const limits = router.ports.flatMap(({ device, limit }) =>
      limit === undefined ? [] : [{ device, ...limit }],
    );
    if (limits.length === 0 && open.limits !== undefined && isIdle(open.limits)) return {};
    const { established, ...outcome } = establishLimits(open.netlink, limits, links, open.limits);
    open.limits = established;
    return outcome;
  }

  function removeRouter(name: string): Outcome {
    const open = routers.get(name);
    if (open === undefined) removeClosedRouter(name);
    else {
      deleteAllLinks(open.netlink);
      closeRouter(open);
      deleteNamespace(name);
    }
    return { writes: 1 };
  }

  function apply(state: HostState, options: { readonly verify: boolean }): ApplyReport {
    const verify = options.verify || first;
    if (verify || connections === undefined) connections = conntrackTable();
    const outcomes: Outcome[] = [];
    const onHost = (step: typeof establishExits, ports?: readonly Port[]): void => {
      const run = function* (verify: boolean): Generator<Outcome> {
        yield located('host', step(exits, state, { connections, verify }));
      };
      outcomes.push(attempt('host', run, verify, ports));
    };
    onHost(establishHostTable);
    outcomes.push(
      attempt(
        'encryption',
        function* (verify) {
          yield located('encryption', establishEncryption(encryption, state, verify));
        },
        verify,
      ),
    );
    const exitOf = new Map(state.exits.map((e) => [e.namespace, e]));
    const all = state.routers.flatMap((r) => r.ports);
    sandboxes.retain(all);
    for (const router of state.routers) {
      const { namespace, ports } = router;
      const exit = exitOf.get(namespace);
      outcomes.push(attempt(namespace, (verify) => establishRouter(router, exit, verify), verify, ports));
      const links = new Map(routers.get(namespace)?.established?.links.map((l) => [l.name, l]));
      for (const port of ports) outcomes.push(sandboxes.establish(port, links.get(port.device), verify));
    }
    const wanted = new Set(state.routers.map((r) => r.namespace));
    for (const name of new Set([...routers.keys(), ...(verify ? listRouters() : [])]))
      if (!wanted.has(name))
        outcomes.push(
          attempt(
            name,
            function* () {
              yield removeRouter(name);
            },
            verify,
          ),
        );
    onHost(establishExits, all);
    outcomes.push(
      attempt(
        'VLANs',
        function* (verify) {
          yield establishVlans(vlans, state, verify);
        },
        verify,
      ),
    );
    outcomes.push({ awaited: sandboxes.awaited });
    first = false;
    return combine(outcomes);
  }

  return {
    apply,
    probe: () => prober.probe(),
    fastPath: () =>
      routers.size === 0 ? undefined : [...routers.values()].every((open) => open.fastPath !== undefined),
    observe() {
      const outside = readRefused(exits.table.netlink);
      const dropped = readDropped(exits.table.netlink);
      const table = String(exits.table.made);
      const host = {
        namespace: HOST,
        table,
        hits: [],
        denied: [],
        allowed: [],
        refused: [],
        dropped,
        foreign: [],
      };
      const inside = [...routers.values()].flatMap((open): Observation[] => {
        const { established } = open;
        if (established === undefined) return [];
        openLog(open);
        const logged = open.log?.read(DENIED_AT_ONCE) ?? [];
        const judged = logged.filter(({ prefix }) => prefix !== FOREIGN);
        const nameOf = (index: number) => established.links.find((l) => l.index === index)?.name ?? '';
        const observation: Observation = {
          namespace: open.name,
          table: `${open.id}.${open.table.made}`,
          hits: established.router.ruleSets.length > 0 ? readHits(open.netfilter) : [],
          denied: judged.filter(isDenied).map(judgedPacket),
          allowed: judged.filter((packet) => !isDenied(packet)).map(judgedPacket),
          refused: [
            ...readRefused(open.netfilter),
            ...outside.filter(({ device }) => device === established.exit?.device),
          ],
          dropped: readDropped(open.netfilter),
          foreign: logged
            .filter(({ prefix }) => prefix === FOREIGN)
            .map(({ device, from, mac }) => ({ device: nameOf(device), address: from, mac })),
        };
        const silent =
          established.router.ruleSets.length === 0 &&
          logged.length + observation.refused.length + observation.dropped.length === 0;
        return silent ? [] : [observation];
      });
      return dropped.length === 0 ? inside : [...inside, host];
    },
    lookUp(namespace, question) {
      const open = routers.get(namespace);
      if (open === undefined) return undefined;
      const changed = changedChains(open.table, [
        ...['judge', 'confirm'].map((name) => `${name}_${question.direction}`),
        ...['decide', 'decided', 'decide_again'],
      ]);
      return { ...lookUp(open.netfilter, question), changed };
    },
    gateways: () =>
      [...routers.values()].flatMap(({ netlink, established }) =>
        established === undefined ? [] : gatewaysOf(netlink, established.router, established.links),
      ),
    missing(endpoint) {
      for (const open of routers.values()) {
        const port = open.established?.router.ports.find((p) => p.endpoint === endpoint);
        if (port?.sandbox === undefined) continue;
        const link = route.listLinks(open.netlink).find((l) => l.name === port.device);
        if (link === undefined || namespaceId(port.sandbox) === undefined) return ['its device'];
        return inNamespace(port.sandbox, () => missingInside(port, link));
      }
      return ['its device'];
    },
    encrypting: () => encryption.acting,
    close() {
      for (const open of [...routers.values()]) closeRouter(open);
      closeVlans(vlans);
      closeEncryption(encryption);
      exits.table.nft.close();
      exits.table.netlink.close();
      hostLink.close();
      closeNamespace(hostNamespace);
    },
  };
}

/** A router of the fabric's own that is the gateway of a VLAN network here. */
export interface Gateway {
  readonly tenant: string;
  /** Id of the VLAN, its device in the tenant's router, and the network's number. */
  readonly vlan: number;
  readonly device: string;
  readonly network: number;
  readonly address: string;
  /** At which it answers; '' where it does not. */
  readonly mac: string;
}

/** Has the kernel ask for those for which it does not. */
function gatewaysOf(
  netlink: Netlink,
  { tenant, vlans = [] }: Router,
  links: readonly route.Link[],
): Gateway[] {
  return vlans.flatMap(({ id: vlan, device, network, gateways = [] }) => {
    const index = links.find((l) => l.name === device)?.index;
    return gateways.map((address): Gateway => {
      const mac = index === undefined ? '' : route.soughtAt(netlink, index, address);
      // With the device's carrier it is forgotten, as before the host's end is up.
      if (mac === undefined && index !== undefined) netlink.batch([route.seek(index, address)]);
      return { tenant, vlan, device, network, address, mac: mac ?? '' };
    });
  });
}

/** Also of a router that an earlier agent has left: what comes by its gateways goes on. */
function waysOf(open: OpenRouter, router: Router): readonly Way[] {
  if (!hasExternalGateways(router)) return open.ways;
  const links = open.established?.links ?? route.listLinks(open.netlink);
  const text = (ways: readonly Way[]): string => ways.map(({ device, mac }) => `${device} ${mac}`).join();
  const now = gatewaysOf(open.netlink, router, links).filter(({ mac }) => mac !== '');
  // One router may be the gateway of both versions of IP.
  const once = [...new Map(now.map((g) => [`${g.device} ${g.mac}`, g])).values()];
  if (text(once) !== text(open.ways)) open.ways = once;
  return open.ways;
}

/** Of memory or files: it may be over with the next pass. */
const isShortage = (error: unknown): boolean =>
  error instanceof SyscallError && [ENOMEM, EMFILE, ENFILE, EAGAIN].includes(error.errno);

/**
 * What fails is done once more with the kernel read first: somebody may have changed it. What fails then is answered, also for
 * each of the `ports` that need it; the rest of the pass goes on. What came of the steps before the failure counts.
 */
function attempt(
  where: string,
  steps: (verify: boolean) => Iterable<Outcome>,
  verify: boolean,
  ports: readonly Port[] = [],
): Outcome {
  const outcomes: Outcome[] = [];
  try {
    for (const outcome of steps(verify)) outcomes.push(outcome);
  } catch (error) {
    if (!verify) return combine([...outcomes, attempt(where, steps, true, ports)]);
    const { code, message } = failureOf(error);
    const failure: Failure = { code, message: `${where}: ${message}` };
    const failed = [failure, ...ports.map(({ endpoint }) => ({ endpoint, ...failure }))];
    outcomes.push({ failed });
  }
  return combine(outcomes);
}

/** Whether a verification has anything to find. */
function mustRead(open: OpenRouter): boolean {
  const heard = open.listener.heard(open.netlink.port);
  open.unread = heard || open.unread + 1 === WHOLE ? 0 : open.unread + 1;
  return open.unread === 0;
}

const differs = (link: route.Link, before: route.Link | undefined): boolean =>
  before !== undefined && (link.index !== before.index || link.mtu !== before.mtu || link.mac !== before.mac);

/** Whether any link may have to be made, changed or removed. */
const linksDiffer = (before: Established, router: Router, exit: Exit | undefined): boolean =>
  before.exit !== exit ||
  !sameParts(before.router.tunnels, router.tunnels) ||
  !sameParts(before.router.vlans ?? [], router.vlans ?? []) ||
  before.router.direct !== router.direct ||
  !sameParts(before.router.ports, router.ports);
