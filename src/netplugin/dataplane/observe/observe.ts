/**
 * What a router's policy did, and what it would do: read from the kernel's own sets, by single nfnetlink requests.
 *
 *   hits      how often each rule decided (set `hits`)
 *   refused   how much each port sent in vain (set `refused`), and examples of it (DENIED_LOG too)
 *   dropped   how much was dropped that is no port's, or no matter of it (named counters)
 *   denied    packets that the chains judge_in and judge_out logged (DENIED_LOG)
 *   allowed   those that log_in and log_out did, for rules that ask for it
 *   lookUp    the chains' way through the sets (rules/policy.ts, decide) for a packet that is not there
 */
import { addressBytes } from '../../../linux/address.ts';
import { type Netlink, NetlinkError, readText, u16be, u32 } from '../../../linux/netlink.ts';
import type { LoggedPacket } from '../../../linux/nflog.ts';
import { findElement, listCounters, listElements } from '../../../linux/nftset.ts';
import { NFT_TABLE } from '../../constants.ts';
import { REFUSED } from '../rules/limits.ts';
import { DENY } from '../rules/marks.ts';

/** Of one router, or of the host's own table. */
export interface Observation {
  /** HOST for the host's. */
  readonly namespace: string;
  /** Another one where the table was made anew since: its counters began at 0. */
  readonly table: string;
  readonly hits: readonly Hit[];
  /** New since the last observation; more than the chains' limit are not logged. */
  readonly denied: readonly JudgedPacket[];
  /** The same of what a rule allowed that is to be logged. */
  readonly allowed: readonly JudgedPacket[];
  /** What ports sent in vain, whatever policy says. */
  readonly refused: readonly Refused[];
  /** What else was dropped there, whatever policy says. */
  readonly dropped: readonly Dropped[];
  /** Of those some, new since the last observation: the sender was not the port's own. */
  readonly foreign: readonly ForeignPacket[];
}

export const HOST = '';

/** Since the table was made. */
export interface Dropped {
  readonly reason: string;
  readonly packets: number;
}

/** Named counters, by reason. */
const COUNTERS = {
  /** Of a router: by a tunnel, from an address that is not behind it. */
  behind: 'foreign',
  /** Queries beyond what a container may ask its nameserver. */
  queries: 'asked',
  /** Fragments beyond what a container may send. */
  fragments: 'pieces',
  /** ICMP errors about a connection, of somebody who is not on its way. */
  errors: 'misquoting',
  /** Of the host: frames for our tunnels, from no host of ours. */
  strangers: 'strangers',
  /** To the control plane or the tunnels, from a container, whoever's. */
  guarded: 'refused',
} as const;

/** Since the table was made. */
export interface Refused {
  /** Of the port; the host's end of the exit for what the tenant is over its limit with. */
  readonly device: string;
  readonly reason: Reason;
  readonly packets: number;
}

/** `source`: from an address that is not the container's own; `connections`: it has too many already (rules/limits.ts). */
export type Reason = keyof typeof REFUSED;

export interface ForeignPacket {
  readonly device: string;
  readonly address: string;
  readonly mac: string;
}

export interface Hit {
  /** RuleSet.id and Decision.rule. */
  readonly ruleSet: number;
  readonly rule: number;
  /** First packets of connections that the rule decided; each packet of those that it denied. */
  readonly packets: number;
  readonly bytes: number;
}

export interface JudgedPacket {
  readonly direction: 'in' | 'out';
  readonly rule: number;
  readonly from: string;
  readonly to: string;
  readonly protocol: number;
  readonly port?: number;
}

/** The first packet of a connection, on one side. */
export interface Question {
  readonly direction: 'in' | 'out';
  /** The address whose group's rules judge. */
  readonly own: string;
  readonly peer: string;
  readonly protocol: number;
  readonly port?: number;
}

export interface KernelDecision {
  /** Number of the rule set; 0: nothing judges the address. */
  readonly ruleSet: number;
  /** 0: no rule decides. */
  readonly rule: number;
  readonly denied: boolean;
}

const IFNAMSIZ = 16;
const REASONS: ReadonlyMap<number, Reason> = new Map(
  Object.entries(REFUSED).map(([reason, number]) => [number, reason as Reason]),
);

export function readHits(netfilter: Netlink): Hit[] {
  try {
    return listElements(netfilter, NFT_TABLE, 'hits').map(({ key, packets, bytes }) => ({
      ruleSet: key.readUInt32LE(0),
      rule: key.readUInt32LE(4) % DENY,
      packets,
      bytes,
    }));
  } catch (error) {
    // Somebody has deleted the table: it is made again when the kernel is verified.
    if (error instanceof NetlinkError && error.code === 'ENOENT') return [];
    throw error;
  }
}

/** Of a table of ours that has the set `refused`. */
export function readRefused(netfilter: Netlink): Refused[] {
  try {
    return listElements(netfilter, NFT_TABLE, 'refused').flatMap(({ key, packets }) => {
      const device = readText(key.subarray(0, IFNAMSIZ));
      const reason = REASONS.get(key.readUInt32LE(IFNAMSIZ));
      return reason === undefined ? [] : [{ device, reason, packets }];
    });
  } catch (error) {
    if (error instanceof NetlinkError && error.code === 'ENOENT') return [];
    throw error;
  }
}

/** Of a table of ours. */
export function readDropped(netfilter: Netlink): Dropped[] {
  const counters = listCounters(netfilter, NFT_TABLE);
  return Object.entries(COUNTERS)
    .map(([reason, name]) => ({ reason, packets: counters.get(name) ?? 0 }))
    .filter(({ packets }) => packets > 0);
}

export const isDenied = ({ mark }: LoggedPacket): boolean => mark >= DENY;

export function judgedPacket({ prefix, mark, from, to, protocol, port }: LoggedPacket): JudgedPacket {
  return {
    direction: prefix === 'judge_out' ? 'out' : 'in',
    rule: mark % DENY,
    from,
    to,
    protocol,
    ...(port === undefined ? {} : { port }),
  };
}

/** A part of a key of several, padded as the kernel's registers are. A key of one part is as long as it is: to others it says EINVAL. */
const padded = (bytes: Buffer): Buffer => Buffer.concat([bytes], (bytes.length + 3) & ~3);

/** Follows the chains of one side through the kernel's sets. */
export function lookUp(
  netfilter: Netlink,
  { direction, own, peer, protocol, port }: Question,
): KernelDecision {
  const six = own.includes(':') ? '6' : '';
  const find = (set: string, ...key: Buffer[]): number | undefined => {
    const whole = key.length === 1 ? (key[0] as Buffer) : Buffer.concat(key.map(padded));
    const element = findElement(netfilter, NFT_TABLE, set, whole);
    return element && (element.data.length === 4 ? element.data.readUInt32LE() : 0);
  };
  let ruleSet = find(`judged_${direction}${six}`, addressBytes(own)) ?? 0;
  if (ruleSet === 0) return { ruleSet, rule: 0, denied: false };
  const range = find(`ranges${six}`, addressBytes(peer)) ?? 0;
  ruleSet = find('narrowed', u32(ruleSet), u32(range)) ?? ruleSet;
  const portRange = find('port_ranges', u16be(port ?? 0));
  if (portRange !== undefined) ruleSet = find('narrowed_ports', u32(ruleSet), u32(portRange)) ?? ruleSet;
  const group = find(`members${six}`, addressBytes(peer)) ?? 0;
  const [any, grouped] = [[u32(ruleSet)], [u32(ruleSet), u32(group)]];
  const service = [Buffer.of(protocol), u16be(port ?? 0)];
  const mark =
    find('by_group_port', ...grouped, ...service) ??
    find('by_port', ...any, ...service) ??
    find('by_group_protocol', ...grouped, Buffer.of(protocol)) ??
    find('by_protocol', ...any, Buffer.of(protocol)) ??
    find('by_group_any', ...grouped) ??
    find('by_any', ...any) ??
    0;
  return { ruleSet, rule: mark % DENY, denied: mark >= DENY };
}
