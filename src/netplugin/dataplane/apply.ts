/**
 * Makes the kernel equal to a HostState, in steps that each leave what runs running:
 *
 *   the host's guard -> routers (namespaces, sysctls) -> rule sets -> links -> addresses, routes, neighbours, forwarding
 *   -> what is no longer wanted goes, in the opposite order
 *
 * A pass writes the difference between the parts of this state and of the one before (state.ts): what it costs does not
 * grow with what is there. When verifying, and where links came or went unasked, the kernel is read and compared as a
 * whole, one dump of each kind, some microseconds an entry; a verification leaves that out, but for each WHOLE-th, where
 * the kernel has told of no change but our own.
 *
 * The kernel's cost: one veth, two to four routes and neighbours and a few set elements a local endpoint, one route
 * and two set elements a remote endpoint, one neighbour and one forwarding entry a remote host and network.
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
  type Request,
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
import { DENIED_LOG } from '../constants.ts';
import type { Exit, HostState, Port, Router } from '../state.ts';
import { type Entry, listEntries, routerEntries } from './entries.ts';
import { establishExits, establishGuard, type OpenExits } from './exits.ts';
import { establishFastPath, FAST_PATH_SETTINGS, type FastPath, removeFastPath } from './fastpath.ts';
import { closeProgram } from './fastprogram.ts';
import { endedBy } from './forget.ts';
import type { ApplyReport, DroppedWay } from './index.ts';
import { FOREIGN } from './limits.ts';
import { deleteLinks, establishLinks } from './links.ts';
import {
  deniedPacket,
  HOST,
  type KernelDecision,
  lookUp,
  type Observation,
  type Question,
  readDropped,
  readHits,
  readRefused,
} from './observe.ts';
import { changedParts, sameParts } from './parts.ts';
import { message, type Pass, send } from './pass.ts';
import { openProber } from './probe.ts';
import { routerTable } from './ruleset.ts';
import { openSandboxes } from './sandboxes.ts';
import { CONNTRACK, conntrackTable, establishSettings, ROUTER } from './settings.ts';
import { establishLimits } from './shape.ts';
import { changedChains, establishTable, type OpenTable } from './tables.ts';

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
  fastPath?: FastPath;
  /** Where packets that were dropped are read; while nobody else has taken it. */
  log?: PacketLog;
  established?: Established;
}

interface Established {
  readonly router: Router;
  readonly exit: Exit | undefined;
  readonly links: readonly route.Link[];
  /** By part of the state. */
  readonly entries: ReadonlyMap<object, readonly Entry[]>;
  /** Bandwidth limits, as shape.ts knows them. */
  readonly limits: ReadonlySet<string>;
  /** False where an entry could not be written since its device was missing. */
  readonly complete: boolean;
}

/** Tenants' routers that are there. */
export const listRouters = (): string[] => listNamespaces().filter((name) => ROUTER_NAME.test(name));

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
  /** Leaves the kernel as it is. */
  close(): void;
}

/** Packets of one router that one observation takes; what is more stays for the next. */
const DENIED_AT_ONCE = 500;

/** Of the thread's current namespace, which is the host's. */
export function openApplier(): Applier {
  const hostLink = openNetlink();
  const hostNamespace = openNamespace('/proc/thread-self/ns/net');
  const exits: OpenExits = {
    netlink: hostLink,
    table: { nft: openNft(), netlink: openNetlink(NETLINK_NETFILTER) },
  };
  const prober = openProber(exits);
  const routers = new Map<string, OpenRouter>();
  const sandboxes = openSandboxes();
  let first = true;
  /** Places in a table of conntrack: of all namespaces alike. */
  let connections: number | undefined;
  let fastPaths: 'untried' | 'some' | 'none' = 'untried';

  function openRouter(name: string, pass: Pass): OpenRouter {
    const file = namespacePath(name);
    const open = routers.get(name);
    const id = namespaceId(file);
    if (open !== undefined) {
      if (open.id !== id) {
        // Our sockets hold the namespace itself, and with it all that runs there.
        deleteNamespace(name);
        nameNamespace(name, `/proc/self/fd/${open.fd}`);
        pass.repaired.push(`namespace ${name}: its name was gone`);
        pass.writes++;
      }
      return open;
    }
    if (id === undefined) {
      deleteNamespace(name); // a file without a mount, left by a kill in between
      createNamespace(name);
      pass.created.push(name);
      pass.writes++;
    }
    const opened = inNamespace(file, (): OpenRouter => {
      establishSettings(ROUTER, name, false, pass);
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
        table: { nft, netlink: netfilter },
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

  function establishRouter(router: Router, exit: Exit | undefined, pass: Pass): void {
    // Frames are judged before there is a tunnel that takes them.
    if (router.tunnels.some(({ vni }) => exits.guarded?.vnis.includes(vni) !== true))
      throw new Error('its tunnels are not guarded: the table of the host could not be made');
    const writes = pass.writes;
    const open = openRouter(router.namespace, pass);
    openLog(open);
    // Rules first: a device that appears is never without its guard.
    establishTable(open.table, routerTable(router, exit, connections), router.namespace, pass);
    const before = open.established;
    if (before === undefined || pass.verify)
      inNamespace(`/proc/self/fd/${open.fd}`, () => {
        establishSettings({ ...ROUTER, ...CONNTRACK }, router.namespace, before !== undefined, pass);
      });
    let links = before?.links ?? [];
    let read = before === undefined || !before.complete || (pass.verify && mustRead(open));
    if (pass.verify || read || before === undefined || linksDiffer(before, router, exit)) {
      links = establishLinks(
        {
          router,
          exit,
          netlink: open.netlink,
          namespace: open.fd,
          hostNetlink: hostLink,
          hostNamespace,
          before: before && new Set(before.links.map((l) => l.name)),
          former: before?.router,
          read,
        },
        pass,
      );
      // A device that was made anew has lost its entries; of one that was changed the fast path knows what is no longer so.
      const earlier = new Map(before?.links.map((l) => [l.name, l]));
      read ||= links.some((l) => differs(l, earlier.get(l.name)));
    }
    const entries = routerEntries(router, exit);
    // With a tunnel's MAC address its neighbours go, and with a tunnel everything (net/core/neighbour.c, neigh_changeaddr).
    const own = router.tunnels.filter((t) => before?.router.tunnels.includes(t) !== true);
    const cleared = new Set(own.map((t) => t.device));
    const { complete, gone } = establishEntries(open, entries, { links, cleared }, read, pass);
    const ended = endedBy(gone, before?.router.services, router.services);
    if (ended !== undefined) pass.writes += forgetConnections(open.netfilter, ended);
    const limits =
      read || before === undefined || !sameParts(before.router.ports, router.ports)
        ? limitBandwidth(open, router, links, before?.limits, pass)
        : before.limits;
    if (fastPaths !== 'none') speedUp(open, router, links, { read, changed: pass.writes !== writes }, pass);
    // An agent before this one may have had one, whose map nobody keeps up to date any more.
    else if (before === undefined) removeFastPath(open.netlink, undefined);
    open.established = { router, exit, links, entries, limits, complete };
  }

  /** Without it all goes on, slower. Where the kernel cannot do it, that is said once. */
  function speedUp(
    open: OpenRouter,
    router: Router,
    links: readonly route.Link[],
    how: { readonly read: boolean; readonly changed: boolean },
    pass: Pass,
  ): void {
    try {
      // They are there with conntrack, which a module of the kernel's may bring with the first rule that needs it.
      if (open.fastPath === undefined || how.read)
        inNamespace(`/proc/self/fd/${open.fd}`, () => {
          for (const [key, value] of Object.entries(FAST_PATH_SETTINGS))
            if (setSysctl(key, value)) pass.writes++;
        });
      open.fastPath = establishFastPath(open.netlink, router, links, open.fastPath, how, pass);
      fastPaths = 'some';
    } catch (error) {
      if (fastPaths === 'untried' && !isShortage(error)) fastPaths = 'none';
      const known = open.fastPath;
      delete open.fastPath;
      pass.failed.push({
        message: `${open.name}: no fast path for established connections: ${message(error)}`,
      });
      removeFastPath(open.netlink, known);
    }
  }

  /** Answers what is established. */
  function limitBandwidth(
    open: OpenRouter,
    router: Router,
    links: readonly route.Link[],
    before: ReadonlySet<string> | undefined,
    pass: Pass,
  ): ReadonlySet<string> {
    const limits = router.ports.flatMap(({ device, limit }) =>
      limit === undefined ? [] : [{ device, ...limit }],
    );
    if (limits.length === 0 && before?.size === 0) return before;
    const report = establishLimits(open.netlink, limits, links, before);
    pass.writes += report.writes;
    for (const line of report.repaired) pass.repaired.push(`${open.name}: ${line}`);
    for (const line of report.failed) pass.failed.push({ message: `${open.name}: ${line}` });
    return report.established;
  }

  function removeRouter(name: string, pass: Pass): void {
    const open = routers.get(name);
    if (open !== undefined) {
      deleteLinks(open.netlink);
      closeRouter(open);
    } else
      inNamespace(namespacePath(name), () => {
        const netlink = openNetlink();
        try {
          deleteLinks(netlink);
        } finally {
          netlink.close();
        }
      });
    deleteNamespace(name);
    pass.writes++;
  }

  function apply(state: HostState, { verify }: { verify: boolean }): ApplyReport {
    const pass: Pass = {
      verify: verify || first,
      complete: true,
      writes: 0,
      reads: 0,
      repaired: [],
      lost: [],
      failed: [],
      created: [],
      awaited: false,
    };
    if (pass.verify || connections === undefined) connections = conntrackTable();
    attempt('host', () => establishGuard(exits, state, connections, pass), pass);
    const exitOf = new Map(state.exits.map((e) => [e.namespace, e]));
    for (const router of state.routers) {
      const { namespace, ports } = router;
      attempt(namespace, () => establishRouter(router, exitOf.get(namespace), pass), pass, ports);
      const links = new Map(routers.get(namespace)?.established?.links.map((l) => [l.name, l]));
      for (const port of ports) sandboxes.establish(port, links.get(port.device), pass);
    }
    const wanted = new Set(state.routers.map((r) => r.namespace));
    for (const name of new Set([...routers.keys(), ...(pass.verify ? listRouters() : [])]))
      if (!wanted.has(name)) attempt(name, () => removeRouter(name, pass), pass);
    const all = state.routers.flatMap((r) => r.ports);
    attempt('host', () => establishExits(exits, state, connections, pass), pass, all);
    pass.awaited = sandboxes.retain(all);
    first = false;
    return pass;
  }

  return {
    apply,
    probe: () => prober.probe(),
    observe() {
      const outside = readRefused(exits.table.netlink);
      const dropped = readDropped(exits.table.netlink);
      const table = String(exits.table.made);
      const host = { namespace: HOST, table, hits: [], denied: [], refused: [], dropped, foreign: [] };
      const inside = [...routers.values()].flatMap((open): Observation[] => {
        const { established } = open;
        if (established === undefined) return [];
        openLog(open);
        const logged = open.log?.read(DENIED_AT_ONCE) ?? [];
        const nameOf = (index: number) => established.links.find((l) => l.index === index)?.name ?? '';
        const observation: Observation = {
          namespace: open.name,
          table: `${open.id}.${open.table.made}`,
          hits: established.router.ruleSets.length > 0 ? readHits(open.netfilter) : [],
          denied: logged.filter(({ prefix }) => prefix !== FOREIGN).map(deniedPacket),
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
    close() {
      for (const open of [...routers.values()]) closeRouter(open);
      exits.table.nft.close();
      exits.table.netlink.close();
      hostLink.close();
      closeNamespace(hostNamespace);
    },
  };
}

/** Of memory or files: it may be over with the next pass. */
const isShortage = (error: unknown): boolean =>
  error instanceof SyscallError && [ENOMEM, EMFILE, ENFILE, EAGAIN].includes(error.errno);

/**
 * What fails is done once more with the kernel read first: somebody may have changed it. What fails then is reported, also for
 * each of the `ports` that need it; the rest of the pass goes on.
 */
function attempt(where: string, step: () => void, pass: Pass, ports: readonly Port[] = []): void {
  try {
    step();
  } catch (error) {
    if (!pass.verify) {
      pass.verify = true;
      attempt(where, step, pass, ports);
      pass.verify = false;
      return;
    }
    const failure = { message: `${where}: ${message(error)}` };
    pass.failed.push(failure, ...ports.map(({ endpoint }) => ({ endpoint, ...failure })));
    pass.complete = false;
  }
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
  !sameParts(before.router.ports, router.ports);

/**
 * Answers whether every entry could be written, and the endpoints' addresses that lead nowhere any more. `cleared`: devices whose
 * entries may have gone by what we did ourselves.
 */
function establishEntries(
  open: OpenRouter,
  wanted: ReadonlyMap<object, readonly Entry[]>,
  { links, cleared }: { readonly links: readonly route.Link[]; readonly cleared: ReadonlySet<string> },
  read: boolean,
  pass: Pass,
): { complete: boolean; gone: ReadonlySet<string> } {
  const indices = new Map(links.map((l) => [l.name, l.index]));
  const before = open.established;
  const { gone, added } = difference(before?.entries ?? new Map(), wanted);
  let removals = [...gone.values()];
  let additions = [...added.values()];
  if (read) {
    pass.reads++;
    // Of several entries of one place the last is meant.
    const byPlace = new Map([...wanted.values()].flat().map((entry) => [entry.place, entry]));
    const present = new Map(listEntries(open.netlink, links).map((entry) => [entry.text, entry]));
    const known = before && new Set([...before.entries.values()].flatMap((list) => list.map((e) => e.text)));
    removals = [...present.values()].filter((entry) => byPlace.get(entry.place)?.text !== entry.text);
    additions = [...byPlace.values()].filter((entry) => !present.has(entry.text));
    if (known !== undefined) {
      for (const { text } of removals)
        if (!known.has(text)) pass.repaired.push(`${open.name}: removed ${text}`);
      for (const { text, device } of additions)
        if (known.has(text) && !cleared.has(device)) pass.repaired.push(`${open.name}: restored ${text}`);
    }
  }
  // What replaces another is added first: removing first would open a gap. Then it must not be removed by its place.
  const replaced = new Set(additions.map((entry) => entry.place));
  const kept = new Set(additions.map((entry) => entry.foundBy));
  const request = (entry: Entry, make: (device: number) => Request): Request[] => {
    const device = entry.device === '' ? 0 : indices.get(entry.device);
    return device === undefined ? [] : [make(device)];
  };
  const adding = additions.flatMap((entry) => request(entry, entry.add));
  const removing = removals
    .filter((entry) => (entry.exact && !kept.has(entry.foundBy)) || !replaced.has(entry.place))
    .flatMap((entry) => request(entry, entry.remove));
  send(open.netlink, adding, pass, open.name);
  // With a device or a route that was replaced its entries are gone already.
  send(open.netlink, removing, pass, open.name, ['ESRCH', 'ENOENT', 'EADDRNOTAVAIL', 'ENODEV']);

  const left = new Set([...added.values()].map((entry) => entry.endpoint));
  const lost = [...gone.values()].map((entry) => entry.endpoint).filter((e) => e !== '' && !left.has(e));
  return { complete: adding.length === additions.length, gone: new Set(lost) };
}

/** By text, from the parts that are not in both. */
function difference(
  before: ReadonlyMap<object, readonly Entry[]>,
  after: ReadonlyMap<object, readonly Entry[]>,
): { gone: Map<string, Entry>; added: Map<string, Entry> } {
  const changed = changedParts(before, after);
  const byText = (lists: readonly (readonly Entry[])[]): Map<string, Entry> =>
    new Map(lists.flat().map((entry) => [entry.text, entry]));
  const gone = byText(changed.gone);
  const added = byText(changed.added);
  for (const text of gone.keys()) if (added.delete(text)) gone.delete(text);
  return { gone, added };
}
