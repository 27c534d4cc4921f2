/**
 * The flow hash: which UDP source port an encapsulated flow has (RFC 7348 §5),
 * so that the underlay spreads flows over its paths and keeps each in order.
 *
 * It covers MACs, IP addresses, protocol and ports, but no ports of fragments:
 * all fragments of a datagram take one path. `native/key.h` computes the same.
 * `senderHash` tells senders apart where each has its share (`datapath/upcall-limit.ts`).
 */
import { FRAG_NONE, fields } from './fields.ts';
import type { FlowKey } from './key.ts';

/**
 * Source ports that a flow can have, 49153 … 65535. On a real underlay a flow has that of one
 * of some sockets, whose ports are random ones of these: native/io/underlay.h.
 */
export const ENTROPY_FIRST_PORT = 49_153;
export const ENTROPY_PORTS = 65_536 - ENTROPY_FIRST_PORT;

/** 32 bits. */
export function flowHash(key: FlowKey): number {
  let hash = 0x811c9dc5;
  hash = fnv1a(hash, key, fields.eth_dst.offset, fields.eth_type.offset);
  hash = fnv1a(hash, key, fields.ip_src.offset, fields.ip_tos.offset);
  if (key[fields.ip_frag.offset] === FRAG_NONE) {
    hash = fnv1a(hash, key, fields.l4_src.offset, fields.nd_lla.offset);
  }
  return mixed(hash);
}

/** Who sent it, by its MAC address and the VTEP before it; never 0. */
export function senderHash(key: FlowKey): number {
  let hash = fnv1a(0x811c9dc5, key, fields.tun_src.offset, fields.eth_dst.offset);
  hash = fnv1a(hash, key, fields.eth_src.offset, fields.eth_type.offset);
  return mixed(hash) || 1;
}

/** The UDP source port for frames of this flow. */
export function entropyPort(key: FlowKey): number {
  return ENTROPY_FIRST_PORT + (flowHash(key) % ENTROPY_PORTS);
}

/** The finalizer of MurmurHash3: FNV-1a alone mixes its low bits badly. */
function mixed(fnv: number): number {
  let hash = fnv;
  hash ^= hash >>> 16;
  hash = Math.imul(hash, 0x85ebca6b);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 0xc2b2ae35);
  hash ^= hash >>> 16;
  return hash >>> 0;
}

function fnv1a(seed: number, bytes: Uint8Array, from: number, to: number): number {
  let hash = seed;
  for (let i = from; i < to; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
  return hash;
}
