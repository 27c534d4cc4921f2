/**
 * Schemas of the single values that resources and options are made of. A message about a text
 * begins with that text in quotes, and says what is accepted.
 */
import * as z from 'zod';
import {
  ETH_ARP,
  ETH_IPV4,
  ETH_IPV6,
  ETH_MAC_CONTROL,
  ETH_OLD_QINQ,
  ETH_QINQ,
  ETH_TYPE_MIN,
  ETH_VLAN,
} from '../wire/ethernet.ts';
import {
  addressText,
  addressValue,
  canonicalAddress,
  isAddress,
  isIp4,
  overlaps,
  parseSubnet,
  type AddressRange,
} from './address.ts';

const LONGEST_QUOTE = 80;

/** On one line, and shortened if it is long. */
export function quote(text: string): string {
  return JSON.stringify(text.length > LONGEST_QUOTE ? `${text.slice(0, LONGEST_QUOTE)}…` : text);
}

/** Text that matches a pattern; `is` continues the sentence that begins with the refused text. */
const matching = (pattern: RegExp, is: string) =>
  z.string().regex(pattern, {
    error: ({ input }) => `${quote(String(input))} is not ${is}`,
  });

/** RFC 1123 label, as in Kubernetes. */
export const name = matching(
  /^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$/,
  'a name: 1 to 63 lower-case letters, digits and "-", a letter or digit at both ends',
);

export const labelKey = matching(
  /^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?\/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/,
  'a label key: [PREFIX/]NAME of letters, digits, "-", "_" and ".", a letter or digit at both ends',
);

export const label = matching(
  /^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$/,
  'a label value: up to 63 letters, digits, "-", "_" and ".", a letter or digit at both ends',
);

/** Canonical text: RFC 5952 for IPv6. */
export const ipAddress = z.string().transform((text, context) => {
  if (isAddress(text)) return canonicalAddress(text);
  // The notation of `ip address`: 10.0.0.10/24.
  const [bare = '', length] = text.split('/');
  const hint = length !== undefined && isAddress(bare) ? `, did you mean ${bare}?` : '';
  context.addIssue({ code: 'custom', message: `${quote(text)} is not an IPv4 or IPv6 address${hint}` });
  return z.NEVER;
});

/** Blocks that a network cannot use, and what they are (RFC 6890, RFC 4291). */
const reservedBlocks = [
  ['::/128', 'unspecified'],
  ['0.0.0.0/8', 'unspecified'],
  ['127.0.0.0/8', 'loopback'],
  ['169.254.0.0/16', 'link-local'],
  ['224.0.0.0/4', 'multicast'],
  ['240.0.0.0/4', 'reserved'],
  ['::1/128', 'loopback'],
  ['fe80::/10', 'link-local'],
  // Its IPv4 counterpart is link-local.
  ['fd77:6566:7430::/126', 'weft’s own link to its host'],
  ['ff00::/8', 'multicast'],
].map(([block = '', what = '']) => ({ ...parseSubnet(block), what }));

function reservedAs(range: AddressRange): string | undefined {
  return reservedBlocks.find((block) => overlaps(block, range))?.what;
}

/** These do not overlap. */
const reservedInOrder = [...reservedBlocks].sort((a, b) => (a.first < b.first ? -1 : 1));

/** What one address is reserved as: there may be a hundred thousand to check. */
function reservedAt(value: bigint): string | undefined {
  for (const { first, last, what } of reservedInOrder) {
    if (value <= last) return first <= value ? what : undefined;
  }
  return undefined;
}

/**
 * An address of one interface that is valid beyond its link. Loopback addresses are accepted: hosts of a test can use
 * them.
 */
export const unicastAddress = ipAddress.superRefine((text, context) => {
  const what = reservedAt(addressValue(text));
  if (what !== undefined && what !== 'loopback') {
    context.addIssue({
      code: 'custom',
      message: `${quote(text)} is ${what}: a unicast address is accepted`,
    });
  }
});

/** Where clients outside reach a service. */
export const outsideAddress = ipAddress.superRefine((text, context) => {
  const what = reservedAt(addressValue(text));
  if (what === undefined) return;
  context.addIssue({
    code: 'custom',
    message: `${quote(text)} is ${what}: an address that clients outside reach is accepted`,
  });
});

/** EtherTypes that weft checks itself, and those that no network carries. */
const ownEtherTypes: ReadonlyMap<number, string> = new Map([
  [ETH_IPV4, 'IPv4, which is always accepted and checked'],
  [ETH_ARP, 'ARP, which is always accepted and checked'],
  [ETH_IPV6, 'IPv6, which is always accepted and checked'],
  ...[ETH_VLAN, ETH_QINQ, ...ETH_OLD_QINQ].map((type) => [type, 'a VLAN tag, which no network carries'] as const),
  [ETH_MAC_CONTROL, 'MAC control, which no network carries'],
]);

/** Canonical text: `0x88f7`. */
export const etherType = z.union([z.number(), z.string()]).transform((given, context) => {
  const type = typeof given === 'string' && !/^(0x[0-9a-f]{1,4}|\d{1,5})$/i.test(given) ? Number.NaN : Number(given);
  const fail = (what: string, message: string): never => {
    context.addIssue({ code: 'custom', message: `${typeof given === 'string' ? quote(given) : what} ${message}` });
    return z.NEVER;
  };
  const isType = Number.isInteger(type) && type >= ETH_TYPE_MIN && type <= 0xffff;
  if (!isType) return fail(String(given), 'is not an EtherType: 0x0600 to 0xffff');
  const text = `0x${type.toString(16).padStart(4, '0')}`;
  const own = ownEtherTypes.get(type);
  return own === undefined ? text : fail(text, `is ${own}`);
});

/** Where other machines can reach a host; 0.0.0.0 and :: mean all of its addresses. */
export const listenAddress = ipAddress.superRefine((text, context) => {
  const what = reservedAt(addressValue(text));
  if (what === undefined || text === '0.0.0.0' || text === '::') return;
  context.addIssue({
    code: 'custom',
    message: `${quote(text)} is ${what}: an address that other machines reach this host at is accepted`,
  });
});

/** Canonical text with the host bits zero; an address with host bits set is refused. */
export const cidr = z.string().transform((text, context) => {
  const fail = (message: string): never => {
    context.addIssue({ code: 'custom', message: `${quote(text)} ${message}` });
    return z.NEVER;
  };
  const [address = '', prefixText = '', extra] = text.split('/');
  if (!isAddress(address) || !/^(0|[1-9]\d{0,2})$/.test(prefixText) || extra !== undefined) {
    return fail('is not a subnet like 10.0.0.0/24 or fd00::/64');
  }
  const prefixLength = Number(prefixText);
  const isV4 = !address.includes(':');
  const [shortest, longest] = isV4 ? [8, 30] : [32, 126];
  if (prefixLength < shortest || prefixLength > longest) {
    return fail(`has prefix length ${prefixLength}: accepted are ${shortest} to ${longest}`);
  }
  const value = addressValue(address);
  if (!isV4 && isIp4(value)) return fail('is IPv4-mapped: write it as an IPv4 subnet');
  const subnet = parseSubnet(text);
  const what = reservedAs(subnet);
  if (what !== undefined) return fail(`has addresses that are ${what}: a subnet of unicast addresses is accepted`);
  const canonical = `${addressText(subnet.first)}/${prefixLength}`;
  if (subnet.first !== value) return fail(`has host bits set, did you mean ${canonical}?`);
  return canonical;
});

/** The destination of a route: a prefix or a single address, as canonical text with the host bits zero. */
export const prefix = z.string().transform((text, context) => {
  const fail = (message: string): never => {
    context.addIssue({ code: 'custom', message: `${quote(text)} ${message}` });
    return z.NEVER;
  };
  const [address = '', given, extra] = text.split('/');
  const isV4 = !address.includes(':');
  const longest = isV4 ? 32 : 128;
  const lengthText = given ?? String(longest);
  if (!isAddress(address) || !/^(0|[1-9]\d{0,2})$/.test(lengthText) || extra !== undefined) {
    return fail('is not a destination like 10.0.0.0/8, 0.0.0.0/0 or fd00::/8');
  }
  const length = Number(lengthText);
  if (length > longest) return fail(`has prefix length ${length}: accepted are 0 to ${longest}`);
  const value = addressValue(address);
  if (!isV4 && isIp4(value)) return fail('is IPv4-mapped: write it as an IPv4 destination');
  const { first } = parseSubnet(`${address}/${length}`);
  const canonical = `${addressText(first)}/${length}`;
  if (first !== value) return fail(`has host bits set, did you mean ${canonical}?`);
  return canonical;
});

/** FIRST-LAST of one family, in order; canonical text. */
export const ipRange = z.string().transform((text, context) => {
  const fail = (message: string): never => {
    context.addIssue({ code: 'custom', message: `${quote(text)} ${message}` });
    return z.NEVER;
  };
  const [first = '', last = '', extra] = text.split('-').map((end) => end.trim());
  if (!isAddress(first) || !isAddress(last) || extra !== undefined) {
    return fail('is not a range like 10.0.0.10-10.0.0.99');
  }
  const [low, high] = [addressValue(first), addressValue(last)];
  if (isIp4(low) !== isIp4(high) || low > high) {
    return fail('is not a range: both ends are of one family, the first not above the last');
  }
  return `${addressText(low)}-${addressText(high)}`;
});

/** A unicast address; canonical lower-case text with colons. */
export const macAddress = z.string().transform((text, context) => {
  const fail = (message: string): never => {
    context.addIssue({ code: 'custom', message: `${quote(text)} ${message}` });
    return z.NEVER;
  };
  if (!/^[0-9a-f]{2}([:-][0-9a-f]{2}){5}$/i.test(text)) return fail('is not a MAC address like 02:00:00:00:00:01');
  const canonical = text.toLowerCase().replaceAll('-', ':');
  if ((Number.parseInt(canonical.slice(0, 2), 16) & 1) === 1 || canonical === '00:00:00:00:00:00') {
    return fail('is a group or zero address: a port needs a unicast one');
  }
  return canonical;
});
