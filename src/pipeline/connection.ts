/**
 * Connection: which translated connection a frame belongs to, whether it is bridged or routed.
 *
 * The datapath looks for the connection of a frame first and says in the field `ct_state` what it has found. So the
 * decision about a frame without one does not depend on its ports, and may cover many conversations: as soon as one of
 * them is translated, its frames have another `ct_state`.
 */
import { ctState } from '../flow/fields.ts';
import { placeOf, subjectOf, useConnection } from './conversation.ts';
import { drop, next, type Entered, type Stage, type Connected } from './stage.ts';
import { text } from './text.ts';

const none = text`none whose addresses are translated`;

export const connection: Stage<Entered, Connected> = (view, known) => {
  const { tables, origin } = known;
  if (view.number('ct_state') === ctState.none) return next(none, { ...known, connection: undefined });
  const subject = subjectOf(view);
  const found = subject?.kind === 'conversation' && useConnection(view, tables, placeOf(origin), subject);
  if (!found) return drop('connection_gone', text`its connection has ended`);
  const because = text`${found.reply ? 'a reply' : 'a packet'} of a connection whose addresses are translated`;
  return next(because, { ...known, connection: { found, subject } });
};
