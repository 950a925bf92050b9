/**
 * eBPF in the kernel (bpf(2)): maps that programs look into, and programs for traffic control. Both live as long as
 * somebody has them: a file descriptor, a filter that runs the program, a program that uses the map.
 */
import os from 'node:os';
import koffi from 'koffi';
import { MODULE } from './ebpf.ts';
import * as libc from './libc.ts';

const BPF_MAP_CREATE = 0;
const BPF_PROG_LOAD = 5;
const BPF_PROG_TEST_RUN = 10;
const BPF_OBJ_GET_INFO_BY_FD = 15;
const BPF_BTF_GET_FD_BY_ID = 19;
const BPF_BTF_GET_NEXT_ID = 23;
const BPF_MAP_LOOKUP_BATCH = 24;
const BPF_MAP_UPDATE_BATCH = 26;
const BPF_MAP_DELETE_BATCH = 27;
/**
 *   hash    its memory grows with its entries; a pointer for each that it has room for is there at once
 *   array   by a number from 0; all values are there, 0 at first
 *   each    an array for each processor, whose programs see no other
 */
export type MapType = 'hash' | 'array' | 'each';
const MAP_TYPES: Readonly<Record<MapType, number>> = { hash: 1, array: 2, each: 6 };
const BPF_F_NO_PREALLOC = 1;
const BPF_PROG_TYPE_SCHED_CLS = 3;
const LOG_SIZE = 1 << 18;
/** Where union bpf_attr has, of a program: its name's end; the types that its calls are of. */
const NAME_END = 64;
const FD_ARRAY = 120;
/** A signal breaks off the verifier (kernel/bpf/verifier.c, do_check): that of a child that ended, say. */
const LOAD_ATTEMPTS = 5;
/** Kernel functions may be called only by programs that say so. */
const LICENSE = Buffer.from('Dual MIT/GPL\0');

type Field = number | bigint | Buffer;

/** An address keeps no buffer alive: this does, until the next command. */
const addressed: { fields?: readonly Field[] } = {};

/** union bpf_attr of one command: numbers of 4 bytes, and bigints or buffers (their addresses) of 8. */
function attributes(...fields: readonly Field[]): Buffer {
  if (fields.some(Buffer.isBuffer)) addressed.fields = fields;
  return Buffer.concat(
    fields.map((field) => {
      const bytes = Buffer.alloc(typeof field === 'number' ? 4 : 8);
      if (typeof field === 'number') bytes.writeUInt32LE(field);
      else bytes.writeBigUInt64LE(typeof field === 'bigint' ? field : koffi.address(field));
      return bytes;
    }),
  );
}

/** At most 15 characters, as the kernel shows it. */
function named(name: string): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.write(name.slice(0, 15));
  return bytes;
}

/** Entries of a map: keys and values of the map's sizes, one after the other. */
export interface MapEntries {
  readonly keys: Buffer;
  readonly values: Buffer;
  readonly count: number;
}

/** Answers a map's file descriptor, which the caller closes. */
export function createMap(
  type: MapType,
  name: string,
  keySize: number,
  valueSize: number,
  room: number,
): number {
  const flags = type === 'hash' ? BPF_F_NO_PREALLOC : 0;
  const attr = Buffer.concat([
    attributes(MAP_TYPES[type], keySize, valueSize, room, flags, 0, 0),
    named(name),
  ]);
  return libc.raised(libc.bpf(BPF_MAP_CREATE, attr));
}

const batch = (map: number, keys: Buffer, values: Buffer | 0n, count: number): Buffer =>
  attributes(0n, 0n, keys, values, count, map, 0n, 0n);

/** Adds and changes, in one call. E2BIG where the map is full: some are there then. */
export function updateMap(map: number, { keys, values, count }: MapEntries): void {
  if (count > 0) libc.bpf(BPF_MAP_UPDATE_BATCH, batch(map, keys, values, count));
}

/** ENOENT where one is not there: those after it stay. */
export function deleteFromMap(map: number, keys: Buffer, count: number): void {
  if (count > 0) libc.bpf(BPF_MAP_DELETE_BATCH, batch(map, keys, 0n, count));
}

/** All entries of a map that was made with this room. */
export function listMap(map: number, keySize: number, valueSize: number, room: number): MapEntries {
  const keys = Buffer.alloc(room * keySize);
  const values = Buffer.alloc(room * valueSize);
  const cursor = Buffer.alloc(8);
  const attr = attributes(0n, cursor, keys, values, room, map, 0n, 0n);
  try {
    libc.bpf(BPF_MAP_LOOKUP_BATCH, attr);
  } catch (error) {
    // The end was reached: what there is was read.
    if ((error as libc.SyscallError).errno !== os.constants.errno.ENOENT) throw error;
  }
  const count = attr.readUInt32LE(32);
  return { keys: keys.subarray(0, count * keySize), values: values.subarray(0, count * valueSize), count };
}

/**
 * A program for filters of traffic control; answers its file descriptor, which the caller closes. `module`: the file
 * descriptor of the types of the module whose functions it calls. Where the kernel's verifier refuses it, the error ends
 * with the verifier's last words.
 */
export function loadProgram(name: string, code: Buffer, module?: number): number {
  const log = Buffer.alloc(LOG_SIZE);
  const types = Buffer.alloc(4 * (MODULE + 1));
  if (module !== undefined) types.writeUInt32LE(module, 4 * MODULE);
  const attr = (level: number): Buffer => {
    const [insns, said] = [
      attributes(BPF_PROG_TYPE_SCHED_CLS, code.length / 8, code, LICENSE),
      level === 0 ? attributes(0, 0, 0n) : attributes(level, log.length, log),
    ];
    const unused = Buffer.alloc(FD_ARRAY - NAME_END);
    return Buffer.concat([insns, said, attributes(0, 0), named(name), unused, attributes(types)]);
  };
  const load = (attempts: number): number => {
    try {
      return libc.bpf(BPF_PROG_LOAD, attr(0));
    } catch (error) {
      if (attempts === 1 || (error as libc.SyscallError).errno !== os.constants.errno.EAGAIN) throw error;
      return load(attempts - 1);
    }
  };
  try {
    return libc.raised(load(LOAD_ATTEMPTS));
  } catch (error) {
    try {
      libc.close(libc.bpf(BPF_PROG_LOAD, attr(1)));
    } catch {
      const said = log.subarray(0, log.indexOf(0)).toString().trim().split('\n');
      if (said.length > 1) throw new Error(`${(error as Error).message}: ${said.slice(-3, -1).join('; ')}`);
    }
    throw error;
  }
}

/** The types of a module that is loaded, as a file descriptor, which the caller closes. Throws where there are none. */
export function openModuleTypes(module: string): number {
  const name = Buffer.alloc(64);
  const info = Buffer.alloc(32); // struct bpf_btf_info
  for (let id = 0; ; ) {
    const next = attributes(id, 0, 0);
    libc.bpf(BPF_BTF_GET_NEXT_ID, next);
    id = next.readUInt32LE(4);
    const fd = libc.raised(libc.bpf(BPF_BTF_GET_FD_BY_ID, attributes(id)));
    info.fill(0);
    attributes(0n, 0, 0, name, name.length).copy(info);
    libc.bpf(BPF_OBJ_GET_INFO_BY_FD, attributes(fd, info.length, info));
    if (name.toString('latin1', 0, name.indexOf(0)) === module) return fd;
    libc.close(fd);
  }
}

/** Runs it once on a frame of its own, in the thread's current namespace. */
export function runProgram(program: number, frame: Buffer): void {
  libc.bpf(BPF_PROG_TEST_RUN, attributes(program, 0, frame.length, 0, frame, 0n, 1, 0, 0, 0, 0n, 0n));
}

/** The number by which the kernel lists a program. */
export function programId(program: number): number {
  const info = Buffer.alloc(8); // the beginning of struct bpf_prog_info
  libc.bpf(BPF_OBJ_GET_INFO_BY_FD, attributes(program, info.length, info));
  return info.readUInt32LE(4);
}

export const closeBpf = (fd: number): void => {
  libc.close(fd);
};
