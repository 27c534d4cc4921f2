/** The probes of the native datapath: what crosses between native/liveness.h and JavaScript. */
import type { NativeDatapath } from '../../addon/native-datapath.ts';
import { reasonName } from '../../flow/reason.ts';
import {
  PEER_KEY_BYTES,
  peerFaults,
  peerStates,
  type Liveness,
  type LivenessSettings,
  type PeerLiveness,
  type ProbeStranger,
} from '../liveness.ts';

/** Address, whether there is a key, and the key. */
const PACKED_PEER = 16 + 1 + PEER_KEY_BYTES;

export class NativeLiveness implements Liveness {
  readonly #native: Pick<NativeDatapath, 'setLiveness' | 'runLiveness' | 'peers'>;
  readonly #inTurn: (work: () => void) => void;
  readonly #runsItself: boolean;

  /** @param inTurn runs work that may transmit, and hands over what follows from it @param runsItself with threads */
  constructor(
    native: Pick<NativeDatapath, 'setLiveness' | 'runLiveness' | 'peers'>,
    inTurn: (work: () => void) => void,
    runsItself: boolean,
  ) {
    this.#native = native;
    this.#inTurn = inTurn;
    this.#runsItself = runsItself;
  }

  set({ session, intervalMs, multiplier, peers, vnis }: LivenessSettings): void {
    const packed = new Uint8Array(PACKED_PEER * peers.length);
    peers.forEach(({ address, key }, i) => {
      packed.set(address, PACKED_PEER * i);
      if (!key) return;
      packed[PACKED_PEER * i + 16] = 1;
      packed.set(key, PACKED_PEER * i + 17);
    });
    this.#inTurn(() =>
      this.#native.setLiveness({ session, intervalMs, multiplier, peers: packed, vnis: Uint32Array.from(vnis) }),
    );
  }

  peers(): PeerLiveness[] {
    let peers: ReturnType<NativeDatapath['peers']>['peers'] = [];
    // In a turn, which brings the clock up to date.
    this.#inTurn(() => ({ peers } = this.#native.peers()));
    return peers.map(({ address, state, fault, twin, sinceMs, heardMs, rttMs, ...rest }) => ({
      address,
      state: peerStates[state]!,
      fault: peerFaults[fault]!,
      hasTwin: twin,
      sinceMs,
      heardMs: heardMs < 0 ? undefined : heardMs,
      roundTripMs: rttMs < 0 ? undefined : rttMs,
      lossIn: { lost: rest.lossIn[0], of: rest.lossIn[1] },
      lossOut: { lost: rest.lossOut[0], of: rest.lossOut[1] },
      vnis: rest.vnis,
    }));
  }

  strangers(): ProbeStranger[] {
    return this.#native.peers().strangers.map((one) => ({ ...one, reason: reasonName(one.reason) }));
  }

  run(): number | undefined {
    if (this.#runsItself) return undefined;
    let dueMs = -1;
    this.#inTurn(() => (dueMs = this.#native.runLiveness()));
    return dueMs < 0 ? undefined : dueMs;
  }
}
