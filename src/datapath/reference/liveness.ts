/**
 * Which other VTEPs are alive: what native/liveness.h does, and explains, in TypeScript. Both send the same bytes at the
 * same times.
 */
import { createHmac, timingSafeEqual } from 'node:crypto';
import { bytesId } from '../../flow/key.ts';
import type { DropReason } from '../../flow/reason.ts';
import { sameBytes } from '../../flow/types.ts';
import { getU32 } from '../../wire/bytes.ts';
import {
  buildProbe,
  parseProbe,
  PROBE_HISTORY,
  PROBE_SESSION_BYTES,
  PROBE_VNIS,
  type ProbeLoss,
  type ProbeMessage,
} from '../../wire/probe.ts';
import type { LivenessSettings, PeerFault, PeerLiveness, PeerState, ProbedPeer, ProbeStranger } from '../liveness.ts';

const SLOW_INTERVALS = 100;
const DRAIN_MS = 2;
const SENT_TIMES = 8;
const LEAST_PAUSE_MS = 2;
const HURRIES = 3;
const CHECK_MS = 50;
const CHECK_BURST = 20;
const TWIN_SIGNS = 3;
const MOST_STRANGERS = 16;

const NONE = bytesId(new Uint8Array(PROBE_SESSION_BYTES));

/** Sends a probe; `entropy` chooses the source port. */
export type SendProbe = (to: Uint8Array, entropy: number, frame: Uint8Array) => void;

class Peer {
  readonly address: Uint8Array;
  readonly key: Uint8Array | undefined;
  // Sent:
  seq: number;
  readonly sentMs = new Float64Array(SENT_TIMES);
  dueMs: number;
  hurryFromMs = -Infinity;
  hurries = 0;
  // Heard, of its session; NONE: none has proved to be alive.
  session = NONE;
  heardSeq = 0;
  heardMs = -1;
  /** Since then, the judge was late by so much. */
  excusedMs = 0;
  adoptedMs = 0;
  intervalMs = 0;
  /** Of its last probes, those that have arrived, the latest in bit 0. */
  history = 0n;
  /** How many bits of it mean something. */
  expected = 0;
  hearing = false;
  // Said by it:
  echoedSeq: number;
  hears = false;
  /** Its new session may still say for a window that it does not hear this host. */
  isGreeted = false;
  rttMs = -1;
  lossOut: ProbeLoss = { lost: 0, of: 0 };
  vnis: readonly number[] | undefined;
  // A session that has not proved anything yet.
  newSession = NONE;
  newSeq = 0;
  newMs = -1;
  checksFullMs = 0;
  // Signs of two hosts with one address.
  twinSigns = 0;
  twinMs = -Infinity;
  state: PeerState = 'unprobed';
  sinceMs: number;
  /** When it last ceased to be up. */
  lostMs = -Infinity;

  constructor({ address, key }: ProbedPeer, seq: number, nowMs: number) {
    this.address = address.slice();
    this.key = key?.slice();
    this.seq = this.echoedSeq = seq;
    this.dueMs = this.sinceMs = nowMs;
  }

  get isUp(): boolean {
    return this.hearing && (this.hears || this.isGreeted);
  }

  get lossIn(): ProbeLoss {
    let arrived = 0;
    for (let bits = this.history; bits > 0n; bits >>= 1n) arrived += Number(bits & 1n);
    return { lost: this.expected - arrived, of: this.expected };
  }
}

export class ReferenceLiveness {
  #settings: LivenessSettings = {
    session: new Uint8Array(PROBE_SESSION_BYTES),
    intervalMs: 300,
    multiplier: 3,
    peers: [],
    vnis: [],
  };
  #local: Uint8Array | undefined;
  #peers: readonly Peer[] = [];
  readonly #places = new Map<string, Peer>();
  #strangers: ProbeStranger[] = [];
  /** Of all that were sent: a peer that is added again goes on from there. */
  #highestSeq = 0;
  #dueMs = Infinity;
  /** Until `#slowUntilMs`, it may be late by so much. */
  #slowMs = 0;
  #slowUntilMs = -Infinity;
  #hasChanged = false;

  get dueMs(): number {
    return this.#dueMs;
  }

  takeChanged(): boolean {
    const changed = this.#hasChanged;
    this.#hasChanged = false;
    return changed;
  }

  strangers(): ProbeStranger[] {
    return [...this.#strangers];
  }

  configure(settings: LivenessSettings, nowMs: number): void {
    const isSameSession = sameBytes(settings.session, this.#settings.session);
    // Peers judge by the interval that they were told last.
    const isNews = settings.intervalMs !== this.#settings.intervalMs;
    const peers = new Map<string, Peer>();
    for (const one of settings.peers) {
      const id = bytesId(one.address);
      if (peers.has(id)) continue;
      const known = this.#places.get(id);
      const stays = known && isSameSession && bytesId(known.key ?? NO_KEY) === bytesId(one.key ?? NO_KEY);
      if (known && !stays) this.#hasChanged = true;
      if (known && stays && isNews) known.dueMs = nowMs;
      peers.set(id, stays ? known : new Peer(one, this.#highestSeq, nowMs));
    }
    this.#peers = [...peers.values()];
    this.#places.clear();
    for (const [id, peer] of peers) this.#places.set(id, peer);
    this.#settings = settings;
    this.#dueMs = this.#isActive ? nowMs : Infinity;
  }

  /** The tunnel is open at this address, or closed. All begin anew. */
  open(local: Uint8Array | undefined, nowMs: number): void {
    this.#local = local?.slice();
    if (this.#peers.some(({ state }) => state !== 'unprobed')) this.#hasChanged = true;
    this.#peers = this.#peers.map((peer) => new Peer(peer, peer.seq, nowMs));
    for (const peer of this.#peers) this.#places.set(bytesId(peer.address), peer);
    this.#dueMs = this.#isActive ? nowMs : Infinity;
  }

  get #isActive(): boolean {
    return this.#local !== undefined && this.#peers.some(({ key }) => key);
  }

  // 2. Heard

  /** @param frame from its Ethernet header on @returns why it is refused; undefined if it was taken */
  receive(source: Uint8Array, frame: Uint8Array, nowMs: number): DropReason | undefined {
    const parsed = parseProbe(frame);
    if (!parsed) return 'probe_malformed';
    const { probe, message, mac } = parsed;
    const peer = this.#places.get(bytesId(source));
    if (!this.#local || !peer?.key) return this.#refuse(source, 'probe_unknown_peer', nowMs);
    if (!sameBytes(probe.sender, source) || !sameBytes(probe.receiver, this.#local)) {
      return this.#refuse(source, 'probe_unauthentic', nowMs);
    }
    const session = bytesId(probe.session);
    const isCurrent = session === peer.session;
    const isNew = !isCurrent && session === peer.newSession;
    if ((isCurrent && probe.seq <= peer.heardSeq) || (isNew && probe.seq <= peer.newSeq)) return 'probe_replayed';
    if (!isCurrent && !isNew && !mayCheck(peer, nowMs)) return 'probe_limit';
    if (!timingSafeEqual(authenticator(peer.key)(message), mac))
      return this.#refuse(source, 'probe_unauthentic', nowMs);

    const echoes = sameBytes(probe.yourSession, this.#settings.session) && probe.yourSeq <= peer.seq;
    if (isCurrent) this.#hear(peer, probe, echoes, nowMs);
    else if (echoes && probe.yourSeq > peer.echoedSeq) this.#adopt(peer, probe, nowMs);
    else this.#meet(peer, probe, nowMs);
    return undefined;
  }

  #refuse(address: Uint8Array, reason: DropReason, lastMs: number): DropReason {
    const isSame = (one: ProbeStranger): boolean => one.reason === reason && sameBytes(one.address, address);
    const count = 1 + (this.#strangers.find(isSame)?.count ?? 0);
    const others = this.#strangers.filter((one) => !isSame(one));
    this.#strangers = [...others.slice(1 - MOST_STRANGERS), { address: address.slice(), reason, count, lastMs }];
    return reason;
  }

  /** It may be a recording, so nothing follows from it but that the peer is told what was heard. */
  #meet(peer: Peer, probe: ProbeMessage, nowMs: number): void {
    peer.newSession = bytesId(probe.session);
    peer.newSeq = probe.seq;
    peer.newMs = nowMs;
    if (peer.session === NONE || this.#isStale(peer, nowMs)) this.#hurry(peer, nowMs);
  }

  #adopt(peer: Peer, probe: ProbeMessage, nowMs: number): void {
    // A host that was started again does not speak for its former self.
    if (peer.session !== NONE && !this.#isStale(peer, nowMs)) this.#signOfTwin(peer, nowMs);
    peer.isGreeted = peer.state === 'up';
    peer.session = bytesId(probe.session);
    peer.heardSeq = probe.seq - 1;
    peer.adoptedMs = nowMs;
    peer.history = 0n;
    peer.expected = 0;
    peer.newSession = NONE;
    peer.newSeq = 0;
    peer.newMs = -1;
    this.#hear(peer, probe, true, nowMs);
    this.#hurry(peer, nowMs);
  }

  #hear(peer: Peer, probe: ProbeMessage, echoes: boolean, nowMs: number): void {
    if (peer.newMs > peer.heardMs && peer.heardMs >= 0) this.#signOfTwin(peer, nowMs);
    if (peer.hears && !echoes && probe.yourSession.some((byte) => byte !== 0)) this.#signOfTwin(peer, nowMs);
    const wasUp = peer.isUp;
    const wasHearing = peer.hearing;
    const gap = Math.min(PROBE_HISTORY, probe.seq - peer.heardSeq);
    peer.history = gap >= PROBE_HISTORY ? 1n : BigInt.asUintN(PROBE_HISTORY, (peer.history << BigInt(gap)) | 1n);
    peer.expected = Math.min(PROBE_HISTORY, peer.expected + gap);
    peer.heardSeq = probe.seq;
    peer.heardMs = nowMs;
    peer.excusedMs = 0;
    peer.intervalMs = probe.intervalMs;
    peer.hearing = true;
    peer.hears = echoes && probe.hears;
    if (peer.hears) peer.isGreeted = false;
    if (echoes) {
      if (probe.yourSeq > peer.echoedSeq) {
        const rttMs = nowMs - peer.sentMs[probe.yourSeq % SENT_TIMES]! - probe.heldUs / 1e3;
        const isRemembered = peer.seq - probe.yourSeq < SENT_TIMES;
        if (isRemembered && rttMs >= 0) peer.rttMs = peer.rttMs < 0 ? rttMs : peer.rttMs + (rttMs - peer.rttMs) / 8;
        peer.echoedSeq = probe.yourSeq;
      }
      peer.lossOut = probe.loss;
    }
    peer.vnis = probe.vnis;
    this.#dueMs = Math.min(this.#dueMs, nowMs + this.#windowOf(peer));
    if (!wasHearing || peer.isUp !== wasUp) this.#hurry(peer, nowMs);
    if (peer.isUp !== wasUp) this.#settle(nowMs);
  }

  #hurry(peer: Peer, nowMs: number): void {
    if (nowMs - peer.hurryFromMs >= this.#settings.intervalMs) {
      peer.hurryFromMs = nowMs;
      peer.hurries = 0;
    }
    if (peer.hurries === HURRIES) return;
    peer.hurries++;
    peer.dueMs = Math.min(peer.dueMs, nowMs);
    this.#dueMs = Math.min(this.#dueMs, nowMs);
  }

  #signOfTwin(peer: Peer, nowMs: number): void {
    if (nowMs - peer.twinMs > 10 * this.#windowOf(peer)) peer.twinSigns = 0;
    peer.twinSigns = Math.min(peer.twinSigns + 1, TWIN_SIGNS);
    peer.twinMs = nowMs;
  }

  // 1. Sent, 3. judged

  /**
   * Sends what is due, and judges.
   * @param readUntilMs everything that had arrived by then was received
   */
  run(nowMs: number, send: SendProbe, readUntilMs = nowMs): void {
    if (!this.#isActive || nowMs < this.#dueMs) return;
    this.#noteLateness(nowMs - this.#dueMs, nowMs);
    let dueMs = Infinity;
    for (const peer of this.#peers) {
      if (!peer.key) continue;
      dueMs = Math.min(dueMs, this.#judge(peer, nowMs, readUntilMs));
      if (peer.dueMs <= nowMs) this.#send(peer, peer.key, this.#local!, nowMs, send);
      dueMs = Math.min(dueMs, peer.dueMs);
    }
    this.#settle(nowMs);
    this.#dueMs = Math.max(dueMs, nowMs + LEAST_PAUSE_MS);
  }

  #noteLateness(lateMs: number, nowMs: number): void {
    const { intervalMs, multiplier } = this.#settings;
    if (lateMs > intervalMs / 2) for (const peer of this.#peers) peer.excusedMs += lateMs;
    // While it starts, nobody expects anything of it yet.
    if (lateMs <= intervalMs || !this.#peers.some(({ isUp }) => isUp)) return;
    const longestMs = intervalMs * multiplier;
    this.#slowMs = Math.min(Math.max(lateMs, nowMs < this.#slowUntilMs ? this.#slowMs : 0), longestMs);
    this.#slowUntilMs = nowMs + SLOW_INTERVALS * intervalMs;
  }

  /** At most so many milliseconds pass between two probes; peers wait for `multiplier` times as many. */
  #promisedMs(nowMs: number): number {
    const { intervalMs, multiplier } = this.#settings;
    const moreMs = nowMs < this.#slowUntilMs ? Math.ceil(this.#slowMs / multiplier) : 0;
    return Math.min(intervalMs + moreMs, 0xffff);
  }

  /** @returns when to judge again */
  #judge(peer: Peer, nowMs: number, readUntilMs: number): number {
    const windowMs = this.#windowOf(peer);
    if (nowMs >= peer.adoptedMs + windowMs) peer.isGreeted = false;
    if (!peer.hearing) return Infinity;
    const endMs = peer.heardMs + peer.excusedMs + windowMs;
    if (nowMs < endMs) return endMs;
    if (readUntilMs < endMs) return nowMs + DRAIN_MS;
    peer.hearing = false;
    this.#hurry(peer, nowMs);
    return Infinity;
  }

  #send(peer: Peer, key: Uint8Array, local: Uint8Array, nowMs: number, send: SendProbe): void {
    const { session, intervalMs, vnis } = this.#settings;
    peer.seq++;
    this.#highestSeq = Math.max(this.#highestSeq, peer.seq);
    peer.sentMs[peer.seq % SENT_TIMES] = nowMs;
    peer.dueMs = nowMs + pauseMs(session, peer.seq, peer.address, intervalMs);
    const toNew = peer.newSession !== NONE && (peer.session === NONE || this.#isStale(peer, nowMs));
    const yourSession = toNew ? peer.newSession : peer.session;
    const heardMs = toNew ? peer.newMs : peer.heardMs;
    const probe: ProbeMessage = {
      hears: peer.hearing,
      intervalMs: this.#promisedMs(nowMs),
      seq: peer.seq,
      session,
      sender: local,
      receiver: peer.address,
      yourSession: Buffer.from(yourSession, 'latin1'),
      yourSeq: toNew ? peer.newSeq : peer.heardSeq,
      heldUs: yourSession === NONE ? 0 : Math.min(Math.round((nowMs - heardMs) * 1e3), 0xffff_ffff),
      loss: peer.lossIn,
      vnis: vnis.length > PROBE_VNIS ? undefined : vnis,
    };
    send(peer.address, peer.seq, buildProbe(probe, authenticator(key)));
  }

  // 4. What follows for all of them

  #settle(nowMs: number): void {
    const counts = (peer: Peer): boolean =>
      peer.state === 'up' || peer.state === 'suspect' || nowMs - peer.lostMs <= 2 * this.#windowOf(peer);
    const known = this.#peers.filter(counts);
    const gone = known.filter((peer) => !peer.isUp || this.#isStale(peer, nowMs));
    const isCutOff = known.length >= 3 && 2 * gone.length > known.length;
    for (const peer of this.#peers) {
      if (peer.session === NONE) continue;
      if (peer.isUp) this.#setState(peer, 'up', nowMs);
      else if (peer.state === 'unprobed' && nowMs - peer.adoptedMs < this.#windowOf(peer)) continue;
      else this.#setState(peer, isCutOff && counts(peer) ? 'suspect' : 'down', nowMs);
    }
  }

  #setState(peer: Peer, state: PeerState, nowMs: number): void {
    if (peer.state === state) return;
    if (peer.state === 'up') peer.lostMs = nowMs;
    peer.state = state;
    peer.sinceMs = nowMs;
    this.#hasChanged = true;
  }

  #windowOf(peer: Peer): number {
    return this.#settings.multiplier * this.#intervalOf(peer);
  }

  #intervalOf(peer: Peer): number {
    return Math.max(this.#settings.intervalMs, peer.intervalMs);
  }

  /** Has it missed a probe? */
  #isStale(peer: Peer, nowMs: number): boolean {
    return nowMs - peer.heardMs - peer.excusedMs > 1.5 * this.#intervalOf(peer);
  }

  // 5. Told

  report(nowMs: number): PeerLiveness[] {
    return this.#peers.map((peer) => ({
      address: peer.address.slice(),
      state: peer.state,
      fault: this.#faultOf(peer, nowMs),
      hasTwin: peer.twinSigns === TWIN_SIGNS && nowMs - peer.twinMs <= 10 * this.#windowOf(peer),
      sinceMs: peer.sinceMs,
      heardMs: known(Math.max(peer.heardMs, peer.newMs)),
      roundTripMs: known(peer.rttMs),
      lossIn: peer.lossIn,
      lossOut: peer.lossOut,
      vnis: peer.session === NONE ? undefined : peer.vnis,
    }));
  }

  #faultOf(peer: Peer, nowMs: number): PeerFault {
    if (!peer.key) return 'no_key';
    if (peer.state === 'up') return 'none';
    const isMet = peer.newSession !== NONE && nowMs - peer.newMs <= this.#windowOf(peer);
    return peer.hearing || isMet ? 'unheard' : 'silent';
  }
}

const NO_KEY = new Uint8Array(0);

function known(number: number): number | undefined {
  return number < 0 ? undefined : number;
}

function authenticator(key: Uint8Array): (message: Uint8Array) => Uint8Array {
  return (message) => createHmac('sha256', key).update(message).digest();
}

/** A bucket of CHECK_BURST checks that gets one more every CHECK_MS. */
function mayCheck(peer: Peer, nowMs: number): boolean {
  if (peer.checksFullMs - nowMs > (CHECK_BURST - 1) * CHECK_MS) return false;
  peer.checksFullMs = Math.max(peer.checksFullMs, nowMs) + CHECK_MS;
  return true;
}

/** Spreads the probes of a session to a peer over the last quarter of the interval. */
function pauseMs(session: Uint8Array, seq: number, address: Uint8Array, intervalMs: number): number {
  let hash = getU32(session, 4) ^ Math.imul(seq, 0x9e3779b1) ^ getU32(address, 12);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (intervalMs * (1024 - (hash >>> 24))) / 1024;
}
