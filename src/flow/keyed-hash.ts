/**
 * HalfSipHash-2-4 (Aumasson and Bernstein), 32 bits: nobody without the key can predict a result, whatever inputs
 * and results they have seen.
 */

/** @param key 8 bytes @returns 32 bits, unsigned */
export function keyedHash(key: Uint8Array, input: Uint8Array): number {
  const k0 = littleEndian(key, 0, 4);
  const k1 = littleEndian(key, 4, 4);
  let [v0, v1, v2, v3] = [k0, k1, 0x6c796765 ^ k0, 0x74656462 ^ k1];
  const words = input.length >> 2;
  const last = (input.length << 24) | littleEndian(input, 4 * words, input.length & 3);
  // Two rounds for each word, then four that mix nothing in.
  for (let n = 0; n < words + 3; n++) {
    const word = n < words ? littleEndian(input, 4 * n, 4) : n === words ? last : 0;
    if (n === words + 1) v2 ^= 0xff;
    v3 ^= word;
    for (let round = 0; round < 2; round++) {
      v0 = (v0 + v1) | 0;
      v1 = rotated(v1, 5) ^ v0;
      v0 = rotated(v0, 16);
      v2 = (v2 + v3) | 0;
      v3 = rotated(v3, 8) ^ v2;
      v0 = (v0 + v3) | 0;
      v3 = rotated(v3, 7) ^ v0;
      v2 = (v2 + v1) | 0;
      v1 = rotated(v1, 13) ^ v2;
      v2 = rotated(v2, 16);
    }
    v0 ^= word;
  }
  return (v1 ^ v3) >>> 0;
}

function littleEndian(bytes: Uint8Array, at: number, count: number): number {
  let word = 0;
  for (let n = 0; n < count; n++) word |= bytes[at + n]! << (8 * n);
  return word;
}

function rotated(word: number, bits: number): number {
  return (word << bits) | (word >>> (32 - bits));
}
