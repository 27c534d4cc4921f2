/**
 * Open: the connection that the packet begins, if route has found that it begins one. Where it goes is known by now, so nothing is
 * opened for a packet that does not get there.
 *
 * 1. If there is no room for another connection, the packet is refused.
 * 2. Otherwise the decision ends here, with what is to be opened. The controller opens it and continues:
 * 3. once the connection is open, its addresses are translated, and the packet is sent.
 *
 * The datapath opens connections like it by itself if the choice of their backends is one that it can make (`Op::balance`),
 * and if policies allow all backends that it may choose, as staged ones would: what these would deny is told of each connection. Not if a hook has looked at what tells connections apart, or has set
 * something for them.
 */
import { sameBytes } from '../flow/types.ts';
import type { FlowView } from '../flow/view.ts';
import { idOf, nameOf } from '../model/name.ts';
import { choiceOf, type Opening } from '../table/openings.ts';
import { isBalancedByTable } from '../table/balancer.ts';
import { ingressPoliciesObject, policyObject } from '../table/policies.ts';
import type { PolicyJudgement } from '../table/policy/judgement.ts';
import type { Backend } from '../table/service.ts';
import { offsetOf } from '../table/weighed.ts';
import { natOf, placeOf, useConnection } from './conversation.ts';
import { judge, peerOfBackend, senderOf, stranger } from './policy.ts';
import { refuse } from './routed.ts';
import { isOtherOwn } from './seen-as.ts';
import { drop, next, type Beginning, type Bridged, type StageResult } from './stage.ts';
import { text } from './text.ts';

const newOne = text`a new connection`;

/** What is known of a packet that begins a connection. */
export type Beginner = Bridged & { readonly begins: Beginning };

export function open(view: FlowView, known: Beginner): StageResult<Bridged> {
  const { tables, origin, begins, treatment } = known;
  const { connections } = tables;
  const port = origin.kind === 'port' ? origin.port.portNo : undefined;
  const opening: Opening = { ...begins.opening, ...(treatment && { treatment }), port };
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
    // Each frame of a flood is judged for itself, so the one that opens a connection is decided anew, as those after it.
    opened: known.hop.destinations.length > 1 ? undefined : () => opened(view, known),
    balance: isForAll(view, known) ? () => connections.balance(opening) : undefined,
  };
}

/** Of how many backends policies are asked for one connection. If a service has more, and policies have a say, each connection is decided. */
const MOST_JUDGED = 64;

/** True if policies allow this client every backend that the datapath may choose for it: what it sends, and what those of this host receive. */
function isForAll(view: FlowView, { tables, origin, begins, treatment }: Beginner): boolean {
  if (view.isOfOneConnection || treatment) return false;
  const choice = choiceOf(begins.opening);
  if (!choice || origin.kind !== 'port' || !isBalancedByTable(choice)) return false;
  const { policies } = tables;
  const { candidates } = choice.selection;
  const client = begins.opening.original.source;
  // Who is the client itself, by another of its addresses, only JavaScript knows.
  if (candidates.some(({ backend }) => isOtherOwn(tables, origin, client, backend))) return false;
  const egress = policies.setOf(origin.port.name, 'egress');
  if (candidates.length > MOST_JUDGED) {
    view.consultUntilOpen(ingressPoliciesObject);
    const isSelected = (backend: Backend): boolean => {
      const port = portNameOf(backend);
      return port === undefined ? policies.selectsAny('ingress') : policies.setOf(port, 'ingress') !== undefined;
    };
    return !egress && !candidates.some(({ backend }) => isSelected(backend));
  }
  const offset = offsetOf(choice);
  return candidates.every(({ backend, target }) => {
    // The datapath asks about a connection of a client to itself.
    if (sameBytes(backend.address, client)) return true;
    const l4Port = target + offset;
    const to = egress && peerOfBackend(view, tables, backend, egress.asksIdentity);
    if (egress && !isSettled(judge(view, egress, to!, l4Port))) return false;
    // Behind which port such an address is, only bridge finds out.
    const port = portNameOf(backend);
    if (port === undefined) {
      view.consultUntilOpen(ingressPoliciesObject);
      return !policies.selectsAny('ingress');
    }
    view.consultUntilOpen(policyObject(port, 'ingress'));
    const ingress = policies.setOf(port, 'ingress');
    if (!ingress) return true;
    const from = ingress.asksIdentity ? senderOf(view, tables, origin, client) : stranger(client);
    return isSettled(judge(view, ingress, from, l4Port));
  });
}

/** True if it is allowed, and would be if staged policies were in force. */
function isSettled({ verdict, staged }: PolicyJudgement): boolean {
  return verdict === 'allow' && !staged;
}

/** By which policies know a backend: the name that its port has if it is on this host. Services name all in full. */
function portNameOf({ endpoint }: Backend): string | undefined {
  return endpoint === undefined ? undefined : idOf(nameOf(endpoint));
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
