/**
 * The field table: every header field that a decision may read, and its place in the flow key.
 *
 * The flow key is a flat record of KEY_BYTES bytes, the same in TypeScript and in the addon
 * (`native/key.h`; `addon/layout.ts` compares the two when the addon is loaded). All numbers are
 * big-endian, so addresses have the bytes that they have on the wire. IPv4 addresses are IPv4-mapped
 * IPv6 (`::ffff:a.b.c.d`, RFC 4291 §2.5.5.2), so one field serves both families. Fields that a frame
 * does not have are zero.
 *
 * CONTRIBUTING.md lists the steps to add a field.
 */
import { checkBudgets, type Budget } from './budget.ts';

export type FieldKind = 'port' | 'u8' | 'u16' | 'u32' | 'mac' | 'ip';

export interface Field {
  readonly name: FieldName;
  /** Offset in the flow key, in bytes. */
  readonly offset: number;
  /** Width in bytes: 1, 2, 4, 6 (MAC) or 16 (IP). */
  readonly size: number;
  readonly kind: FieldKind;
  /** The index in `fieldList`, and the bit in a set of fields: `1 << number`. */
  readonly number: number;
}

/** Bytes in a flow key and in a mask: 13 words of 64 bits. */
export const KEY_BYTES = 104;

const layout = {
  /** Switch port by which the frame came in; the VXLAN port for tunneled frames; 0 for weft's own. */
  in_port: [0, 2, 'port'],
  /** What it has to do with translated connections: a value of `ctState`. Zero while it waits for a decision. */
  ct_state: [2, 2, 'u16'],
  /** VNI of the VXLAN header that it arrived with (RFC 7348 §5), or that weft's own frame is for; 0 if it came from a local port. */
  tun_vni: [4, 4, 'u32'],
  /** Underlay address of the VTEP that sent it; `::` if it came from a local port. */
  tun_src: [8, 16, 'ip'],
  eth_dst: [24, 6, 'mac'],
  eth_src: [30, 6, 'mac'],
  /** EtherType, behind at most one VLAN tag; lengths (802.3, below 0x600) read as 0x05ff. */
  eth_type: [36, 2, 'u16'],
  /** 0 if untagged. Otherwise the TCI of the outer 802.1Q or 802.1ad tag with bit 0x1000 set. */
  vlan_tci: [38, 2, 'u16'],
  /** IPv4/IPv6 source, or the ARP sender protocol address. */
  ip_src: [40, 16, 'ip'],
  /** IPv4/IPv6 destination, or the ARP target protocol address. */
  ip_dst: [56, 16, 'ip'],
  /** IP protocol (the last header of an IPv6 chain), or the ARP operation. */
  ip_proto: [72, 1, 'u8'],
  /** DSCP and ECN. */
  ip_tos: [73, 1, 'u8'],
  /** TTL or hop limit. */
  ip_ttl: [74, 1, 'u8'],
  /** FRAG_NONE, FRAG_FIRST or FRAG_LATER; later fragments have the protocol and L4 fields of the first. */
  ip_frag: [75, 1, 'u8'],
  /** TCP/UDP/SCTP source port, or ICMP type. */
  l4_src: [76, 2, 'u16'],
  /** TCP/UDP/SCTP destination port, or ICMP code. */
  l4_dst: [78, 2, 'u16'],
  /** ARP sender hardware address, or the link-layer address option of NS and NA; zero if absent. */
  nd_lla: [80, 6, 'mac'],
  /** Identifier of an echo request or reply, which tells conversations apart as ports do (RFC 5508 §3). */
  icmp_id: [86, 2, 'u16'],
  /** Target address of a neighbor solicitation or advertisement (RFC 4861 §4.3, §4.4). */
  nd_target: [88, 16, 'ip'],
} as const satisfies Record<string, readonly [number, number, FieldKind]>;

export type FieldName = keyof typeof layout;

export const fields: { readonly [N in FieldName]: Field } = Object.fromEntries(
  Object.entries(layout).map(([name, [offset, size, kind]], number) => [name, { name, offset, size, kind, number }]),
) as { [N in FieldName]: Field };

/** All fields in the order in which they are in the key. */
export const fieldList: readonly Field[] = Object.values(fields);

/** The places that pack numbers, sizes and offsets of fields into bits. */
export function fieldBudgets(list: readonly Omit<Field, 'name' | 'kind'>[]): Budget[] {
  return [
    {
      what: 'fields',
      needed: Math.max(...list.map(({ number }) => number)) + 1,
      most: 32,
      widen: 'the sets of fields: they are integers of 32 bits in flow/view.ts and in maskOf (flow/key.ts)',
    },
    {
      what: 'bytes of one field',
      needed: Math.max(...list.map(({ size }) => size)),
      most: 255,
      widen: 'the length in front of each field in megaflowId (flow/key.ts): it is one byte',
    },
    {
      what: 'bytes of a flow key',
      needed: Math.max(...list.map(({ offset, size }) => offset + size)),
      most: KEY_BYTES,
      widen: 'KEY_BYTES (flow/fields.ts) and kKeyBytes (native/key.h), to a multiple of 8',
    },
  ];
}

checkBudgets(fieldBudgets(fieldList));

/**
 * Values of `ct_state`: what a packet has to do with connections.
 *   - none: it begins a conversation, or is of none. So is a SYN against the direction of a connection that is only tracked.
 *   - original, reply: the direction of a connection whose addresses are translated
 *   - error: an ICMP error, which may be about one of the connections whose packets come in at the same place
 *   - taken: the beginning of a conversation with the tuple with which a connection goes on, so that the replies would be the
 *     same
 *   - known, known_reply: the direction of a connection that is only tracked
 */
export const ctState = { none: 0, original: 1, reply: 2, error: 3, taken: 4, known: 5, known_reply: 6 } as const;

export const FRAG_NONE = 0;
export const FRAG_FIRST = 1;
export const FRAG_LATER = 2;
