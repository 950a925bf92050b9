/**
 * eBPF programs written as values: an instruction set in the kernel's own words (linux/bpf.h, Documentation/bpf/standardization/
 * instruction-set.rst), with labels to jump to. Small programs only: no compiler is needed where they run.
 *
 *   const p = assemble();
 *   p.load(4, 0, 1, 40).jump('!=', 0, 7, 'pass').call(23).exit();
 *   p.label('pass').set(0, -1).exit();
 *   p.code()
 */

export type Register = 0 | 1 | 2 | 3 | 4 | 5 | 6 | 7 | 8 | 9 | 10;
/** Sizes in bytes of what is loaded and stored. */
export type Size = 1 | 2 | 4 | 8;
export type Comparison = '==' | '!=' | '>' | '&' | 's<=';

const SIZES: Readonly<Record<Size, number>> = { 4: 0x00, 2: 0x08, 1: 0x10, 8: 0x18 };
const COMPARISONS: Readonly<Record<Comparison, number>> = {
  '==': 0x10,
  '>': 0x20,
  '&': 0x40,
  '!=': 0x50,
  's<=': 0xd0,
};

const LDX_MEM = 0x61;
const ST_MEM = 0x62;
const STX_MEM = 0x63;
const STX_ATOMIC_4 = 0xc3;
const JMP = 0x05;
const JMP32 = 0x06;
const ALU = 0x04;
const ALU64 = 0x07;
const FROM_REGISTER = 0x08;
const ADD = 0x00;
const SUB = 0x10;
const MULTIPLY = 0x20;
const AND = 0x50;
const SHIFT_RIGHT = 0x70;
const XOR = 0xa0;
const MOV = 0xb0;
const CALL = 0x85;
const EXIT = 0x95;
const LD_IMM64 = 0x18;
const PSEUDO_MAP_FD = 1;
const PSEUDO_MAP_VALUE = 2;
const PSEUDO_KFUNC_CALL = 2;
/** Place of the module's types among those that a program is loaded with (bpf.ts); 0 are the kernel's own. */
export const MODULE = 1;

type Operand = { readonly register: Register } | number;
const isNumber = (operand: Operand): operand is number => typeof operand === 'number';

/** A register as the second operand. */
export const reg = (register: Register): { readonly register: Register } => ({ register });

export interface Assembler {
  label(name: string): Assembler;
  /** to = *(size *)(from + offset) */
  load(size: Size, to: Register, from: Register, offset: number): Assembler;
  /** *(size *)(at + offset) = value */
  store(size: Size, at: Register, offset: number, value: Operand): Assembler;
  /** A number is extended from 32 bits with its sign. */
  set(to: Register, value: Operand): Assembler;
  add(to: Register, value: Operand): Assembler;
  /** In 32 bits. */
  subtract(to: Register, value: Operand): Assembler;
  and(to: Register, value: Operand): Assembler;
  /** A number is extended from 32 bits with its sign. */
  multiply(to: Register, value: Operand): Assembler;
  shiftRight(to: Register, bits: number): Assembler;
  xor(to: Register, value: Operand): Assembler;
  /** *(u32 *)(at + offset) += value, as one step for all processors. */
  addShared(at: Register, offset: number, value: { readonly register: Register }): Assembler;
  /** Jumps where it holds, in 64 bits; 's<=' compares 32 bits with sign. */
  jump(comparison: Comparison, left: Register, right: Operand, to: string): Assembler;
  go(to: string): Assembler;
  /** to = the map with this file descriptor. */
  map(to: Register, fd: number): Assembler;
  /** to = the first value of the array map with this file descriptor. */
  firstValue(to: Register, fd: number): Assembler;
  /** A helper by its number; arguments in registers 1 to 5, which are lost, the answer in 0. */
  call(helper: number): Assembler;
  /** A function of the kernel by its number (btf.ts): the kernel's own, or of the module that the program is loaded with. */
  callKernel(id: number, of: 'kernel' | 'module'): Assembler;
  exit(): Assembler;
  /** The instructions, 8 bytes each. Throws where a label is missing. */
  code(): Buffer;
}

export function assemble(): Assembler {
  const instructions: Buffer[] = [];
  const labels = new Map<string, number>();
  const jumps: { readonly at: number; readonly to: string }[] = [];

  /** struct bpf_insn. */
  function emit(code: number, to: number, from: number, offset: number, immediate: number): Assembler {
    const bytes = Buffer.alloc(8);
    bytes[0] = code;
    bytes[1] = (from << 4) | to;
    bytes.writeInt16LE(offset, 2);
    bytes.writeInt32LE(immediate, 4);
    instructions.push(bytes);
    return self;
  }
  const arithmetic = (kind: number, operation: number, to: Register, value: Operand): Assembler =>
    isNumber(value)
      ? emit(kind | operation, to, 0, 0, value)
      : emit(kind | operation | FROM_REGISTER, to, value.register, 0, 0);

  const self: Assembler = {
    label(name) {
      labels.set(name, instructions.length);
      return self;
    },
    load: (size, to, from, offset) => emit(LDX_MEM | SIZES[size], to, from, offset, 0),
    store: (size, at, offset, value) =>
      isNumber(value)
        ? emit(ST_MEM | SIZES[size], at, 0, offset, value)
        : emit(STX_MEM | SIZES[size], at, value.register, offset, 0),
    set: (to, value) => arithmetic(ALU64, MOV, to, value),
    add: (to, value) => arithmetic(ALU64, ADD, to, value),
    subtract: (to, value) => arithmetic(ALU, SUB, to, value),
    and: (to, value) => arithmetic(ALU64, AND, to, value),
    multiply: (to, value) => arithmetic(ALU64, MULTIPLY, to, value),
    shiftRight: (to, bits) => arithmetic(ALU64, SHIFT_RIGHT, to, bits),
    xor: (to, value) => arithmetic(ALU64, XOR, to, value),
    addShared: (at, offset, { register }) => emit(STX_ATOMIC_4, at, register, offset, 0),
    jump(comparison, left, right, to) {
      jumps.push({ at: instructions.length, to });
      const code = (comparison === 's<=' ? JMP32 : JMP) | COMPARISONS[comparison];
      return isNumber(right)
        ? emit(code, left, 0, 0, right)
        : emit(code | FROM_REGISTER, left, right.register, 0, 0);
    },
    go(to) {
      jumps.push({ at: instructions.length, to });
      return emit(JMP, 0, 0, 0, 0);
    },
    map(to, fd) {
      emit(LD_IMM64, to, PSEUDO_MAP_FD, 0, fd);
      return emit(0, 0, 0, 0, 0);
    },
    firstValue(to, fd) {
      emit(LD_IMM64, to, PSEUDO_MAP_VALUE, 0, fd);
      return emit(0, 0, 0, 0, 0);
    },
    call: (helper) => emit(CALL, 0, 0, 0, helper),
    callKernel: (id, of) => emit(CALL, 0, PSEUDO_KFUNC_CALL, of === 'module' ? MODULE : 0, id),
    exit: () => emit(EXIT, 0, 0, 0, 0),
    code() {
      for (const { at, to } of jumps) {
        const target = labels.get(to);
        if (target === undefined) throw new Error(`no label '${to}'`);
        (instructions[at] as Buffer).writeInt16LE(target - at - 1, 2);
      }
      return Buffer.concat(instructions);
    },
  };
  return self;
}
