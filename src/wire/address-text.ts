/**
 * IP addresses from and to text, for the forms that nearly all addresses have: dotted decimal, and groups of hexadecimal
 * digits with at most one `::`. There may be a hundred thousand of them to read at a start, and a library that knows every
 * form takes ten times as long. Whoever reads other forms, too, asks it for what is none of these.
 *
 * An address is four words of 32 bits, most significant first; IPv4 is IPv4-mapped (RFC 4291 section 2.5.5.2).
 */
const MAPPED = 0xffff;
const GROUPS = 8;
const [DOT, COLON] = [46, 58];

/** What was read last. */
const read = new Uint32Array(4);
const groups = new Uint16Array(GROUPS);

/** @returns undefined for another form; an array that is valid until the next call */
export function wordsOf(text: string): Uint32Array | undefined {
  return text.includes(':') ? ip6Words(text) : ip4Words(text);
}

function ip4Words(text: string): Uint32Array | undefined {
  let [word, part, digits, dots] = [0, 0, 0, 0];
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === DOT) {
      if (digits === 0) return undefined;
      word = word * 256 + part;
      [part, digits] = [0, 0];
      dots++;
      continue;
    }
    // A leading zero would make it octal in other programs.
    if (code < 48 || code > 57 || (digits > 0 && part === 0)) return undefined;
    part = part * 10 + code - 48;
    digits++;
    if (part > 255) return undefined;
  }
  if (dots !== 3 || digits === 0) return undefined;
  read.fill(0, 0, 2);
  read[2] = MAPPED;
  read[3] = word * 256 + part;
  return read;
}

function ip6Words(text: string): Uint32Array | undefined {
  const gap = text.indexOf('::');
  const head = gap === 0 ? 0 : readGroups(text, 0, gap < 0 ? text.length : gap, 0);
  if (gap < 0 ? head !== GROUPS : head < 0) return undefined;
  if (gap >= 0) {
    const count = gap + 2 === text.length ? head : readGroups(text, gap + 2, text.length, head);
    // A gap stands for one group at least.
    if (count < 0 || count === GROUPS) return undefined;
    const tail = GROUPS - (count - head);
    groups.copyWithin(tail, head, count);
    groups.fill(0, head, tail);
  }
  for (let i = 0; i < 4; i++) read[i] = groups[2 * i]! * 0x10000 + groups[2 * i + 1]!;
  return read;
}

/** Reads groups with a colon between them. @returns how many there are now, of `count` before; -1 if it is something else */
function readGroups(text: string, from: number, to: number, count: number): number {
  let [value, digits] = [0, 0];
  for (let i = from; i <= to; i++) {
    const digit = i < to ? digitOf(text.charCodeAt(i)) : -1;
    if (digit >= 0) {
      if (++digits > 4) return -1;
      value = value * 16 + digit;
      continue;
    }
    const isEnd = i === to || text.charCodeAt(i) === COLON;
    if (!isEnd || digits === 0 || count === GROUPS) return -1;
    groups[count++] = value;
    [value, digits] = [0, 0];
  }
  return count;
}

/** Negative for what is no hexadecimal digit. */
function digitOf(code: number): number {
  if (code >= 48 && code <= 57) return code - 48;
  const lower = code | 32;
  return lower >= 97 && lower <= 102 ? lower - 87 : -1;
}

/** Canonical text: dotted decimal, or RFC 5952. */
export function textOf(words: Uint32Array): string {
  const [a = 0, b = 0, c = 0, d = 0] = words;
  if (a === 0 && b === 0 && c === MAPPED) return `${d >>> 24}.${(d >>> 16) & 255}.${(d >>> 8) & 255}.${d & 255}`;
  const { first, length } = longestGap(words);
  let text = '';
  for (let at = 0; at < GROUPS; at++) {
    if (at === first) {
      text += '::';
      at += length - 1;
      continue;
    }
    text += at === 0 || text.endsWith('::') ? '' : ':';
    text += groupOf(words, at).toString(16);
  }
  return text;
}

/** The longest run of zero groups, and of several the first; a single one is written out (RFC 5952 section 4.2). */
function longestGap(words: Uint32Array): { readonly first: number; readonly length: number } {
  let [first, length] = [-1, 1];
  for (let at = 0, run = 0; at < GROUPS; at++) {
    run = groupOf(words, at) === 0 ? run + 1 : 0;
    if (run > length) [first, length] = [at - run + 1, run];
  }
  return { first, length };
}

function groupOf(words: Uint32Array, at: number): number {
  const word = words[at >> 1]!;
  return at % 2 === 0 ? word >>> 16 : word & 0xffff;
}
