/**
 * As much of protocol buffers as etcd's messages need (https://protobuf.dev/programming-guides/encoding): a message is
 * described as data, which gives its TypeScript type, its encoder and its decoder. So no .proto file has to be found at
 * run time, and numbers are what weft wants them to be:
 *
 *   int     int64 as a number: revisions, counts and seconds, below 2^53
 *   id      int64 or uint64 as a bigint: leases, clusters, members
 *
 * A field that is missing has its default value (0, false, empty), or is undefined if it is a message. Unknown fields are
 * skipped.
 */

type Scalar = 'int' | 'id' | 'bool' | 'bytes' | 'text';
type FieldType = Scalar | Message<Fields> | readonly [Scalar | Message<Fields>];
export type Fields = Readonly<Record<string, readonly [number: number, type: FieldType]>>;

export interface Message<F extends Fields> {
  readonly fields: F;
  readonly byNumber: ReadonlyMap<number, readonly [name: string, type: FieldType]>;
  /** Of the fields that are not repeated. */
  readonly defaults: Readonly<Record<string, unknown>>;
  readonly repeated: readonly string[];
}

interface ScalarTypes {
  readonly int: number;
  readonly id: bigint;
  readonly bool: boolean;
  readonly bytes: Uint8Array;
  readonly text: string;
}

type Decoded<T> = T extends Scalar
  ? ScalarTypes[T]
  : T extends readonly [infer One]
    ? readonly NonNullable<Decoded<One>>[]
    : T extends Message<infer F>
      ? MessageOf<F> | undefined
      : never;

type Given<T> = T extends Scalar
  ? ScalarTypes[T]
  : T extends readonly [infer One]
    ? readonly Given<One>[]
    : T extends Message<infer F>
      ? InputOf<F>
      : never;

type MessageOf<F extends Fields> = { readonly [K in keyof F]: Decoded<F[K][1]> };
type InputOf<F extends Fields> = { readonly [K in keyof F]?: Given<F[K][1]> | undefined };

/** What `decode` returns. */
export type Output<M> = M extends Message<infer F> ? MessageOf<F> : never;
/** What `encode` takes. */
export type Input<M> = M extends Message<infer F> ? InputOf<F> : never;

export function message<const F extends Fields>(fields: F): Message<F> {
  const all = Object.entries(fields);
  const byNumber = new Map(all.map(([name, [number, type]]) => [number, [name, type] as const]));
  const repeated = all.filter(([, [, type]]) => isRepeated(type)).map(([name]) => name);
  const single = all.flatMap(([name, [, type]]) => (isRepeated(type) ? [] : [[name, defaultOf(type)] as const]));
  return { fields, byNumber, defaults: Object.fromEntries(single), repeated };
}

// The wire types.
const VARINT = 0;
const FIXED64 = 1;
const DELIMITED = 2;
const FIXED32 = 5;

const NOTHING = new Uint8Array();

/** A field that is given is encoded, also if it has its default value: members of a oneof need that. */
export function encode<M extends Message<Fields>>(type: M, value: Input<M>): Buffer {
  const parts: Uint8Array[] = [];
  for (const [name, given] of Object.entries(value as Readonly<Record<string, unknown>>)) {
    if (given === undefined) continue;
    const [number, field] = type.fields[name]!;
    if (!isRepeated(field)) encodeField(parts, number, field, given);
    else for (const one of given as readonly unknown[]) encodeField(parts, number, field[0], one);
  }
  return Buffer.concat(parts);
}

/** @throws Error if it is not such a message */
export function decode<M extends Message<Fields>>(type: M, bytes: Uint8Array): Output<M> {
  return decodeFrom(type, new Reader(bytes)) as Output<M>;
}

function encodeField(parts: Uint8Array[], number: number, type: Scalar | Message<Fields>, value: unknown): void {
  switch (type) {
    case 'int':
      parts.push(varint(number * 8 + VARINT), varint(BigInt(value as number)));
      return;
    case 'id':
      parts.push(varint(number * 8 + VARINT), varint(value as bigint));
      return;
    case 'bool':
      parts.push(varint(number * 8 + VARINT), varint(value ? 1 : 0));
      return;
    default: {
      const content =
        type === 'bytes'
          ? (value as Uint8Array)
          : type === 'text'
            ? Buffer.from(value as string)
            : encode(type, value!);
      parts.push(varint(number * 8 + DELIMITED), varint(content.length), content);
    }
  }
}

/** Negative numbers are encoded as 64 bits of two's complement. */
function varint(value: number | bigint): Uint8Array {
  let rest = BigInt.asUintN(64, BigInt(value));
  const bytes: number[] = [];
  for (; rest > 127n; rest >>= 7n) bytes.push(Number(rest & 127n) | 128);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}

function decodeFrom(type: Message<Fields>, reader: Reader): Record<string, unknown> {
  const decoded: Record<string, unknown> = { ...type.defaults };
  for (const name of type.repeated) decoded[name] = [];
  while (!reader.isAtEnd) {
    const tag = reader.int();
    const known = type.byNumber.get(Math.floor(tag / 8));
    if (!known) {
      reader.skip(tag % 8);
      continue;
    }
    const [name, field] = known;
    if (isRepeated(field)) (decoded[name] as unknown[]).push(decodeField(field[0], tag % 8, reader));
    else decoded[name] = decodeField(field, tag % 8, reader);
  }
  return decoded;
}

function decodeField(type: Scalar | Message<Fields>, wireType: number, reader: Reader): unknown {
  const isNumber = type === 'int' || type === 'id' || type === 'bool';
  if (wireType !== (isNumber ? VARINT : DELIMITED)) throw new Error(`a field has wire type ${wireType}`);
  switch (type) {
    case 'int':
      return reader.int();
    case 'id':
      return reader.id();
    case 'bool':
      return reader.int() !== 0;
    case 'bytes':
      return reader.bytes();
    case 'text':
      return Buffer.from(reader.bytes()).toString();
    default:
      return decodeFrom(type, new Reader(reader.bytes()));
  }
}

function defaultOf(type: Scalar | Message<Fields>): unknown {
  switch (type) {
    case 'int':
      return 0;
    case 'id':
      return 0n;
    case 'bool':
      return false;
    case 'bytes':
      return NOTHING;
    case 'text':
      return '';
    default:
      return undefined;
  }
}

function isRepeated(type: FieldType): type is readonly [Scalar | Message<Fields>] {
  return Array.isArray(type);
}

class Reader {
  readonly #bytes: Uint8Array;
  #at = 0;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
  }

  get isAtEnd(): boolean {
    return this.#at >= this.#bytes.length;
  }

  /** As a signed number. */
  int(): number {
    let value = 0;
    for (let at = 0, factor = 1; at < 7; at++, factor *= 128) {
      const byte = this.#byte();
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
    this.#at -= 7;
    return Number(BigInt.asIntN(64, this.id()));
  }

  /** As 64 bits without a sign. */
  id(): bigint {
    let value = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      const byte = this.#byte();
      value |= BigInt(byte & 127) << shift;
      if (byte < 128) return BigInt.asUintN(64, value);
    }
    throw new Error('a number has more than ten bytes');
  }

  /** They stay those of the message. */
  bytes(): Uint8Array {
    return this.#take(this.int());
  }

  skip(wireType: number): void {
    if (wireType === VARINT) this.id();
    else if (wireType === DELIMITED) this.bytes();
    else if (wireType === FIXED64) this.#take(8);
    else if (wireType === FIXED32) this.#take(4);
    else throw new Error(`wire type ${wireType} is unknown`);
  }

  #byte(): number {
    const byte = this.#bytes[this.#at++];
    if (byte === undefined) throw new Error('a message ends too early');
    return byte;
  }

  #take(length: number): Uint8Array {
    const end = this.#at + length;
    if (length < 0 || end > this.#bytes.length) throw new Error('a message ends too early');
    const taken = this.#bytes.subarray(this.#at, end);
    this.#at = end;
    return taken;
  }
}
