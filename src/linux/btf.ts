/**
 * What the running kernel's own types say (BTF, Documentation/bpf/btf.rst): where a field is in a structure, which number a
 * function has. One walk over some 5 MB, 20 ms.
 */
import fs from 'node:fs';

const FILE = '/sys/kernel/btf/vmlinux';
const MAGIC = 0xeb9f;
const STRUCT = 4;
const FUNC = 12;
const TYPE = 12; // struct btf_type
const MEMBER = 12; // struct btf_member
/** Bytes that follow a type, for each of its members or once, by kind. */
const EACH: Readonly<Record<number, number>> = { 4: MEMBER, 5: MEMBER, 6: 8, 13: 8, 15: 12, 19: 12 };
const ONCE: Readonly<Record<number, number>> = { 1: 4, 3: 12, 14: 4, 17: 4 };

export interface KernelTypes {
  /** Number of each function that was asked for; absent where the kernel has none of the name. */
  readonly functions: ReadonlyMap<string, number>;
  /** Byte offset of each field, as `structure.field`; absent where there is none. */
  readonly fields: ReadonlyMap<string, number>;
}

/** Throws where the kernel does not tell its types (CONFIG_DEBUG_INFO_BTF). */
export function readKernelTypes(functions: readonly string[], fields: readonly string[]): KernelTypes {
  const bytes = fs.readFileSync(FILE);
  if (bytes.readUInt16LE(0) !== MAGIC) throw new Error(`${FILE}: not BTF`);
  const header = bytes.readUInt32LE(4);
  const types = header + bytes.readUInt32LE(8);
  const end = types + bytes.readUInt32LE(12);
  const strings = header + bytes.readUInt32LE(16);
  /** Where a name stands among the strings: types name it by that; each string is there once. */
  const place = (name: string): number => bytes.indexOf(`\0${name}\0`, strings) + 1 - strings;
  const wantedFunctions = new Map(functions.map((name) => [place(name), name]));
  const structures = new Map<number, Map<number, string>>();
  for (const field of fields) {
    const [structure = '', member = ''] = field.split('.');
    const at = place(structure);
    structures.set(at, (structures.get(at) ?? new Map()).set(place(member), field));
  }

  const foundFunctions = new Map<string, number>();
  const foundFields = new Map<string, number>();
  for (let at = types, id = 1; at < end; id++) {
    const name = bytes.readUInt32LE(at);
    const info = bytes.readUInt32LE(at + 4);
    const kind = (info >>> 24) & 0x1f;
    const members = info & 0xffff;
    if (kind === FUNC) {
      const wanted = wantedFunctions.get(name);
      if (wanted !== undefined) foundFunctions.set(wanted, id);
    } else if (kind === STRUCT) {
      const wanted = structures.get(name);
      if (wanted !== undefined)
        for (let member = at + TYPE; member < at + TYPE + members * MEMBER; member += MEMBER) {
          const field = wanted.get(bytes.readUInt32LE(member));
          // In bits; the upper byte is the width of a bit field, where the structure has such.
          if (field !== undefined) foundFields.set(field, (bytes.readUInt32LE(member + 8) & 0xffffff) / 8);
        }
    }
    at += TYPE + (ONCE[kind] ?? 0) + (EACH[kind] ?? 0) * members;
  }
  return { functions: foundFunctions, fields: foundFields };
}
