/**
 * Open: the connection that the packet begins, if route has found that it begins one. Where it goes is known by now, so nothing is
 * opened for a packet that does not get there.
 *
 * 1. If there is no room for another connection, the packet is refused.
 * 2. Otherwise the decision ends here, with what is to be opened. The controller opens it and continues:
 * 3. once the connection is open, its addresses are translated, and the packet is sent.
 *
 * The datapath opens connections like it by itself if the choice of their backends is one that it can make (`Op::balance`),
 * and if no policy could deny one of them.
 */
import type { FlowView } from '../flow/view.ts';
import { choiceOf } from '../table/openings.ts';
import { ingressPoliciesObject } from '../table/policies.ts';
import { natOf, placeOf, useConnection } from './conversation.ts';
import { refuse } from './routed.ts';
import { drop, next, type Beginning, type Bridged, type StageResult } from './stage.ts';
import { text } from './text.ts';

const newOne = text`a new connection`;

/** What is known of a packet that begins a connection. */
export type Beginner = Bridged & { readonly begins: Beginning };

export function open(view: FlowView, known: Beginner): StageResult<Bridged> {
  const { tables, origin, begins } = known;
  const { connections } = tables;
  const { opening } = begins;
  const refused = connections.refusal(opening);
  if (refused) {
    // There may be room for the next packet.
    view.forThisFrame();
    const { source, destination } = opening.original;
    return refuse(view, origin, refused, text`${source} to ${destination}: no connection can be opened`, 'prohibited');
  }
  return {
    kind: 'connect',
    because: newOne,
    opening,
    opened: () => opened(view, known),
    balance: isForAll(view, known) ? () => connections.balance(opening) : undefined,
  };
}

/** True if no policy has a say in what connections of this client may be opened to any backend of its service. */
function isForAll(view: FlowView, { tables, origin, begins }: Beginner): boolean {
  const choice = choiceOf(begins.opening);
  if (!choice || origin.kind !== 'port') return false;
  const { policies } = tables;
  view.consultUntilOpen(ingressPoliciesObject);
  return (
    !policies.setOf(origin.port.name, 'egress') &&
    choice.selection.candidates.every(
      ({ backend: { endpoint } }) => endpoint === undefined || !policies.setOf(endpoint, 'ingress'),
    )
  );
}

/** The result of this stage once it is open. */
function opened(view: FlowView, known: Beginner): StageResult<Bridged> {
  const { tables, origin, hop, begins } = known;
  const place = placeOf(origin);
  const found = useConnection(view, tables, place, begins.subject);
  if (!found) {
    // A thread of the datapath has taken its room at once.
    view.forThisFrame();
    return drop('connection_limit', text`its connection has made room for another one`);
  }
  const nat = natOf(place, begins.subject, found);
  return next(text`${nat.name}, a new one`, { tables, origin, nat, hop });
}
