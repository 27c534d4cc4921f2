/** The VXLAN header (RFC 7348 §5): flags, 24 reserved bits, VNI, 8 reserved bits. */
import { concat, getU32, setU32 } from './bytes.ts';

const VXLAN_HEADER_BYTES = 8;
export const VXLAN_L4_PORT = 4789;
/** "The VNI is valid": must be set. */
const VXLAN_FLAG_I = 0x08;

export interface Vxlan {
  readonly vni: number;
  /** The inner frame. */
  readonly frame: Uint8Array;
}

/** Undefined when it is truncated or has no I flag; reserved bits are ignored. The result is a view of `payload`. */
export function parseVxlan(payload: Uint8Array): Vxlan | undefined {
  if (payload.length < VXLAN_HEADER_BYTES || (payload[0]! & VXLAN_FLAG_I) === 0) return undefined;
  return { vni: getU32(payload, 4) >>> 8, frame: payload.subarray(VXLAN_HEADER_BYTES) };
}

/** A new payload: header and a copy of `frame`. */
export function buildVxlan({ vni, frame }: Vxlan): Uint8Array {
  const header = Uint8Array.of(VXLAN_FLAG_I, 0, 0, 0, 0, 0, 0, 0);
  setU32(header, 4, vni * 256);
  return concat(header, frame);
}
