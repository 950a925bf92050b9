/** The few system calls that Node does not offer, by koffi. All are synchronous and act on the calling thread. */
import os from 'node:os';
import koffi from 'koffi';

const libc = koffi.load('libc.so.6');

/** A system call failed. `errno` as in errno(3), `code` its name, e.g. 'EEXIST'. */
export class SyscallError extends Error {
  readonly call: string;
  readonly errno: number;
  readonly code: string;
  constructor(call: string, errno: number, detail = '') {
    const code = errorName(errno);
    super(`${call}${detail === '' ? '' : ` ${detail}`}: ${code}`);
    this.call = call;
    this.errno = errno;
    this.code = code;
  }
}

/** Node lacks what only netlink answers (asm-generic/errno.h). */
const ERRNO = { ...os.constants.errno, ERESTART: 85 };
const NAMES = new Map(Object.entries(ERRNO).map(([name, number]) => [number, name]));

/** `EEXIST` for 17; the number as text where it has no name here. */
export function errorName(errno: number): string {
  return NAMES.get(errno) ?? `errno ${errno}`;
}

function checked<A extends unknown[]>(name: string, declaration: string): (...args: A) => number {
  const call = libc.func(declaration);
  return (...args) => {
    const result = call(...args) as number;
    if (result < 0)
      throw new SyscallError(name, koffi.errno(), args.filter((a) => typeof a === 'string').join(' '));
    return result;
  };
}

const mallocTrim = libc.func('int malloc_trim(size_t pad)');
/**
 * Gives the kernel back what has been freed, every so many milliseconds: malloc by itself gives back what is free at the end of its heap, and what
 * lies before something that stays it keeps (malloc_trim(3)). Keeps no process alive.
 */
export function giveBackMemory(interval: number): void {
  setInterval(() => void mallocTrim(0), interval).unref();
}

const makeSocket = checked<[domain: number, type: number, protocol: number]>(
  'socket',
  'int socket(int domain, int type, int protocol)',
);
const deviceIndex = checked<[name: string]>('if_nametoindex', 'uint32_t if_nametoindex(const char *name)');
/** In the thread's current network namespace; without the lock that netlink's questions wait for. */
export const hasDevice = (name: string): boolean => deviceIndex(name) > 0;

const fcntl = checked<[fd: number, command: number, value: number]>(
  'fcntl',
  'int fcntl(int fd, int command, long value)',
);
export const bind = checked<[fd: number, address: Buffer, length: number]>(
  'bind',
  'int bind(int fd, const void *address, uint32_t length)',
);
export const connect = checked<[fd: number, address: Buffer, length: number]>(
  'connect',
  'int connect(int fd, const void *address, uint32_t length)',
);
const setsockopt = checked<[fd: number, level: number, name: number, value: Buffer, length: number]>(
  'setsockopt',
  'int setsockopt(int fd, int level, int name, const void *value, uint32_t length)',
);
export const send = checked<[fd: number, data: Buffer, length: number, flags: number]>(
  'send',
  'intptr_t send(int fd, const void *data, size_t length, int flags)',
);
export const recv = checked<[fd: number, data: Buffer, length: number, flags: number]>(
  'recv',
  'intptr_t recv(int fd, _Out_ void *data, size_t length, int flags)',
);
type Messages = (fd: number, vector: Buffer, length: number, flags: number, timeout?: null) => number;
const receiveMany = libc.func(
  'int recvmmsg(int fd, _Inout_ void *vector, unsigned int length, int flags, void *timeout)',
) as Messages;
const sendMany = libc.func(
  'int sendmmsg(int fd, _Inout_ void *vector, unsigned int length, int flags)',
) as Messages;
/** How many: -1 where there is none, or the first one failed, as of a sender that does not listen any more. */
export const recvmmsg = (fd: number, vector: Buffer, length: number, flags: number): number =>
  receiveMany(fd, vector, length, flags, null);
export const sendmmsg = (fd: number, vector: Buffer, length: number, flags: number): number =>
  sendMany(fd, vector, length, flags);
export const open = checked<[path: string, flags: number]>('open', 'int open(const char *path, int flags)');
export const close = checked<[fd: number]>('close', 'int close(int fd)');
const dup2 = checked<[fd: number, as: number]>('dup2', 'int dup2(int fd, int as)');
/** From here on select(2) cannot wait for it: glibc ends the process (FD_SETSIZE). */
export const LOW_DESCRIPTORS = 1024;
const F_DUPFD_CLOEXEC = 1030;
const O_WRONLY = 1;

/**
 * The same open file under a number that select(2) cannot use, so that the low ones are left to libnftables, which
 * needs them. Where the process may not have so many files, the number stays. Not for what Node opened: it keeps the number.
 */
export function raised(fd: number): number {
  let high: number;
  try {
    high = fcntl(fd, F_DUPFD_CLOEXEC, LOW_DESCRIPTORS);
  } catch {
    return fd;
  }
  close(fd);
  return high;
}

/** Runs `use` while what is written to the descriptor goes nowhere. Where there is no further descriptor, it is written as ever. */
export function discarding<T>(fd: number, use: () => T): T {
  let kept: number | undefined;
  try {
    kept = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    const nowhere = open('/dev/null', O_WRONLY);
    dup2(nowhere, fd);
    close(nowhere);
  } catch {
    // As ever.
  }
  try {
    return use();
  } finally {
    if (kept !== undefined) {
      dup2(kept, fd);
      close(kept);
    }
  }
}

/** Closed on exec. */
export const socket = (domain: number, type: number, protocol: number): number =>
  raised(makeSocket(domain, type, protocol));

export const prlimit = checked<[pid: number, resource: number, limit: Buffer | null, old: Buffer | null]>(
  'prlimit',
  'int prlimit64(int pid, int resource, const void *limit, _Out_ void *old)',
);
export const setns = checked<[fd: number, kind: number]>('setns', 'int setns(int fd, int kind)');
export const unshare = checked<[flags: number]>('unshare', 'int unshare(int flags)');
export const mount = checked<[source: string, target: string, type: string, flags: number, data: null]>(
  'mount',
  'int mount(const char *source, const char *target, const char *type, unsigned long flags, const void *data)',
);
export const umount2 = checked<[target: string, flags: number]>(
  'umount2',
  'int umount2(const char *target, int flags)',
);

const bpfCall = checked<[number: number, command: number, attributes: Buffer, size: number]>(
  'bpf',
  'long syscall(long number, int command, void *attributes, unsigned int size)',
);
/** glibc has no function for it: by its number (asm/unistd.h). */
const BPF_NUMBERS: Readonly<Record<string, number>> = { x64: 321, arm64: 280, riscv64: 280 };

/** bpf(2). ENOSYS on a processor whose numbers are not known here. */
export function bpf(command: number, attributes: Buffer): number {
  const number = BPF_NUMBERS[process.arch];
  if (number === undefined) throw new SyscallError('bpf', os.constants.errno.ENOSYS);
  return bpfCall(number, command, attributes, attributes.length);
}

const clockResolution = checked<[clock: number, resolution: Buffer]>(
  'clock_getres',
  'int clock_getres(int clock, _Out_ void *resolution)',
);
const CLOCK_MONOTONIC_COARSE = 6;

/** Of the kernel's clock (CONFIG_HZ): the coarse clocks go by its ticks (clock_getres(2)). */
export function ticksPerSecond(): number {
  const resolution = Buffer.alloc(16); // struct timespec
  clockResolution(CLOCK_MONOTONIC_COARSE, resolution);
  return Math.round(1e9 / Number(resolution.readBigInt64LE(8)));
}

export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;

/** setsockopt with an int value. */
export function setOption(fd: number, level: number, name: number, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  setsockopt(fd, level, name, bytes, 4);
}

/**
 * Reads from a socket without waiting: bytes; 'nothing' where nothing is there; 'lost' once after the socket was too full
 * to take all that came (ENOBUFS, netlink(7)).
 */
export function received(fd: number, buffer: Buffer): number | 'nothing' | 'lost' {
  try {
    return recv(fd, buffer, buffer.length, MSG_DONTWAIT);
  } catch (error) {
    const { errno } = error as SyscallError;
    if (errno === os.constants.errno.EAGAIN) return 'nothing';
    if (errno === os.constants.errno.ENOBUFS) return 'lost';
    throw error;
  }
}
