/**
 * Flow keys and masks: bytes in the layout of `fields.ts`.
 *
 * A key holds the values of a frame's headers; a mask says which of them a decision used
 * (0xff: used, 0x00: wildcarded). A mask uses whole fields, so that the number of distinct
 * masks stays small. The exception is a field that was refused, of which it may use only the
 * first bytes (`FlowView.isOneOf`). A key and a mask together are a megaflow: it covers every
 * frame whose key is the same under the mask.
 */
import { ctState, fieldList, fields, KEY_BYTES, type Field, type FieldName } from './fields.ts';
import { formatIp, formatMac, isIp4, type Vni } from './types.ts';

/** KEY_BYTES bytes. Must not change while anybody reads it. */
export type FlowKey = Uint8Array;
/** KEY_BYTES bytes of 0x00 or 0xff; the used bytes of a field come first. */
export type FlowMask = Uint8Array;

export function readNumber(key: Uint8Array, field: Field): number {
  const { offset, size } = field;
  let value = 0;
  for (let i = 0; i < size; i++) value = value * 256 + key[offset + i]!;
  return value;
}

export function writeNumber(key: Uint8Array, field: Field, value: number): void {
  for (let i = field.size - 1, rest = value; i >= 0; i--, rest = Math.floor(rest / 256)) {
    key[field.offset + i] = rest % 256;
  }
}

/** A view of the key's own bytes: do not write to it. */
export function readBytes(key: Uint8Array, field: Field): Uint8Array {
  return key.subarray(field.offset, field.offset + field.size);
}

export function emptyKey(): Uint8Array {
  return new Uint8Array(KEY_BYTES);
}

/** A new key with every wildcarded byte zero. */
export function applyMask(key: FlowKey, mask: FlowMask): FlowKey {
  const masked = new Uint8Array(KEY_BYTES);
  for (let i = 0; i < KEY_BYTES; i++) masked[i] = key[i]! & mask[i]!;
  return masked;
}

/** Does the megaflow (`masked` under `mask`) cover `key`? */
export function covers(masked: FlowKey, mask: FlowMask, key: FlowKey): boolean {
  for (let i = 0; i < KEY_BYTES; i++) if ((key[i]! & mask[i]!) !== masked[i]) return false;
  return true;
}

/** Bytes that become a string: slicing an array costs more than this copy. */
const scratch = Buffer.alloc(2 * KEY_BYTES);
const VNI_BYTES = 4;

/** A string that is equal exactly for equal bytes, at most 2 · KEY_BYTES: a key for a Map. */
export function bytesId(bytes: Uint8Array): string {
  for (let i = 0; i < bytes.length; i++) scratch[i] = bytes[i]!;
  return scratch.toString('latin1', 0, bytes.length);
}

/** The same for an address of a network. In one piece: there are very many, and a joined string takes twice the memory. */
export function addressId(vni: Vni, ip: Uint8Array): string {
  scratch.writeUInt32BE(vni);
  scratch.set(ip, VNI_BYTES);
  return scratch.toString('latin1', 0, VNI_BYTES + ip.length);
}

/** The bytes of a `bytesId`: a string takes a tenth of the memory of an array of few bytes. */
export function bytesOf(id: string): Uint8Array {
  const bytes = new Uint8Array(id.length);
  for (let i = 0; i < id.length; i++) bytes[i] = id.charCodeAt(i);
  return bytes;
}

/** The same for a megaflow: which fields it uses, how many bytes of each, and their values. */
export function megaflowId(key: FlowKey, mask: FlowMask): string {
  let length = 0;
  for (const { offset, size } of fieldList) {
    const bytes = usedBytes(mask, offset, size);
    scratch[length++] = bytes;
    for (let i = offset; i < offset + bytes; i++) scratch[length++] = key[i]!;
  }
  return scratch.toString('latin1', 0, length);
}

/** How many bytes of a field a mask uses, from the first on. */
function usedBytes(mask: FlowMask, offset: number, size: number): number {
  let bytes = 0;
  while (bytes < size && mask[offset + bytes] !== 0) bytes++;
  return bytes;
}

const masks = new Map<number | string, FlowMask>();

/** The first `bytes` bytes of a field. */
export interface FieldPrefix {
  readonly field: Field;
  readonly bytes: number;
}

const noPrefixes: readonly FieldPrefix[] = [];

/**
 * The mask that uses a set of fields, given by their bits, and the first bytes of others. Equal
 * masks are one array: do not write to it.
 */
export function maskOf(used: number, prefixes: readonly FieldPrefix[] = noPrefixes): FlowMask {
  const id =
    prefixes.length === 0 ? used : `${used}${prefixes.map(({ field, bytes }) => `,${field.number}/${bytes}`).join('')}`;
  let mask = masks.get(id);
  if (!mask) {
    mask = emptyKey();
    for (const { offset, size, number } of fieldList) if (used & (1 << number)) mask.fill(0xff, offset, offset + size);
    for (const { field, bytes } of prefixes) mask.fill(0xff, field.offset, field.offset + bytes);
    masks.set(id, mask);
  }
  return mask;
}

/** Which fields the mask uses, in the order of the key. */
function maskFields(mask: FlowMask): FieldName[] {
  return fieldList.filter((field) => mask[field.offset] !== 0).map((field) => field.name);
}

const ctStateNames = Object.keys(ctState);

const etherTypes: Record<number, string> = { 0x0800: 'ip', 0x86dd: 'ipv6', 0x0806: 'arp' };

/** One field as operators read it, `ip_dst=10.0.0.2`. */
export function formatField(name: FieldName, key: FlowKey, portName: (port: number) => string = String): string {
  const field = fields[name];
  switch (field.kind) {
    case 'port':
      return `${name}=${portName(readNumber(key, field))}`;
    case 'mac':
      return `${name}=${formatMac(readBytes(key, field))}`;
    case 'ip':
      return `${name}=${formatIp(readBytes(key, field))}`;
    case 'u16':
      if (name === 'eth_type') {
        const type = readNumber(key, field);
        return `${name}=${etherTypes[type] ?? `0x${type.toString(16).padStart(4, '0')}`}`;
      }
      return name === 'ct_state'
        ? `${name}=${ctStateNames[readNumber(key, field)]}`
        : `${name}=${readNumber(key, field)}`;
    case 'u8':
    case 'u32':
      return `${name}=${readNumber(key, field)}`;
    default:
      return field.kind satisfies never;
  }
}

/**
 * A megaflow as `weft flows` prints it: only the used fields, and `ip_src=10.9.0.0/16` if only the beginning is
 * used.
 */
export function formatMegaflow(key: FlowKey, mask: FlowMask, portName?: (port: number) => string): string {
  return maskFields(mask)
    .map((name) => {
      const field = fields[name];
      const bytes = usedBytes(mask, field.offset, field.size);
      return bytes === field.size ? formatField(name, key, portName) : `${name}=${formatPrefix({ field, bytes }, key)}`;
    })
    .join(',');
}

const MAPPED_BYTES = 12;

/** The beginning of a field: `10.9.0.0/16`, `02:5a:*`, `0x0012*`. */
export function formatPrefix({ field, bytes }: FieldPrefix, key: FlowKey): string {
  const start = readBytes(key, field).subarray(0, bytes);
  const hex = Array.from(start, (byte) => byte.toString(16).padStart(2, '0'));
  switch (field.kind) {
    case 'ip': {
      const ip = new Uint8Array(field.size);
      ip.set(start);
      const v4 = bytes >= MAPPED_BYTES && isIp4(ip);
      return `${formatIp(ip)}/${8 * (v4 ? bytes - MAPPED_BYTES : bytes)}`;
    }
    case 'mac':
      return `${hex.join(':')}:*`;
    case 'port':
    case 'u8':
    case 'u16':
    case 'u32':
      return `0x${hex.join('')}*`;
    default:
      return field.kind satisfies never;
  }
}
