/**
 * Whether another firewall of the host drops what our table lets pass: no chain can undo another's drop. A packet of our own
 * takes the way of a container's first one, as if it had arrived by the tenant's device or from outside, through all chains of
 * everybody; our last chain counts it and lets it go no further. One that does not come so far is sent once more and traced, which
 * names the chain.
 *
 *   out     router's address -> somebody outside, by the tenant's device
 *   in      somebody outside -> a published port, by the device that leads outside
 *   tunnel  another host -> UDP 4789, by the device that leads to it; of what is encrypted WireGuard's
 *   encrypted  another host -> WireGuard's port, by the device that leads to it
 *
 * Somebody outside has an address that is nobody's, so that the way there is that of the default route.
 */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import { inject } from '../../../linux/inject.ts';
import { openTrace } from '../../../linux/nftrace.ts';
import { readGeneration } from '../../../linux/nftset.ts';
import { ethernet, tcpSyn, udp } from '../../../linux/packet.ts';
import * as route from '../../../linux/route.ts';
import { isV6 } from '../../../model/address.ts';
import {
  NFT_TABLE,
  PROBE_PORT,
  PROBE_TAG,
  SOMEBODY,
  SOMEBODY6,
  VXLAN_PORT,
  WIREGUARD,
} from '../../constants.ts';
import type { Exit, HostState } from '../../state.ts';
import type { OpenExits } from '../exits.ts';
import { sameParts } from '../parts.ts';
import { runCommands } from '../tables.ts';

/** Looks that are left out where no rule set has changed: iptables-legacy's are not told of. */
const WHOLE = 15;
const TRACE_TABLE = 'inet contiv_trace';
/** Also where there is none. */
const REMOVE_TRACE = `add table ${TRACE_TABLE}\ndelete table ${TRACE_TABLE}`;
/** What firewalls that let only some things out most often let out. */
const PORT = 443;
const SOURCE_PORT = 40_000;

/** What another firewall of the host drops of what is ours, and where. */
export interface DroppedWay {
  /** What containers send out; what comes in to their published ports; what other hosts send to the tunnels, and to WireGuard. */
  readonly way: 'out' | 'in' | 'tunnel' | 'encrypted';
  readonly family: 'IPv4' | 'IPv6';
  /** `ip filter`. */
  readonly table: string;
  readonly chain: string;
  /** The chain's policy, or one of its rules. */
  readonly by: 'policy' | 'rule';
}

/** As a firewall sees it: where it arrives, from whom to whom. */
interface Probe {
  readonly way: DroppedWay['way'];
  readonly device: route.Link;
  readonly packet: Buffer;
  readonly v6: boolean;
}

export interface Prober {
  /** What is dropped, one of a kind; undefined: nothing has changed since it was looked. */
  probe(): readonly DroppedWay[] | undefined;
}

export function openProber(open: OpenExits): Prober {
  let looked: { readonly generation: number; readonly state: HostState | undefined } | undefined;
  let unlooked = 0;
  return {
    probe() {
      const state = open.established?.state;
      const generation = readGeneration(open.table.netlink);
      unlooked++;
      if (looked?.generation === generation && sameWays(looked.state, state) && unlooked < WHOLE)
        return undefined;
      unlooked = 0;
      if (looked === undefined) runCommands(open.table, REMOVE_TRACE); // of an agent that was killed while it traced
      const dropped = state === undefined ? [] : probes(open, state).flatMap((p) => look(open, p));
      looked = { generation: readGeneration(open.table.netlink), state };
      return dropped;
    },
  };
}

const sameWays = (a: HostState | undefined, b: HostState | undefined): boolean =>
  sameParts(a?.exits ?? [], b?.exits ?? []) &&
  a?.members === b?.members &&
  a?.underlay === b?.underlay &&
  a?.encryption === b?.encryption;

/** Of one tenant and from one host: another firewall does not tell them apart. */
function probes(open: OpenExits, state: HostState): Probe[] {
  const { exits, underlay } = state;
  const exit = exits.find((e) => e.publications.length > 0) ?? exits[0];
  if (exit === undefined) return [];
  const links = route.listLinks(open.netlink);
  return [...tunnelProbes(open, links, state), ...exitProbes(open, links, exit, underlay)];
}

function tunnelProbes(
  open: OpenExits,
  links: readonly route.Link[],
  { underlay, members, encryption }: HostState,
): Probe[] {
  const v6 = isV6(underlay);
  const way = encryption?.ways[0];
  const member = way?.address ?? members[0];
  if (member === undefined) return [];
  const index = route.leadsTo(open.netlink, member);
  const outside = links.find((l) => l.index === index);
  const device = encryption === undefined ? outside : links.find((l) => l.name === way?.device);
  const encrypted = encryption?.devices.flatMap(({ port }): Probe[] =>
    outside === undefined
      ? []
      : [
          {
            way: 'encrypted',
            device: outside,
            packet: udp(member, underlay, PROBE_PORT, port, Buffer.alloc(8)),
            v6,
          },
        ],
  );
  if (device === undefined) return encrypted ?? [];
  const header = Buffer.of(8, 0, 0, 0, PROBE_TAG >> 16, (PROBE_TAG >> 8) & 255, PROBE_TAG & 255, 0); // RFC 7348
  const packet = udp(member, underlay, PROBE_PORT, VXLAN_PORT, header);
  return [{ way: 'tunnel', device, packet, v6 }, ...(encrypted ?? [])];
}

function exitProbes(open: OpenExits, links: readonly route.Link[], exit: Exit, underlay: string): Probe[] {
  const device = links.find((l) => l.name === exit.device);
  return [false, true].flatMap((v6): Probe[] => {
    const somebody = v6 ? SOMEBODY6 : SOMEBODY;
    const router = v6 ? exit.routerAddress6 : exit.routerAddress;
    const outward = links.find((l) => l.index === route.leadsTo(open.netlink, somebody));
    if (device === undefined || router === '' || outward === undefined) return [];
    const out: Probe = { way: 'out', device, packet: tcpSyn(router, somebody, SOURCE_PORT, PORT), v6 };
    const published = publishedBy(exit, v6);
    const address =
      published?.hostAddress || (isV6(underlay) === v6 ? underlay : addressOf(open, outward, v6));
    if (published === undefined || address === undefined) return [out];
    const packet = tcpSyn(somebody, address, SOURCE_PORT, published.hostPort);
    return [out, { way: 'in', device: outward, packet, v6 }];
  });
}

const publishedBy = ({ publications }: Exit, v6: boolean) =>
  publications.find((p) => p.protocol === 'tcp' && isV6(p.address) === v6);

const addressOf = (open: OpenExits, { index }: route.Link, v6: boolean): string | undefined =>
  route
    .listAddresses(open.netlink)
    .find((a) => a.index === index && isV6(a.address) === v6 && !a.address.startsWith('fe80:'))?.address;

function look(open: OpenExits, probe: Probe): DroppedWay[] {
  const { nft } = open.table;
  const arrived = (): number => {
    const [counter] = nft
      .list(`list counter inet ${NFT_TABLE} arrived`)
      .flatMap((item) => (item.counter === undefined ? [] : [item.counter as { packets: number }]));
    return counter?.packets ?? 0;
  };
  const before = arrived();
  injectProbe(probe);
  if (soon(() => arrived() > before || undefined)) return [];
  const kind = { way: probe.way, family: probe.v6 ? 'IPv6' : 'IPv4' } as const;
  const trace = openTrace();
  try {
    const marks = [
      `ip saddr ${SOMEBODY}`,
      `ip daddr ${SOMEBODY}`,
      `ip6 saddr ${SOMEBODY6}`,
      `ip6 daddr ${SOMEBODY6}`,
      ...[VXLAN_PORT, ...WIREGUARD.map(({ port }) => port)].map(
        (port) => `udp sport ${PROBE_PORT} udp dport ${port}`,
      ),
    ].map((match) => `${match} meta nftrace set 1`);
    runCommands(
      open.table,
      `${REMOVE_TRACE}
table ${TRACE_TABLE} { chain mark_all { type filter hook prerouting priority -400; ${marks.join('; ')}; }; }`,
    );
    injectProbe(probe);
    const drop = soon(() => trace.read()[0]);
    if (drop === undefined) return legacy(probe).map((found) => ({ ...kind, ...found }));
    return drop.table === `inet ${NFT_TABLE}` ? [] : [{ ...kind, ...drop }];
  } finally {
    runCommands(open.table, REMOVE_TRACE);
    trace.close();
  }
}

/** As if the device had received it. The MAC address that it comes from means nothing. */
const injectProbe = ({ device, packet }: Probe): void =>
  inject(device.index, [ethernet('02:00:00:00:00:01', device.mac, packet)]);

/** The kernel has worked off what arrived when it was sent, but for times of much load: a few looks. */
function soon<T>(find: () => T | undefined): T | undefined {
  const pause = new Int32Array(new SharedArrayBuffer(4));
  for (let i = 0; ; i++) {
    const found = find();
    if (found !== undefined || i === 5) return found;
    Atomics.wait(pause, 0, 0, 2);
  }
}

/** Rules in the kernel's older interface, which traces nothing: where there are any, and drops among them. */
function legacy({ v6, way }: Probe): Pick<DroppedWay, 'table' | 'chain' | 'by'>[] {
  const chain = way === 'tunnel' || way === 'encrypted' ? 'INPUT' : 'FORWARD';
  const [tables, program] = v6
    ? ['ip6_tables_names', 'ip6tables-legacy']
    : ['ip_tables_names', 'iptables-legacy'];
  try {
    if (!fs.readFileSync(`/proc/thread-self/net/${tables}`, 'utf8').includes('filter')) return [];
    const rules = execFileSync(program, ['-w', '2', '-S'], {
      encoding: 'utf8',
      timeout: 3000,
      stdio: 'pipe',
    });
    const by = rules.includes(`-P ${chain} DROP`) ? 'policy' : 'rule';
    if (by === 'rule' && !/ -j (DROP|REJECT)/.test(rules)) return [];
    return [{ table: `filter of ${program}`, chain, by }];
  } catch {
    return []; // no such program
  }
}
