/** Whose a connection is, and what the kernel keeps for it. */
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';
import os from 'node:os';

/** For whom a limit of one client is: an address; of IPv6 the /64, of which a machine has all (RFC 4291, 2.5.1). */
export function clientOf({ remoteAddress = '' }: Socket): string {
  const hex = hexOf(remoteAddress);
  if (hex.startsWith(MAPPED)) return remoteAddress.replace(/^.*:/, '');
  return hex.length === 8 ? remoteAddress : `${hex.slice(0, 16).replace(/....(?!$)/g, '$&:')}::/64`;
}

/** The address as hexadecimal bytes, and the port. */
export const keyOf = ({ remoteAddress = '', remotePort }: Socket): string =>
  `${hexOf(remoteAddress)} ${remotePort}`;

/** What the kernel keeps for a connection: Node has handed it on, and it waits for the client. */
export interface Kept {
  /** What the client has not taken yet; for one on the same machine megabytes. */
  readonly bytes: number;
  /** What was sent once more, or to ask whether there is room again, since the client's machine said something last. */
  readonly unanswered: number;
}

/** Of the clients of one port of this machine, by `keyOf` (/proc/net/tcp, proc_net_tcp.txt of the kernel). */
export async function keptFor(port: number): Promise<Map<string, Kept>> {
  const found = new Map<string, Kept>();
  const local = port.toString(16).toUpperCase().padStart(4, '0');
  for (const file of ['/proc/net/tcp', '/proc/net/tcp6']) {
    const text = await readFile(file, 'utf8').catch(() => ''); // a kernel without IPv6 has no tcp6
    for (const line of text.split('\n')) {
      const match = LINE.exec(line);
      const [, to, address = '', from = '', bytes = '', again = '', probes = ''] = match ?? [];
      if (to !== local) continue;
      found.set(`${inNetworkOrder(address)} ${Number.parseInt(from, 16)}`, {
        bytes: Number.parseInt(bytes, 16),
        unanswered: Number.parseInt(again, 16) + Number(probes),
      });
    }
  }
  return found;
}

/** Local port, remote address and port, tx_queue, retrnsmt, and behind the user the probes of a full window. */
const LINE =
  /^ *\d+: [\dA-F]+:(\w{4}) ([\dA-F]+):(\w{4}) \w\w ([\dA-F]+):[\dA-F]+ \w\w:[\dA-F]+ ([\dA-F]+) +\d+ +(\d+) /;

/** How a socket of both families shows IPv4 (RFC 4291, 2.5.5.2). */
const MAPPED = '00000000000000000000ffff';

/** Of an address as Node writes it, with zone or without. */
function hexOf(address: string): string {
  const [head = '', tail] = address.replace(/%.*$/, '').split('::');
  const [left, right] = [groupsOf(head), groupsOf(tail ?? '')];
  return tail === undefined ? left : left + '0'.repeat(32 - left.length - right.length) + right;
}

const byteOf = (decimal: string): string => Number(decimal).toString(16).padStart(2, '0');
const groupsOf = (text: string): string =>
  text === ''
    ? ''
    : text
        .split(':')
        .map((group) =>
          group.includes('.') ? group.split('.').map(byteOf).join('') : group.padStart(4, '0'),
        )
        .join('');

/** The kernel shows words of 32 bits, in the machine's order. */
const inNetworkOrder = (words: string): string =>
  os.endianness() === 'BE'
    ? words.toLowerCase()
    : words.toLowerCase().replace(/(..)(..)(..)(..)/g, '$4$3$2$1');
