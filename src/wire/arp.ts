/** ARP for IPv4 over Ethernet (RFC 826). */
import { concat, getU16, setU16 } from './bytes.ts';
import { buildEthernet, ETH_ARP } from './ethernet.ts';

export const ARP_BYTES = 28;
export const ARP_REQUEST = 1;
export const ARP_REPLY = 2;

export interface Arp {
  readonly operation: number;
  readonly senderMac: Uint8Array;
  /** 4 bytes, like `targetIp`. */
  readonly senderIp: Uint8Array;
  readonly targetMac: Uint8Array;
  readonly targetIp: Uint8Array;
}

/**
 * Undefined unless it is ARP for Ethernet and IPv4. The result is a view of `payload`, which starts
 * after the Ethernet header.
 */
export function parseArp(payload: Uint8Array): Arp | undefined {
  if (payload.length < ARP_BYTES) return undefined;
  if (getU16(payload, 0) !== 1 || getU16(payload, 2) !== 0x0800 || payload[4] !== 6 || payload[5] !== 4) {
    return undefined;
  }
  return {
    operation: getU16(payload, 6),
    senderMac: payload.subarray(8, 14),
    senderIp: payload.subarray(14, 18),
    targetMac: payload.subarray(18, 24),
    targetIp: payload.subarray(24, 28),
  };
}

/** A new ARP payload, without the Ethernet header. */
export function buildArp(arp: Arp): Uint8Array {
  const head = Uint8Array.of(0, 1, 0x08, 0, 6, 4, 0, 0);
  setU16(head, 6, arp.operation);
  return concat(head, arp.senderMac, arp.senderIp, arp.targetMac, arp.targetIp);
}

/** The whole frame that answers `request`: the address that was asked for belongs to `mac`. */
export function buildArpReply(request: Arp, mac: Uint8Array): Uint8Array {
  const payload = buildArp({
    operation: ARP_REPLY,
    senderMac: mac,
    senderIp: request.targetIp,
    targetMac: request.senderMac,
    targetIp: request.senderIp,
  });
  return buildEthernet({ destination: request.senderMac, source: mac, type: ETH_ARP, payload });
}

/** The whole frame with which `mac` tells everybody that it has `ip`, 4 bytes (RFC 5227 §3). */
export function buildArpAnnouncement(mac: Uint8Array, ip: Uint8Array): Uint8Array {
  const payload = buildArp({
    operation: ARP_REQUEST,
    senderMac: mac,
    senderIp: ip,
    targetMac: new Uint8Array(6),
    targetIp: ip,
  });
  return buildEthernet({ destination: new Uint8Array(6).fill(0xff), source: mac, type: ETH_ARP, payload });
}

/**
 * The whole frame with which `sender` asks who has `ip`, 4 bytes. If the sender address is
 * 0.0.0.0, nobody remembers who asked, but a host that is about to take `ip` gives it up
 * (RFC 5227 §2.1.1).
 *
 * @param to ask only this MAC (RFC 1122 §2.3.2.1); everybody if it is not given
 */
export function buildArpRequest(
  sender: { readonly mac: Uint8Array; readonly ip: Uint8Array },
  ip: Uint8Array,
  to: Uint8Array = new Uint8Array(6).fill(0xff),
): Uint8Array {
  const payload = buildArp({
    operation: ARP_REQUEST,
    senderMac: sender.mac,
    senderIp: sender.ip,
    targetMac: new Uint8Array(6),
    targetIp: ip,
  });
  return buildEthernet({ destination: to, source: sender.mac, type: ETH_ARP, payload });
}
