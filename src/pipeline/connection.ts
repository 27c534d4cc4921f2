/**
 * Connection: which translated connection a frame belongs to, whether it is bridged or routed.
 *
 * The datapath looks for the connection of a frame first and says in the field `ct_state` what it has found. So the
 * decision about a frame without one does not depend on its ports, and may cover many conversations: as soon as one of
 * them is translated, its frames have another `ct_state`.
 *
 * 1. A packet of a connection. If it had a choice of backends and is over, a SYN between the same ends begins another one,
 *    as the datapath knows.
 * 2. A packet of one that weft has ended, since its backend is gone: refused, and never passed on untranslated.
 * 3. An ICMP error about a packet of a connection, which the packet that it quotes tells (RFC 5508 §4).
 */
import { ctState } from '../flow/fields.ts';
import type { FlowView } from '../flow/view.ts';
import type { Found } from '../table/connections.ts';
import { placeOf, quotedConnection, subjectOf, useConnection } from './conversation.ts';
import { reject } from './routed.ts';
import { drop, next, type Connected, type Entered, type Stage, type StageResult, type Tables } from './stage.ts';
import { text } from './text.ts';

const none = text`none whose addresses are translated`;

export const connection: Stage<Entered, Connected> = (view, known) => {
  const state = view.number('ct_state');
  if (state === ctState.none) return next(none, { ...known, connection: undefined });
  if (state === ctState.error) return ofError(view, known);
  const { tables, origin } = known;
  const subject = subjectOf(view);
  const found = subject?.kind === 'conversation' && useConnection(view, tables, placeOf(origin), subject);
  if (!found) return drop('connection_gone', text`its connection has ended`);
  if (beginsAnew(view, tables, found)) {
    view.forThisFrame();
    return next(text`none: the one with these ends is over`, { ...known, connection: undefined });
  }
  if (tables.connections.ended.has(found.slot)) {
    view.forThisFrame();
    return reject(view, origin, 'connection_gone', text`its backend is gone`);
  }
  const because = text`${found.reply ? 'a reply' : 'a packet'} of a connection whose addresses are translated`;
  return next(because, { ...known, connection: { found, subject } });
};

function beginsAnew(view: FlowView, { connections }: Tables, found: Found): boolean {
  return !found.reply && connections.isOverWithChoice(found.slot) && view.beginsTcp() === true;
}

function ofError(view: FlowView, known: Entered): StageResult<Connected> {
  const { tables, origin } = known;
  const subject = subjectOf(view);
  const found = subject?.kind === 'error' ? quotedConnection(view, tables, placeOf(origin)) : undefined;
  if (!subject || !found) return next(text`an error about none`, { ...known, connection: undefined });
  if (tables.connections.ended.has(found.slot)) {
    return drop('connection_gone', text`an error about a connection whose backend is gone`);
  }
  return next(text`an error about a packet of a translated connection`, { ...known, connection: { found, subject } });
}
