/**
 * Which other VTEPs are alive, as the datapath knows it: VTEPs probe each other through the tunnel. native/liveness.h
 * says how they are judged. The datapath only reports it; what follows from it is decided elsewhere.
 */
import type { DropReason } from '../flow/reason.ts';
import type { ProbeLoss } from '../wire/probe.ts';

export const PEER_KEY_BYTES = 32;

/** By their numbers in native/liveness.h. */
export const peerStates = ['unprobed', 'up', 'down', 'suspect'] as const;
export type PeerState = (typeof peerStates)[number];
export const peerFaults = ['none', 'no_key', 'silent', 'unheard'] as const;
/**
 * Why it is not up: there is no key for it, nothing is heard from it, or it does not hear this host. `none` if it is up.
 */
export type PeerFault = (typeof peerFaults)[number];

export interface ProbedPeer {
  /** 16 bytes. */
  readonly address: Uint8Array;
  /** PEER_KEY_BYTES. Without it, the peer is not probed. */
  readonly key?: Uint8Array | undefined;
}

export interface LivenessSettings {
  /** 8 random bytes, not all 0, and the same as long as the process lives. */
  readonly session: Uint8Array;
  /** Time between two probes to a peer, in milliseconds; each is sent up to a quarter of it earlier. */
  readonly intervalMs: number;
  /** How many intervals nothing is heard of a peer before it is down. */
  readonly multiplier: number;
  readonly peers: readonly ProbedPeer[];
  /** Those of this host's networks, ascending. */
  readonly vnis: readonly number[];
}

/** Times are of the datapath's clock, in milliseconds. */
export interface PeerLiveness {
  readonly address: Uint8Array;
  readonly state: PeerState;
  readonly fault: PeerFault;
  /** Two hosts send from its address, or it hears two from this host's. */
  readonly hasTwin: boolean;
  readonly sinceMs: number;
  /** Its last probe. */
  readonly heardMs: number | undefined;
  /** Smoothed. */
  readonly roundTripMs: number | undefined;
  /** Of the last probes from it, and to it. */
  readonly lossIn: ProbeLoss;
  readonly lossOut: ProbeLoss;
  /** Those of its networks; undefined if it does not say. */
  readonly vnis: readonly number[] | undefined;
}

/** Someone whose probes are refused. Anybody can forge them. */
export interface ProbeStranger {
  readonly address: Uint8Array;
  readonly reason: DropReason;
  readonly count: number;
  readonly lastMs: number;
}

/** The probes of a datapath. */
export interface Liveness {
  /** Peers that stay, with the same key, keep what is known of them. In force at once. */
  set(settings: LivenessSettings): void;
  /** In the order of the settings. */
  peers(): PeerLiveness[];
  /** The last few, least recently seen first. */
  strangers(): ProbeStranger[];
  /**
   * Sends and judges what is due. A datapath with ports of the kernel does that by itself; for memory ports, it is up to
   * whoever advances the clock.
   * @returns when to call it again; undefined if there is nothing to do
   */
  run(): number | undefined;
}
