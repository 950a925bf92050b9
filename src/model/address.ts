/** Subnets as users write them: `a.b.c.d/len`, or a range `a.b.c.d-a.b.c.e/len` to hand out addresses from. */
import { createHash } from 'node:crypto';
import ipaddr from 'ipaddr.js';

export interface Subnet {
  readonly family: 4 | 6;
  /** Of the whole subnet, as a number. */
  readonly network: bigint;
  readonly length: number;
  /** First and last address of the range that addresses are handed out from; the whole subnet where there is none. */
  readonly first: bigint;
  readonly last: bigint;
  readonly ranged: boolean;
}

/** Of an address or prefix. */
export const isV6 = (text: string): boolean => text.includes(':');

export function addressNumber(text: string): bigint {
  return ipaddr
    .parse(text)
    .toByteArray()
    .reduce((number, byte) => (number << 8n) | BigInt(byte), 0n);
}

export function numberAddress(number: bigint, family: 4 | 6): string {
  const size = family === 4 ? 4 : 16;
  const bytes = Array.from({ length: size }, (_, i) =>
    Number((number >> BigInt(8 * (size - 1 - i))) & 0xffn),
  );
  return ipaddr.fromByteArray(bytes).toString();
}

/** Strict dotted quads: no octal, no short forms. */
export function isIpv4(text: string): boolean {
  return /^(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)$/.test(text);
}

export function isIpv6(text: string): boolean {
  return text.includes(':') && !text.includes('%') && ipaddr.IPv6.isValid(text);
}

/** undefined where the text is neither of the two forms. The prefix's host bits are ignored. */
export function parseSubnet(text: string): Subnet | undefined {
  const match = /^([^/-]+)(?:-([^/-]+))?\/(\d{1,3})$/.exec(text);
  if (match === null) return undefined;
  const [, from = '', to, digits = ''] = match;
  const family = isIpv4(from) ? 4 : isIpv6(from) ? 6 : undefined;
  if (family === undefined || (to !== undefined && !(family === 4 ? isIpv4(to) : isIpv6(to))))
    return undefined;
  const bits = family === 4 ? 32 : 128;
  const length = Number(digits);
  if (length > bits) return undefined;
  const size = 1n << BigInt(bits - length);
  const start = addressNumber(from);
  const network = start - (start % size);
  if (to === undefined)
    return { family, network, length, first: network, last: network + size - 1n, ranged: false };
  const last = addressNumber(to);
  if (last < start || last >= network + size) return undefined;
  return { family, network, length, first: start, last, ranged: true };
}

/** `host` is the address as it was written; the prefix has its bits behind `length` cleared. */
export interface Prefix {
  readonly family: 4 | 6;
  readonly host: bigint;
  readonly network: bigint;
  readonly length: number;
}

/** An address `20.1.1.5`, whose length is 32 or 128, or a prefix `20.1.1.0/28`; undefined where it is neither. */
export function parsePrefix(text: string): Prefix | undefined {
  const [address = '', length, ...rest] = text.split('/');
  if (rest.length > 0 || address.includes('-')) return undefined;
  const subnet = parseSubnet(`${address}/${length ?? (address.includes(':') ? 128 : 32)}`);
  if (subnet === undefined) return undefined;
  return {
    family: subnet.family,
    host: addressNumber(address),
    network: subnet.network,
    length: subnet.length,
  };
}

/** `20.1.1.0/24` for `20.1.1.10-20.1.1.20/24`. Throws where it is no subnet. */
export function subnetPrefix(text: string): string {
  const subnet = parseSubnet(text);
  if (subnet === undefined) throw new Error(`'${text}' is not a subnet like 20.1.1.0/24`);
  return `${numberAddress(subnet.network, subnet.family)}/${subnet.length}`;
}

/**
 * The MAC address that goes with a container's address: 02:02 and the four bytes of IPv4, as 1.x has it; 02:06 and a hash of IPv6, whose
 * last bytes are alike in all networks.
 */
export function macOf(address: string): string {
  const bytes = ipaddr.parse(address).toByteArray();
  const tail =
    bytes.length === 4
      ? Buffer.from(bytes)
      : createHash('sha256').update(Buffer.from(bytes)).digest().subarray(0, 4);
  const kind = bytes.length === 4 ? '02' : '06';
  return ['02', kind, ...[...tail].map((byte) => byte.toString(16).padStart(2, '0'))].join(':');
}

/** The two prefixes, one bit longer, that make up the whole subnet. Throws where it is no subnet. */
export function halves(text: string): [string, string] {
  const subnet = parseSubnet(subnetPrefix(text)) as Subnet;
  const middle = (subnet.first + subnet.last + 1n) / 2n;
  const prefix = (start: bigint): string => `${numberAddress(start, subnet.family)}/${subnet.length + 1}`;
  return [prefix(subnet.first), prefix(middle)];
}

export function contains(subnet: Subnet, address: string): boolean {
  if ((address.includes(':') ? 6 : 4) !== subnet.family) return false;
  const bits = subnet.family === 4 ? 32 : 128;
  const number = addressNumber(address);
  return number >= subnet.network && number < subnet.network + (1n << BigInt(bits - subnet.length));
}

export function overlap(a: Subnet, b: Subnet): boolean {
  if (a.family !== b.family) return false;
  const bits = a.family === 4 ? 32 : 128;
  const end = (s: Subnet): bigint => s.network + (1n << BigInt(bits - s.length));
  return a.network < end(b) && b.network < end(a);
}
