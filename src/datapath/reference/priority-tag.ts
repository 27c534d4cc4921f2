/**
 * A priority tag, that is, a VLAN tag (TPID 0x8100) with VLAN ID 0, gives a priority and no VLAN, so
 * the frame counts as untagged (IEEE 802.1Q §6.9.1). The tag is removed where a frame comes in.
 * `native/priority_tag.h` does the same.
 */
import { getU16 } from '../../wire/bytes.ts';
import { ETH_HEADER_BYTES, ETH_VLAN, VLAN_TAG_BYTES } from '../../wire/ethernet.ts';
import type { Frame } from './offload.ts';

const ADDRESSES_BYTES = 12;
const VLAN_ID_MASK = 0x0fff;

/** The frame itself if it has no such tag, otherwise a copy; the offsets of its offload are adjusted. */
export function untagPriority(frame: Frame): Frame {
  const { bytes, offload } = frame;
  if (bytes.length < ETH_HEADER_BYTES + VLAN_TAG_BYTES || getU16(bytes, ADDRESSES_BYTES) !== ETH_VLAN) return frame;
  if ((getU16(bytes, ADDRESSES_BYTES + 2) & VLAN_ID_MASK) !== 0) return frame;
  const untagged = new Uint8Array(bytes.length - VLAN_TAG_BYTES);
  untagged.set(bytes.subarray(0, ADDRESSES_BYTES));
  untagged.set(bytes.subarray(ADDRESSES_BYTES + VLAN_TAG_BYTES), ADDRESSES_BYTES);
  return { bytes: untagged, offload: { ...offload, csumStart: (offload.csumStart - VLAN_TAG_BYTES) & 0xffff } };
}
