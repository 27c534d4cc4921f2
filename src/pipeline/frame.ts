/**
 * What no network carries, whoever sends it: a container, trusted or not, or another host.
 *
 * 1. The source MAC is zero or a group address. It is checked first, and by itself: a frame from an
 *    impossible sender is refused whatever else is in it.
 * 2. The destination MAC is zero, or a group address that bridges use among themselves.
 * 3. The frame is tagged, by the standard TPIDs or by older ones.
 * 4. It is for the next bridge only: MAC control.
 */
import { isZero } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { ETH_MAC_CONTROL, ETH_OLD_QINQ, ETH_QINQ, ETH_VLAN } from '../wire/ethernet.ts';
import { drop, type Drop } from './stage.ts';
import { text } from './text.ts';

/** Why its source MAC is refused; undefined if somebody may have it. */
export function refuseSource(view: FlowView): Drop | undefined {
  const isGroup = (view.first('eth_src', 1)[0]! & 1) !== 0;
  if (!isGroup && !view.isOneOf('eth_src', [zeroMac])) return undefined;
  return drop('bad_source_mac', text`${view.used('eth_src')} cannot be a source`);
}

/** Why the rest of its header is refused; undefined if networks carry such frames. */
export function refuseHeader(view: FlowView): Drop | undefined {
  return checkDestination(view) ?? checkType(view);
}

function checkDestination(view: FlowView): Drop | undefined {
  // Nothing more is used of all other addresses.
  if (view.first('eth_dst', 1)[0]! > 1) return undefined;
  const mac = view.bytes('eth_dst');
  if (isZero(mac)) return drop('bad_destination_mac', text`${mac} cannot be a destination`);
  if (isReservedGroup(mac)) {
    return drop('bridge_control', text`${mac} is reserved for bridges (IEEE 802.1D §7.12.6)`);
  }
  return isCiscoGroup(mac) ? drop('cisco_control', text`${mac} is a group of Cisco’s bridges`) : undefined;
}

function checkType(view: FlowView): Drop | undefined {
  if (!view.isOneOf('vlan_tci', [untagged])) return drop('vlan_not_carried', text`tagged with a VLAN`);
  if (!view.isOneOf('eth_type', named)) return undefined;
  const type = view.number('eth_type');
  if (isTag(type)) return drop('vlan_not_carried', text`tagged by TPID ${etherTypeText(type)}`);
  return type === ETH_MAC_CONTROL ? drop('mac_control', text`MAC control ends at the next bridge`) : undefined;
}

function isTag(type: number): boolean {
  return type === ETH_VLAN || type === ETH_QINQ || ETH_OLD_QINQ.includes(type);
}

/** 01:80:c2:00:00:00 … 0f: bridges never forward these. */
function isReservedGroup(mac: Uint8Array): boolean {
  return mac[0] === 0x01 && mac[1] === 0x80 && mac[2] === 0xc2 && mac[3] === 0 && mac[4] === 0 && mac[5]! < 0x10;
}

/** 01:00:0c:…: CDP, VTP, UDLD, PVST+ and others. */
function isCiscoGroup(mac: Uint8Array): boolean {
  return mac[0] === 0x01 && mac[1] === 0x00 && mac[2] === 0x0c;
}

/** In the form of the field in the flow key. */
export function etherTypeBytes(type: number): Uint8Array {
  return Uint8Array.of(type >>> 8, type);
}

const zeroMac = new Uint8Array(6);
const untagged = new Uint8Array(2);
const named = [ETH_VLAN, ETH_QINQ, ...ETH_OLD_QINQ, ETH_MAC_CONTROL].map(etherTypeBytes);

/** `0x88f7` */
export function etherTypeText(type: number): string {
  return `0x${type.toString(16).padStart(4, '0')}`;
}
