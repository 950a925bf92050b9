/** What judgements of all kinds of rules are made of (verdict.ts, labelVerdict.ts): packets, conditions, and their texts. */
import ipaddr from 'ipaddr.js';

/** The first packet of a connection, with the addresses and port that the endpoints themselves see. */
export interface Packet {
  readonly from: string;
  readonly to: string;
  /** IANA protocol number: 6 for TCP. */
  readonly protocol: number;
  /** Destination port, of TCP, UDP and SCTP. */
  readonly port?: number | undefined;
}

/** Something that a rule asks for. */
export interface Condition {
  readonly holds: boolean;
  readonly text: string;
}

export const hasPorts = ({ protocol }: Packet): boolean => [6, 17, 132].includes(protocol);

const NAMES: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6', 132: 'sctp' };

export const nameOf = (protocol: number): string => NAMES[protocol] ?? String(protocol);

/** IPv4 has one spelling, IPv6 several. */
export function same(a: string, b: string): boolean {
  return a === b || (a.includes(':') && b.includes(':') && bits(a) === bits(b));
}

/** `target` is an address, a prefix, or a range as networks have it; a prefix's bits behind its length are ignored. */
export function within(address: string, target: string): boolean {
  const [range = '', length] = target.split('/');
  const own = bits(address);
  const start = bits(range.split('-')[0] ?? '');
  const count = length === undefined ? start.length : Number(length);
  return own.length === start.length && own.slice(0, count) === start.slice(0, count);
}

/** 32 or 128 characters 0 and 1. */
function bits(address: string): string {
  return ipaddr
    .parse(address)
    .toByteArray()
    .map((byte) => byte.toString(2).padStart(8, '0'))
    .join('');
}
