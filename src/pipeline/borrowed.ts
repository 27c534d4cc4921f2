/**
 * Borrowed addresses: a conversation is known by its addresses and ports alone, so whoever may send from the address of another, as
 * one that shares it or is trusted, could go on with what policies allow to that other one; and it could be gone on with to whoever
 * shares the destination. So where policies select the port that sends, or gets it, and the address is not its own, they are asked
 * about what is known, too, as they are about what begins; and so are hooks, about every port that sends.
 */
import type { FlowView } from '../flow/view.ts';
import { anyHooksObject } from '../table/hooks.ts';
import { policyObject } from '../table/policies.ts';
import type { FrameOrigin } from './origin.ts';
import { receiversOf } from './ingress-policy.ts';
import type { Balanced, Bridged } from './stage.ts';

/** True if policies select its sender, or there are hooks, and it sends from an address that is not its own. */
export function isSentFromBorrowed(view: FlowView, { tables, origin }: Balanced): boolean {
  if (origin.kind !== 'port') return false;
  view.consult(policyObject(origin.port.name, 'egress'));
  view.consult(anyHooksObject);
  const isAsked = !tables.hooks.isEmpty || tables.policies.setOf(origin.port.name, 'egress') !== undefined;
  return isAsked && isBorrowedBySender(view, origin);
}

/** True if policies select a port that gets it, and either address is not that of the port which has it. */
export function isReceivedByBorrowed(view: FlowView, known: Bridged): boolean {
  const receivers = receiversOf(view, known);
  if (receivers.length === 0) return false;
  return (
    isBorrowedBySender(view, known.origin) || receivers.some(({ port }) => !view.isOneOf('ip_dst', port.addresses))
  );
}

function isBorrowedBySender(view: FlowView, origin: FrameOrigin): boolean {
  return origin.kind === 'port' && !view.isOneOf('ip_src', origin.port.addresses);
}
