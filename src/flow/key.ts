/**
 * Flow keys and masks: bytes in the layout of `fields.ts`.
 *
 * A key says what a frame's headers are; a mask says which of them a decision
 * used (0xff: used, 0x00: wildcarded; whole fields only, so the number of
 * distinct masks stays small). A key and a mask together are a megaflow: it
 * covers every frame whose key is the same under the mask.
 */
import { fieldList, fields, KEY_BYTES, type Field, type FieldName } from './fields.ts';
import { formatIp, formatMac } from './types.ts';

/** KEY_BYTES bytes; not changed while anybody looks at it. */
export type FlowKey = Uint8Array;
/** KEY_BYTES bytes of 0x00 or 0xff. */
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

/** What goes into a string, byte by byte: an array to slice from costs more than the copy. */
const scratch = Buffer.alloc(2 * KEY_BYTES);

/** A string that is equal exactly for equal bytes, 2 · KEY_BYTES at most: for Map keys. */
export function bytesId(bytes: Uint8Array): string {
  for (let i = 0; i < bytes.length; i++) scratch[i] = bytes[i]!;
  return scratch.toString('latin1', 0, bytes.length);
}

/** The same for a megaflow: which fields it uses, and their values. */
export function megaflowId(key: FlowKey, mask: FlowMask): string {
  let used = 0;
  let length = 3;
  for (const { offset, size, number } of fieldList) {
    if (mask[offset] === 0) continue;
    used |= 1 << number;
    for (let i = offset; i < offset + size; i++) scratch[length++] = key[i]!;
  }
  scratch[0] = used;
  scratch[1] = used >> 8;
  scratch[2] = used >> 16;
  return scratch.toString('latin1', 0, length);
}

const masks = new Map<number, FlowMask>();

/** The mask that uses a set of fields, given by their bits. One array for each set: do not write to it. */
export function maskOf(used: number): FlowMask {
  let mask = masks.get(used);
  if (!mask) {
    mask = emptyKey();
    for (const { offset, size, number } of fieldList) if (used & (1 << number)) mask.fill(0xff, offset, offset + size);
    masks.set(used, mask);
  }
  return mask;
}

/** Which fields the mask uses, in the order of the key. */
export function maskFields(mask: FlowMask): FieldName[] {
  return fieldList.filter((field) => mask[field.offset] !== 0).map((field) => field.name);
}

const etherTypes: Record<number, string> = { 0x0800: 'ip', 0x86dd: 'ipv6', 0x0806: 'arp' };

/** One field as an operator reads it, `ip_dst=10.0.0.2`. */
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
      return `${name}=${readNumber(key, field)}`;
    case 'u8':
    case 'u32':
      return `${name}=${readNumber(key, field)}`;
    default:
      return field.kind satisfies never;
  }
}

/** A megaflow as `weft flows` prints it: the used fields only. */
export function formatMegaflow(key: FlowKey, mask: FlowMask, portName?: (port: number) => string): string {
  return maskFields(mask)
    .map((name) => formatField(name, key, portName))
    .join(',');
}
