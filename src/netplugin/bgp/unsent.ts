/** What the sessions of BGP have sent, and what of it has arrived. */
import fs from 'node:fs';
import { addressBytes } from '../../linux/address.ts';

const PORT = 179;

/** As /proc/net/tcp has it (proc_net_tcp in the kernel's documentation): words of four bytes, in this machine's order. */
function hexOf(address: string): string {
  const bytes = addressBytes(address);
  let text = '';
  for (let i = 0; i < bytes.length; i += 4) text += bytes.readUInt32LE(i).toString(16).padStart(8, '0');
  return text.toUpperCase();
}

/** Bytes that these neighbours have not acknowledged, as far as they are connected. Of this process's namespace. */
export function unsent(neighbors: readonly string[]): number {
  const theirs = new Set(neighbors.map(hexOf));
  let bytes = 0;
  for (const file of ['/proc/thread-self/net/tcp', '/proc/thread-self/net/tcp6']) {
    if (!fs.existsSync(file)) continue;
    for (const line of fs.readFileSync(file, 'utf8').split('\n').slice(1)) {
      const [, local = '', remote = '', , queues = ''] = line.trim().split(/\s+/);
      const [address = '', port = ''] = remote.split(':');
      const isOurs = [port, local.split(':')[1] ?? ''].some((p) => Number.parseInt(p, 16) === PORT);
      if (isOurs && theirs.has(address)) bytes += Number.parseInt(queues.split(':')[0] ?? '0', 16);
    }
  }
  return bytes;
}
