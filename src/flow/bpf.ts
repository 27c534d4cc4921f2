/**
 * Classic BPF (McCanne and Jacobson 1993), to which libpcap compiles filter expressions: a
 * program that looks at a frame and says whether it is wanted. native/bpf.h runs the same
 * programs.
 */
import { WeftError } from '../error.ts';

export interface BpfInstruction {
  readonly code: number;
  /** Instructions to skip. */
  readonly jumpTrue: number;
  readonly jumpFalse: number;
  readonly k: number;
}

export type BpfProgram = readonly BpfInstruction[];

/** BPF_MAXINSNS and BPF_MEMWORDS of the kernel. */
const MOST_INSTRUCTIONS = 4096;
const MEMORY = 16;
const RET = [0x06, 0x16];
const JUMPS = [0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d];
const JUMP_ALWAYS = 0x05;
const OF_MEMORY = [0x60, 0x61, 0x02, 0x03];
const DIVISIONS = [0x34, 0x94];
const SHIFTS = [0x64, 0x74];
const OTHERS = [
  ...[0x00, 0x01, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x80, 0x81, 0xb1, 0x07, 0x87],
  ...[0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x3c, 0x44, 0x4c, 0x54, 0x5c, 0x6c, 0x7c, 0x84, 0x9c, 0xa4, 0xac],
];
const known: ReadonlySet<number> = new Set([
  ...RET,
  ...JUMPS,
  JUMP_ALWAYS,
  ...OF_MEMORY,
  ...DIVISIONS,
  ...SHIFTS,
  ...OTHERS,
]);

/**
 * Accepts programs that can be run, by the rules of the kernel's bpf_check_classic: every instruction is known, jumps
 * only go forward and stay inside, memory and shifts are within bounds, no constant divisor is 0, and the last
 * instruction is a return. So every program ends. native/bpf.h checks the same.
 * @throws WeftError('invalid')
 */
export function checkBpf(program: BpfProgram): BpfProgram {
  const refuse = (why: string): never => {
    throw new WeftError('invalid', `filter: ${why}`);
  };
  const { length } = program;
  if (length === 0 || length > MOST_INSTRUCTIONS)
    refuse(`${length} instructions: accepted are 1 to ${MOST_INSTRUCTIONS}`);
  if (!RET.includes(program[length - 1]!.code)) refuse('it does not end in a return');
  for (const [at, { code, jumpTrue, jumpFalse, k }] of program.entries()) {
    if (!known.has(code)) refuse(`instruction ${at} has the unknown code ${code}`);
    const jumps = JUMPS.includes(code) ? [jumpTrue, jumpFalse] : code === JUMP_ALWAYS ? [k] : [];
    if (jumps.some((jump) => at + 1 + jump >= length)) refuse(`instruction ${at} jumps out of the program`);
    if (OF_MEMORY.includes(code) && k >= MEMORY) refuse(`instruction ${at} uses memory that there is not`);
    if (DIVISIONS.includes(code) && k === 0) refuse(`instruction ${at} divides by 0`);
    if (SHIFTS.includes(code) && k >= 32) refuse(`instruction ${at} shifts by ${k} of 32 bits`);
  }
  return program;
}

/**
 * A load from beyond the end of the frame and a division by 0 end the program: the frame is not wanted.
 * @param program a checked program
 * @param bytes the whole frame
 */
export function bpfWants(program: BpfProgram, bytes: Uint8Array): boolean {
  let a = 0;
  let x = 0;
  const memory = new Uint32Array(MEMORY);
  const load = (at: number, size: number): number | undefined => {
    if (at + size > bytes.length) return undefined;
    let value = 0;
    for (let i = 0; i < size; i++) value = value * 256 + bytes[at + i]!;
    return value;
  };
  for (let pc = 0; pc < program.length; pc++) {
    const { code, jumpTrue, jumpFalse, k } = program[pc]!;
    const isRegister = (code & 0x08) !== 0;
    const operand = isRegister ? x : k;
    switch (code) {
      case 0x06:
        return k !== 0;
      case 0x16:
        return a !== 0;
      case 0x00:
        a = k;
        continue;
      case 0x01:
        x = k;
        continue;
      case 0x20:
      case 0x28:
      case 0x30:
      case 0x40:
      case 0x48:
      case 0x50: {
        const loaded = load(code >= 0x40 ? x + k : k, (code & 0x18) === 0 ? 4 : (code & 0x18) === 8 ? 2 : 1);
        if (loaded === undefined) return false;
        a = loaded;
        continue;
      }
      case 0x60:
        a = memory[k]!;
        continue;
      case 0x61:
        x = memory[k]!;
        continue;
      case 0x80:
        a = bytes.length;
        continue;
      case 0x81:
        x = bytes.length;
        continue;
      case 0xb1: {
        const loaded = load(k, 1);
        if (loaded === undefined) return false;
        x = (loaded & 0x0f) * 4;
        continue;
      }
      case 0x02:
        memory[k] = a;
        continue;
      case 0x03:
        memory[k] = x;
        continue;
      case 0x07:
        x = a;
        continue;
      case 0x87:
        a = x;
        continue;
      case 0x84:
        a = -a >>> 0;
        continue;
      case JUMP_ALWAYS:
        pc += k;
        continue;
      default:
        break;
    }
    if ((code & 0x07) === 0x05) {
      pc += isTaken(code & 0xf0, a, operand) ? jumpTrue : jumpFalse;
      continue;
    }
    const result = calculate(code & 0xf0, a, operand);
    if (result === undefined) return false;
    a = result;
  }
  return false;
}

function isTaken(operation: number, a: number, operand: number): boolean {
  switch (operation) {
    case 0x10:
      return a === operand;
    case 0x20:
      return a > operand;
    case 0x30:
      return a >= operand;
    default:
      return (a & operand) !== 0;
  }
}

/** Unsigned 32-bit arithmetic. Undefined for a division by 0. */
function calculate(operation: number, a: number, operand: number): number | undefined {
  switch (operation) {
    case 0x00:
      return (a + operand) >>> 0;
    case 0x10:
      return (a - operand) >>> 0;
    case 0x20:
      return Math.imul(a, operand) >>> 0;
    case 0x30:
      return operand === 0 ? undefined : Math.floor(a / operand);
    case 0x40:
      return (a | operand) >>> 0;
    case 0x50:
      return (a & operand) >>> 0;
    case 0x60:
      return operand < 32 ? (a << operand) >>> 0 : 0;
    case 0x70:
      return operand < 32 ? a >>> operand : 0;
    case 0x90:
      return operand === 0 ? undefined : a % operand;
    default:
      return (a ^ operand) >>> 0;
  }
}
