/**
 * A probe: what one VTEP tells another through the tunnel to show that it lives. native/probe.h describes the format,
 * and is the same in C++.
 */
import { concat, getU16, getU32, setU16, setU32 } from './bytes.ts';
import { ETH_HEADER_BYTES } from './ethernet.ts';

/** The VNI of probes. No network can have it. */
export const PROBE_VNI = 0xffffff;
/** IEEE 802, local experimental 1. */
const ETH_PROBE = 0x88b5;
/** How many VNIs a probe can list. */
export const PROBE_VNIS = 128;
export const PROBE_SESSION_BYTES = 8;

const VERSION = 1;
const FLAG_HEARS = 1;
const FIXED_BYTES = 68;
const MAC_BYTES = 32;
const TOO_MANY = 0xffff;
/** The probes of a window that are counted: one bit for each. */
export const PROBE_HISTORY = 64;

/** From locally administered MACs, those that hosts have; nobody has this one. */
const PROBE_MAC = Uint8Array.of(0x02, 0x77, 0x65, 0, 0, 0);

/** How many of the last probes were lost. */
export interface ProbeLoss {
  readonly lost: number;
  readonly of: number;
}

/** Addresses are 16 bytes, sessions 8; a session of zeros is none. */
export interface ProbeMessage {
  /** The sender hears the receiver. */
  readonly hears: boolean;
  readonly intervalMs: number;
  readonly seq: number;
  readonly session: Uint8Array;
  readonly sender: Uint8Array;
  readonly receiver: Uint8Array;
  /** The receiver's session and sequence number that the sender has heard, and how long ago. */
  readonly yourSession: Uint8Array;
  readonly yourSeq: number;
  readonly heldUs: number;
  readonly loss: ProbeLoss;
  /** Those of the sender's networks; undefined if there are too many to tell. */
  readonly vnis: readonly number[] | undefined;
}

/** The inner frame. @param authenticate the HMAC of what it is given */
export function buildProbe(probe: ProbeMessage, authenticate: (message: Uint8Array) => Uint8Array): Uint8Array {
  const vnis = probe.vnis ?? [];
  const header = concat(PROBE_MAC, PROBE_MAC, Uint8Array.of(ETH_PROBE >> 8, ETH_PROBE & 0xff));
  const message = new Uint8Array(FIXED_BYTES + 3 * vnis.length);
  message[0] = VERSION;
  message[1] = probe.hears ? FLAG_HEARS : 0;
  setU16(message, 2, probe.intervalMs);
  setU32(message, 4, probe.seq);
  message.set(probe.session, 8);
  message.set(probe.sender, 16);
  message.set(probe.receiver, 32);
  message.set(probe.yourSession, 48);
  setU32(message, 56, probe.yourSeq);
  setU32(message, 60, probe.heldUs);
  message[64] = probe.loss.lost;
  message[65] = probe.loss.of;
  setU16(message, 66, probe.vnis ? vnis.length : TOO_MANY);
  vnis.forEach((vni, i) => {
    message[FIXED_BYTES + 3 * i] = vni >> 16;
    setU16(message, FIXED_BYTES + 3 * i + 1, vni & 0xffff);
  });
  return concat(header, message, authenticate(message));
}

export interface ParsedProbe {
  readonly probe: ProbeMessage;
  /** What its HMAC covers, and the HMAC. Views of the frame. */
  readonly message: Uint8Array;
  readonly mac: Uint8Array;
}

/** Undefined if it is not a probe of this version, as long as it says, with numbers that can be. Views of the frame. */
export function parseProbe(frame: Uint8Array): ParsedProbe | undefined {
  if (frame.length < ETH_HEADER_BYTES + FIXED_BYTES + MAC_BYTES || getU16(frame, 12) !== ETH_PROBE) return undefined;
  const end = frame.length - MAC_BYTES;
  const message = frame.subarray(ETH_HEADER_BYTES, end);
  if (message[0] !== VERSION) return undefined;
  const count = getU16(message, 66);
  const listed = count === TOO_MANY ? 0 : count;
  if (listed > PROBE_VNIS || message.length !== FIXED_BYTES + 3 * listed) return undefined;
  const vnis = Array.from({ length: listed }, (_, i) => {
    const at = FIXED_BYTES + 3 * i;
    return (message[at]! << 16) | getU16(message, at + 1);
  });
  const probe: ProbeMessage = {
    hears: (message[1]! & FLAG_HEARS) !== 0,
    intervalMs: getU16(message, 2),
    seq: getU32(message, 4),
    session: message.subarray(8, 16),
    sender: message.subarray(16, 32),
    receiver: message.subarray(32, 48),
    yourSession: message.subarray(48, 56),
    yourSeq: getU32(message, 56),
    heldUs: getU32(message, 60),
    loss: { lost: message[64]!, of: message[65]! },
    vnis: count === TOO_MANY ? undefined : vnis,
  };
  const { lost, of } = probe.loss;
  const isPossible = probe.seq !== 0 && probe.intervalMs !== 0 && lost <= of && of <= PROBE_HISTORY;
  return isPossible && probe.session.some((byte) => byte !== 0)
    ? { probe, message, mac: frame.subarray(end) }
    : undefined;
}
