/** Ethernet II with 802.1Q and 802.1ad tags. */
import { concat, getU16, setU16 } from './bytes.ts';

export const ETH_HEADER_BYTES = 14;
export const VLAN_TAG_BYTES = 4;

export const ETH_IPV4 = 0x0800;
export const ETH_ARP = 0x0806;
export const ETH_IPV6 = 0x86dd;
export const ETH_VLAN = 0x8100;
export const ETH_QINQ = 0x88a8;
/** Tags that some switches use instead of the standard ones. */
export const ETH_OLD_QINQ: readonly number[] = [0x9100, 0x9200, 0x9300];
export const ETH_RARP = 0x8035;
/** MAC control, such as pause frames: never forwarded (IEEE 802.3 clause 31). */
export const ETH_MAC_CONTROL = 0x8808;
/** Smaller values of the type field are lengths (IEEE 802.3 §3.2.6). */
export const ETH_TYPE_MIN = 0x0600;

export interface VlanTag {
  /** ETH_VLAN or ETH_QINQ. */
  readonly tpid: number;
  /** Priority, DEI and VLAN id. */
  readonly tci: number;
}

export interface Ethernet {
  readonly destination: Uint8Array;
  readonly source: Uint8Array;
  /** The EtherType behind the tag, or an 802.3 length. */
  readonly type: number;
  /** At most one tag is parsed. */
  readonly vlan?: VlanTag;
  /** A view of the frame. */
  readonly payload: Uint8Array;
}

/** Undefined for a frame that ends inside its header or tag. The result is a view of `frame`. */
export function parseEthernet(frame: Uint8Array): Ethernet | undefined {
  if (frame.length < ETH_HEADER_BYTES) return undefined;
  const destination = frame.subarray(0, 6);
  const source = frame.subarray(6, 12);
  const type = getU16(frame, 12);
  if (type !== ETH_VLAN && type !== ETH_QINQ) {
    return { destination, source, type, payload: frame.subarray(ETH_HEADER_BYTES) };
  }
  if (frame.length < ETH_HEADER_BYTES + VLAN_TAG_BYTES) return undefined;
  return {
    destination,
    source,
    type: getU16(frame, 16),
    vlan: { tpid: type, tci: getU16(frame, 14) },
    payload: frame.subarray(ETH_HEADER_BYTES + VLAN_TAG_BYTES),
  };
}

/** A new frame, without padding. */
export function buildEthernet(header: Ethernet): Uint8Array {
  const { destination, source, type, vlan, payload } = header;
  const tail = new Uint8Array(vlan ? 6 : 2);
  if (vlan) {
    setU16(tail, 0, vlan.tpid);
    setU16(tail, 2, vlan.tci);
  }
  setU16(tail, tail.length - 2, type);
  return concat(destination, source, tail, payload);
}
