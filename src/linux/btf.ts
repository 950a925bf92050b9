/**
 * What the running kernel's own types say (BTF, Documentation/bpf/btf.rst): where a field is in a structure, which number a
 * function has. One walk over some 5 MB, 20 ms.
 *
 * A module's types go on where the kernel's end: their numbers, and their names' places among the strings.
 */
import fs from 'node:fs';
import path from 'node:path';

const FOLDER = '/sys/kernel/btf';
const KERNEL = 'vmlinux';
const MAGIC = 0xeb9f;
const STRUCT = 4;
const FUNC = 12;
const TYPE = 12; // struct btf_type
const MEMBER = 12; // struct btf_member
/** Bytes that follow a type, for each of its members or once, by kind. */
const EACH: Readonly<Record<number, number>> = { 4: MEMBER, 5: MEMBER, 6: 8, 13: 8, 15: 12, 19: 12 };
const ONCE: Readonly<Record<number, number>> = { 1: 4, 3: 12, 14: 4, 17: 4 };

export interface KernelTypes {
  /** Number of each function that was asked for; absent where there is none of the name. */
  readonly functions: ReadonlyMap<string, number>;
  /** Byte offset of each field, as `structure.field`; absent where there is none. */
  readonly fields: ReadonlyMap<string, number>;
  /** Whose functions they are: a module's, or the kernel's own. */
  readonly module?: string;
}

/**
 * Functions and fields that are the kernel's own, or of `module` where that is loaded. Throws where the kernel does not
 * tell its types (CONFIG_DEBUG_INFO_BTF, CONFIG_DEBUG_INFO_BTF_MODULES).
 */
export function readKernelTypes(
  functions: readonly string[],
  fields: readonly string[],
  module: string,
  folder = FOLDER,
): KernelTypes {
  const names = [...functions, ...fields.flatMap((field) => field.split('.'))];
  const kernel = readTypes(path.join(folder, KERNEL), names, { types: 0, strings: 0, places: new Map() });
  const file = path.join(folder, module);
  const own = functions.every((name) => kernel.functions.has(name));
  const found = own || !fs.existsSync(file) ? kernel : readTypes(file, names, kernel);
  const offsets = new Map<string, number>();
  for (const field of fields) {
    const offset = found.fields.get(field) ?? kernel.fields.get(field);
    if (offset !== undefined) offsets.set(field, offset);
  }
  const numbers = new Map([...found.functions].filter(([name]) => functions.includes(name)));
  return { functions: numbers, fields: offsets, ...(found === kernel ? {} : { module }) };
}

/** How many types and bytes of strings there are up to here, and the name that stands at each place. */
interface Counted {
  readonly types: number;
  readonly strings: number;
  readonly places: ReadonlyMap<number, string>;
}

interface Types extends Counted {
  readonly functions: ReadonlyMap<string, number>;
  readonly fields: ReadonlyMap<string, number>;
}

/** All functions, and all fields of structures, whose names are among `names`. */
function readTypes(file: string, names: readonly string[], before: Counted): Types {
  const bytes = fs.readFileSync(file);
  try {
    return walk(file, bytes, names, before);
  } finally {
    // The kernel's are some 5 MB, which a process at rest would keep until it has made as much garbage: they go at once. What is small lies
    // among other buffers.
    if (bytes.length === bytes.buffer.byteLength) bytes.buffer.transfer(0);
  }
}

function walk(file: string, bytes: Buffer, names: readonly string[], before: Counted): Types {
  if (bytes.length < 24 || bytes.readUInt16LE(0) !== MAGIC) throw new Error(`${file}: not BTF`);
  const header = bytes.readUInt32LE(4);
  const types = header + bytes.readUInt32LE(8);
  const end = types + bytes.readUInt32LE(12);
  const strings = header + bytes.readUInt32LE(16);
  // Types name themselves by the place of their name among the strings; each string is there once.
  const places = new Map(before.places);
  for (const name of names) {
    const at = bytes.indexOf(`\0${name}\0`, strings);
    if (at >= 0) places.set(before.strings + at + 1 - strings, name);
  }

  const functions = new Map<string, number>();
  const fields = new Map<string, number>();
  let number = before.types;
  for (let at = types; at < end; ) {
    number++;
    const name = places.get(bytes.readUInt32LE(at));
    const info = bytes.readUInt32LE(at + 4);
    const kind = (info >>> 24) & 0x1f;
    const members = info & 0xffff;
    if (kind === FUNC && name !== undefined) functions.set(name, number);
    else if (kind === STRUCT && name !== undefined)
      for (let member = at + TYPE; member < at + TYPE + members * MEMBER; member += MEMBER) {
        const field = places.get(bytes.readUInt32LE(member));
        // In bits; the upper byte is the width of a bit field, where the structure has such.
        if (field !== undefined)
          fields.set(`${name}.${field}`, (bytes.readUInt32LE(member + 8) & 0xffffff) / 8);
      }
    at += TYPE + (ONCE[kind] ?? 0) + (EACH[kind] ?? 0) * members;
  }
  return { types: number, strings: before.strings + bytes.readUInt32LE(20), places, functions, fields };
}
