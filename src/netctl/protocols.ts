/** IANA protocol numbers as people say them. */
const NAMES: Readonly<Record<number, string>> = { 1: 'icmp', 6: 'tcp', 17: 'udp', 58: 'icmpv6', 132: 'sctp' };

export const protocolName = (number: number): string => NAMES[number] ?? `protocol ${number}`;
