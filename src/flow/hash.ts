/**
 * The flow hash: it gives an encapsulated flow its UDP source port (RFC 7348 §5), so that
 * the underlay spreads flows over its paths and keeps each of them in order.
 *
 * It covers MACs, IP addresses, protocol and ports, but not the ports of fragments: all
 * fragments of a datagram take one path. `native/key.h` computes the same.
 * `senderHash` distinguishes senders that each have their share (`datapath/reference/upcall-rate.ts`).
 */
import { FRAG_NONE, fields } from './fields.ts';
import type { FlowKey } from './key.ts';

/**
 * Source ports that a flow can have, 49153 … 65535. On a real underlay there are a few sockets with
 * random ports of this range, and a flow has the port of one of them: native/io/underlay.h.
 */
export const ENTROPY_FIRST_PORT = 49_153;
export const ENTROPY_PORTS = 65_536 - ENTROPY_FIRST_PORT;

/** 32 bits. */
export function flowHash(key: FlowKey): number {
  let hash = HASH_SEED;
  hash = fnv1a(hash, key, fields.eth_dst.offset, fields.eth_type.offset);
  hash = fnv1a(hash, key, fields.ip_src.offset, fields.ip_tos.offset);
  if (key[fields.ip_frag.offset] === FRAG_NONE) {
    hash = fnv1a(hash, key, fields.l4_src.offset, fields.nd_lla.offset);
  }
  return mixed(hash);
}

/** Identifies the sender, by its MAC address and the VTEP in front of it; never 0. */
export function senderHash(key: FlowKey): number {
  let hash = fnv1a(HASH_SEED, key, fields.tun_src.offset, fields.eth_dst.offset);
  hash = fnv1a(hash, key, fields.eth_src.offset, fields.eth_type.offset);
  return mixed(hash) || 1;
}

/** The UDP source port for frames of this flow. */
export function entropyPort(key: FlowKey): number {
  return ENTROPY_FIRST_PORT + (flowHash(key) % ENTROPY_PORTS);
}

export const HASH_SEED = 0x811c9dc5;

/** FNV-1a of further bytes; `mixed` ends it. */
export function mixIn(hash: number, bytes: Uint8Array): number {
  return fnv1a(hash, bytes, 0, bytes.length);
}

/** The finalizer of MurmurHash3: FNV-1a alone mixes its low bits badly. */
export function mixed(fnv: number): number {
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
