/** The frames that weft sends of its own accord. */
import { isIp4, linkLocalOf } from '../flow/types.ts';
import { buildArpProbe } from '../wire/arp.ts';
import { buildIcmpError } from '../wire/icmp-error.ts';
import { buildNeighborSolicitation } from '../wire/nd.ts';
import type { Reply } from './stage.ts';

/** @param head the beginning of the frame that is answered */
export function replyFrame(reply: Reply, head: Uint8Array): Uint8Array {
  return reply.kind === 'reply' ? reply.frame : buildIcmpError(reply.error, head, reply.from);
}

/** Asks who has `ip`, in the name of this host, which nobody has to remember. */
export function neighborRequest(hostMac: Uint8Array, ip: Uint8Array): Uint8Array {
  return isIp4(ip)
    ? buildArpProbe(hostMac, ip.subarray(12))
    : buildNeighborSolicitation(hostMac, linkLocalOf(hostMac), ip);
}
