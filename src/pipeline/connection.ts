/**
 * Connection: which connection a frame belongs to, whether it is bridged or routed.
 *
 * The datapath looks for the connection of a frame first and says in the field `ct_state` what it has found. So the
 * decision about a frame that begins one does not depend on its ports, and may cover many conversations: as soon as one of
 * them is open, its frames have another `ct_state`.
 *
 * 1. A packet of a connection that is only tracked, or an ICMP error about one, from its other end or a router. It goes the
 *    way of all packets between its ends, so nothing else about the connection matters. A SYN against its direction, or one
 *    that uses its ports again, belongs to none. Nor does a packet of a conversation for whose record there was no room: all
 *    that is decided about it is decided as if it began one.
 * 2. A packet of a connection whose addresses are translated. If it had a choice of backends and is over, a SYN between the
 *    same ends begins another one, as the datapath knows. One with another number, while nobody has answered, belongs to none:
 *    its sender has given the connection up, and uses the port again.
 * 3. A packet of one that weft has ended, since its backend is gone, or since policies deny it now: refused, and never passed on
 *    untranslated, nor taken for the beginning of another one in the other direction.
 * 4. An ICMP error about a packet of a translated connection, which the packet that it quotes tells (RFC 5508 §4).
 * 5. A client talks to a backend through a service, and straight to its address from the same port: the backend would take
 *    both for one conversation, and its replies could not be told apart. So the second one gets another port when it begins:
 *    that to the address in `service.ts`, that to the service since the first one is tracked. If there was no room for a
 *    record of that, the one to the service gets another port when the backend answers its SYN for the first one, which is
 *    passed on as it is, and the client sends its SYN again. A datagram tells nothing, so it is the next one to the address
 *    that gets another port.
 */
import { ctState } from '../flow/fields.ts';
import { sameBytes } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import type { Found } from '../table/connections.ts';
import type { PolicyDirection } from '../table/policy/policy.ts';
import { IP_TCP } from '../wire/ipv4.ts';
import { placeOf, quotedConnection, subjectOf, useConnection } from './conversation.ts';
import { isOfRouter } from './error-sender.ts';
import { resetsOfEnds } from './resets.ts';
import { reject } from './routed.ts';
import {
  drop,
  next,
  type Connected,
  type Conversation,
  type Entered,
  type Stage,
  type StageResult,
  type Tables,
} from './stage.ts';
import { text } from './text.ts';

const none = text`none that is open`;

export const connection: Stage<Entered, Connected> = (view, known) => {
  const state = view.number('ct_state');
  if (state === ctState.none) return next(none, { ...known, connection: undefined });
  if (state === ctState.known) return next(text`a packet of a known conversation`, ofKnown(known));
  if (state === ctState.known_reply) return next(text`a reply in a known conversation`, ofKnown(known));
  if (state === ctState.error) return ofError(view, known);
  if (state === ctState.taken) return ofTaken(known);
  const { tables, origin } = known;
  const subject = subjectOf(view);
  const found = subject?.kind === 'conversation' && useConnection(view, tables, placeOf(origin), subject);
  if (!found) return drop('connection_gone', text`its connection has ended`);
  if (beginsAnew(view, tables, found)) {
    view.forThisFrame();
    return next(text`none: the one with these ends gives way`, { ...known, connection: undefined });
  }
  if (found.reply && isOfAnother(view, tables, found)) {
    view.forThisFrame();
    return next(text`none: its sender has another conversation with these ends`, { ...known, connection: undefined });
  }
  const deniedBy = tables.connections.ended.deniedBy(found.slot);
  if (deniedBy) return ofDenied(view, known, subject, found, deniedBy);
  if (tables.connections.ended.has(found.slot)) {
    view.forThisFrame();
    return reject(view, origin, 'connection_gone', text`its backend is gone`);
  }
  const because = text`${found.reply ? 'a reply' : 'a packet'} of a connection whose addresses are translated`;
  return next(because, { ...known, connection: { found, subject } });
};

/**
 * Its ends have been told or not, as the policy has it: what comes now is only dropped. A SYN begins another one, which is judged.
 * A reset by another host says that policies there have ended it, too, and that both ends are to know: the one that is here gets
 * a reset of weft's own, unless it has got one. It is no attempt to talk, so it is not counted as one.
 */
function ofDenied(
  view: FlowView,
  known: Entered,
  { protocol }: Conversation,
  { slot, reply }: Found,
  direction: PolicyDirection,
): StageResult<Connected> {
  // The datapath may close its record without a word, and open another connection that has these ends, too.
  view.forThisFrame();
  if (protocol === IP_TCP && known.origin.kind === 'tunnel' && view.resetsTcp() === true) return ofReset(known, slot);
  if (protocol === IP_TCP && !reply && view.beginsTcp() === true) {
    return next(text`none: policies have ended the one with these ends`, { ...known, connection: undefined });
  }
  return drop(`policy_${direction}`, text`policies for ${direction} have ended its connection`);
}

function ofReset({ tables }: Entered, slot: number): StageResult<Connected> {
  const resets = resetsOfEnds(tables.connections.pinnedAt(slot), tables);
  const effects = resets ? [{ kind: 'reply', port: resets.port, frame: resets.toNear } as const] : [];
  return { kind: 'decide', because: text`the other end was reset`, actions: [{ op: 'consume' }], effects };
}

function beginsAnew(view: FlowView, { connections }: Tables, found: Found): boolean {
  const { slot, reply } = found;
  const mayBegin = !reply && (connections.isOverWithChoice(slot) || connections.needsOtherPort(slot));
  return mayBegin && view.beginsTcp() === true;
}

/** The datapath notes in the record that there is one, before it asks. */
function isOfAnother(view: FlowView, { connections }: Tables, { slot }: Found): boolean {
  const end = connections.needsOtherPort(slot) ? connections.awaitedAnswer(slot) : undefined;
  return end !== undefined && view.answersTcp(end) === false;
}

function ofKnown(known: Entered): Connected {
  return { ...known, connection: undefined, isKnown: true };
}

function ofTaken(known: Entered): StageResult<Connected> {
  if (known.origin.kind !== 'port') return next(none, { ...known, connection: undefined });
  const because = text`none: a connection through a service goes on with these ends`;
  return next(because, { ...known, connection: undefined, isTaken: true });
}

function ofError(view: FlowView, known: Entered): StageResult<Connected> {
  const { tables, origin } = known;
  const subject = subjectOf(view);
  const found = subject?.kind === 'error' ? quotedConnection(view, tables, placeOf(origin)) : undefined;
  if (!subject || !found) return next(text`an error about none`, { ...known, connection: undefined });
  const { kind } = tables.connections.tuples(found.slot);
  if (kind === 'ended') return drop('connection_gone', text`an error about a connection whose backend is gone`);
  if (kind === 'tracked') {
    // The datapath knows one from whom the packet was for by the state of its conversation.
    if (isToSender(view) && isOfRouter(view, known))
      return next(text`a router’s error in a known conversation`, ofKnown(known));
    return next(text`an error about none`, { ...known, connection: undefined });
  }
  return next(text`an error about a packet of a translated connection`, { ...known, connection: { found, subject } });
}

function isToSender(view: FlowView): boolean {
  const quoted = view.quoted();
  return quoted !== undefined && sameBytes(quoted.tuple.source, view.bytes('ip_dst'));
}
