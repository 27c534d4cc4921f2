/** The key with which two hosts authenticate the probes between them: 32 bytes, written as hexadecimal digits. */
import * as z from 'zod';

const EXPECTED = 'a key of 64 hexadecimal digits is expected, the same on both hosts (`weft key` prints a new one)';

/** What it says of a wrong key does not show the key. */
export const peerKey = z.unknown().transform((value, context): Uint8Array => {
  if (typeof value === 'string' && /^[0-9a-fA-F]{64}$/.test(value)) {
    return Uint8Array.from(value.match(/../g)!, (digits) => Number.parseInt(digits, 16));
  }
  context.addIssue({ code: 'custom', message: EXPECTED, input: {} });
  return z.NEVER;
});
