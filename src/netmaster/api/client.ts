/** Whom a limit of one client is for. */

import type { Socket } from 'node:net';
import net from 'node:net';

/** The address of who asks; of IPv6 the /64, of which a machine has all addresses (RFC 4291, 2.5.1). */
export function clientOf({ remoteAddress = '' }: Socket): string {
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/.exec(remoteAddress)?.[1];
  if (mapped !== undefined) return mapped;
  const address = remoteAddress.replace(/%.*$/, '');
  if (!net.isIPv6(address)) return address;
  const [head = '', tail] = address.split('::');
  const before = head === '' ? [] : head.split(':');
  const missing = tail === undefined ? 0 : 8 - before.length - (tail === '' ? 0 : tail.split(':').length);
  return `${[...before, ...Array(missing).fill('0')].slice(0, 4).join(':')}::/64`;
}
