/**
 * What a thread that has ended by itself left open. Descriptors that were not opened by Node belong to the process, and
 * one that is never closed keeps its router's namespace, and the group of denied packets, from whoever comes after.
 */
import fs from 'node:fs';
import { closeSocket, inNamespace, namespaceId, namespacePath } from '../../linux/netns.ts';

/** Of the fast path, as proc(5) names them. */
const BPF = ['anon_inode:bpf-map', 'anon_inode:bpf-prog'];

/**
 * Netlink sockets in these routers, the namespaces themselves, programs and their maps: only the thread that owns the
 * kernel has any.
 */
export function closeLeftovers(routers: Iterable<string>): void {
  const left = new Set<string>(BPF);
  for (const name of routers) {
    const file = namespacePath(name);
    const id = namespaceId(file);
    if (id === undefined) continue;
    left.add(`net:[${id}]`);
    for (const inode of inNamespace(file, listNetlinkSockets)) left.add(`socket:[${inode}]`);
  }
  for (const [fd, what] of openFiles()) if (left.has(what)) closeSocket(fd);
}

/** Inodes of those in the thread's current namespace, of all processes: last column (net/netlink/af_netlink.c). */
function listNetlinkSockets(): string[] {
  const [, ...lines] = fs.readFileSync('/proc/thread-self/net/netlink', 'utf8').trim().split('\n');
  return lines.map((line) => line.trim().split(/\s+/).at(-1) as string);
}

/** Number and what it is, as proc(5) writes it. */
function openFiles(): [fd: number, what: string][] {
  return fs.readdirSync('/proc/self/fd').flatMap((fd): [number, string][] => {
    try {
      return [[Number(fd), fs.readlinkSync(`/proc/self/fd/${fd}`)]];
    } catch {
      return []; // the one that read the folder
    }
  });
}
