/**
 * Network namespaces from within: a thread enters one, does something there, and is back when the
 * function returns. Sockets keep the namespace that they were made in, wherever their thread goes later
 * (network_namespaces(7)), so most work needs the namespace only while a socket is opened.
 *
 * Named namespaces are bind mounts in /run/netns, as `ip netns` keeps them (ip-netns(8)).
 */
import fs from 'node:fs';
import path from 'node:path';
import { addressBytes } from './address.ts';
import * as libc from './libc.ts';

const FOLDER = '/run/netns';
const CLONE_NEWNET = 0x40000000;
const MS_BIND = 4096;
const MS_REC = 16384;
const MS_SHARED = 1 << 20;
const MNT_DETACH = 2;
const O_RDONLY = 0;
const O_CLOEXEC = 0o2000000;

export const namespacePath = (name: string): string => path.join(FOLDER, name);

/** /proc/self is the process; the thread's own namespace is under thread-self. */
const OWN = '/proc/thread-self/ns/net';

/** Runs `use` in the namespace at this path. The thread is back in its own afterwards, also after an error. */
export function inNamespace<T>(file: string, use: () => T): T {
  const own = libc.open(OWN, O_RDONLY | O_CLOEXEC);
  try {
    const target = libc.open(file, O_RDONLY | O_CLOEXEC);
    try {
      libc.setns(target, CLONE_NEWNET);
    } finally {
      libc.close(target);
    }
    try {
      return use();
    } finally {
      libc.setns(own, CLONE_NEWNET);
    }
  } finally {
    libc.close(own);
  }
}

/**
 * A file descriptor of the namespace at this path, which the caller closes with closeNamespace. Not Node's: it closes
 * by number what a worker opened by it, whoever has the number by then.
 */
export const openNamespace = (file: string): number => libc.raised(libc.open(file, O_RDONLY | O_CLOEXEC));

export const closeNamespace = (fd: number): void => {
  libc.close(fd);
};

/** Creates a namespace that `ip netns` lists too. EEXIST where there is one of this name. */
export function createNamespace(name: string): void {
  const own = libc.open(OWN, O_RDONLY | O_CLOEXEC);
  try {
    libc.unshare(CLONE_NEWNET);
    try {
      nameNamespace(name, OWN);
    } finally {
      libc.setns(own, CLONE_NEWNET);
    }
  } finally {
    libc.close(own);
  }
}

/** Gives the namespace at this path a name that `ip netns` lists too. EEXIST where there is one of this name. */
export function nameNamespace(name: string, at: string): void {
  fs.mkdirSync(FOLDER, { recursive: true, mode: 0o755 });
  shareFolder();
  const file = namespacePath(name);
  fs.closeSync(fs.openSync(file, 'wx', 0o444));
  try {
    libc.mount(at, file, 'none', MS_BIND, null);
  } catch (error) {
    fs.rmSync(file, { force: true });
    throw error;
  }
}

/**
 * Makes the folder a shared mount, as `ip netns add` does: every mount namespace sees what comes and goes. Without it
 * the first `ip netns add` by somebody would put a copy of all our mounts on top of them, and none could be removed.
 */
function shareFolder(): void {
  try {
    libc.mount('', FOLDER, 'none', MS_SHARED | MS_REC, null);
  } catch (error) {
    if ((error as libc.SyscallError).code !== 'EINVAL') throw error; // EINVAL: not a mount yet
    libc.mount(FOLDER, FOLDER, 'none', MS_BIND | MS_REC, null);
    libc.mount('', FOLDER, 'none', MS_SHARED | MS_REC, null);
  }
}

/** Fine when it is not there. The namespace itself goes when nothing uses it any more. */
export function deleteNamespace(name: string): void {
  const file = namespacePath(name);
  try {
    libc.umount2(file, MNT_DETACH);
  } catch (error) {
    const { code } = error as libc.SyscallError;
    if (code !== 'EINVAL' && code !== 'ENOENT') throw error;
  }
  fs.rmSync(file, { force: true });
}

/** Names of those that are really mounted: a file left by a crash in between is none. */
export function listNamespaces(): string[] {
  let names: string[];
  try {
    names = fs.readdirSync(FOLDER);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
  return names.filter((name) => isNamespace(namespacePath(name)));
}

/** A namespace file lives on the kernel's nsfs; an empty file that lost its mount does not. */
export function isNamespace(file: string): boolean {
  try {
    return fs.statfsSync(file).type === 0x6e736673; // NSFS_MAGIC, linux/magic.h
  } catch {
    return false;
  }
}

/** Inode of the namespace at this path: equal for equal namespaces; undefined where there is none. */
export function namespaceId(file: string): number | undefined {
  return isNamespace(file) ? fs.statSync(file).ino : undefined;
}

// /proc/sys/net shows the namespace of the thread that opens it (net/sysctl_net.c).
const sysctl = (name: string): string => `/proc/sys/${name}`;

/** A sysctl of the thread's current network namespace, e.g. `net/ipv4/ip_forward`. */
export const getSysctl = (name: string): string => fs.readFileSync(sysctl(name), 'utf8').trim();

/** Answers whether it was another. */
export function setSysctl(name: string, value: string): boolean {
  if (getSysctl(name) === value) return false;
  fs.writeFileSync(sysctl(name), value);
  return true;
}

const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_REUSEPORT = 15;
const SO_RCVBUFFORCE = 33;
const SOL_IP = 0;
const IP_FREEBIND = 15;
const SOL_IPV6 = 41;
const IPV6_V6ONLY = 26;

/** sockaddr_in or sockaddr_in6 (ip(7), ipv6(7)). */
export function socketAddress(address: string, port: number): Buffer {
  const bytes = addressBytes(address);
  const out = Buffer.alloc(bytes.length === 4 ? 16 : 28);
  out.writeUInt16LE(bytes.length === 4 ? libc.AF_INET : libc.AF_INET6, 0);
  out.writeUInt16BE(port, 2);
  bytes.copy(out, bytes.length === 4 ? 4 : 8);
  return out;
}

export interface SocketOptions {
  /**
   * Its port also where another has it and shares it alike (socket(7)); of TCP sockets that listen either gets what comes. Of UDP sockets, `latest`:
   * the last one that was bound, whoever binds it; `user`: either too, and none but the same user's can be bound.
   */
  readonly shared?: 'latest' | 'user' | undefined;
  readonly nonblocking?: boolean;
  /** At `::`, of IPv4 too. */
  readonly both?: boolean;
}

/** A socket of the thread's current namespace, not yet bound; answers its file descriptor, which the caller closes. */
export function openSocket(
  protocol: 'tcp' | 'udp' | 'sctp',
  version: 4 | 6,
  { shared, nonblocking = false, both = false }: SocketOptions = {},
): number {
  const stream = protocol !== 'udp';
  const type =
    (stream ? libc.SOCK_STREAM : libc.SOCK_DGRAM) |
    libc.SOCK_CLOEXEC |
    (nonblocking ? libc.SOCK_NONBLOCK : 0);
  const fd = libc.socket(version === 6 ? libc.AF_INET6 : libc.AF_INET, type, protocol === 'sctp' ? 132 : 0);
  try {
    if (shared === 'latest') letOthersBind(fd, true);
    if (shared === 'user' || (shared === 'latest' && stream)) libc.setOption(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    libc.setOption(fd, SOL_IP, IP_FREEBIND, 1);
    if (version === 6) libc.setOption(fd, SOL_IPV6, IPV6_V6ONLY, both ? 0 : 1);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

/** Whether the port of a UDP socket is shared with whoever lets it be shared so (SO_REUSEADDR). */
export const letOthersBind = (fd: number, others: boolean): void =>
  libc.setOption(fd, SOL_SOCKET, SO_REUSEADDR, others ? 1 : 0);

/** In the namespace that the socket was made in. Errors: EADDRINUSE, EADDRNOTAVAIL. */
export function bindSocket(fd: number, address: string, port: number): void {
  const bytes = socketAddress(address, port);
  libc.bind(fd, bytes, bytes.length);
}

/** Both: bound in the thread's current namespace, and of TCP not listening. */
export function bindPort(
  protocol: 'tcp' | 'udp' | 'sctp',
  address: string,
  port: number,
  options?: SocketOptions,
): number {
  const fd = openSocket(protocol, address.includes(':') ? 6 : 4, options);
  try {
    bindSocket(fd, address, port);
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

const RLIMIT_NOFILE = 7;

/** Lets this process hold so many sockets; it keeps the right to more. Throws EPERM without CAP_SYS_RESOURCE. */
export function allowSockets(count: number): void {
  const limits = Buffer.alloc(16); // struct rlimit64: soft, hard
  libc.prlimit(0, RLIMIT_NOFILE, null, limits);
  for (const at of [0, 8]) if (limits.readBigUInt64LE(at) < count) limits.writeBigUInt64LE(BigInt(count), at);
  libc.prlimit(0, RLIMIT_NOFILE, limits, null);
}

/** Bytes, also more than net.core.rmem_max allows others (socket(7)). */
export const setReceiveBuffer = (fd: number, bytes: number): void =>
  libc.setOption(fd, SOL_SOCKET, SO_RCVBUFFORCE, bytes);

/**
 * A TCP socket of the thread's current namespace that is about to be connected: who writes to it waits for that, and who reads
 * from it is told where nobody takes it. Answers its file descriptor, which the caller closes.
 */
export function beginConnection(address: string, port: number): number {
  const domain = address.includes(':') ? libc.AF_INET6 : libc.AF_INET;
  const fd = libc.socket(domain, libc.SOCK_STREAM | libc.SOCK_CLOEXEC | libc.SOCK_NONBLOCK, 0);
  try {
    const bytes = socketAddress(address, port);
    libc.connect(fd, bytes, bytes.length);
  } catch (error) {
    if ((error as libc.SyscallError).code === 'EINPROGRESS') return fd;
    libc.close(fd);
    throw error;
  }
  return fd;
}

/**
 * Whether a connection that was begun so is there; false: not yet. Asked again after the true one, the kernel says EISCONN. Throws why there
 * will be none: ECONNREFUSED, EHOSTUNREACH, ETIMEDOUT (connect(2)).
 */
export function isConnected(fd: number, address: string, port: number): boolean {
  const bytes = socketAddress(address, port);
  try {
    libc.connect(fd, bytes, bytes.length);
    return true;
  } catch (error) {
    if ((error as libc.SyscallError).code === 'EALREADY') return false;
    throw error;
  }
}

export const closeSocket = (fd: number): void => {
  libc.close(fd);
};
