/**
 * Runs the actions of a flow, or of the answer to an upcall, on a frame. If more is done than to carry
 * it, its IPv4 header must have a correct checksum. Then its connection is opened or counted, it is held to
 * what a hook has set for that, its addresses are translated, it is cut into fragments if it is too big, it is rewritten, and each action
 * runs in order. A refused frame is answered (refuse.ts).
 */
import { connects, mtuOf, type Action } from '../../flow/action.ts';
import { extract } from '../../flow/extract.ts';
import { fields } from '../../flow/fields.ts';
import { emptyKey, readBytes, type FlowKey } from '../../flow/key.ts';
import { isGroupMac, type PortNo } from '../../flow/types.ts';
import { fragments, mayFragment } from './fragment.ts';
import type { ConnectingAction, ConnectionFound, Connector } from './connector.ts';
import { hasRightIpv4Header, NO_OFFLOAD, packetBytes, type Frame } from './offload.ts';
import type { Rates } from './rates.ts';
import { answering } from './refuse.ts';
import { rewrite, withDscp } from './rewrite.ts';
import { segments } from './segment.ts';
import type { Sender } from './send.ts';
import type { Tally } from './tally.ts';

/** `from` is where a frame came in; undefined if weft made it. */
export class Runner {
  readonly #sender: Sender;
  readonly #connector: Connector;
  readonly #rates: Rates;
  readonly #tally: Tally;

  constructor(sender: Sender, connector: Connector, rates: Rates, tally: Tally) {
    this.#sender = sender;
    this.#connector = connector;
    this.#rates = rates;
    this.#tally = tally;
  }

  /** Runs `actions` on a frame that weft has made. */
  originate(made: Uint8Array, actions: readonly Action[]): void {
    this.#tally.originated++;
    const key = emptyKey();
    const extracted = extract(made, key);
    if (!extracted.ok) return this.#tally.dropped(undefined, extracted.reason);
    const bytes = made.subarray(0, extracted.lengthBytes);
    this.run(actions, { bytes, offload: NO_OFFLOAD }, key, undefined);
  }

  /** @param connection of the frame, if it is known */
  run(
    actions: readonly Action[],
    frame: Frame,
    key: FlowKey,
    from: PortNo | undefined,
    connection?: ConnectionFound,
  ): void {
    const [first] = actions as readonly [Action];
    if (isHandled(actions, frame) && !hasRightIpv4Header(frame.bytes, key)) {
      return this.#tally.dropped(from, 'ipv4_checksum');
    }
    if (connects(first)) return this.#connect(first, actions.slice(1), frame, key, from, connection);
    if (first.op === 'mtu') return this.#fit(first.bytes, actions.slice(1), frame, key, from);
    const rewritten = rewrite(first, frame, key);
    if (rewritten) return this.run(actions.slice(1), rewritten, key, from);
    this.#tally.copies += actions.length - 1;
    for (const action of actions) {
      switch (action.op) {
        case 'output':
          this.#sender.output(action.port, frame, key, from);
          break;
        case 'encap':
          this.#sender.encap(action.vni, action.vtep, frame, key, from);
          break;
        case 'drop':
          this.#tally.dropped(from, action.reason);
          break;
        case 'refuse':
          this.#refuse(action, frame, key, from);
          break;
        case 'consume':
          this.#tally.consumed++;
          break;
        case 'balance': // Only a flow can.
          this.#tally.dropped(from, 'connection_gone');
          break;
        case 'mtu':
        case 'route':
        case 'echo':
        case 'nat':
        case 'related':
        case 'track':
        case 'count':
        case 'clamp':
          break; // only valid before those
        default:
          action satisfies never;
      }
    }
  }

  #refuse(
    { reason, answer }: Extract<Action, { op: 'refuse' }>,
    frame: Frame,
    key: FlowKey,
    from: PortNo | undefined,
  ): void {
    this.#tally.dropped(from, reason);
    const build = from === undefined ? undefined : answering(answer, frame, key);
    if (from === undefined || !build) return;
    if (this.#rates.admitsAnswer(from)) this.originate(build(), [this.#sender.wayBack(from, key)]);
    else this.#tally.notAnswered(from);
  }

  #connect(
    action: ConnectingAction,
    actions: readonly Action[],
    frame: Frame,
    key: FlowKey,
    from: PortNo | undefined,
    connection: ConnectionFound | undefined,
  ): void {
    const connected = this.#connector.connect(action, frame, key, connection);
    if (typeof connected === 'string') return this.#tally.dropped(from, connected);
    const { frame: next, dscp } = connected;
    const treated = dscp === undefined ? { frame: next, key } : withDscp(next, key, dscp);
    this.run(actions, treated.frame, treated.key, from);
  }

  /** Handles each packet of a superframe separately. */
  #fit(mtu: number, actions: readonly Action[], frame: Frame, key: FlowKey, from: PortNo | undefined): void {
    if (packetBytes(frame) <= mtu) return this.run(actions, frame, key, from);
    if (!mayFragment(frame.bytes, key)) return this.#tally.dropped(from, 'too_big');
    const packets = segments(frame);
    this.#tally.segments += packets.length - 1;
    for (const packet of packets) {
      const cut = fragments(packet, mtu);
      this.#tally.segments += cut.length - 1;
      for (const bytes of cut) this.run(actions, { bytes, offload: NO_OFFLOAD }, key, from);
    }
  }
}

/** True if these actions route, translate, answer or cut it, and do not just carry it. */
function isHandled(actions: readonly Action[], frame: Frame): boolean {
  return actions.some((action) => {
    switch (action.op) {
      case 'nat':
      case 'related':
      case 'route':
      case 'echo':
      case 'clamp':
      case 'refuse':
        return true;
      case 'mtu':
        return packetBytes(frame) > action.bytes;
      default:
        return false;
    }
  });
}

/** True if it is sent to a group address, or to more than one place. */
export function isFlooded(actions: readonly Action[], key: FlowKey): boolean {
  const places = actions.filter(({ op }) => op === 'output' || op === 'encap').length;
  return places > 1 || (places === 1 && isGroupMac(readBytes(key, fields.eth_dst)));
}

/** True if it can go no further with these actions, not even in fragments. */
export function isTooBig(actions: readonly Action[], frame: Frame, key: FlowKey): boolean {
  const mtu = mtuOf(actions);
  return mtu !== undefined && packetBytes(frame) > mtu && !mayFragment(frame.bytes, key);
}
