/** Keys and values as etcd has them: bytes. */
import { deepFreeze } from '../frozen.ts';
import type { Entry } from '../store.ts';
import { keyStampOf, type Int64, type KeyValue } from './messages.ts';

/** No record of weft has as many. */
const MOST_LEVELS = 64;

/** The range of all keys that begin with `prefix`: from it to the first key after all of them. */
export function rangeOf(prefix: string): Readonly<Record<'key' | 'rangeEnd', Uint8Array>> {
  const key = Buffer.from(prefix);
  // UTF-8 has no byte 255.
  if (key.length > 0) return { key, rangeEnd: Buffer.from([...key.subarray(0, -1), key.at(-1)! + 1]) };
  return { key: Buffer.of(0), rangeEnd: Buffer.of(0) };
}

/** The key that comes right after this one. */
export function after(key: Uint8Array): Uint8Array {
  return Buffer.from([...key, 0]);
}

/** @param skipped the length of the store's prefix, which its users do not see */
export function entryOf({ key, value, modRevision, lease }: KeyValue, skipped: number): Entry {
  const id = leaseText(lease);
  return Object.freeze({
    key: keyText(key, skipped),
    value: parsed(value),
    revision: modRevision.toNumber(),
    ...(id !== '0' && { lease: id }),
  });
}

/** The key and the revision of an entry whose value is not read. */
export function stampOf(bytes: Uint8Array, skipped: number): Pick<Entry, 'key' | 'revision'> {
  const { key, modRevision } = keyStampOf(bytes);
  return { key: key.slice(skipped), revision: modRevision.toNumber() };
}

export function keyText(key: Uint8Array, skipped: number): string {
  return Buffer.from(key.buffer, key.byteOffset, key.byteLength).toString('utf8', skipped);
}

export function leaseText(lease: Int64): string {
  return lease.toString(16);
}

export function leaseId(text: string): string {
  return BigInt(`0x${text}`).toString();
}

/**
 * Null for what is no JSON, or nested too deeply: somebody else has written it, and no reader accepts that. Whoever has the
 * value can turn it into text, which fails for some thousand levels.
 */
function parsed(bytes: Uint8Array): unknown {
  try {
    const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString();
    return deepFreeze<unknown>(JSON.parse(text), MOST_LEVELS);
  } catch {
    return null;
  }
}
